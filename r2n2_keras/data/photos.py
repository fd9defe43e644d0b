"""Photos that TensorFlow alone does not decode, for predict: WebP, TIFF, AVIF, and rotated ones.

Files are told apart by their first bytes. TensorFlow I/O decodes them, and never in a graph: an
exported model must load into the stock TensorFlow Serving, which has no such ops. Which way up a
photo is comes from Pillow, so that a photo does not lie on its side where the extra is missing.

Letters: H W pixels, C channels.
"""

import contextlib
import io
import logging
import warnings

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image

from r2n2_keras.data import remote
from r2n2_keras.errors import InputError, reason
from r2n2_keras.quiet import quiet_libraries

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it prints what ails a file


def is_odd(content: bytes) -> bool:
    """Whether a picture must be decoded by `to_rgba`."""
    kind = _kind(content)
    return kind in _DECODERS if kind != "JPEG" else _orientation(content) != 1


def to_rgba(content: bytes, name: str) -> np.ndarray:
    """Decodes an odd picture and turns it upright.

    Args:
        content: the bytes of the file.
        name: what to call it in a message.

    Returns:
        uint8 `(H, W, 4)`, alpha not premultiplied; the first picture where there are several.

    Raises:
        InputError: the file is damaged, or TensorFlow I/O is needed and not installed.
    """
    kind, orientation = _kind(content), _orientation(content)
    what = f"{name}, a {kind} picture"
    try:
        with quiet_libraries():
            pixels = _DECODERS[kind](content, what)
    except tf.errors.OpError as error:
        raise _damaged(what, reason(error)[:200]) from None
    if kind == "TIFF":  # libtiff mirrors and flips as below, but does not transpose first: undo it
        pixels = _flip(pixels, orientation)
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    return np.ascontiguousarray(_flip(pixels, orientation))


def _flip(pixels, orientation):
    """The flips of an Exif orientation: which side of the scene the first column and row are."""
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _kind(content):
    """Format of a picture that may be odd, else None."""
    if content[:3] == b"\xff\xd8\xff":
        return "JPEG"
    if content[:4] == b"RIFF" and content[8:12] == b"WEBP":
        return "WebP"
    if content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    # An AVIF file says so first, or among the formats that it agrees with.
    brands = content[8 : int.from_bytes(content[:4], "big")] if content[4:8] == b"ftyp" else b""
    return "AVIF" if b"avif" in brands or b"avis" in brands else None


def _orientation(content):
    """Exif orientation, 1 (upright) to 8; 1 where the file does not say."""
    try:
        with _opened(content) as picture:
            orientation = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises all kinds for what it does not know or finds damaged
        return 1
    return orientation if orientation in range(1, 9) else 1


def _mode(content):
    """Pillow's name of the channels, such as "RGBA"; empty where Pillow does not know the file."""
    try:
        with _opened(content) as picture:
            return picture.mode
    except Exception:  # as above
        return ""


def check_size(content: bytes, name: str) -> None:
    """Refuses what claims more pixels than the memory may hold, which takes few bytes of file.

    Raises:
        InputError: the picture has too many pixels.
    """
    try:
        with _opened(content):
            pass
    except Image.DecompressionBombError:
        raise InputError(
            f"Expected a picture of at most {2 * Image.MAX_IMAGE_PIXELS:,} pixels, received {name} "
            "of more. Scale it down."
        ) from None
    except Exception:  # as above; the decoder has the last word
        return


@contextlib.contextmanager
def _opened(content):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # such as of a damaged tag, or a large picture
        with Image.open(io.BytesIO(content)) as picture:
            yield picture


def _decode_jpeg(content, _):
    return _with_alpha(tf.io.decode_jpeg(content, channels=3).numpy())


def _decode_webp(content, what):
    if hasattr(tf.io, "decode_webp"):  # TensorFlow 2.20 has it itself
        pixels = tf.io.decode_image(content, expand_animations=False)
        return _with_alpha(pixels.numpy())
    return remote.tensorflow_io(what).image.decode_webp(content).numpy()


def _decode_tiff(content, what):
    pixels = remote.tensorflow_io(what).experimental.image.decode_tiff(content).numpy()
    alpha = pixels[..., 3:]
    if alpha.min() == 255 or _mode(content) == "LA":
        return pixels
    # libtiff has multiplied colours (not grey) by alpha, whatever the file holds.
    divisor = np.maximum(alpha.astype(np.uint32), 1)
    colour = (pixels[..., :3].astype(np.uint32) * 255 + divisor // 2) // divisor
    return _with_alpha(np.minimum(colour, 255).astype(np.uint8), alpha)


def _decode_avif(content, what):
    colour = remote.tensorflow_io(what).experimental.image.decode_avif(content).numpy()
    if _mode(content) != "RGBA":
        return _with_alpha(colour)
    # The decoder leaves alpha out, without which a cut-out object stands before garbage.
    try:
        with _opened(content) as picture:
            alpha = np.asarray(picture.getchannel("A"))
    except (OSError, RuntimeError) as error:
        raise _damaged(what, error) from None
    if alpha.shape != colour.shape[:2]:
        raise _damaged(what, "colours and alpha differ in size")
    return _with_alpha(colour, alpha[..., None])


def _with_alpha(colour, alpha=None):
    """RGBA of RGB, opaque unless alpha `(H, W, 1)` is given; of RGBA itself."""
    if colour.shape[-1] == 4:
        return colour
    if alpha is None:
        alpha = np.full_like(colour[..., :1], 255)
    return np.concatenate([colour, alpha], axis=-1)


def _damaged(what, why):
    return InputError(
        f"Expected a picture, received {what} that cannot be decoded ({why}). Give another file."
    )


_DECODERS = {"JPEG": _decode_jpeg, "WebP": _decode_webp, "TIFF": _decode_tiff, "AVIF": _decode_avif}
