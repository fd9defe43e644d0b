"""Solid voxels against closed formulas and against `contains`."""

import numpy as np
import pytest
import trimesh

from r2n2_keras.shapes import furniture
from r2n2_keras.shapes.voxelize import voxelize


def _centres(scale, size=32):
    return ((np.stack(np.mgrid[:size, :size, :size], axis=-1) + 0.5) / size - 0.5) * scale


def test_a_ball_is_the_cells_within_its_radius():
    ball = trimesh.creation.icosphere(subdivisions=5, radius=0.4)
    voxels = voxelize(ball)
    radii = np.linalg.norm(_centres(0.8), axis=-1)
    clear = np.abs(radii - 0.4) > 0.002  # the mesh lies a little inside the true ball
    np.testing.assert_array_equal(voxels.data[clear], (radii < 0.4)[clear])


def test_boxes_with_every_kind_of_face_position():
    """Also where faces and the diagonals on them run exactly through cells' centres."""
    for extents in ([1, 0.5, 0.25], [0.4, 1, 0.7], [31 / 32, 1, 1], [1, 3 / 32, 1]):
        voxels = voxelize(trimesh.creation.box(extents))
        distance = (np.array(extents) / 2 - np.abs(_centres(1.0))).min(axis=-1)
        clear = np.abs(distance) > 1e-5
        np.testing.assert_array_equal(voxels.data[clear], (distance > 0)[clear])
    assert voxelize(trimesh.creation.box([1, 1, 1])).data.all()


def test_axes_translate_and_scale():
    parts = [trimesh.creation.box(bounds=[(-0.1, -0.4, -0.2), (0.1, 0.4, 0.2)])]
    voxels = voxelize(parts)
    assert voxels.data.shape == (32, 32, 32) and voxels.data.dtype == bool
    assert voxels.data.any(axis=(1, 2)).sum() == 8
    assert voxels.data.any(axis=(0, 2)).sum() == 32
    assert voxels.data.any(axis=(0, 1)).sum() == 16
    assert voxels.translate == pytest.approx((-0.1, -0.4, -0.2))
    assert voxels.scale == pytest.approx(0.8)


def test_overlapping_parts_are_one_solid_and_a_ring_keeps_its_hole():
    ring = trimesh.creation.annulus(r_min=0.3, r_max=0.5, height=0.2)  # around z
    assert not voxelize(ring).data[16, 16].any()
    lid = trimesh.creation.box([0.7, 0.7, 0.2])
    both = voxelize([ring, lid]).data
    np.testing.assert_array_equal(both[16, 16], voxelize(ring).data.any(axis=(0, 1)))


@pytest.mark.parametrize("category", furniture.CATEGORIES)
def test_furniture_agrees_with_contains(category):
    parts = furniture.make(category, np.random.default_rng(8))
    voxels = voxelize(parts)
    centres = _centres(voxels.scale).reshape(-1, 3)
    expected = np.zeros(len(centres), bool)
    for part in parts:
        near = ((centres >= part.bounds[0]) & (centres <= part.bounds[1])).all(axis=1)
        expected[near] |= part.contains(centres[near])
    # `contains` casts rays in single precision: it may differ for centres that lie on a surface.
    differing = np.flatnonzero(voxels.data.ravel() != expected)
    for cell in differing:
        gaps = [abs(trimesh.proximity.signed_distance(part, centres[[cell]])[0]) for part in parts]
        assert min(gaps) < 1e-5
    assert expected.sum() > 50
