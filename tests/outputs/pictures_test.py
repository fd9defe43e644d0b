"""Pictures: what is drawn where, and files that are whole."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from r2n2_keras.outputs import pictures
from r2n2_keras.shapes.camera import Camera


def _grid(*cells):
    voxels = np.zeros((8, 8, 8), bool)
    for cell in cells:
        voxels[cell] = True
    return voxels


def _rows(count):
    return [
        {"step": str(100 * (n + 1)), "loss": 1 / (n + 1), "iou": 0.1 * n, "val_loss": "",
         "val_iou": [0.2, 0.6, 0.5][n % 3]}
        for n in range(count)
    ]  # fmt: skip


def test_a_voxel_is_drawn_where_the_camera_sees_it():
    cell, size = (7, 1, 2), 128
    picture = pictures.draw_voxels(_grid(cell), size, azimuth=75, elevation=20)
    assert picture.shape == (size, size, 4) and picture.dtype == np.uint8
    centre = (np.array([cell]) + 0.5) / 8 - 0.5
    expected = Camera(75, 20, pictures.DISTANCE).project(centre, size)[0]
    v, u = np.nonzero(picture[..., 3] > 127)
    assert abs(u.mean() + 0.5 - expected[0]) < 2 and abs(v.mean() + 0.5 - expected[1]) < 2
    assert ((picture[..., 3] > 0) & (picture[..., 3] < 255)).any(), "edges are soft"


def test_opaque_share_matches_the_projected_cubes():
    """Against the convex outline of a full grid: solid, no holes."""
    picture = pictures.draw_voxels(np.ones((4, 4, 4), bool), 100, azimuth=0, elevation=0)
    corners = np.stack(np.meshgrid(*[[-0.5, 0.5]] * 3), axis=-1).reshape(-1, 3)
    u, v = Camera(0, 0, pictures.DISTANCE).project(corners, 100).T
    covered = picture[..., 3].sum() / 255
    assert covered == pytest.approx((u.max() - u.min()) * (v.max() - v.min()), rel=0.02)


def test_a_full_grid_fits_into_the_picture():
    for azimuth in (0, 45, 100):
        alpha = pictures.draw_voxels(np.ones((32,) * 3), 96, azimuth)[..., 3]
        border = np.concatenate([alpha[0], alpha[-1], alpha[:, 0], alpha[:, -1]])
        assert not border.any() and (alpha > 0).mean() > 0.35


def test_nearer_voxels_hide_farther_ones():
    far, near, both = (
        pictures.draw_voxels(_grid(*cells), 64, azimuth=0, elevation=0)[34, 34]
        for cells in ([(0, 3, 3)], [(7, 3, 3)], [(0, 3, 3), (7, 3, 3)])
    )
    assert far[3] == 255
    np.testing.assert_array_equal(both, near)


def test_tops_are_lighter_than_sides_and_cube_edges_darker():
    picture = pictures.draw_voxels(np.ones((4, 4, 4)), 200, azimuth=0, elevation=30)
    solid = picture[picture[..., 3] == 255][:, :3].sum(axis=1)
    assert len(np.unique(solid)) >= 4  # two faces that show, each with its lines
    column = picture[:, 110, :3].sum(axis=1)[picture[:, 110, 3] == 255]
    assert column[: len(column) // 4].max() > column[-len(column) // 3 :].max()


def test_an_empty_grid_gives_its_frame():
    picture = pictures.draw_voxels(np.zeros((32, 32, 32)), 120)
    assert picture.shape == (120, 120, 4)
    assert 0.005 < (picture[..., 3] > 0).mean() < 0.2


def test_on_white():
    image = np.array([[[1, 0, 0, 0.0], [1, 0, 0, 0.5], [1, 0, 0, 1.0]]])
    expected = [[[1, 1, 1], [1, 0.5, 0.5], [1, 0, 0]]]
    np.testing.assert_allclose(pictures.on_white(image), expected)
    np.testing.assert_allclose(pictures.on_white(image[..., :3]), image[..., :3])


def _shown(figure):
    """Number of pictures in a figure and all texts in it."""
    axes = figure.axes
    texts = [axis.get_title() for axis in axes]
    texts += [text.get_text() for axis in axes for text in axis.texts]
    return sum(len(axis.images) for axis in axes), " | ".join(texts)


@pytest.mark.parametrize(("views", "channels"), [(1, 3), (3, 4), (8, 3), (12, 4)])
def test_prediction_picture(views, channels):
    images = np.random.default_rng(0).random((views, 20, 20, channels))
    figure = pictures.prediction_picture(images, _grid((1, 1, 1), (2, 2, 2)), "a title")
    number, texts = _shown(figure)
    assert number == min(views, 8) + 2
    assert "prediction, front (2 voxels)" in texts and "truth" not in texts
    assert figure.get_suptitle() == "a title"


def test_prediction_picture_with_truth_and_an_empty_prediction():
    images = np.zeros((2, 20, 20, 4))
    figure = pictures.prediction_picture(images, _grid(), truth=_grid((1, 1, 1)))
    number, texts = _shown(figure)
    assert number == 2 + 4 and "truth, back (1 voxels)" in texts
    assert pictures.to_array(figure).ndim == 3


def test_examples_picture():
    rows = [
        (np.zeros((views, 10, 10, 3)), _grid((1, 1, 1)), _grid((2, 1, 1)), caption)
        for views, caption in ((5, "chair_0001"), (1, "lamp_0002"))
    ]
    number, texts = _shown(pictures.examples_picture(rows))
    assert number == 5 + 3
    assert "chair_0001" in texts and "lamp_0002" in texts and texts.count("prediction") == 1
    assert _shown(pictures.examples_picture([]))[0] == 0


def test_curves_hold_the_numbers_and_mark_the_best():
    figure = pictures.curves_picture(_rows(5))
    loss, iou = figure.axes
    (train,) = loss.get_lines()  # val_loss is empty throughout
    np.testing.assert_allclose(train.get_xdata(), [100, 200, 300, 400, 500])
    np.testing.assert_allclose(train.get_ydata(), 1 / np.arange(1, 6))
    (best,) = [line for line in iou.get_lines() if line.get_marker() == "*"]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (200, 0.6)
    assert "0.600 at step 200" in iou.get_title()


@pytest.mark.parametrize("count", [0, 1])
def test_curves_with_few_rows(count):
    array = pictures.to_array(pictures.curves_picture(_rows(count)))
    assert array.dtype == np.uint8 and array.shape[2] == 3 and array.std() > 0


def test_save_writes_what_is_drawn(tmp_path):
    figure = pictures.curves_picture(_rows(2))
    expected = pictures.to_array(figure)
    pictures.save(figure, tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture.convert("RGB")), expected)
    assert len(list(tmp_path.iterdir())) == 1


def test_pyplot_and_tensorflow_stay_out():
    code = """
import sys
from r2n2_keras.outputs import files
heavy = {"tensorflow", "keras", "matplotlib", "trimesh", "PIL", "numpy"}
assert not heavy & sys.modules.keys()  # the names of the formats are looked at first
from r2n2_keras.outputs import pictures
pictures.to_array(pictures.curves_picture([]))
sys.exit(bool({"tensorflow", "keras", "matplotlib.pyplot"} & sys.modules.keys()))
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
