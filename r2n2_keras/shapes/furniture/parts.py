"""What furniture is made of: palettes, draws, and closed parts such as boxes, beams and legs.

Points are (x, y, z) in metres, y up; furniture stands on y = 0.
"""

import numpy as np
import trimesh

Part = trimesh.Trimesh
Colour = tuple[int, int, int]

GRID_SIZE = 32
THINNEST = 1.5  # cells; a square of more than one cell, or a disc of sqrt(2), holds a cell's centre
SECTIONS = 24  # sides of what is round

WOODS = (
    (133, 94, 66),
    (181, 136, 92),
    (92, 58, 38),
    (205, 170, 125),
    (150, 75, 40),
    (225, 200, 165),
)
METALS = ((60, 60, 64), (150, 152, 158), (200, 200, 205), (181, 150, 80), (35, 35, 38))
FABRICS = (
    (70, 90, 130),
    (150, 45, 45),
    (90, 110, 80),
    (200, 190, 170),
    (60, 60, 70),
    (120, 85, 60),
    (210, 160, 60),
    (60, 130, 130),
    (225, 225, 220),
    (140, 110, 150),
)
SHADES = ((245, 235, 210), (235, 225, 230), (210, 90, 60), (240, 200, 110), (120, 160, 170))


def pick_colour(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    """A colour near one of the palette's."""
    chosen = np.array(palette[rng.integers(len(palette))]) + rng.normal(0, 9, 3)
    return tuple(int(value) for value in np.clip(chosen, 12, 250))


def either(rng: np.random.Generator, *choices):
    """One of the choices, each as likely as the others."""
    return choices[rng.integers(len(choices))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    """True with this probability."""
    return bool(rng.random() < probability)


def thinnest(*extents: float) -> float:
    """The thinnest that a part of a model of these extents may be."""
    return THINNEST * max(extents) / GRID_SIZE


def coloured_mesh(vertices: np.ndarray, faces: np.ndarray, colour: Colour) -> Part:
    """A mesh of one colour, its vertices and faces as they are given."""
    colours = np.tile(np.array([*colour, 255], np.uint8), (len(faces), 1))
    return trimesh.Trimesh(vertices, faces, face_colors=colours, process=False)


def box(lower, upper, colour: Colour) -> Part:
    """A box between two opposite corners, given in any order."""
    lower, upper = np.minimum(lower, upper), np.maximum(lower, upper)
    body = trimesh.creation.box(upper - lower)
    return coloured_mesh(body.vertices + (lower + upper) / 2, body.faces, colour)


def turned(profile, colour: Colour, centre=(0, 0, 0)) -> Part:
    """A turned piece: `profile`, rows of (radius, height) from bottom to top, around y.

    A profile that starts and ends on the axis, or that returns to where it started, is closed.
    """
    body = trimesh.creation.revolve(np.asarray(profile, float), sections=SECTIONS)
    # `revolve` turns around z: a quarter turn about x makes that y.
    vertices = body.vertices[:, [0, 2, 1]] * (1, 1, -1) + centre
    return coloured_mesh(vertices, body.faces, colour)


def disc(radius: float, bottom: float, top: float, colour: Colour, centre=(0, 0, 0)) -> Part:
    """A disc or cylinder between two heights, around a vertical through `centre`."""
    return cone(radius, radius, bottom, top, colour, centre)


def cone(low_radius, high_radius, bottom, top, colour: Colour, centre=(0, 0, 0)) -> Part:
    """The same with one radius at the bottom and another at the top."""
    profile = [(0, bottom), (low_radius, bottom), (high_radius, top), (0, top)]
    return turned(profile, colour, centre)


def beam(start, end, thickness: float, colour: Colour, round_: bool = False, taper=1.0) -> Part:
    """A bar from one point to another, square or round, `taper` times as thick at its end.

    The ends are cut level where the bar is upright rather than lying, so legs stand flat.
    """
    start, end = np.asarray(start, float), np.asarray(end, float)
    direction = (end - start) / np.linalg.norm(end - start)
    if abs(direction[1]) > 0.5:  # a sheared prism: level ends
        side, up = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    else:
        up = np.array([0, 1.0, 0]) - direction * direction[1]
        up /= np.linalg.norm(up)
        side = np.cross(direction, up)
    count = 12 if round_ else 4
    angles = (np.arange(count) + 0.5) * 2 * np.pi / count
    radius = thickness / 2 if round_ else thickness / 2 * np.sqrt(2)
    around = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up
    vertices = np.concatenate(
        [start + radius * around, end + radius * taper * around, [start, end]]
    )
    ring, following = np.arange(count), np.roll(np.arange(count), -1)
    faces = np.concatenate(
        [
            np.stack([ring, following, ring + count], axis=1),
            np.stack([following, following + count, ring + count], axis=1),
            np.stack([following, ring, np.full(count, 2 * count)], axis=1),
            np.stack([ring + count, following + count, np.full(count, 2 * count + 1)], axis=1),
        ]
    )
    bar = coloured_mesh(vertices, faces, colour)
    if bar.volume < 0:
        bar = coloured_mesh(vertices, faces[:, ::-1], colour)
    return bar


def leaning(part: Part, angle: float, x: float, y: float) -> Part:
    """The part, turned backwards by `angle` radians about the line (x, y) along z."""
    turn = trimesh.transformations.rotation_matrix(angle, (0, 0, 1), (x, y, 0))
    return coloured_mesh(
        trimesh.transform_points(part.vertices, turn), part.faces, _colour_of(part)
    )


def _colour_of(part: Part) -> Colour:
    return tuple(int(value) for value in part.visual.face_colors[0, :3])


def four_legs(rng, depth, width, top, thickness, colour: Colour) -> list[Part]:
    """Four legs under a rectangle: straight or splayed, square or round, some tapered."""
    splay = either(rng, 0.0, 0.0, rng.uniform(0.02, 0.08)) * min(1.0, top / 0.45)
    round_, thick = chance(rng, 0.4), thickness * rng.uniform(1.0, 1.5)
    taper = either(rng, 1.0, rng.uniform(1.1, 1.5))
    x, z = depth / 2 - thick * taper / 2 - splay, width / 2 - thick * taper / 2 - splay
    return [
        beam(
            (sx * (x + splay), 0, sz * (z + splay)),
            (sx * x, top, sz * z),
            thick,
            colour,
            round_,
            taper,
        )
        for sx in (-1, 1)
        for sz in (-1, 1)
    ]


def _star(rng, radius: float, thickness: float, colour: Colour) -> list[Part]:
    """A foot of three to five arms on the ground."""
    arms, start = int(rng.integers(3, 6)), rng.uniform(0, np.pi)
    angles = start + np.arange(arms) * 2 * np.pi / arms
    middle = thickness / 2
    return [
        beam(
            (0, middle, 0),
            (radius * np.cos(angle), middle, radius * np.sin(angle)),
            thickness,
            colour,
        )
        for angle in angles
    ]


def pedestal(rng, radius: float, top: float, thin: float, colour: Colour) -> list[Part]:
    """A post on a disc or on a star."""
    post = max(thin, rng.uniform(0.04, 0.1)) / 2
    if chance(rng, 0.5):
        foot = [disc(radius, 0, max(thin, 0.03), colour)]
    else:
        foot = _star(rng, radius, max(thin, 0.04), colour)
    return [*foot, turned([(0, 0.001), (post, 0.001), (post, top), (0, top)], colour)]
