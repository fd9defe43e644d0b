"""Pictures in the graph: against NumPy and Pillow, eager and in tf.data, every format, damage."""

import io
from functools import partial

import numpy as np
import pytest
import tensorflow as tf
from pictures import composited, encoded, random_pixels
from PIL import Image

from r2n2_keras.data import images
from r2n2_keras.model.image_spec import ImageSpec


def _spec(image_size, channels=3, background=255):
    return ImageSpec(image_size, channels, background)


def _rendering(content, spec):
    """A rendering as training decodes it."""
    return images.decode_renderings(tf.convert_to_tensor(content)[None], 1, spec)[0]


decoders = pytest.mark.parametrize("decoder", [_rendering, images.decode_picture])


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
    image = decoder(encoded(rgba), _spec(16, 4))
    np.testing.assert_array_equal(image, rgba.astype("float32") / np.float32(255))


@decoders
@pytest.mark.parametrize("channels", [3, 4])
def test_eager_and_in_a_dataset_are_the_same(decoder, channels):
    contents = [encoded(random_pixels(*shape, 4)) for shape in ((20, 20), (13, 31), (64, 50))]
    decode = partial(decoder, spec=_spec(20, channels, 200))
    dataset = tf.data.Dataset.from_tensor_slices(contents).map(decode)
    np.testing.assert_array_equal(list(dataset), [decode(content) for content in contents])


def test_every_kind_of_picture():
    grey, alpha = random_pixels(12, 12), random_pixels(12, 12, seed=1)
    rgb = random_pixels(12, 12, 3)
    opaque = np.full((12, 12), 255, np.uint8)
    deep = np.random.default_rng(0).integers(0, 2**16, (12, 12), dtype=np.uint16)
    palette = encoded(Image.fromarray(rgb).quantize(16), transparency=0)
    clear = np.asarray(Image.open(io.BytesIO(palette)).convert("RGBA"))
    assert 0 < (clear[..., 3] == 0).sum() < 144
    down, right = np.mgrid[0:120:10, 0:120:10].astype(np.uint8)
    smooth = np.dstack([right, down, right])
    frames = [Image.fromarray(np.full((12, 12), level, np.uint8)) for level in (50, 200)]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    for content, bands, tolerance in (
        (encoded(grey), [grey] * 3 + [opaque], 1e-6),
        (encoded(np.dstack([grey, alpha])), [grey] * 3 + [alpha], 1e-6),
        (encoded(rgb), [rgb, opaque], 1e-6),
        (encoded(np.dstack([rgb, alpha])), [rgb, alpha], 1e-6),
        (encoded(deep), [deep / 257] * 3 + [opaque], 1 / 255),
        (palette, [clear], 1e-6),
        (encoded(smooth, "BMP"), [smooth, opaque], 1e-6),
        (encoded(smooth, "JPEG", quality=95, subsampling=0), [smooth, opaque], 0.03),
        (encoded(right, "JPEG", quality=95), [right] * 3 + [opaque], 0.03),
        (gif, [frames[0]] * 3 + [opaque], 0.01),
    ):
        rgba = np.dstack(bands)
        image = images.decode_picture(content, _spec(12, 3, 77))
        np.testing.assert_allclose(image, composited(rgba, 77), atol=tolerance)
        raw = images.decode_picture(content, _spec(12, 4, 77))
        np.testing.assert_allclose(raw, rgba / 255, atol=tolerance)


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


def test_views_of_another_size_keep_their_mean():
    rgba = random_pixels(40, 40, 4)
    rgba[..., 3] = 255
    smaller = images.to_view(rgba, _spec(10, 3, 0)).numpy()
    assert smaller.mean() == pytest.approx(rgba[..., :3].mean() / 255, abs=0.01)
    assert smaller.std() < 0.15  # averages of noise vary less than the noise
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
        top, left = (size - height) // 2, (size - width) // 2
        image = images.decode_picture(path.read_bytes(), _spec(size))
        inner = image[top : top + height, left : left + width]
        np.testing.assert_allclose(inner, expected, atol=1e-6)
