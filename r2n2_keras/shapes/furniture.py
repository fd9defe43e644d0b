"""Procedural furniture: coloured, closed meshes of chairs, tables, sofas and lamps.

Good enough to learn from and free of licences, for the quick start and the tests. A model is drawn
from a `numpy.random.Generator`: same generator state, same model. It varies in build as well as in
proportions, so that the average shape of a category is a poor answer.

While being built a model stands on y = 0 and is measured in metres; `make` returns it as R2N2's
data set has it: centred on the origin, y up, the front faces +x, width along z, bounding-box
diagonal 1. No part is thinner than `THINNEST` cells of a 32-cell grid, so voxels keep all of them.
"""

import itertools
from collections.abc import Callable

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


def make(category: str, rng: np.random.Generator) -> list[Part]:
    """One model of a category of `CATEGORIES`, in object space: closed parts with face colours."""
    return normalise(CATEGORIES[category][1](rng))


def normalise(parts: list[Part]) -> list[Part]:
    """Copies of the parts, moved and scaled: centred on the origin, bounding-box diagonal 1."""
    lower = np.min([part.bounds[0] for part in parts], axis=0)
    upper = np.max([part.bounds[1] for part in parts], axis=0)
    diagonal = np.linalg.norm(upper - lower)
    moved = []
    for part in parts:
        part = part.copy()
        part.vertices = (part.vertices - (lower + upper) / 2) / diagonal
        moved.append(part)
    return moved


# Materials and measures.


def _colour(rng: np.random.Generator, palette: tuple[Colour, ...]) -> Colour:
    """A colour near one of the palette's."""
    chosen = np.array(palette[rng.integers(len(palette))]) + rng.normal(0, 9, 3)
    return tuple(int(value) for value in np.clip(chosen, 12, 250))


def _either(rng: np.random.Generator, *choices):
    return choices[rng.integers(len(choices))]


def _chance(rng: np.random.Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _thinnest(*extents: float) -> float:
    """The thinnest that a part of a model of these extents may be."""
    return THINNEST * max(extents) / GRID_SIZE


# Parts. Points are (x, y, z).


def _mesh(vertices: np.ndarray, faces: np.ndarray, colour: Colour) -> Part:
    colours = np.tile(np.array([*colour, 255], np.uint8), (len(faces), 1))
    return trimesh.Trimesh(vertices, faces, face_colors=colours, process=False)


def _box(lower, upper, colour: Colour) -> Part:
    """A box between two opposite corners, given in any order."""
    lower, upper = np.minimum(lower, upper), np.maximum(lower, upper)
    box = trimesh.creation.box(upper - lower)
    return _mesh(box.vertices + (lower + upper) / 2, box.faces, colour)


def _turned(profile, colour: Colour, centre=(0, 0, 0), sections: int = SECTIONS) -> Part:
    """A turned piece: `profile`, rows of (radius, height) from bottom to top, around y.

    A profile that starts and ends on the axis, or that returns to where it started, is closed.
    """
    body = trimesh.creation.revolve(np.asarray(profile, float), sections=sections)
    # `revolve` turns around z: a quarter turn about x makes that y.
    vertices = body.vertices[:, [0, 2, 1]] * (1, 1, -1) + centre
    return _mesh(vertices, body.faces, colour)


def _disc(radius: float, bottom: float, top: float, colour: Colour, centre=(0, 0, 0)) -> Part:
    return _cone(radius, radius, bottom, top, colour, centre)


def _cone(low_radius, high_radius, bottom, top, colour: Colour, centre=(0, 0, 0)) -> Part:
    profile = [(0, bottom), (low_radius, bottom), (high_radius, top), (0, top)]
    return _turned(profile, colour, centre)


def _ring(inner: float, outer: float, bottom: float, top: float, colour: Colour) -> Part:
    profile = [(inner, bottom), (outer, bottom), (outer, top), (inner, top), (inner, bottom)]
    return _turned(profile, colour)


def _beam(start, end, thickness: float, colour: Colour, round_: bool = False, taper=1.0) -> Part:
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
    beam = _mesh(vertices, faces, colour)
    if beam.volume < 0:
        beam = _mesh(vertices, faces[:, ::-1], colour)
    return beam


def _leaning(part: Part, angle: float, x: float, y: float) -> Part:
    """The part, turned backwards by `angle` radians about the line (x, y) along z."""
    turn = trimesh.transformations.rotation_matrix(angle, (0, 0, 1), (x, y, 0))
    return _mesh(trimesh.transform_points(part.vertices, turn), part.faces, _colour_of(part))


def _colour_of(part: Part) -> Colour:
    return tuple(int(value) for value in part.visual.face_colors[0, :3])


def _legs(rng, depth, width, top, thickness, colour: Colour) -> list[Part]:
    """Four legs under a rectangle: straight or splayed, square or round, some tapered."""
    splay = _either(rng, 0.0, 0.0, rng.uniform(0.02, 0.08)) * min(1.0, top / 0.45)
    round_, thick = _chance(rng, 0.4), thickness * rng.uniform(1.0, 1.5)
    taper = _either(rng, 1.0, rng.uniform(1.1, 1.5))
    x, z = depth / 2 - thick * taper / 2 - splay, width / 2 - thick * taper / 2 - splay
    return [
        _beam(
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
        _beam(
            (0, middle, 0),
            (radius * np.cos(angle), middle, radius * np.sin(angle)),
            thickness,
            colour,
        )
        for angle in angles
    ]


def _pedestal(rng, radius: float, top: float, thin: float, colour: Colour) -> list[Part]:
    """A post on a disc or on a star."""
    post = max(thin, rng.uniform(0.04, 0.1)) / 2
    if _chance(rng, 0.5):
        foot = [_disc(radius, 0, max(thin, 0.03), colour)]
    else:
        foot = _star(rng, radius, max(thin, 0.04), colour)
    return [*foot, _turned([(0, 0.001), (post, 0.001), (post, top), (0, top)], colour)]


# Chairs.


def chair(rng: np.random.Generator) -> list[Part]:
    """Dining, bar, club and office chairs: five bases, five backs, three kinds of arms."""
    kind = rng.choice(["dining", "bar", "club", "wide"], p=[0.5, 0.15, 0.15, 0.2])
    width = {"dining": rng.uniform(0.4, 0.52), "bar": rng.uniform(0.36, 0.46)}.get(
        kind, rng.uniform(0.55, 0.75)
    )
    depth = width * rng.uniform(0.85, 1.1)
    seat_top = {"bar": rng.uniform(0.62, 0.8), "club": rng.uniform(0.34, 0.42)}.get(
        kind, rng.uniform(0.4, 0.5)
    )
    back = {"bar": rng.uniform(0.18, 0.4), "club": rng.uniform(0.3, 0.5)}.get(
        kind, rng.uniform(0.35, 0.65)
    )
    thin = _thinnest(1.2 * width, depth, seat_top + back)  # arms make it wider
    frame = _colour(rng, _either(rng, WOODS, WOODS, METALS))
    cloth = _either(rng, frame, _colour(rng, FABRICS), _colour(rng, FABRICS))

    seat = max(thin, rng.uniform(0.03, 0.12 if kind != "club" else 0.2))
    parts = _chair_base(rng, depth, width, seat_top - seat, thin, frame, kind)
    round_seat = kind != "club" and _chance(rng, 0.2)
    if round_seat:
        shape = _disc(width / 2, seat_top - seat, seat_top, cloth)
        shape.vertices[:, 0] *= depth / width
        parts.append(shape)
    else:
        parts.append(
            _box((-depth / 2, seat_top - seat, -width / 2), (depth / 2, seat_top, width / 2), cloth)
        )
    lean = rng.uniform(0, 0.25)
    parts += _chair_back(rng, depth, width, seat_top, back, lean, thin, frame, cloth, round_seat)
    arms = rng.choice(
        ["none", "posts", "panels"], p=[0.1, 0.3, 0.6] if kind == "club" else [0.55, 0.35, 0.1]
    )
    rise = min(rng.uniform(0.16, 0.26), back * 0.8)
    parts += _chair_arms(rng, arms, depth, width, seat_top, rise, thin, frame, cloth)
    return parts


def _chair_base(rng, depth, width, top, thin, colour, kind) -> list[Part]:
    """What carries a seat whose underside is at `top`."""
    odds = [0.1, 0.15, 0.0, 0.25, 0.5] if kind == "club" else [0.55, 0.2, 0.1, 0.1, 0.05]
    base = rng.choice(["legs", "pedestal", "cantilever", "panels", "block"], p=odds)
    if base == "pedestal":
        return _pedestal(rng, width * rng.uniform(0.4, 0.55), top, thin, colour)
    if base == "cantilever":
        return [
            bar
            for z in (-width / 2 + thin / 2, width / 2 - thin / 2)
            for bar in (
                _beam((-depth / 2, thin / 2, z), (depth / 2, thin / 2, z), thin, colour),
                _beam((depth / 2 - thin / 2, 0, z), (depth / 2 - thin / 2, top, z), thin, colour),
            )
        ] + [
            _beam(
                (-depth / 2, thin / 2, -width / 2), (-depth / 2, thin / 2, width / 2), thin, colour
            )
        ]
    if base == "panels":
        side = max(thin, 0.04)
        return [
            _box((-depth / 2, 0, z), (depth / 2, top, z + sign * side), colour)
            for z, sign in ((-width / 2, 1), (width / 2, -1))
        ]
    if base == "block":
        inset = rng.uniform(0, 0.06)
        x, z = depth / 2 - inset, width / 2 - inset
        return [_box((-x, 0, -z), (x, top, z), colour)]
    parts = _legs(rng, depth, width, top, thin, colour)
    if _chance(rng, 0.4):  # stretchers
        height, x, z = top * rng.uniform(0.2, 0.6), depth / 2 - thin, width / 2 - thin
        parts += [_beam((-x, height, s * z), (x, height, s * z), thin, colour) for s in (-1, 1)]
        parts.append(_beam((0, height, -z), (0, height, z), thin, colour))
    return parts


def _chair_back(rng, depth, width, seat_top, back, lean, thin, frame, cloth, round_seat):
    """A back of height `back` above the seat, leaning by `lean` radians."""
    style = rng.choice(["solid", "slats", "rungs", "frame", "tub"], p=[0.35, 0.2, 0.2, 0.15, 0.1])
    thick = max(thin, rng.uniform(0.03, 0.09))
    rear, top = -depth / 2, seat_top + back
    half = width / 2 * (0.8 if round_seat else 1.0)
    if style == "tub":
        return _tub(depth, width, seat_top, top, thick, cloth)
    posts = [
        _box((rear, seat_top - thin, z), (rear + thick, top, z + sign * thin), frame)
        for z, sign in ((-half, 1), (half, -1))
    ]
    rail = max(thin, rng.uniform(0.05, 0.12))
    # Rails lie a little within the posts, so that no two faces share a plane.
    low, high = rear + 0.05 * thick, rear + 0.95 * thick
    crest = _box((low, top - rail, -half + 0.002), (high, top + 0.004, half - 0.002), frame)
    if style == "solid":
        gap = _either(rng, 0.0, 0.0, rng.uniform(0.1, 0.4)) * back
        pieces = [_box((rear, seat_top + gap, -half), (rear + thick, top, half), cloth)]
        if gap:
            pieces += [
                _box(
                    (low, seat_top - thin, s * half * 0.5 - thin / 2),
                    (high, seat_top + gap + 0.01, s * half * 0.5 + thin / 2),
                    frame,
                )
                for s in (-1, 1)
            ]
    elif style == "slats":
        count = max(1, min(int(rng.integers(2, 6)), int(2 * half / (2.2 * thin)) - 1))
        places = np.linspace(-half, half, count + 2)[1:-1]
        pieces = [*posts, crest] + [
            _box(
                (low, seat_top - thin / 2, z - thin / 2),
                (high, top - thin / 2, z + thin / 2),
                frame,
            )
            for z in places
        ]
    elif style == "rungs":
        count = max(1, min(int(rng.integers(1, 5)), int(back / (2.4 * thin)) - 1))
        places = np.linspace(seat_top, top - rail, count + 1)[:-1] + 0.12 * back
        pieces = [*posts, crest] + [
            _box((low, y, -half + 0.002), (high, y + thin, half - 0.002), frame) for y in places
        ]
    else:
        gap = back * rng.uniform(0.05, 0.3)
        panel = _box((low, seat_top + gap, -half * 0.7), (high, top - rail / 2, half * 0.7), cloth)
        low_rail = _box(
            (low, seat_top + gap, -half + 0.002), (high, seat_top + gap + thin, half - 0.002), frame
        )
        pieces = [*posts, crest, low_rail]
        if _chance(rng, 0.6):
            pieces.append(panel)
    return [_leaning(piece, lean, rear, seat_top) for piece in pieces]


def _tub(depth, width, seat_top, top, thick, colour) -> list[Part]:
    """A back that runs around the rear half of the seat."""
    angles = np.linspace(np.pi / 2, 3 * np.pi / 2, 10)
    points = np.stack(
        [
            (depth / 2 - thick / 2) * np.cos(angles),
            np.zeros(10),
            (width / 2 - thick / 2) * np.sin(angles),
        ],
        axis=1,
    )
    walls = []
    for start, end in itertools.pairwise(points):
        middle, step = (start + end) / 2, end - start
        wall = trimesh.creation.box(
            (np.linalg.norm(step) + thick * 0.4, top - seat_top + thick, thick)
        )
        turn = trimesh.transformations.rotation_matrix(np.arctan2(-step[2], step[0]), (0, 1, 0))
        vertices = trimesh.transform_points(wall.vertices, turn)
        walls.append(
            _mesh(vertices + middle + (0, (seat_top + top - thick) / 2, 0), wall.faces, colour)
        )
    return walls


def _chair_arms(rng, arms, depth, width, seat_top, rise, thin, frame, cloth) -> list[Part]:
    if arms == "none":
        return []
    thick = max(thin, rng.uniform(0.04, 0.08) if arms == "posts" else rng.uniform(0.05, 0.14))
    front = depth / 2 * rng.uniform(0.5, 1.0)
    parts = []
    for side in (-1, 1):
        inner, outer = side * (width / 2 - 0.3 * thick), side * (width / 2 + 0.7 * thick)
        if arms == "panels":
            bottom = seat_top - rng.uniform(0.05, 0.2)
            parts.append(
                _box((-depth / 2 + 0.004, bottom, inner), (front, seat_top + rise, outer), cloth)
            )
            continue
        parts.append(
            _box(
                (-depth / 2 - 0.02, seat_top + rise - thin, inner),
                (front, seat_top + rise, outer),
                frame,
            )
        )
        x = front - thin
        parts.append(
            _box(
                (x - thin / 2, seat_top - thin, inner + side * 0.003),
                (x + thin / 2, seat_top + rise - thin / 2, outer - side * 0.003),
                frame,
            )
        )
    return parts


# Tables.


def table(rng: np.random.Generator) -> list[Part]:
    """Coffee, dining, bar and writing tables; round and square tops on seven kinds of base."""
    kind = rng.choice(["coffee", "dining", "bar", "desk", "side"], p=[0.25, 0.35, 0.1, 0.2, 0.1])
    height = {
        "coffee": rng.uniform(0.32, 0.5),
        "bar": rng.uniform(0.95, 1.15),
        "side": rng.uniform(0.45, 0.7),
    }.get(kind, rng.uniform(0.68, 0.8))
    depth = {"side": rng.uniform(0.35, 0.55), "bar": rng.uniform(0.5, 0.8)}.get(
        kind, rng.uniform(0.6, 1.0)
    )
    width = depth * _either(rng, 1.0, rng.uniform(1.0, 1.5), rng.uniform(1.4, 2.2))
    round_ = kind != "desk" and _chance(rng, 0.35)
    thin = _thinnest(depth, height, width)
    top_colour = _colour(rng, _either(rng, WOODS, WOODS, SHADES, METALS))
    frame = _either(rng, top_colour, _colour(rng, WOODS), _colour(rng, METALS))
    thick = max(thin, rng.uniform(0.03, 0.1))
    under = height - thick

    if round_:
        top = _disc(0.5, under, height, top_colour)
        top.vertices[:, [0, 2]] *= (depth, width)
        # The rectangle of legs that fits under an ellipse.
        base_depth, base_width = depth * 0.72, width * 0.72
    else:
        top = _box((-depth / 2, under, -width / 2), (depth / 2, height, width / 2), top_colour)
        inset = _either(rng, 0.01, rng.uniform(0.02, 0.1))
        base_depth, base_width = depth - 2 * inset, width - 2 * inset
    base = _desk_base if kind == "desk" and _chance(rng, 0.7) else _table_base
    return [top, *base(rng, base_depth, base_width, under, thin, frame, round_)]


def _table_base(rng, depth, width, top, thin, colour, round_) -> list[Part]:
    odds = [0.4, 0.5, 0.0, 0.0, 0.1] if round_ else [0.55, 0.1, 0.15, 0.1, 0.1]
    base = rng.choice(["legs", "pedestal", "panels", "trestle", "drum"], p=odds)
    if base == "pedestal":
        parts = _pedestal(rng, min(depth, width) * rng.uniform(0.3, 0.48), top, thin, colour)
        if width > 1.7 * depth:  # a long table stands on two of them
            return [
                _mesh(part.vertices + (0, 0, z), part.faces, colour)
                for z in (-width / 4, width / 4)
                for part in parts
            ]
        return parts
    if base == "drum":
        radius = min(depth, width) * rng.uniform(0.2, 0.4)
        waist = radius * rng.uniform(0.4, 1.2)
        return [_turned([(0, 0), (radius, 0), (waist, top / 2), (radius, top), (0, top)], colour)]
    if base == "panels":
        side = max(thin, rng.uniform(0.03, 0.1))
        parts = [
            _box((-depth / 2, 0, z), (depth / 2, top, z + sign * side), colour)
            for z, sign in ((-width / 2, 1), (width / 2, -1))
        ]
        return parts + _shelf(rng, depth, width, top, thin, colour, 0.5)
    if base == "trestle":
        x = depth / 2 - thin / 2
        parts = []
        for z in (-width / 2 + thin, width / 2 - thin):
            parts += [
                _beam((-x, 0, z), (x, top, z), thin, colour),
                _beam((x, 0, z), (-x, top, z), thin, colour),
            ]
        middle = top / 2
        return parts + [
            _beam((0, middle, -width / 2 + thin), (0, middle, width / 2 - thin), thin, colour)
        ]
    parts = _legs(rng, depth, width, top, thin, colour)
    if _chance(rng, 0.35):  # an apron
        drop = max(thin, rng.uniform(0.05, 0.12))
        x, z = depth / 2 - 0.01 - thin * 0.2, width / 2 - 0.01 - thin * 0.2
        parts.append(_box((-x, top - drop, -z), (x, top, z), colour))
    return parts + _shelf(rng, depth, width, top, thin, colour, 0.3)


def _shelf(rng, depth, width, top, thin, colour, probability) -> list[Part]:
    if not _chance(rng, probability):
        return []
    low, x, z = top * rng.uniform(0.15, 0.55), depth / 2 - 0.02, width / 2 - 0.02
    return [_box((-x, low, -z), (x, low + thin, z), colour)]


def _desk_base(rng, depth, width, top, thin, colour, round_) -> list[Part]:
    """One or two blocks of drawers, a leg or panel at the other end, often a back panel."""
    block = width * rng.uniform(0.22, 0.34)
    front = depth / 2 - rng.uniform(0, 0.05)
    bottom = _either(rng, 0.0, rng.uniform(0.08, 0.4) * top)
    side = _either(rng, -1, 1)
    knob, handles = max(thin, 0.03), _colour(rng, METALS)
    parts = []
    ends = (-1, 1) if _chance(rng, 0.35) else (side,)
    for end in ends:
        outer, inner = end * width / 2, end * (width / 2 - block)
        parts.append(_box((-depth / 2, bottom, outer), (front, top, inner), colour))
        middle = (outer + inner) / 2
        drawers = int(rng.integers(1, 4))
        for y in np.linspace(bottom, top, 2 * drawers + 1)[1::2]:
            parts.append(
                _box(
                    (front - 0.6 * thin, y - knob / 2, middle - block / 4),
                    (front + 0.4 * thin, y + knob / 2, middle + block / 4),
                    handles,
                )
            )
    if bottom or len(ends) == 1:
        others = (-1, 1) if bottom else (-side,)
        thick = max(thin, 0.04)
        if _chance(rng, 0.5):
            for end in others:
                outer = end * (width / 2 - 0.003)
                parts.append(
                    _box(
                        (-depth / 2 + 0.003, 0, outer),
                        (front - 0.003, top, outer - end * thick),
                        colour,
                    )
                )
        else:
            for end in others:
                for x in (-depth / 2 + thick / 2 + 0.003, front - thick / 2 - 0.003):
                    z = end * (width / 2 - thick / 2 - 0.003)
                    parts.append(_beam((x, 0, z), (x, top, z), thick, colour))
    if _chance(rng, 0.5):
        low = top * rng.uniform(0.2, 0.6)
        parts.append(
            _box(
                (-depth / 2 + 0.01, low, -width / 2 + 0.01),
                (-depth / 2 + 0.01 + thin, top, width / 2 - 0.01),
                colour,
            )
        )
    return parts


# Sofas.


def sofa(rng: np.random.Generator) -> list[Part]:
    """Armchairs, two- to four-seaters, L-shapes and day beds."""
    seats = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.35, 0.1]))
    cushion, arm = rng.uniform(0.5, 0.7), rng.uniform(0.12, 0.28)
    arms = rng.choice(["both", "left", "right", "none"], p=[0.7, 0.08, 0.08, 0.14])
    depth, seat_top = rng.uniform(0.75, 1.05), rng.uniform(0.36, 0.48)
    top = seat_top + rng.uniform(0.22, 0.55)
    inner = seats * cushion
    chaise = rng.uniform(0.4, 0.8) if seats >= 2 and _chance(rng, 0.3) else 0.0
    thin = _thinnest(inner + 2 * arm, depth + chaise, top)
    arm, back = max(arm, thin), max(thin, rng.uniform(0.14, 0.3))
    cloth = _colour(rng, FABRICS)
    pillow = _either(rng, cloth, cloth, _colour(rng, FABRICS))
    feet = _either(rng, 0.0, max(thin, rng.uniform(0.06, 0.16)))
    x, z = depth / 2, inner / 2

    base = seat_top - max(thin, rng.uniform(0.1, 0.18))
    feet = min(feet, base - thin)
    feet = feet if feet > 0.03 else 0.0
    parts = [_box((-x + 0.003, feet, -z), (x - 0.02, base, z), cloth)]
    seat_from = -x + back
    gap = rng.uniform(0.006, 0.02)
    for place in range(seats):
        start = -z + place * cushion
        parts.append(
            _box(
                (seat_from, base - 0.01, start + gap / 2),
                (x, seat_top, start + cushion - gap / 2),
                pillow,
            )
        )
    parts += _sofa_back(rng, seats, cushion, x, z, back, base, seat_top, top, thin, cloth, pillow)
    rise = seat_top + rng.uniform(0.08, max(0.1, (top - seat_top) * 0.95))
    rolled = _chance(rng, 0.3)
    for side, name in ((-1, "left"), (1, "right")):
        if arms in ("both", name):
            parts += _sofa_arm(side, x, z, arm, feet, rise, rolled, cloth)
    if chaise:
        parts += _chaise(rng, z, cushion, x, chaise, feet, base, seat_top, cloth, pillow)
    if feet:
        parts += _sofa_feet(rng, x, z, arm, arms, feet, thin)
    return parts


def _sofa_back(rng, seats, cushion, x, z, back, base, seat_top, top, thin, cloth, pillow):
    """One upholstered back, or a low frame with a cushion for each seat."""
    lean = rng.uniform(0, 0.2)
    style = rng.choice(["slab", "cushions", "roll"], p=[0.45, 0.4, 0.15])
    parts = [_box((-x, base - 0.02, -z + 0.004), (-x + back, top, z - 0.004), cloth)]
    if style == "cushions":
        parts = [
            _box((-x, base - 0.02, -z + 0.004), (-x + back * 0.8, top - 0.06, z - 0.004), cloth)
        ]
        thick = max(thin, 0.14)
        for place in range(seats):
            start = -z + place * cushion
            parts.append(
                _box(
                    (-x + back * 0.7, seat_top - 0.03, start + 0.03),
                    (-x + back * 0.7 + thick, top + 0.02, start + cushion - 0.03),
                    pillow,
                )
            )
    elif style == "roll":
        radius = max(thin, back) * 0.6
        parts.append(
            _beam(
                (-x + back / 2, top, -z + 0.006),
                (-x + back / 2, top, z - 0.006),
                2 * radius,
                cloth,
                True,
            )
        )
    return [_leaning(part, lean, -x, base) for part in parts]


def _sofa_arm(side, x, z, arm, feet, rise, rolled, cloth) -> list[Part]:
    inner, outer = side * z, side * (z + arm)
    parts = [_box((-x, feet, inner), (x - 0.008, rise, outer), cloth)]
    if rolled:
        middle = (inner + outer) / 2
        parts.append(
            _beam((-x - 0.004, rise, middle), (x + 0.01, rise, middle), arm * 1.25, cloth, True)
        )
    return parts


def _chaise(rng, z, cushion, x, length, feet, base, seat_top, cloth, pillow) -> list[Part]:
    """The long part of an L, in front of the first or the last seat."""
    reach = x + length
    start = _either(rng, -z, z - cushion)
    return [
        _box((x - 0.1, feet, start + 0.003), (reach - 0.01, base, start + cushion - 0.003), cloth),
        _box(
            (x - 0.1, base - 0.005, start + 0.006),
            (reach, seat_top - 0.004, start + cushion - 0.006),
            pillow,
        ),
    ]


def _sofa_feet(rng, x, z, arm, arms, height, thin) -> list[Part]:
    colour, thick = _colour(rng, _either(rng, WOODS, METALS)), thin * rng.uniform(1.0, 1.4)
    left = -z - (arm if arms in ("both", "left") else 0) + thick
    right = z + (arm if arms in ("both", "right") else 0) - thick
    round_ = _chance(rng, 0.5)
    return [
        _beam(
            (sx * (x - thick), 0, place),
            (sx * (x - thick), height + thin, place),
            thick,
            colour,
            round_,
        )
        for sx in (-1, 1)
        for place in (left, right)
    ]


# Lamps.


def lamp(rng: np.random.Generator) -> list[Part]:
    """Floor, table, desk and hanging lamps."""
    build = rng.choice(["floor", "table", "desk", "pendant", "arc"], p=[0.25, 0.3, 0.2, 0.13, 0.12])
    metal, shade = _colour(rng, _either(rng, METALS, WOODS)), _colour(rng, SHADES)
    builds = {
        "floor": _floor_lamp,
        "table": _table_lamp,
        "desk": _desk_lamp,
        "pendant": _pendant_lamp,
        "arc": _arc_lamp,
    }
    return builds[str(build)](rng, metal, shade)


def _shade(rng, radius: float, bottom: float, height: float, colour, centre=(0, 0, 0)) -> Part:
    """A lampshade: cone, drum, bell, globe or a square one."""
    style = rng.choice(["cone", "drum", "bell", "globe", "square"], p=[0.4, 0.2, 0.15, 0.1, 0.15])
    top = bottom + height
    if style == "drum":
        return _disc(radius, bottom, top, colour, centre)
    if style == "bell":
        heights = np.linspace(0, 1, 7)
        radii = radius * (0.35 + 0.65 * (1 - heights) ** 1.8)
        profile = [(0, bottom), *zip(radii, bottom + heights * height, strict=True), (0, top)]
        return _turned(profile, colour, centre)
    if style == "globe":
        angles = np.linspace(-np.pi / 2, np.pi / 2, 13)
        profile = np.stack([np.cos(angles), np.sin(angles) + 1], axis=1) * height / 2
        profile[[0, -1], 0] = 0
        return _turned(profile + (0, bottom), colour, centre)
    if style == "square":
        middle = np.add(centre, (0, bottom, 0))
        return _beam(
            middle, middle + (0, height, 0), 2 * radius, colour, taper=rng.uniform(0.4, 1.0)
        )
    return _cone(radius, radius * rng.uniform(0.3, 0.75), bottom, top, colour, centre)


def _floor_lamp(rng, metal, colour) -> list[Part]:
    height, radius = rng.uniform(1.3, 1.75), rng.uniform(0.18, 0.36)
    thin = _thinnest(height)
    shade_height = rng.uniform(0.2, 0.5)
    neck = height - shade_height
    shade = _shade(rng, radius, neck, shade_height, colour)
    if _chance(rng, 0.4):  # a tripod
        foot, turn = rng.uniform(0.22, 0.4), rng.uniform(0, np.pi)
        hub = rng.uniform(0.6, 1.0) * neck
        angles = turn + np.arange(3) * 2 * np.pi / 3
        legs = [
            _beam((foot * np.cos(a), 0, foot * np.sin(a)), (0, hub, 0), thin, metal, True)
            for a in angles
        ]
        return [shade, *legs, _disc(thin * 0.6, hub - 0.05, neck + 0.02, metal)]
    return [shade, *_pedestal(rng, rng.uniform(0.15, 0.25), neck + 0.02, thin, metal)]


def _table_lamp(rng, metal, colour) -> list[Part]:
    """A turned or square body under a wide shade."""
    body, shade_height = rng.uniform(0.2, 0.5), rng.uniform(0.15, 0.34)
    radius = rng.uniform(0.12, 0.26)
    thin = _thinnest(body + shade_height, 2 * radius) / 2
    body_colour = _either(rng, metal, _colour(rng, FABRICS))
    style = rng.choice(["vase", "column", "square", "ball"])
    if style == "vase":
        heights = np.linspace(0, body, 9)
        belly, waves = radius * rng.uniform(0.25, 0.6), rng.uniform(0.6, 2.0)
        radii = thin * 1.1 + belly * np.abs(np.sin(np.pi * waves * (heights / body + 0.15)))
        parts = [_turned([(0, 0), *zip(radii, heights, strict=True), (0, body)], body_colour)]
    elif style == "square":
        side = radius * rng.uniform(0.5, 1.0)
        lower = body * rng.uniform(0.5, 0.9)
        parts = [_beam((0, 0, 0), (0, lower, 0), max(side, 2 * thin), body_colour)]
        parts.append(_disc(thin * 1.1, lower - 0.01, body + 0.01, metal))
    elif style == "ball":
        ball = min(body * 0.4, radius * 0.8)
        angles = np.linspace(-np.pi / 2, np.pi / 2, 13)
        profile = np.stack([np.cos(angles), np.sin(angles)], axis=1) * ball
        profile[[0, -1], 0] = 0
        foot = 2.2 * thin
        parts = [
            _turned(profile + (0, ball + foot * 0.8), body_colour),
            _disc(ball * 0.8, 0, foot, metal),
            _disc(thin * 1.1, 2 * ball + foot * 0.6, max(body, 2 * ball + foot) + 0.01, metal),
        ]
        body = max(body, 2 * ball + foot)
    else:
        parts = _pedestal(rng, radius * rng.uniform(0.5, 0.9), body + 0.01, 2.2 * thin, body_colour)
    return [*parts, _shade(rng, radius, body, shade_height, colour)]


def _desk_lamp(rng, metal, colour) -> list[Part]:
    """A foot, two arms with a joint and a small shade that looks down in front."""
    lower, upper = rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.4)
    back, forward = rng.uniform(0.0, 0.15), rng.uniform(0.2, 0.4)
    thin = _thinnest(lower + upper + 0.1)
    foot = rng.uniform(0.08, 0.14)
    elbow = np.array([-back, lower, 0])
    head = np.array([-back + forward, lower + upper * rng.uniform(0.1, 0.9), 0])
    shade_height = max(2 * thin, rng.uniform(0.08, 0.16))
    base = (
        _disc(foot, 0, max(thin, 0.025), metal)
        if _chance(rng, 0.6)
        else _box((-foot, 0, -foot), (foot, max(thin, 0.025), foot * rng.uniform(0.8, 1.2)), metal)
    )
    return [
        base,
        _beam((0, 0.004, 0), elbow + (0, thin / 2, 0), thin, metal, True),
        _beam(elbow, head, thin, metal, True),
        _cone(
            rng.uniform(0.09, 0.15),
            thin * 0.7,
            head[1] - shade_height * 0.8,
            head[1] + shade_height * 0.2,
            colour,
            (head[0], 0, 0),
        ),
    ]


def _pendant_lamp(rng, metal, colour) -> list[Part]:
    """A lamp that hangs: ceiling plate, cord, one shade or several along a bar."""
    cord, shade_height, radius = (
        rng.uniform(0.2, 0.9),
        rng.uniform(0.15, 0.4),
        rng.uniform(0.14, 0.32),
    )
    thin = _thinnest(cord + shade_height, 2 * radius)
    count = int(rng.choice([1, 1, 2, 3]))
    if count > 1:
        thin = _thinnest(cord + shade_height, 2.4 * radius * count)
    top = cord + shade_height
    places = (np.arange(count) - (count - 1) / 2) * radius * 2.3
    if count == 1:
        plate = _disc(max(thin, radius * 0.4), top, top + thin, metal)
    else:
        plate = _box((-thin, top, places[0] - thin), (thin, top + thin, places[-1] + thin), metal)
    parts, style = [plate], rng.integers(2**32)
    for z in places:
        parts.append(_disc(thin / 2, shade_height - 0.01, top + 0.01, metal, (0, 0, z)))
        same = np.random.default_rng(style)
        parts.append(_shade(same, radius, 0, shade_height, colour, (0, 0, z)))
    return parts


def _arc_lamp(rng, metal, colour) -> list[Part]:
    """A floor lamp whose post bends forward over a table."""
    height, reach = rng.uniform(1.2, 1.6), rng.uniform(0.5, 1.1)
    thin = _thinnest(height, reach + 0.3)
    straight = height * rng.uniform(0.3, 0.65)
    angles = np.linspace(np.pi, rng.uniform(0.1, 0.35) * np.pi, 9)
    arc = np.stack(
        [
            reach / 2 * (1 + np.cos(angles)),
            straight + (height - straight) * np.sin(angles),
            np.zeros(len(angles)),
        ],
        axis=1,
    )
    points = [np.array([0, 0.004, 0]), *arc]
    parts = [_beam(start, end, thin, metal, True) for start, end in itertools.pairwise(points)]
    head, shade_height = arc[-1], rng.uniform(0.15, 0.28)
    foot = rng.uniform(0.14, 0.24)
    return [
        *parts,
        _disc(foot, 0, max(thin, 0.04), metal),
        _shade(
            rng,
            rng.uniform(0.14, 0.26),
            head[1] - shade_height,
            shade_height + thin / 4,
            colour,
            (head[0], 0, 0),
        ),
    ]


# name -> (ShapeNet synset id, how to draw one in metres, standing on y = 0)
CATEGORIES: dict[str, tuple[str, Callable[[np.random.Generator], list[Part]]]] = {
    "chair": ("03001627", chair),
    "table": ("04379243", table),
    "sofa": ("04256520", sofa),
    "lamp": ("03636649", lamp),
}
