"""Photos of every format beside what Pillow makes of them: colours, alpha, which way up; bombs."""

import io

import numpy as np
import pytest
import tensorflow as tf
from pictures import claiming, encoded
from PIL import ExifTags, Image, ImageOps

from r2n2_keras.data import photos
from r2n2_keras.errors import InputError
from r2n2_keras.model.image_spec import ImageSpec

SPEC = ImageSpec(32, 3)
RAW = ImageSpec(60, 4)  # of the scene's larger edge: nothing is scaled or composited
FORMATS = [("WEBP", {"lossless": True}), ("TIFF", {}), ("AVIF", {"quality": 95})]


def scene(mode="RGB"):
    """A smooth picture without symmetries; with alpha the right half is cut out."""
    down, right = np.mgrid[0:40, 0:60]
    pixels = np.stack([down * 6, right * 4, 255 - down * 3 - right * 2, right * 0 + 255], axis=-1)
    pixels[:, 30:45, 3], pixels[:, 45:, 3] = 100, 0
    return Image.fromarray(pixels.astype(np.uint8), "RGBA").convert(mode)


def turned(orientation, kind, **options):
    """The scene with Exif data that tell to turn it."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encoded(scene(), kind, exif=exif, **options)


def view(content, spec=RAW, name="photo"):
    (seen,) = photos.read_views([(name, content)], spec)
    return seen


def assert_seen(content, picture, tolerance=0):
    """That the network sees this picture, whole and upright."""
    rgba = np.asarray(picture.convert("RGBA"))
    seen = np.rint(view(content) * 255)
    top, left = (60 - rgba.shape[0]) // 2, (60 - rgba.shape[1]) // 2
    seen = seen[top : top + rgba.shape[0], left : left + rgba.shape[1]]
    np.testing.assert_array_equal(seen[..., 3], rgba[..., 3])
    visible = rgba[..., 3:] > 0
    assert np.abs(np.where(visible, seen - rgba, 0)).max() <= tolerance


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        *FORMATS,
        ("TIFF", {"compression": "tiff_lzw"}),
        ("TIFF", {"compression": "tiff_adobe_deflate"}),
        ("TIFF", {"big_tiff": True}),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_pictures_and_cut_out_pictures(kind, options, mode):
    content = encoded(scene(mode), kind, **options)
    assert_seen(content, scene(mode), 16 if kind == "AVIF" else 0)


@pytest.mark.parametrize("mode", ["L", "LA", "P", "CMYK", "1"])
def test_tiffs_of_other_colours(mode):
    picture = scene("RGB").convert(mode) if mode != "LA" else scene("LA")
    assert_seen(encoded(picture, "TIFF"), picture)


@pytest.mark.parametrize("order", ["<u2", ">u2"])
def test_tiffs_of_16_bits(order):
    grey = (np.asarray(scene("L")).astype(order) * 256 + 99).astype(order)
    kind = {"<u2": "I;16", ">u2": "I;16B"}[order]
    deep = Image.frombytes(kind, (60, 40), grey.tobytes())
    assert_seen(encoded(deep, "TIFF"), scene("L"))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_tiffs_of_32_bits_are_refused(mode):
    with pytest.raises(InputError, match=r"received photo, which .* \(samples of 32 bits\)"):
        view(encoded(scene("L").convert(mode), "TIFF"))


def test_tiffs_whose_colours_are_multiplied_by_alpha():
    rgba = np.asarray(scene("RGBA").convert("RGBa")).tobytes()
    premultiplied = Image.frombytes("RGBA", (60, 40), rgba)
    content = encoded(premultiplied, "TIFF")
    extra_samples = b"\x52\x01\x03\x00\x01\x00\x00\x00"  # tag 338, one number of 16 bits
    assert content.count(extra_samples + b"\2\0") == 1  # of straight alpha
    content = content.replace(extra_samples + b"\2\0", extra_samples + b"\1\0")
    assert_seen(content, scene("RGBA"), 3)  # bytes, divided again


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {"quality": 95}), *FORMATS])
@pytest.mark.parametrize("orientation", [*range(10), 65535])  # from 9 on, and 0: none that exists
def test_photos_are_turned_upright(kind, options, orientation):
    content = turned(orientation, kind, **options)
    with Image.open(io.BytesIO(content)) as picture:
        upright = ImageOps.exif_transpose(picture)
    assert upright.size == ((40, 60) if orientation in (5, 6, 7, 8) else (60, 40))
    # TensorFlow's JPEG decoder is another than Pillow's.
    assert_seen(content, upright, {"JPEG": 6}.get(kind, 0))


def test_the_first_page_of_a_tiff_counts():
    pages = encoded(scene(), "TIFF", save_all=True, append_images=[scene().rotate(90)])
    assert_seen(pages, scene())


@pytest.mark.parametrize(
    ("kind", "options"), [*FORMATS, ("TIFF", {"compression": "tiff_lzw"}), ("JPEG", {})]
)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.9])
def test_a_picture_cut_short_is_named_in_one_line(kind, options, part, capfd):
    content = turned(6, kind, **options)
    content = content[: int(len(content) * part)]
    with pytest.raises(InputError, match=r"received photo, which cannot be decoded \(.+\)") as told:
        view(content)
    assert "\n" not in str(told.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(("kind", "options"), [("JPEG", {}), *FORMATS])
def test_damaged_bytes_are_refused_or_read(kind, options, capfd):
    content = turned(6, kind, **options)
    rng = np.random.default_rng(0)
    for _ in range(40):
        damaged = bytearray(content)
        for place in rng.integers(4, min(len(content), 400), 4):
            damaged[place] = rng.integers(256)
        try:
            assert view(bytes(damaged), SPEC).shape == SPEC.shape
        except InputError as error:
            assert "received photo" in str(error) and "\n" not in str(error)
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize(
    "content", [b"", b"RIFF", b"\xff\xd8\xff", b"\0\0\0\0ftyp", b"II*\0", b"notes\n" * 99]
)
def test_what_is_no_picture_is_named(content):
    with pytest.raises(InputError, match=r"received notes\.txt, which cannot be decoded"):
        view(content, name="notes.txt")


def _tiff_bomb():
    size = (60_000).to_bytes(4, "little")
    entries = [  # width, height, 8 bits, no compression, RGB, one strip at 8 of 3 bytes
        (256, size), (257, size), (258, b"\x08\0\0\0"), (259, b"\x01\0\0\0"), (262, b"\x02\0\0\0"),
        (273, b"\x08\0\0\0"), (277, b"\x03\0\0\0"), (278, size), (279, b"\x03\0\0\0"),
    ]  # fmt: skip
    directory = b"".join(tag.to_bytes(2, "little") + b"\x04\0\x01\0\0\0" + v for tag, v in entries)
    return b"II*\0\x0c\0\0\0abc\0" + len(entries).to_bytes(2, "little") + directory + b"\0" * 4


@pytest.mark.parametrize("bomb", [_tiff_bomb(), claiming("JPEG", 60_000)], ids=["TIFF", "JPEG"])
def test_a_picture_that_claims_too_many_pixels_is_told(bomb):
    with pytest.raises(InputError, match=r"at most [\d,]+ pixels, received bomb of more"):
        view(bomb, name="bomb")


@pytest.mark.skipif(not hasattr(tf.io, "decode_webp"), reason="TensorFlow before 2.20 has no WebP")
def test_an_exported_model_sees_a_webp_as_predict_does():
    content = encoded(scene("RGBA"), "WEBP", lossless=True)
    served = photos.decode_views(tf.constant([[content]]), SPEC)
    np.testing.assert_allclose(served[0, 0], view(content, SPEC), atol=1e-6)
