"""Procedural furniture: coloured, closed meshes of chairs, tables, sofas and lamps.

Good enough to learn from and free of licences, for the quick start and the tests. A model is drawn
from a `numpy.random.Generator`: same generator state, same model. It varies in build as well as in
proportions, so that the average shape of a category is a poor answer.

While being built a model stands on y = 0 and is measured in metres; `make` returns it as R2N2's
data set has it: centred on the origin, y up, the front faces +x, width along z, bounding-box
diagonal 1. No part is thinner than `kit.THINNEST` cells of a 32-cell grid, so voxels keep all of
them.
"""

from collections.abc import Callable

import numpy as np

from r2n2_keras.shapes.furniture import chair, lamp, sofa, table
from r2n2_keras.shapes.furniture.kit import Part
from r2n2_keras.shapes.render import bounds

# How to draw a model of each category, in metres and standing on y = 0.
CATEGORIES: dict[str, Callable[[np.random.Generator], list[Part]]] = {
    "chair": chair.build,
    "table": table.build,
    "sofa": sofa.build,
    "lamp": lamp.build,
}


def make(category: str, rng: np.random.Generator) -> list[Part]:
    """One model of a category of `CATEGORIES`, in object space: closed parts with face colours."""
    return normalise(CATEGORIES[category](rng))


def normalise(parts: list[Part]) -> list[Part]:
    """Copies of the parts, moved and scaled: centred on the origin, bounding-box diagonal 1."""
    lower, upper = bounds(parts)
    diagonal = np.linalg.norm(upper - lower)
    moved = []
    for part in parts:
        part = part.copy()
        part.vertices = (part.vertices - (lower + upper) / 2) / diagonal
        moved.append(part)
    return moved
