import importlib.util
import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps, features

from r2n2_keras.data import photos
from r2n2_keras.data.photos import read_views
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec

without_extra = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_io") is not None, reason="the io extra is installed"
)


def scene():
    """A picture without symmetries, RGB."""
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:20, :30] = 255, 0, 0
    pixels[20:, 30:] = 0, 255, 0
    pixels[:20, 30:] = 0, 0, 200
    return Image.fromarray(pixels)


def encode(picture, format, **options):
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def rotated(orientation, format="JPEG", **options):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encode(scene(), format, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpegs_are_turned_upright(orientation):
    content = rotated(orientation, quality=95)
    assert photos.is_odd(content) == (orientation > 1)
    if orientation > 1:
        upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
        rgba = photos.to_rgba(content, "photo.jpg")
        assert rgba.dtype == np.uint8
        assert (rgba[..., 3] == 255).all()
        difference = rgba[..., :3].astype(int) - np.asarray(upright)
        assert np.abs(difference).max() < 20  # of two JPEG decoders at the edges


def test_a_view_is_the_same_whichever_way_the_camera_was_held():
    frame = ImageSpec(32, 3, 240)
    turned = scene().transpose(Image.Transpose.ROTATE_90)  # as a camera does that says 6
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    pictures = [encode(scene(), "JPEG", quality=95), encode(turned, "JPEG", quality=95, exif=exif)]
    upright, sideways = read_views([("a.jpg", pictures[0]), ("b.jpg", pictures[1])], frame)
    np.testing.assert_allclose(sideways, upright, atol=0.1)


@pytest.mark.parametrize("format", ["PNG", "BMP", "GIF", "JPEG"])
def test_what_tensorflow_knows_is_not_odd(format):
    assert not photos.is_odd(encode(scene(), format))


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"\xff\xd8\xff", b"\0\0\0\0ftyp", b"notes\n" * 99]
)
def test_what_is_no_picture_is_not_odd(content):
    assert not photos.is_odd(content)


def test_a_damaged_jpeg_is_named_in_one_line():
    content = rotated(6)
    with pytest.raises(InputError, match=r"received photo\.jpg, a JPEG picture that cannot"):
        photos.to_rgba(content[: len(content) // 2], "photo.jpg")


def test_a_picture_that_claims_too_many_pixels():
    size = (60_000).to_bytes(4, "little")
    entries = [  # width, height, 8 bits, no compression, RGB, one strip at 8 of 3 bytes
        (256, size), (257, size), (258, b"\x08\0\0\0"), (259, b"\x01\0\0\0"), (262, b"\x02\0\0\0"),
        (273, b"\x08\0\0\0"), (277, b"\x03\0\0\0"), (278, size), (279, b"\x03\0\0\0"),
    ]  # fmt: skip
    directory = b"".join(tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + v for tag, v in entries)
    content = b"II*\0\x0c\0\0\0abc\0" + len(entries).to_bytes(2, "little") + directory + b"\0" * 4
    assert photos.is_odd(content)
    with pytest.raises(InputError, match=r"at most [\d,]+ pixels, received bomb\.tiff of more"):
        photos.check_size(content, "bomb.tiff")


@pytest.mark.skipif(not hasattr(tf.io, "decode_webp"), reason="TensorFlow before 2.20")
@pytest.mark.parametrize("orientation", range(1, 9))
def test_webp_needs_no_extra_where_tensorflow_has_it(orientation):
    content = rotated(orientation, "WEBP", lossless=True)
    assert photos.is_odd(content)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(photos.to_rgba(content, "a.webp")[..., :3], np.asarray(upright))


@without_extra
@pytest.mark.parametrize("format", ["TIFF", "AVIF"])
def test_the_extra_is_named_where_it_is_missing(format):
    if format == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    content = encode(scene(), format)
    assert photos.is_odd(content)
    with pytest.raises(InputError, match=rf"a\.pic, a {format} picture, received none\. Install "):
        photos.to_rgba(content, "a.pic")


def test_a_jpeg_that_claims_too_many_pixels_is_told():
    from r2n2_keras.model.image_spec import ImageSpec

    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG")
    content = file.getvalue()
    place = content.index(b"\xff\xc0") + 5  # height and width of the frame
    content = content[:place] + b"\xff\xf0\xff\xf0" + content[place + 4 :]
    with pytest.raises(InputError, match=r"at most [\d,]+ pixels, received bomb\.jpg of more"):
        photos.read_views([("bomb.jpg", content)], ImageSpec(64, 3, 240))
