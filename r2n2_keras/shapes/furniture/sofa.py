"""How to draw a sofa: seats in a row with a back, and perhaps arms, feet and a chaise."""

import itertools

import numpy as np

from r2n2_keras.shapes.furniture import kit


def build(rng: np.random.Generator) -> list[kit.Part]:
    """Armchairs, two- to four-seaters, L-shapes and day beds."""
    seats = int(rng.choice([1, 2, 3, 4], p=[0.2, 0.35, 0.35, 0.1]))
    cushion, arm = rng.uniform(0.5, 0.7), rng.uniform(0.12, 0.28)
    arms = rng.choice(["both", "left", "right", "none"], p=[0.7, 0.08, 0.08, 0.14])
    depth, seat_top = rng.uniform(0.75, 1.05), rng.uniform(0.36, 0.48)
    top = seat_top + rng.uniform(0.22, 0.55)
    inner = seats * cushion
    chaise = rng.uniform(0.4, 0.8) if seats >= 2 and kit.chance(rng, 0.3) else 0.0
    thin = kit.thinnest(inner + 2 * arm, depth + chaise, top)
    arm, back = max(arm, thin), max(thin, rng.uniform(0.14, 0.3))
    cloth = kit.tint(rng, kit.FABRICS)
    pillow = kit.either(rng, cloth, cloth, kit.tint(rng, kit.FABRICS))
    feet = kit.either(rng, 0.0, max(thin, rng.uniform(0.06, 0.16)))
    x, z = depth / 2, inner / 2

    base = seat_top - max(thin, rng.uniform(0.1, 0.18))
    feet = min(feet, base - thin)
    feet = feet if feet > 0.03 else 0.0
    parts = [kit.box((-x + 0.003, feet, -z), (x - 0.02, base, z), cloth)]
    gap = rng.uniform(0.006, 0.02)
    for place in range(seats):
        start = -z + place * cushion
        upper = x, seat_top, start + cushion - gap / 2
        parts.append(kit.box((-x + back, base - 0.01, start + gap / 2), upper, pillow))
    parts += _sofa_back(rng, seats, cushion, x, z, back, base, seat_top, top, thin, cloth, pillow)
    rise = seat_top + rng.uniform(0.08, max(0.1, (top - seat_top) * 0.95))
    rolled = kit.chance(rng, 0.3)
    for side, name in ((-1, "left"), (1, "right")):
        if arms in ("both", name):
            parts += _sofa_arm(side, x, z, arm, feet, rise, rolled, cloth)
    if chaise:
        parts += _chaise(rng, z, cushion, x, chaise, feet, base, seat_top, cloth, pillow)
    if feet:
        parts += _sofa_feet(rng, x, z, arm, arms, feet, thin)
    return parts


def _sofa_back(rng, seats, cushion, x, z, back, base, seat_top, top, thin, cloth, pillow):
    lean = rng.uniform(0, 0.2)
    style = rng.choice(["slab", "cushions", "roll"], p=[0.45, 0.4, 0.15])
    lower = -x, base - 0.02, -z + 0.004
    if style == "cushions":
        parts = [kit.box(lower, (-x + back * 0.8, top - 0.06, z - 0.004), cloth)]
        front = -x + back * 0.7
        for place in range(seats):
            start = -z + place * cushion
            upper = front + max(thin, 0.14), top + 0.02, start + cushion - 0.03
            parts.append(kit.box((front, seat_top - 0.03, start + 0.03), upper, pillow))
    else:
        parts = [kit.box(lower, (-x + back, top, z - 0.004), cloth)]
        if style == "roll":
            radius, middle = max(thin, back) * 0.6, -x + back / 2
            ends = (middle, top, -z + 0.006), (middle, top, z - 0.006)
            parts.append(kit.beam(*ends, 2 * radius, cloth, True))
    return [kit.leaning(part, lean, -x, base) for part in parts]


def _sofa_arm(side, x, z, arm, feet, rise, rolled, cloth) -> list[kit.Part]:
    inner, outer = side * z, side * (z + arm)
    parts = [kit.box((-x, feet, inner), (x - 0.008, rise, outer), cloth)]
    if rolled:
        middle = (inner + outer) / 2
        ends = (-x - 0.004, rise, middle), (x + 0.01, rise, middle)
        parts.append(kit.beam(*ends, arm * 1.25, cloth, True))
    return parts


def _chaise(rng, z, cushion, x, length, feet, base, seat_top, cloth, pillow) -> list[kit.Part]:
    """The long part of an L, in front of the first or the last seat."""
    reach = x + length
    start = kit.either(rng, -z, z - cushion)
    end, rear = start + cushion, x - 0.1
    seat = (rear, base - 0.005, start + 0.006), (reach, seat_top - 0.004, end - 0.006)
    under = (rear, feet, start + 0.003), (reach - 0.01, base, end - 0.003)
    return [kit.box(*under, cloth), kit.box(*seat, pillow)]


def _sofa_feet(rng, x, z, arm, arms, height, thin) -> list[kit.Part]:
    colour, thick = (
        kit.tint(rng, kit.either(rng, kit.WOODS, kit.METALS)),
        thin * rng.uniform(1.0, 1.4),
    )
    left = -z - (arm if arms in ("both", "left") else 0) + thick
    right = z + (arm if arms in ("both", "right") else 0) - thick
    round_ = kit.chance(rng, 0.5)
    return [
        kit.beam((foot, 0, z), (foot, height + thin, z), thick, colour, round_)
        for foot, z in itertools.product((-(x - thick), x - thick), (left, right))
    ]
