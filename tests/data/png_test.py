"""The check of PNG files takes what TensorFlow's decoder takes; see also `fuzz_test`."""

import zlib

import packed
import pytest
import tensorflow as tf
from pictures import PNG_END, encoded, png_chunk, png_header, png_of, random_pixels
from PIL import Image

from r2n2_keras.data import images, png


def _saved(mode):
    return encoded(Image.fromarray(random_pixels(137, 137, 3)).convert(mode))


def _written(depth, colour, row_bytes, interlaced=0, last=b""):
    """A PNG of 5x5 pixels, of rows of the given numbers of bytes and each filter in turn."""
    rows = b"".join(bytes([number % 5]) + bytes(size) for number, size in enumerate(row_bytes))
    chunks = [png_header(5, 5, depth, colour, interlaced), (b"IDAT", zlib.compress(rows + last))]
    if colour == 3:
        chunks.insert(1, (b"PLTE", bytes(6)))
    return png_of(*chunks, PNG_END)


# Interlaced, 5x5 pixels are seven pictures of 1x1, 1x1, 2x1, 1x2, 3x1, 2x3 and 5x2.
PIXELS = (1, 1, 2, 1, 1, 3, 2, 2, 2, 5, 5)


@pytest.mark.parametrize(
    ("content", "look"),
    [
        (_saved("RGBA"), "137x137 RGBA"),
        (_saved("RGB"), "137x137 RGB"),
        (_saved("L"), "137x137 grey"),
        (_saved("LA"), "137x137 grey with alpha"),
        (_saved("P"), "137x137 palette"),
        (_saved("1"), "137x137 grey of 1 bits"),
        (_saved("I;16"), "137x137 grey of 16 bits"),
        (_saved("RGBA") + b"more", "137x137 RGBA"),
        (packed.png(width=4096, height=3000), "4096x3000 RGBA"),  # more than a piece at a time
        (_written(4, 3, [3] * 5), "5x5 palette of 4 bits"),
        (_written(16, 6, [8 * n for n in PIXELS], 1), "5x5 RGBA of 16 bits"),
        (_written(2, 0, [-(-n // 4) for n in PIXELS], 1), "5x5 grey of 2 bits"),
    ],
)  # fmt: skip
def test_whole_files(content, look):
    assert str(png.check(content)) == look
    images.decode_png(content)


SOUND = _saved("RGBA")
DAMAGES = {
    "empty": (b"", "received an empty file"),
    "JPEG": (b"\xff\xd8\xff" + bytes(9), r"received 12 bytes that begin with b'\xff\xd8\xff"),
    "truncated": (SOUND[:-40], f"it ends early, after {len(SOUND) - 40} bytes"),
    "a bit": (SOUND[:500] + bytes([SOUND[500] ^ 1]) + SOUND[501:], "a wrong checksum within"),
    "no rows": (_written(8, 0, []), "too few pixels"),
    "a row too few": (_written(8, 2, [15] * 4), "too few pixels"),
    "a filter of none": (_written(8, 6, [20] * 4, last=b"\5" + bytes(20)), "an unknown filter"),
    "a pass too few": (_written(8, 0, PIXELS[:-1], 1), "too few pixels"),
    "pixels that are not packed": (
        SOUND[:33] + png_chunk(b"IDAT", b"pixels") + SOUND[-12:], "incorrect header check",
    ),
    "an unknown chunk": (
        SOUND[:33] + png_chunk(b"ABCD", b"") + SOUND[33:], "do not belong together",
    ),
    "a second header": (SOUND[:33] + SOUND[8:], "do not belong together"),
    "a depth of none": (_written(3, 0, [2] * 5), "a kind of pixels that PNG does not have"),
    "a zip bomb": (packed.png(width=100_000), "1 to 4096 pixels along each edge, received one of "),
    "no pixel": (packed.png(width=0), "received one of 0x137"),
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
    assert str(png.check(content)) == "137x137 RGBA"
    with pytest.raises(ValueError, match="do not belong together"):
        png.check(SOUND[:33] + png_chunk(b"PLTE", b"") * 200_000 + SOUND[33:])
