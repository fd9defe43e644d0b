"""What furniture is made of: palettes, draws, and closed parts such as boxes, beams and legs.

Points are (x, y, z) in metres, y up; furniture stands on y = 0.
"""

import itertools

import numpy as np
import trimesh

Part = trimesh.Trimesh
Colour = tuple[int, int, int]

GRID_SIZE = 32
THINNEST = 1.5  # cells; a square of more than one cell, or a disc of sqrt(2), holds a cell's centre
SECTIONS = 24  # sides of what is round

WOODS = ((133, 94, 66), (181, 136, 92), (92, 58, 38), (205, 170, 125), (150, 75, 40))
WOODS += ((225, 200, 165),)
METALS = ((60, 60, 64), (150, 152, 158), (200, 200, 205), (181, 150, 80), (35, 35, 38))
FABRICS = ((70, 90, 130), (150, 45, 45), (90, 110, 80), (200, 190, 170), (60, 60, 70))
FABRICS += ((120, 85, 60), (210, 160, 60), (60, 130, 130), (225, 225, 220), (140, 110, 150))
SHADES = ((245, 235, 210), (235, 225, 230), (210, 90, 60), (240, 200, 110), (120, 160, 170))


def tint(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    """A colour near one of the palette's."""
    chosen = np.array(palette[rng.integers(len(palette))]) + rng.normal(0, 9, 3)
    return tuple(int(value) for value in np.clip(chosen, 12, 250))


def either(rng: np.random.Generator, *choices):
    """One of the choices, each as likely as the others."""
    return choices[rng.integers(len(choices))]


def chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def by_kind(rng: np.random.Generator, kind: str, otherwise, **ranges) -> float:
    """A number in the range of a kind; it takes as many draws whichever kind it is."""
    drawn = {name: rng.uniform(*limits) for name, limits in ranges.items()}
    return drawn.get(kind, rng.uniform(*otherwise))


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


def block(x: float, z: float, bottom: float, top: float, colour: Colour) -> Part:
    """A box of which a half is `x` deep and `z` wide, around the y axis."""
    return box((-x, bottom, -z), (x, top, z), colour)


def side_panels(depth, width, top, thickness, colour: Colour) -> list[Part]:
    """Two upright panels at the left and the right end of a rectangle."""
    return [
        box((-depth / 2, 0, z), (depth / 2, top, z + sign * thickness), colour)
        for z, sign in ((-width / 2, 1), (width / 2, -1))
    ]


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


def half_circle(count: int = 13) -> np.ndarray:
    """The profile of a ball of radius 1 around the origin."""
    angles = np.linspace(-np.pi / 2, np.pi / 2, count)
    profile = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    profile[[0, -1], 0] = 0
    return profile


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
    ring = np.cos(angles)[:, None] * side + np.sin(angles)[:, None] * up
    vertices = [start + radius * ring, end + radius * taper * ring, [start, end]]
    low, after = np.arange(count), np.roll(np.arange(count), -1)
    bottom, top = np.full(count, 2 * count), np.full(count, 2 * count + 1)
    faces = [(low, after, low + count), (after, after + count, low + count)]
    faces += [(after, low, bottom), (low + count, after + count, top)]
    vertices, faces = np.concatenate(vertices), np.concatenate([np.stack(f, 1) for f in faces])
    bar = coloured_mesh(vertices, faces, colour)
    if bar.volume < 0:
        bar = coloured_mesh(vertices, faces[:, ::-1], colour)
    return bar


def leaning(part: Part, angle: float, x: float, y: float) -> Part:
    """The part, turned backwards by `angle` radians about the line (x, y) along z."""
    turn = trimesh.transformations.rotation_matrix(angle, (0, 0, 1), (x, y, 0))
    vertices = trimesh.transform_points(part.vertices, turn)
    return coloured_mesh(vertices, part.faces, part.visual.face_colors[0, :3])


def four_legs(rng, depth, width, top, thickness, colour: Colour) -> list[Part]:
    """Four legs under a rectangle: straight or splayed, square or round, some tapered."""
    splay = either(rng, 0.0, 0.0, rng.uniform(0.02, 0.08)) * min(1.0, top / 0.45)
    round_, thick = chance(rng, 0.4), thickness * rng.uniform(1.0, 1.5)
    taper = either(rng, 1.0, rng.uniform(1.1, 1.5))
    x, z = depth / 2 - thick * taper / 2 - splay, width / 2 - thick * taper / 2 - splay
    legs = []
    for sx, sz in itertools.product((-1, 1), (-1, 1)):
        foot = sx * (x + splay), 0, sz * (z + splay)
        legs.append(beam(foot, (sx * x, top, sz * z), thick, colour, round_, taper))
    return legs


def around(count: int, start: float, radius: float, height: float) -> list[tuple]:
    """Points on a circle around the y axis, the first at the angle `start`."""
    angles = start + np.arange(count) * 2 * np.pi / count
    return [(radius * np.cos(angle), height, radius * np.sin(angle)) for angle in angles]


def _star(rng, radius: float, thickness: float, colour: Colour) -> list[Part]:
    arms, start, middle = int(rng.integers(3, 6)), rng.uniform(0, np.pi), thickness / 2
    ends = around(arms, start, radius, middle)
    return [beam((0, middle, 0), end, thickness, colour) for end in ends]


def pedestal(rng, radius: float, top: float, thin: float, colour: Colour) -> list[Part]:
    """A post on a disc or on a star."""
    post = max(thin, rng.uniform(0.04, 0.1)) / 2
    if chance(rng, 0.5):
        foot = [disc(radius, 0, max(thin, 0.03), colour)]
    else:
        foot = _star(rng, radius, max(thin, 0.04), colour)
    return [*foot, turned([(0, 0.001), (post, 0.001), (post, top), (0, top)], colour)]
