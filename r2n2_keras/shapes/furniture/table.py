"""How to draw a table: a round or a square top on one of six kinds of base."""

import numpy as np

from r2n2_keras.shapes.furniture import kit


def build(rng: np.random.Generator) -> list[kit.Part]:
    """Coffee, dining, bar and writing tables; round and square tops on six kinds of base."""
    kind = rng.choice(["coffee", "dining", "bar", "desk", "side"], p=[0.25, 0.35, 0.1, 0.2, 0.1])
    heights = {"coffee": (0.32, 0.5), "bar": (0.95, 1.15), "side": (0.45, 0.7)}
    height = kit.by_kind(rng, kind, (0.68, 0.8), **heights)
    depth = kit.by_kind(rng, kind, (0.6, 1.0), side=(0.35, 0.55), bar=(0.5, 0.8))
    width = depth * kit.either(rng, 1.0, rng.uniform(1.0, 1.5), rng.uniform(1.4, 2.2))
    round_ = kind != "desk" and kit.chance(rng, 0.35)
    thin = kit.thinnest(depth, height, width)
    top_colour = kit.tint(rng, kit.either(rng, kit.WOODS, kit.WOODS, kit.SHADES, kit.METALS))
    frame = kit.either(rng, top_colour, kit.tint(rng, kit.WOODS), kit.tint(rng, kit.METALS))
    thick = max(thin, rng.uniform(0.03, 0.1))
    under = height - thick

    if round_:
        top = kit.disc(0.5, under, height, top_colour)
        top.vertices[:, [0, 2]] *= (depth, width)
        # The rectangle of legs that fits under an ellipse.
        base_depth, base_width = depth * 0.72, width * 0.72
    else:
        top = kit.block(depth / 2, width / 2, under, height, top_colour)
        inset = kit.either(rng, 0.01, rng.uniform(0.02, 0.1))
        base_depth, base_width = depth - 2 * inset, width - 2 * inset
    base = _desk_base if kind == "desk" and kit.chance(rng, 0.7) else _table_base
    return [top, *base(rng, base_depth, base_width, under, thin, frame, round_)]


def _table_base(rng, depth, width, top, thin, colour, round_) -> list[kit.Part]:
    odds = [0.4, 0.5, 0.0, 0.0, 0.1] if round_ else [0.55, 0.1, 0.15, 0.1, 0.1]
    base = rng.choice(["legs", "pedestal", "panels", "trestle", "drum"], p=odds)
    if base == "pedestal":
        parts = kit.pedestal(rng, min(depth, width) * rng.uniform(0.3, 0.48), top, thin, colour)
        if width > 1.7 * depth:  # a long table stands on two of them
            return [
                kit.coloured_mesh(part.vertices + (0, 0, z), part.faces, colour)
                for z in (-width / 4, width / 4)
                for part in parts
            ]
        return parts
    if base == "drum":
        radius = min(depth, width) * rng.uniform(0.2, 0.4)
        waist = radius * rng.uniform(0.4, 1.2)
        return [
            kit.turned([(0, 0), (radius, 0), (waist, top / 2), (radius, top), (0, top)], colour)
        ]
    if base == "panels":
        parts = kit.side_panels(depth, width, top, max(thin, rng.uniform(0.03, 0.1)), colour)
        return parts + _shelf(rng, depth, width, top, thin, colour, 0.5)
    if base == "trestle":
        x, ends, parts = depth / 2 - thin / 2, (-width / 2 + thin, width / 2 - thin), []
        for z in ends:
            parts.append(kit.beam((-x, 0, z), (x, top, z), thin, colour))
            parts.append(kit.beam((x, 0, z), (-x, top, z), thin, colour))
        first, second = [(0, top / 2, z) for z in ends]
        return [*parts, kit.beam(first, second, thin, colour)]
    parts = kit.four_legs(rng, depth, width, top, thin, colour)
    if kit.chance(rng, 0.35):  # an apron
        drop = max(thin, rng.uniform(0.05, 0.12))
        x, z = depth / 2 - 0.01 - thin * 0.2, width / 2 - 0.01 - thin * 0.2
        parts.append(kit.block(x, z, top - drop, top, colour))
    return parts + _shelf(rng, depth, width, top, thin, colour, 0.3)


def _shelf(rng, depth, width, top, thin, colour, probability) -> list[kit.Part]:
    if not kit.chance(rng, probability):
        return []
    low, x, z = top * rng.uniform(0.15, 0.55), depth / 2 - 0.02, width / 2 - 0.02
    return [kit.block(x, z, low, low + thin, colour)]


def _desk_base(rng, depth, width, top, thin, colour, round_) -> list[kit.Part]:
    drawer = width * rng.uniform(0.22, 0.34)
    rear, front = -depth / 2, depth / 2 - rng.uniform(0, 0.05)
    bottom = kit.either(rng, 0.0, rng.uniform(0.08, 0.4) * top)
    side = kit.either(rng, -1, 1)
    knob, handles = max(thin, 0.03), kit.tint(rng, kit.METALS)
    parts = []
    ends = (-1, 1) if kit.chance(rng, 0.35) else (side,)
    for end in ends:
        outer, inner = end * width / 2, end * (width / 2 - drawer)
        parts.append(kit.box((rear, bottom, outer), (front, top, inner), colour))
        middle = (outer + inner) / 2
        drawers = int(rng.integers(1, 4))
        for y in np.linspace(bottom, top, 2 * drawers + 1)[1::2]:
            left, right = middle - drawer / 4, middle + drawer / 4
            upper = front + 0.4 * thin, y + knob / 2, right
            parts.append(kit.box((front - 0.6 * thin, y - knob / 2, left), upper, handles))
    if bottom or len(ends) == 1:
        others = (-1, 1) if bottom else (-side,)
        thick = max(thin, 0.04)
        is_panel = kit.chance(rng, 0.5)
        for end in others:
            if is_panel:
                outer = end * (width / 2 - 0.003)
                upper = front - 0.003, top, outer - end * thick
                parts.append(kit.box((rear + 0.003, 0, outer), upper, colour))
                continue
            z = end * (width / 2 - thick / 2 - 0.003)
            for x in (rear + thick / 2 + 0.003, front - thick / 2 - 0.003):
                parts.append(kit.beam((x, 0, z), (x, top, z), thick, colour))
    if kit.chance(rng, 0.5):
        low, z = top * rng.uniform(0.2, 0.6), width / 2 - 0.01
        parts.append(kit.box((rear + 0.01, low, -z), (rear + 0.01 + thin, top, z), colour))
    return parts
