"""The check of PNG files takes what TensorFlow's decoder takes; see also `fuzz_test`."""

import packed
import pytest
import tensorflow as tf
from pictures import encoded, png_chunk, random_pixels
from PIL import Image

from r2n2_keras.data import images, png


def _saved(mode):
    return encoded(Image.fromarray(random_pixels(137, 137, 3)).convert(mode))


@pytest.mark.parametrize(
    ("content", "look"),
    [
        (_saved("RGBA"), "137x137 RGBA"),
        (_saved("RGB"), "137x137 RGB"),
        (_saved("L"), "137x137 grey"),
        (_saved("LA"), "137x137 grey with alpha"),
        (_saved("P"), "137x137 palette"),
        (_saved("1"), "137x137 black and white"),
        (_saved("I;16"), "137x137 grey of 16 bits"),
        (_saved("RGBA") + b"more", "137x137 RGBA"),
        (packed.png(width=4096, height=3000), "4096x3000 RGBA"),
    ],
)
def test_whole_files(content, look):
    assert png.check(content) == look
    images.decode_png(content)


SOUND = _saved("RGBA")
NOT_DECODED = "received one that cannot be decoded ("
DAMAGES = {
    "empty": (b"", "received an empty file"),
    "JPEG": (b"\xff\xd8\xff" + bytes(9), r"received 12 bytes that begin with b'\xff\xd8\xff"),
    "truncated": (SOUND[:-40], NOT_DECODED),
    "cut in its header": (SOUND[:20], NOT_DECODED),
    "cut at its end": (SOUND[:-5], NOT_DECODED),
    "a bit": (SOUND[:500] + bytes([SOUND[500] ^ 1]) + SOUND[501:], NOT_DECODED),
    "no pixels": (SOUND[:33] + SOUND[-12:], NOT_DECODED),
    "no palette": (SOUND[:25] + b"\3" + SOUND[26:], NOT_DECODED),
    "pixels that are not packed": (
        SOUND[:33] + png_chunk(b"IDAT", b"pixels") + SOUND[-12:], NOT_DECODED,
    ),
    "a zip bomb": (packed.png(width=100_000), "1 to 4096 pixels along each edge, received one of "),
    "no pixel": (packed.png(width=0), NOT_DECODED),
}  # fmt: skip


@pytest.mark.parametrize(("content", "message"), DAMAGES.values(), ids=DAMAGES)
def test_damaged_files(content, message):
    with pytest.raises(ValueError, match=r"^expected a PNG") as error:
        png.check(content)
    assert message in str(error.value)
    with pytest.raises(tf.errors.OpError):
        images.decode_png(content)


def test_many_chunks_are_read_in_one_pass():
    content = SOUND[:33] + png_chunk(b"IDAT", b"") * 200_000 + SOUND[33:]
    assert png.check(content) == "137x137 RGBA"
