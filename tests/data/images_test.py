"""Pictures in the graph: against NumPy and Pillow, eager and in tf.data, every format, damage."""

import io
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from pictures import composited, encoded, random_pixels
from PIL import Image

from r2n2_keras.data import binvox, binvox_graph, images
from r2n2_keras.model.image_spec import ImageSpec
from r2n2_keras.shapes.camera import Camera

PY_FUNCTIONS = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}


def _spec(image_size, channels=3, background=255):
    return ImageSpec(image_size, channels, background)


def _rendering(content, spec):
    """A rendering as training decodes it."""
    return images.decode_renderings(tf.convert_to_tensor(content)[None], 1, spec)[0]


decoders = pytest.mark.parametrize("decoder", [_rendering, images.decode_picture])


def _in_dataset(function, *contents):
    """What the function makes of each content, inside tf.data."""
    dataset = tf.data.Dataset.from_tensor_slices(list(contents)).map(function)
    return [result.numpy() for result in dataset]


def _unit(rgba):
    return rgba.astype(np.float32) / np.float32(255)


@decoders
@pytest.mark.parametrize("background", [0, 128, 255])
def test_three_channels_composite_on_the_background(decoder, background):
    rgba = random_pixels(16, 16, 4)
    rgba[:4, :, 3], rgba[4:8, :, 3] = 0, 255
    image = decoder(encoded(rgba), _spec(16, 3, background))
    assert image.dtype == tf.float32 and image.shape == (16, 16, 3)
    np.testing.assert_allclose(image, composited(rgba, background), atol=1e-6)


@decoders
@pytest.mark.parametrize("size", [16, 11, 30])
def test_colours_under_transparent_pixels_never_show(decoder, size):
    """Also where the picture is resized, so that neighbours mix."""
    clean, dirty = random_pixels(16, 16, 4), random_pixels(16, 16, 4)
    clean[:, 8:] = 0
    dirty[:, 8:, 3] = 0
    assert (clean != dirty).any()
    one, other = (decoder(encoded(pixels), _spec(size)) for pixels in (clean, dirty))
    np.testing.assert_array_equal(one, other)


@decoders
def test_four_channels_keep_raw_rgba(decoder):
    rgba = random_pixels(16, 16, 4)
    rgba[:8, :, 3] = 0
    np.testing.assert_array_equal(decoder(encoded(rgba), _spec(16, 4)), _unit(rgba))


@decoders
@pytest.mark.parametrize("channels", [3, 4])
def test_eager_and_in_a_dataset_are_the_same(decoder, channels):
    contents = [encoded(random_pixels(*shape, 4)) for shape in ((20, 20), (13, 31), (64, 50))]
    decode = partial(decoder, spec=_spec(20, channels, 200))
    for content, image in zip(contents, _in_dataset(decode, *contents), strict=True):
        assert image.shape == (20, 20, channels)
        np.testing.assert_array_equal(image, decode(content))


def test_grey_rgb_and_their_alpha():
    grey, alpha = random_pixels(12, 12), random_pixels(12, 12, seed=1)
    rgb = random_pixels(12, 12, 3, seed=2)
    opaque = np.full((12, 12), 255, np.uint8)
    for content, rgba in (
        (encoded(grey), np.dstack([grey, grey, grey, opaque])),
        (encoded(np.dstack([grey, alpha])), np.dstack([grey, grey, grey, alpha])),
        (encoded(rgb), np.dstack([rgb, opaque])),
        (encoded(np.dstack([rgb, alpha])), np.dstack([rgb, alpha])),
    ):
        image = images.decode_picture(content, _spec(12, 3, 77))
        np.testing.assert_allclose(image, composited(rgba, 77), atol=1e-6)
        np.testing.assert_array_equal(images.decode_picture(content, _spec(12, 4, 77)), _unit(rgba))


def test_sixteen_bits_and_palettes():
    deep = np.random.default_rng(0).integers(0, 2**16, (12, 12), dtype=np.uint16)
    image = images.decode_picture(encoded(deep), _spec(12))
    np.testing.assert_allclose(image, np.stack([deep / 65535] * 3, axis=-1), atol=1 / 255)

    palette = Image.fromarray(random_pixels(12, 12, 3)).quantize(16)
    content = encoded(palette, transparency=0)
    rgba = np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))
    assert 0 < (rgba[..., 3] == 0).sum() < 144
    np.testing.assert_allclose(
        images.decode_picture(content, _spec(12)), composited(rgba, 255), atol=1e-6
    )


def test_jpeg_bmp_and_gif():
    smooth = np.stack(np.meshgrid(np.arange(0, 240, 10), np.arange(0, 240, 10)), axis=-1)
    rgb = np.dstack([smooth, smooth[..., :1]]).astype(np.uint8)
    grey = rgb[..., 0]
    gif = [Image.fromarray(np.full((24, 24, 3), level, np.uint8)) for level in (50, 200)]
    for content, expected, tolerance in (
        (encoded(rgb, "BMP"), rgb, 1e-6),
        (encoded(rgb, "JPEG", quality=95, subsampling=0), rgb, 0.03),
        (encoded(grey, "JPEG", quality=95), np.dstack([grey] * 3), 0.03),
        (encoded(gif[0], "GIF", save_all=True, append_images=gif[1:]), np.array(gif[0]), 0.01),
    ):
        image = images.decode_picture(content, _spec(24))
        np.testing.assert_allclose(image, expected / 255, atol=tolerance)


@decoders
def test_what_is_no_picture_is_an_error(decoder):
    png = encoded(random_pixels(137, 137, 4))
    cuts = [png[:size] for size in (len(png) // 3, len(png) * 9 // 10, len(png) - 1)]
    decode = partial(decoder, spec=_spec(127))
    graph = tf.function(decode, input_signature=[tf.TensorSpec((), tf.string)])
    for content in (b"", b"no picture", b"\x89PNG\r\n\x1a\n", *cuts):
        for function in (decode, graph):
            with pytest.raises(tf.errors.InvalidArgumentError):
                function(content)


@pytest.mark.parametrize(
    ("decoder", "argument"),
    [(_rendering, _spec(16)), (images.decode_picture, _spec(16)), (binvox_graph.decode, 4)],
)
def test_no_python_runs_in_the_graph(decoder, argument):
    function = tf.function(lambda content: decoder(content, argument))
    graph = function.get_concrete_function(tf.TensorSpec((), tf.string)).graph.as_graph_def()
    kinds = {node.op for node in graph.node}
    kinds |= {node.op for inner in graph.library.function for node in inner.node_def}
    assert len(kinds) > 5 and not kinds & PY_FUNCTIONS


@pytest.mark.parametrize(("height", "width"), [(20, 8), (8, 20), (20, 7)])
@pytest.mark.parametrize("channels", [3, 4])
def test_pictures_that_are_not_square_stand_in_the_middle(height, width, channels):
    rgba = random_pixels(height, width, 4)
    image = images.to_view(rgba, _spec(20, channels, 99)).numpy()
    expected = np.full((20, 20, channels), 99 / 255 if channels == 3 else 0.0)
    top, left = (20 - height) // 2, (20 - width) // 2
    pixels = composited(rgba, 99) if channels == 3 else rgba / 255
    expected[top : top + height, left : left + width] = pixels
    np.testing.assert_allclose(image, expected, atol=1e-6)


def test_views_of_the_right_size_are_untouched_and_others_keep_their_mean():
    rgba = random_pixels(40, 40, 4)
    rgba[..., 3] = 255
    rgb = rgba[..., :3] / 255
    np.testing.assert_allclose(images.to_view(rgba, _spec(40, 3, 0)), rgb, rtol=1e-6)
    smaller = images.to_view(rgba, _spec(10, 3, 0)).numpy()
    assert smaller.mean() == pytest.approx(rgb.mean(), abs=0.01)
    assert smaller.std() < 0.5 * rgb.std()  # averages of noise vary less than the noise
    larger = images.to_view(np.full((10, 10, 4), 255, np.uint8), _spec(33, 3, 0))
    np.testing.assert_allclose(larger, np.ones((33, 33, 3)), atol=1e-6)


def test_real_photos_without_alpha(real_data):
    paths = sorted((real_data / "photos").glob("*.png"))
    assert paths
    for path in paths:
        with Image.open(path) as picture:
            expected = np.asarray(picture.convert("RGB")) / 255
        height, width, _ = expected.shape
        size = max(height, width)
        image = images.decode_picture(path.read_bytes(), _spec(size)).numpy()
        top, left = (size - height) // 2, (size - width) // 2
        inner = image[top : top + height, left : left + width]
        np.testing.assert_allclose(inner, expected, atol=1e-6)


# Voxels and renderings show the same object the same way around.


def _silhouette_iou(points, scale, camera, alpha):
    """IoU of the pixels that cells cover (cells as a few points each) with an alpha channel."""
    steps = np.stack(np.meshgrid(*[[-0.5, 0, 0.5]] * 3), axis=-1).reshape(-1, 3) / 32 * scale
    pixels = camera.project((points[:, None] + steps).reshape(-1, 3)).astype(int)
    pixels = pixels[(pixels >= 0).all(axis=1) & (pixels < 137).all(axis=1)]
    seen = np.zeros((137, 137), bool)
    seen[pixels[:, 1], pixels[:, 0]] = True
    return (seen & alpha).sum() / (seen | alpha).sum()


def _silhouette_ious(root, views):
    """IoUs of all models under `root`: with the axes as they are, and with y and z swapped."""
    files = sorted(root.glob("ShapeNetVox32/*/*/model.binvox"))
    assert files
    right, swapped = [], []
    for file in files:
        content = file.read_bytes()
        scale = binvox.decode(content).scale
        cells = np.argwhere(binvox_graph.decode(content, 32).numpy())
        points = ((cells + 0.5) / 32 - 0.5) * scale
        folder = root / "ShapeNetRendering" / file.parts[-3] / file.parts[-2] / "rendering"
        lines = (folder / "rendering_metadata.txt").read_text().splitlines()
        for view in views:
            azimuth, elevation, _, distance, _ = map(float, lines[view].split())
            camera = Camera(azimuth, elevation, distance)
            alpha = images.decode_png((folder / f"{view:02d}.png").read_bytes()).numpy()[..., 3] > 0
            right.append(_silhouette_iou(points, scale, camera, alpha))
            swapped.append(_silhouette_iou(points[:, [0, 2, 1]], scale, camera, alpha))
    return np.array(right), np.array(swapped)


def test_axes_of_the_synthesised_set(tree):
    right, swapped = _silhouette_ious(tree, (0, 4))
    assert right.min() > 0.6 and right.mean() > 0.8
    assert right.mean() > swapped.mean() + 0.25 and (right > swapped).mean() > 0.95


def test_axes_of_real_files(real_data):
    right, swapped = _silhouette_ious(real_data, (0, 11, 20))
    assert right.min() > 0.5
    assert right.mean() > swapped.mean() + 0.2
