"""How to draw a lamp: a shade on something that stands or hangs."""

import itertools

import numpy as np

from r2n2_keras.shapes.furniture import kit


def build(rng: np.random.Generator) -> list[kit.Part]:
    """Floor, table, desk and hanging lamps."""
    kind = rng.choice(["floor", "table", "desk", "pendant", "arc"], p=[0.25, 0.3, 0.2, 0.13, 0.12])
    metal, shade = (
        kit.tint(rng, kit.either(rng, kit.METALS, kit.WOODS)),
        kit.tint(rng, kit.SHADES),
    )
    builds = {"floor": _floor_lamp, "table": _table_lamp, "desk": _desk_lamp}
    builds |= {"pendant": _pendant_lamp, "arc": _arc_lamp}
    return builds[str(kind)](rng, metal, shade)


def _shade(rng, radius: float, bottom: float, height: float, colour, centre=(0, 0, 0)) -> kit.Part:
    style = rng.choice(["cone", "drum", "bell", "globe", "square"], p=[0.4, 0.2, 0.15, 0.1, 0.15])
    top = bottom + height
    if style == "drum":
        return kit.disc(radius, bottom, top, colour, centre)
    if style == "bell":
        heights = np.linspace(0, 1, 7)
        radii = radius * (0.35 + 0.65 * (1 - heights) ** 1.8)
        profile = [(0, bottom), *zip(radii, bottom + heights * height, strict=True), (0, top)]
        return kit.turned(profile, colour, centre)
    if style == "globe":
        return kit.turned((kit.half_circle() + (0, 1)) * height / 2 + (0, bottom), colour, centre)
    if style == "square":
        middle = np.add(centre, (0, bottom, 0))
        taper = rng.uniform(0.4, 1.0)
        return kit.beam(middle, middle + (0, height, 0), 2 * radius, colour, taper=taper)
    return kit.cone(radius, radius * rng.uniform(0.3, 0.75), bottom, top, colour, centre)


def _floor_lamp(rng, metal, colour) -> list[kit.Part]:
    height, radius = rng.uniform(1.3, 1.75), rng.uniform(0.18, 0.36)
    thin = kit.thinnest(height)
    shade_height = rng.uniform(0.2, 0.5)
    neck = height - shade_height
    shade = _shade(rng, radius, neck, shade_height, colour)
    if kit.chance(rng, 0.4):  # a tripod
        foot, turn = rng.uniform(0.22, 0.4), rng.uniform(0, np.pi)
        hub = rng.uniform(0.6, 1.0) * neck
        feet = kit.around(3, turn, foot, 0)
        legs = [kit.beam(start, (0, hub, 0), thin, metal, True) for start in feet]
        return [shade, *legs, kit.disc(thin * 0.6, hub - 0.05, neck + 0.02, metal)]
    return [shade, *kit.pedestal(rng, rng.uniform(0.15, 0.25), neck + 0.02, thin, metal)]


def _table_lamp(rng, metal, colour) -> list[kit.Part]:
    body, shade_height = rng.uniform(0.2, 0.5), rng.uniform(0.15, 0.34)
    radius = rng.uniform(0.12, 0.26)
    thin = kit.thinnest(body + shade_height, 2 * radius) / 2
    body_colour = kit.either(rng, metal, kit.tint(rng, kit.FABRICS))
    style = rng.choice(["vase", "column", "square", "ball"])
    if style == "vase":
        heights = np.linspace(0, body, 9)
        belly, waves = radius * rng.uniform(0.25, 0.6), rng.uniform(0.6, 2.0)
        radii = thin * 1.1 + belly * np.abs(np.sin(np.pi * waves * (heights / body + 0.15)))
        parts = [kit.turned([(0, 0), *zip(radii, heights, strict=True), (0, body)], body_colour)]
    elif style == "square":
        side = radius * rng.uniform(0.5, 1.0)
        lower = body * rng.uniform(0.5, 0.9)
        parts = [kit.beam((0, 0, 0), (0, lower, 0), max(side, 2 * thin), body_colour)]
        parts.append(kit.disc(thin * 1.1, lower - 0.01, body + 0.01, metal))
    elif style == "ball":
        ball = min(body * 0.4, radius * 0.8)
        foot = 2.2 * thin
        body = max(body, 2 * ball + foot)
        parts = [
            kit.turned(kit.half_circle() * ball + (0, ball + foot * 0.8), body_colour),
            kit.disc(ball * 0.8, 0, foot, metal),
            kit.disc(thin * 1.1, 2 * ball + foot * 0.6, body + 0.01, metal),
        ]
    else:
        parts = kit.pedestal(
            rng, radius * rng.uniform(0.5, 0.9), body + 0.01, 2.2 * thin, body_colour
        )
    return [*parts, _shade(rng, radius, body, shade_height, colour)]


def _desk_lamp(rng, metal, colour) -> list[kit.Part]:
    lower, upper = rng.uniform(0.2, 0.4), rng.uniform(0.2, 0.4)
    back, forward = rng.uniform(0.0, 0.15), rng.uniform(0.2, 0.4)
    thin = kit.thinnest(lower + upper + 0.1)
    foot = rng.uniform(0.08, 0.14)
    elbow = np.array([-back, lower, 0])
    head = np.array([-back + forward, lower + upper * rng.uniform(0.1, 0.9), 0])
    shade_height = max(2 * thin, rng.uniform(0.08, 0.16))
    plate = max(thin, 0.025)
    if kit.chance(rng, 0.6):
        base = kit.disc(foot, 0, plate, metal)
    else:
        base = kit.box((-foot, 0, -foot), (foot, plate, foot * rng.uniform(0.8, 1.2)), metal)
    radius, x, y = rng.uniform(0.09, 0.15), head[0], head[1]
    low, high = y - shade_height * 0.8, y + shade_height * 0.2
    return [
        base,
        kit.beam((0, 0.004, 0), elbow + (0, thin / 2, 0), thin, metal, True),
        kit.beam(elbow, head, thin, metal, True),
        kit.cone(radius, thin * 0.7, low, high, colour, (x, 0, 0)),
    ]


def _pendant_lamp(rng, metal, colour) -> list[kit.Part]:
    cord, shade_height = rng.uniform(0.2, 0.9), rng.uniform(0.15, 0.4)
    radius = rng.uniform(0.14, 0.32)
    thin = kit.thinnest(cord + shade_height, 2 * radius)
    count = int(rng.choice([1, 1, 2, 3]))
    if count > 1:
        thin = kit.thinnest(cord + shade_height, 2.4 * radius * count)
    top = cord + shade_height
    places = (np.arange(count) - (count - 1) / 2) * radius * 2.3
    if count == 1:
        plate = kit.disc(max(thin, radius * 0.4), top, top + thin, metal)
    else:
        plate = kit.box(
            (-thin, top, places[0] - thin), (thin, top + thin, places[-1] + thin), metal
        )
    parts, style = [plate], rng.integers(2**32)
    for z in places:
        parts.append(kit.disc(thin / 2, shade_height - 0.01, top + 0.01, metal, (0, 0, z)))
        same = np.random.default_rng(style)
        parts.append(_shade(same, radius, 0, shade_height, colour, (0, 0, z)))
    return parts


def _arc_lamp(rng, metal, colour) -> list[kit.Part]:
    height, reach = rng.uniform(1.2, 1.6), rng.uniform(0.5, 1.1)
    thin = kit.thinnest(height, reach + 0.3)
    straight = height * rng.uniform(0.3, 0.65)
    angles = np.linspace(np.pi, rng.uniform(0.1, 0.35) * np.pi, 9)
    x, y = reach / 2 * (1 + np.cos(angles)), straight + (height - straight) * np.sin(angles)
    arc = np.stack([x, y, np.zeros(len(angles))], axis=1)
    points = [np.array([0, 0.004, 0]), *arc]
    parts = [kit.beam(start, end, thin, metal, True) for start, end in itertools.pairwise(points)]
    (x, y, _), shade_height = arc[-1], rng.uniform(0.15, 0.28)
    foot, radius = rng.uniform(0.14, 0.24), rng.uniform(0.14, 0.26)
    shade = _shade(rng, radius, y - shade_height, shade_height + thin / 4, colour, (x, 0, 0))
    return [*parts, kit.disc(foot, 0, max(thin, 0.04), metal), shade]
