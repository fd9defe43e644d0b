"""How to draw a chair: a base, a seat, a back and perhaps arms, each of several kinds."""

import itertools

import numpy as np
import trimesh

from r2n2_keras.shapes.furniture import kit


def build(rng: np.random.Generator) -> list[kit.Part]:
    """Dining, bar, club and office chairs: five bases, five backs, three kinds of arms."""
    kind = rng.choice(["dining", "bar", "club", "wide"], p=[0.5, 0.15, 0.15, 0.2])
    width = kit.by_kind(rng, kind, (0.55, 0.75), dining=(0.4, 0.52), bar=(0.36, 0.46))
    depth = width * rng.uniform(0.85, 1.1)
    seat_top = kit.by_kind(rng, kind, (0.4, 0.5), bar=(0.62, 0.8), club=(0.34, 0.42))
    back = kit.by_kind(rng, kind, (0.35, 0.65), bar=(0.18, 0.4), club=(0.3, 0.5))
    thin = kit.thinnest(1.2 * width, depth, seat_top + back)  # arms make it wider
    frame = kit.tint(rng, kit.either(rng, kit.WOODS, kit.WOODS, kit.METALS))
    cloth = kit.either(rng, frame, kit.tint(rng, kit.FABRICS), kit.tint(rng, kit.FABRICS))

    seat = max(thin, rng.uniform(0.03, 0.12 if kind != "club" else 0.2))
    parts = _chair_base(rng, depth, width, seat_top - seat, thin, frame, kind)
    round_seat = kind != "club" and kit.chance(rng, 0.2)
    if round_seat:
        shape = kit.disc(width / 2, seat_top - seat, seat_top, cloth)
        shape.vertices[:, 0] *= depth / width
        parts.append(shape)
    else:
        parts.append(kit.block(depth / 2, width / 2, seat_top - seat, seat_top, cloth))
    lean = rng.uniform(0, 0.25)
    parts += _chair_back(rng, depth, width, seat_top, back, lean, thin, frame, cloth, round_seat)
    odds = [0.1, 0.3, 0.6] if kind == "club" else [0.55, 0.35, 0.1]
    arms = rng.choice(["none", "posts", "panels"], p=odds)
    rise = min(rng.uniform(0.16, 0.26), back * 0.8)
    parts += _chair_arms(rng, arms, depth, width, seat_top, rise, thin, frame, cloth)
    return parts


def _chair_base(rng, depth, width, top, thin, colour, kind) -> list[kit.Part]:
    """What carries a seat whose underside is at `top`."""
    odds = [0.1, 0.15, 0.0, 0.25, 0.5] if kind == "club" else [0.55, 0.2, 0.1, 0.1, 0.05]
    base = rng.choice(["legs", "pedestal", "cantilever", "panels", "block"], p=odds)
    if base == "pedestal":
        return kit.pedestal(rng, width * rng.uniform(0.4, 0.55), top, thin, colour)
    if base == "cantilever":
        x, y, parts = depth / 2, thin / 2, []
        for z in (-width / 2 + thin / 2, width / 2 - thin / 2):
            parts.append(kit.beam((-x, y, z), (x, y, z), thin, colour))
            parts.append(kit.beam((x - y, 0, z), (x - y, top, z), thin, colour))
        return [*parts, kit.beam((-x, y, -width / 2), (-x, y, width / 2), thin, colour)]
    if base == "panels":
        return kit.side_panels(depth, width, top, max(thin, 0.04), colour)
    if base == "block":
        inset = rng.uniform(0, 0.06)
        return [kit.block(depth / 2 - inset, width / 2 - inset, 0, top, colour)]
    parts = kit.four_legs(rng, depth, width, top, thin, colour)
    if kit.chance(rng, 0.4):  # stretchers
        height, x, z = top * rng.uniform(0.2, 0.6), depth / 2 - thin, width / 2 - thin
        parts += [kit.beam((-x, height, s * z), (x, height, s * z), thin, colour) for s in (-1, 1)]
        parts.append(kit.beam((0, height, -z), (0, height, z), thin, colour))
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
        kit.box((rear, seat_top - thin, z), (rear + thick, top, z + sign * thin), frame)
        for z, sign in ((-half, 1), (half, -1))
    ]
    rail = max(thin, rng.uniform(0.05, 0.12))
    # Rails lie a little within the posts, so that no two faces share a plane.
    low, high = rear + 0.05 * thick, rear + 0.95 * thick
    crest = kit.box((low, top - rail, -half + 0.002), (high, top + 0.004, half - 0.002), frame)
    if style == "solid":
        gap = kit.either(rng, 0.0, 0.0, rng.uniform(0.1, 0.4)) * back
        pieces = [kit.box((rear, seat_top + gap, -half), (rear + thick, top, half), cloth)]
        for z in (-half * 0.5, half * 0.5) if gap else ():
            end = high, seat_top + gap + 0.01, z + thin / 2
            pieces.append(kit.box((low, seat_top - thin, z - thin / 2), end, frame))
    elif style == "slats":
        count = max(1, min(int(rng.integers(2, 6)), int(2 * half / (2.2 * thin)) - 1))
        pieces = [*posts, crest]
        for z in np.linspace(-half, half, count + 2)[1:-1]:
            end = high, top - thin / 2, z + thin / 2
            pieces.append(kit.box((low, seat_top - thin / 2, z - thin / 2), end, frame))
    elif style == "rungs":
        count = max(1, min(int(rng.integers(1, 5)), int(back / (2.4 * thin)) - 1))
        places = np.linspace(seat_top, top - rail, count + 1)[:-1] + 0.12 * back
        pieces = [*posts, crest] + [
            kit.box((low, y, -half + 0.002), (high, y + thin, half - 0.002), frame) for y in places
        ]
    else:
        gap = back * rng.uniform(0.05, 0.3)
        panel = kit.box(
            (low, seat_top + gap, -half * 0.7), (high, top - rail / 2, half * 0.7), cloth
        )
        end = high, seat_top + gap + thin, half - 0.002
        pieces = [*posts, crest, kit.box((low, seat_top + gap, -half + 0.002), end, frame)]
        if kit.chance(rng, 0.6):
            pieces.append(panel)
    return [kit.leaning(piece, lean, rear, seat_top) for piece in pieces]


def _tub(depth, width, seat_top, top, thick, colour) -> list[kit.Part]:
    angles = np.linspace(np.pi / 2, 3 * np.pi / 2, 10)
    x, z = (depth / 2 - thick / 2) * np.cos(angles), (width / 2 - thick / 2) * np.sin(angles)
    walls = []
    for start, end in itertools.pairwise(np.stack([x, np.zeros(10), z], axis=1)):
        middle, step = (start + end) / 2, end - start
        extents = np.linalg.norm(step) + thick * 0.4, top - seat_top + thick, thick
        wall = trimesh.creation.box(extents)
        turn = trimesh.transformations.rotation_matrix(np.arctan2(-step[2], step[0]), (0, 1, 0))
        vertices = trimesh.transform_points(wall.vertices, turn) + middle
        vertices += (0, (seat_top + top - thick) / 2, 0)
        walls.append(kit.coloured_mesh(vertices, wall.faces, colour))
    return walls


def _chair_arms(rng, arms, depth, width, seat_top, rise, thin, frame, cloth) -> list[kit.Part]:
    if arms == "none":
        return []
    thick = max(thin, rng.uniform(0.04, 0.08) if arms == "posts" else rng.uniform(0.05, 0.14))
    front, rear, top = depth / 2 * rng.uniform(0.5, 1.0), -depth / 2, seat_top + rise
    parts = []
    for side in (-1, 1):
        inner, outer = side * (width / 2 - 0.3 * thick), side * (width / 2 + 0.7 * thick)
        if arms == "panels":
            bottom = seat_top - rng.uniform(0.05, 0.2)
            parts.append(kit.box((rear + 0.004, bottom, inner), (front, top, outer), cloth))
            continue
        parts.append(kit.box((rear - 0.02, top - thin, inner), (front, top, outer), frame))
        x, inner, outer = front - thin, inner + side * 0.003, outer - side * 0.003
        post = (x - thin / 2, seat_top - thin, inner), (x + thin / 2, top - thin / 2, outer)
        parts.append(kit.box(*post, frame))
    return parts
