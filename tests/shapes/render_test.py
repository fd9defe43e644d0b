"""Renderings: silhouettes, alpha, colours, speed."""

import time

import numpy as np
import pytest
import trimesh

from r2n2_keras.shapes import furniture
from r2n2_keras.shapes.camera import Camera, random_camera
from r2n2_keras.shapes.render import render_views, shade
from r2n2_keras.shapes.voxelize import voxelize


def render(parts, camera, size=137):
    return render_views(parts, [camera], size)[0]


def _box(extents, colour, at=(0, 0, 0)):
    box = trimesh.creation.box(extents)
    box.apply_translation(at)
    box.visual.face_colors = [*colour, 255]
    return box


def test_shape_and_type_and_empty_corners():
    picture = render(_box([0.5, 0.5, 0.5], (200, 100, 50)), Camera(30, 27, 0.8))
    assert picture.shape == (137, 137, 4) and picture.dtype == np.uint8
    assert picture[68, 68, 3] == 255
    assert not picture[0].any() and not picture[:, -1].any()
    beside = _box([0.1] * 3, (9, 9, 9), (0, 0, 1.2))
    assert not render(beside, Camera(0, 0, 1)).any()


def test_alpha_is_the_covered_share_of_a_pixel():
    """Against 12x12 rays through every pixel, on a model that shows its outline only."""
    model = _box([0.3, 0.5, 0.4], (255, 255, 255))
    camera, size = Camera(33, 28, 0.9), 40
    fine = render(model, camera, size * 12)[..., 3] / 255
    expected = fine.reshape(size, 12, size, 12).mean(axis=(1, 3))
    alpha = render(model, camera, size)[..., 3] / 255
    assert np.abs(alpha - expected).mean() < 0.004
    assert np.abs(alpha - expected).max() < 0.3


def test_edge_colours_are_not_premultiplied():
    model = _box([0.5, 0.5, 0.5], (0, 200, 0))
    colours = np.unique(shade(model)[:, 1].round(6)) * 255
    picture = render(model, Camera(20, 28, 0.9), 60)
    edge = picture[(picture[..., 3] > 0) & (picture[..., 3] < 255)]
    assert len(edge) > 20
    assert edge[:, 1].min() >= np.floor(colours.min()) - 1
    assert not edge[:, [0, 2]].any()


def test_the_nearer_part_is_seen_and_keeps_its_colour():
    red, blue = _box([0.2] * 3, (220, 0, 0), (0.3, 0, 0)), _box([0.2] * 3, (0, 0, 220))
    front = render([red, blue], Camera(0, 0, 1))[68, 68]
    behind = render([red, blue], Camera(180, 0, 1))[68, 68]
    assert front[0] > 50 and front[2] == 0
    assert behind[2] > 50 and behind[0] == 0


@pytest.mark.parametrize("category", furniture.CATEGORIES)
def test_silhouettes_match_the_voxels(category):
    """Rays that hit voxels, cell by cell, cover the same pixels as the rendering."""
    rng = np.random.default_rng(4)
    for _ in range(2):
        parts = furniture.make(category, rng)
        voxels = voxelize(parts)
        camera = random_camera(rng)
        alpha = render(parts, camera)[..., 3] > 127
        centres = ((np.argwhere(voxels.data) + 0.5) / 32 - 0.5) * voxels.scale
        offsets = np.stack(np.meshgrid(*[np.linspace(-0.5, 0.5, 4)] * 3), axis=-1).reshape(-1, 3)
        points = centres[:, None] + offsets / 32 * voxels.scale
        pixels = camera.project(points.reshape(-1, 3)).astype(int)
        seen = np.zeros((137, 137), bool)
        seen[pixels[:, 1], pixels[:, 0]] = True
        assert (seen & alpha).sum() / (seen | alpha).sum() > 0.65


def test_soft_edges_and_speed():
    rng = np.random.default_rng(2)
    parts = furniture.make("chair", rng)
    cameras = [random_camera(rng) for _ in range(24)]
    start = time.process_time()
    pictures = render_views(parts, cameras)
    assert time.process_time() - start < 2  # about 0.1 s; a wide margin for busy machines
    alpha = pictures[..., 3]
    soft = ((alpha > 0) & (alpha < 255)).mean()
    assert 0.005 < soft < 0.06
