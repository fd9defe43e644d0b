"""What pictures in a request may cost: bombs of each format are refused before they are decoded."""

import pytest
import tensorflow as tf
from pictures import claiming, encoded, random_pixels
from PIL import Image

from r2n2_keras.data import images, picture_limits
from r2n2_keras.model.image_spec import ImageSpec

SPEC = ImageSpec(8, 3, 255)


def _gif(frames, edge=24):
    """An animation whose frames differ."""
    pictures = [Image.fromarray(random_pixels(edge, edge, 3, seed=n)) for n in range(frames)]
    return encoded(pictures[0], "GIF", save_all=True, append_images=pictures[1:], optimize=False)


@tf.function(input_signature=[tf.TensorSpec([], tf.string), tf.TensorSpec([], tf.int64)])
def _check(content, most):
    """In a graph, as a server runs it."""
    with tf.control_dependencies([picture_limits.check(content, most)]):
        return tf.constant(True)


@pytest.mark.parametrize(
    "kind", ["GIF", "GIF frame", "JPEG", "BMP", "WEBP", "WEBP lossless", "WEBP extended"]
)
def test_pictures_that_claim_too_many_pixels(kind):
    with pytest.raises(tf.errors.InvalidArgumentError, match="more pixels than"):
        images.decode_picture(claiming(kind, 16_000), SPEC, 10**6)
    _check(claiming(kind, 8), 10**6)


@pytest.mark.parametrize(
    ("content", "pixels"),
    [
        *[(encoded(random_pixels(20, 30, 3), kind), 600) for kind in ("JPEG", "BMP", "WEBP")],
        *[(_gif(frames), frames * 24 * 24) for frames in (1, 2, 9)],
    ],
)
def test_the_bound_is_exact(content, pixels):
    """All frames of an animation count."""
    _check(content, pixels)
    with pytest.raises(tf.errors.InvalidArgumentError, match=rf"more pixels than.*{pixels - 1}"):
        _check(content, pixels - 1)


def test_every_cut_of_a_gif_ends():
    content = _gif(2, edge=8)
    for size in range(4, len(content)):
        _check(content[:size], 10**9)


def test_a_gif_of_countless_blocks():
    content = _gif(1)
    endless = content[:-2] + b"\x01\0" * (picture_limits.MAX_GIF_BLOCKS + 10) + content[-2:]
    with pytest.raises(tf.errors.InvalidArgumentError, match="GIF of more than 20,000 blocks"):
        _check(endless, 10**9)


def test_a_jpeg_of_countless_scans():
    content = encoded(random_pixels(64, 64, 3), "JPEG", progressive=True)
    _check(content, 10**9)
    scan = content[content.rindex(b"\xff\xda") : -2]
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG of more than 100 scans"):
        _check(content[:-2] + scan * 100 + content[-2:], 10**9)


@pytest.mark.parametrize("max_pixels", [None, 10**6])
@pytest.mark.parametrize(
    "content",
    [  # a pixel each
        "ff0a00101009080001002c004b188b15c24996e5a021e3",
        "0000000c4a584c200d0a870a00000014667479706a786c20000000006a786c20"
        "0000001a6a786c63ff0a001010090800010018004b188b158201",
    ],
)
def test_jpeg_xl_is_refused_by_every_release(content, max_pixels):
    """TensorFlow 2.21 would decode these, and others of any size."""
    with pytest.raises(tf.errors.InvalidArgumentError, match="JPEG XL, which is not read"):
        images.decode_picture(bytes.fromhex(content), SPEC, max_pixels)


@pytest.mark.parametrize("content", [b"", b"no picture", b"GIF89a", b"BM", b"RIFF"])
def test_what_is_no_picture_is_left_to_the_decoder(content):
    _check(content, 10**6)
