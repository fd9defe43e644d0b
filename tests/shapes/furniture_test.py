"""Furniture: closed, normalised, facing the front, and varied."""

import numpy as np
import pytest

from r2n2_keras.shapes import furniture
from r2n2_keras.shapes.voxelize import voxelize

MODELS = 12


def _models(category):
    return [furniture.make(category, np.random.default_rng([5, n])) for n in range(MODELS)]


@pytest.mark.parametrize("category", furniture.CATEGORIES)
def test_models_are_solids_centred_with_diagonal_one(category):
    for parts in _models(category):
        for part in parts:
            assert part.is_watertight and part.is_winding_consistent
            assert part.volume > 0
        lower = np.min([part.bounds[0] for part in parts], axis=0)
        upper = np.max([part.bounds[1] for part in parts], axis=0)
        np.testing.assert_allclose(lower, -upper, atol=1e-9)
        assert np.linalg.norm(upper - lower) == pytest.approx(1)


@pytest.mark.parametrize("category", furniture.CATEGORIES)
def test_voxels_keep_every_part(category):
    for parts in _models(category):
        scale = voxelize(parts).scale
        cells = (np.stack(np.mgrid[:32, :32, :32], axis=-1).reshape(-1, 3) + 0.5) / 32 - 0.5
        for part in parts:
            lower, upper = part.bounds
            near = cells[((cells * scale >= lower) & (cells * scale <= upper)).all(axis=1)] * scale
            assert len(near) and part.contains(near).any()


@pytest.mark.parametrize("category", ["chair", "sofa"])
def test_backs_are_at_low_x(category):
    backs = []
    for parts in _models(category):
        rows = np.argwhere(voxelize(parts).data)
        top = rows[rows[:, 1] > rows[:, 1].max() - 3]
        backs.append(top[:, 0].mean() < rows[:, 0].mean())
    assert np.mean(backs) > 0.8


def test_tables_have_their_top_above():
    for parts in _models("table"):
        areas = voxelize(parts).data.sum(axis=(0, 2))
        assert areas[areas > 0][-1] >= 0.9 * areas.max()


@pytest.mark.parametrize("category", furniture.CATEGORIES)
def test_the_average_shape_is_a_poor_answer(category):
    grids = np.stack([voxelize(parts).data for parts in _models(category)])
    for threshold in (0.2, 0.3, 0.4, 0.5):
        constant = grids.mean(axis=0) >= threshold
        overlap = (grids & constant).sum(axis=(1, 2, 3)) / (grids | constant).sum(axis=(1, 2, 3))
        assert overlap.mean() < 0.6
    assert len({grid.tobytes() for grid in grids}) == MODELS
