"""The camera against hand-made cases and against the real renderings."""

import numpy as np
import pytest
from PIL import Image

from r2n2_keras.data import binvox
from r2n2_keras.shapes.camera import Camera, random_camera


def _matrix_projection(camera, points, size):
    """The README's convention, step by step with rotation matrices: a naive reference."""
    azimuth, elevation = np.deg2rad([camera.azimuth, camera.elevation])
    world = points[:, [0, 2, 1]] * (1, -1, 1)
    a, e = -azimuth, -elevation
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_y = np.array([[np.cos(e), 0, np.sin(e)], [0, 1, 0], [-np.sin(e), 0, np.cos(e)]])
    turn = about_z @ about_y
    centre = turn @ (camera.distance * 1.75, 0, 0)
    local = (world - centre) @ turn  # rows in the camera's axes: backward, right, up
    depth, focal = -local[:, 0], 35 / 32 * size
    return np.stack(
        [size / 2 + focal * local[:, 1] / depth, size / 2 - focal * local[:, 2] / depth], axis=1
    )


def test_project_follows_the_convention():
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.5, 0.5, (50, 3))
    for size in (137, 137, 40):
        camera = random_camera(rng)
        expected = _matrix_projection(camera, points, size)
        np.testing.assert_allclose(camera.project(points, size), expected, atol=1e-9)


def test_up_is_up_and_width_runs_sideways_from_the_front():
    points = [(0, 0, 0), (0, 0.3, 0), (0, 0, 0.3)]
    origin, above, beside = Camera(0, 0, 1).project(np.array(points), 100)
    assert origin.tolist() == [50, 50]
    assert above[1] < 50 and above[0] == pytest.approx(50)
    assert beside[0] < 50 and beside[1] == pytest.approx(50)


def test_rays_and_project_are_inverse():
    camera, size = Camera(211.3, 27.5, 0.77), 9
    origins, directions = camera.rays(size)
    assert origins.shape == directions.shape == (size * size, 3)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=1), 1)
    pixels = camera.project(origins + 1.23 * directions, size)
    v, u = np.mgrid[:size, :size] + 0.5
    np.testing.assert_allclose(pixels, np.stack([u.ravel(), v.ravel()], axis=1), atol=1e-9)


def test_random_cameras_stay_in_their_ranges():
    rng = np.random.default_rng(1)
    cameras = [random_camera(rng) for _ in range(300)]
    settings = [(each.azimuth, each.elevation, each.distance) for each in cameras]
    azimuths, elevations, distances = np.array(settings).T
    assert azimuths.min() < 20 and azimuths.max() > 340 and 0 <= azimuths.min()
    assert elevations.min() >= 25 and elevations.max() <= 30
    assert distances.min() >= 0.65 and distances.max() <= 0.95


def _silhouette_iou(points, scale, camera, alpha):
    """IoU of the pixels that cells cover (cells as a few points each) with an alpha channel."""
    steps = np.stack(np.meshgrid(*[[-0.5, 0, 0.5]] * 3), axis=-1).reshape(-1, 3) / 32 * scale
    pixels = camera.project((points[:, None] + steps).reshape(-1, 3)).astype(int)
    pixels = pixels[(pixels >= 0).all(axis=1) & (pixels < 137).all(axis=1)]
    seen = np.zeros((137, 137), bool)
    seen[pixels[:, 1], pixels[:, 0]] = True
    return (seen & alpha).sum() / (seen | alpha).sum()


def test_voxels_of_real_models_cover_their_renderings(real_data):
    right, swapped = [], []
    files = sorted(real_data.glob("ShapeNetVox32/*/*/model.binvox"))
    assert files
    for file in files:
        synset_id, model_id = file.parts[-3:-1]
        folder = real_data / "ShapeNetRendering" / synset_id / model_id / "rendering"
        lines = (folder / "rendering_metadata.txt").read_text().splitlines()
        voxels = binvox.read(file)
        points = ((np.argwhere(voxels.data) + 0.5) / 32 - 0.5) * voxels.scale
        for view in (0, 7):
            azimuth, elevation, _, distance, _ = map(float, lines[view].split())
            camera = Camera(azimuth, elevation, distance)
            with Image.open(folder / f"{view:02d}.png") as picture:
                alpha = np.asarray(picture.convert("RGBA"))[..., 3] > 0
            right.append(_silhouette_iou(points, voxels.scale, camera, alpha))
            swapped.append(_silhouette_iou(points[:, [0, 2, 1]], voxels.scale, camera, alpha))
    assert min(right) > 0.5
    assert np.mean(right) > np.mean(swapped) + 0.2
