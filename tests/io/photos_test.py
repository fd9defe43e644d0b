"""Pictures that TensorFlow I/O decodes, beside what Pillow makes of them."""

import io

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps, features

pytest.importorskip("tensorflow_io", reason="the io extra is not installed: make test-io")

from r2n2_keras.data import photos, remote
from r2n2_keras.data.photos import read_views
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec

needs_avif = pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
AVIF = pytest.param("AVIF", {"quality": 95}, 16, marks=needs_avif)  # the decoders differ so far


def scene(mode="RGB"):
    """A smooth picture without symmetries; with alpha the right half is cut out."""
    down, right = np.mgrid[0:40, 0:60]
    pixels = np.stack([down * 6, right * 4, 255 - down * 3 - right * 2, right * 0 + 255], axis=-1)
    pixels[:, 30:45, 3], pixels[:, 45:, 3] = 100, 0
    return Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode)


def encode(picture, format, **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def pillow(content):
    """RGBA as Pillow reads a file, upright; black where nothing is seen."""
    with Image.open(io.BytesIO(content)) as picture:
        rgba = np.asarray(ImageOps.exif_transpose(picture).convert("RGBA"))
    return np.where(rgba[..., 3:] > 0, rgba, 0)


def assert_like_pillow(content, tolerance):
    assert photos.is_odd(content)
    rgba = photos.to_rgba(content, "photo")
    assert rgba.dtype == np.uint8
    expected = pillow(content)
    assert rgba.shape == expected.shape
    np.testing.assert_array_equal(rgba[..., 3], expected[..., 3])
    seen = np.where(rgba[..., 3:] > 0, rgba, 0)
    assert np.abs(seen.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [
        ("WEBP", {"lossless": True}, 0),
        ("TIFF", {}, 1),
        ("TIFF", {"compression": "tiff_lzw"}, 1),
        ("TIFF", {"compression": "tiff_adobe_deflate"}, 1),
        ("TIFF", {"big_tiff": True}, 1),
        AVIF,
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_and_cut_out_pictures(format, options, tolerance, mode):
    if format == "TIFF" and mode == "RGBA":
        tolerance = 2  # libtiff multiplies by alpha, in bytes, which is undone
    assert_like_pillow(encode(scene(mode), format, **options), tolerance)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "1"])
def test_tiffs_of_other_colours(mode):
    picture = scene("RGB").convert(mode) if mode != "LA" else scene("LA")
    assert_like_pillow(encode(picture, "TIFF"), 2)


@pytest.mark.parametrize(
    ("format", "options", "tolerance"),
    [("WEBP", {"lossless": True}, 0), ("TIFF", {}, 0), ("JPEG", {"quality": 95}, 4), AVIF],
)
@pytest.mark.parametrize("orientation", range(2, 9))
def test_photos_are_turned_upright(format, options, tolerance, orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    assert_like_pillow(encode(scene(), format, exif=exif, **options), tolerance)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tensorflow_io_reads_the_same_orientation(orientation):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    content = encode(scene(), "JPEG", exif=exif)
    tfio = remote.tensorflow_io("a test")
    assert tfio.experimental.image.decode_jpeg_exif(content).numpy() == orientation
    assert photos.is_odd(content) == (orientation > 1)


def test_a_network_sees_the_same_whatever_the_format():
    """What is transparent is background, though its bare colour differs."""
    pictures = [("a.png", encode(scene("RGBA"), "PNG")), ("a.tiff", encode(scene("RGBA"), "TIFF"))]
    pictures.append(("a.webp", encode(scene("RGBA"), "WEBP", lossless=True)))
    if features.check("avif"):
        pictures.append(("a.avif", encode(scene("RGBA"), "AVIF", quality=95)))
    views = read_views(pictures, ImageSpec(32, 3, 240))
    for view in views[1:]:
        np.testing.assert_allclose(view, views[0], atol=0.06)


def test_the_first_page_of_a_tiff_counts():
    pages = encode(scene(), "TIFF", save_all=True, append_images=[scene().rotate(90)])
    assert_like_pillow(pages, 0)


@pytest.mark.parametrize("format", ["WEBP", "TIFF", pytest.param("AVIF", marks=needs_avif)])
@pytest.mark.parametrize("part", [0.1, 0.5])
def test_a_damaged_picture_is_named_in_one_line(format, part, capfd):
    content = encode(scene(), format)
    content = content[: int(len(content) * part)]
    with pytest.raises(InputError, match=r"received photo, a \w+ picture that cannot be decoded"):
        photos.to_rgba(content, "photo")
    assert capfd.readouterr() == ("", "")
