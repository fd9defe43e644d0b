"""Pictures outside a data set, of any format, as the views that a network takes.

TensorFlow decodes what an exported model decodes, by the same code. Pillow knows the formats that
TensorFlow does not, and which way up a photo is. Letters: T views, H W pixels, C channels.
"""

import contextlib
import io
import logging
import warnings

import numpy as np
import tensorflow as tf
from PIL import ExifTags, Image, ImageOps

from r2n2_keras.data import images, remote
from r2n2_keras.errors import InputError, reason
from r2n2_keras.quiet import quiet_libraries

# Of a picture in a request: of all that are decoded at a time the server's memory must hold some 70
# bytes a pixel.
MAX_PIXELS = images.MAX_PNG_EDGE**2

logging.getLogger("PIL").addHandler(logging.NullHandler())  # else it prints what ails a file
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "AVIF")


def read_file(path: str) -> bytes:
    """The bytes of a picture at a path or URL; an InputError where it cannot be read."""
    remote.require(path)
    try:
        return remote.read(path)
    except OSError as error:
        absent = isinstance(error, FileNotFoundError)
        found = "does not exist" if absent else f"cannot be read ({reason(error)})"
        raise InputError(
            f"Expected a picture, received {path}, which {found}. Check the path."
        ) from None


def read_views(pictures, spec) -> np.ndarray:
    """Decodes pictures of one object, each a name and bytes, to float32 `(T, H, W, C)` in [0, 1].

    Raises an InputError where a file is not a picture of a known format, is damaged or too large.
    """
    return np.stack([_view(name, content, spec) for name, content in pictures])


def decode_views(image_bytes, spec):
    """Decodes pictures in a graph, string `(B, T)`, to float32 `(B, T, H, W, C)`.

    They are PNG, JPEG, BMP, GIF, and from TensorFlow 2.20 on WebP, of at most `MAX_PIXELS` each.
    """
    views = tf.map_fn(
        lambda content: images.decode_picture(content, spec, MAX_PIXELS),
        tf.reshape(image_bytes, [-1]),
        fn_output_signature=tf.TensorSpec(spec.shape, tf.float32),
    )
    return tf.reshape(views, tf.concat([tf.shape(image_bytes), spec.shape], axis=0))


def _view(name, content, spec):
    _check_size(content, name)
    try:
        with quiet_libraries():
            return _decode(content, spec)
    except (tf.errors.OpError, ValueError) as error:
        why = reason(error) if isinstance(error, tf.errors.OpError) else str(error)
        raise InputError(
            "Expected a picture in PNG, JPEG, BMP, GIF, WebP, TIFF or AVIF format, received "
            f"{name}, which cannot be decoded ({why[:200]}). Give another file."
        ) from None


def _decode(content, spec):
    if _is_for_pillow(content):
        return images.to_view(_decode_by_pillow(content), spec).numpy()
    orientation = _orientation(content)
    if orientation == 1:
        return images.decode_picture(content, spec).numpy()
    photo = Image.fromarray(tf.io.decode_jpeg(content, channels=3).numpy())
    photo.getexif()[ExifTags.Base.Orientation] = orientation
    upright = ImageOps.exif_transpose(photo).convert("RGBA")
    return images.to_view(np.asarray(upright), spec).numpy()


def _is_for_pillow(content):
    # An AVIF file says so first, or among the formats that it agrees with.
    brands = content[8 : int.from_bytes(content[:4], "big")] if content[4:8] == b"ftyp" else b""
    return (
        (content[:4] == b"RIFF" and content[8:12] == b"WEBP")
        or content[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
        or b"avif" in brands
        or b"avis" in brands
    )


def _decode_by_pillow(content):
    """uint8 `(H, W, 4)`, upright, alpha not premultiplied; the first of several pictures."""
    try:
        with _opened(content) as picture:
            picture = ImageOps.exif_transpose(picture)
            if picture.mode.startswith("I;16"):  # grey, which `convert` would cut off
                picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
            if picture.mode in ("I", "F"):
                raise ValueError("samples of 32 bits")
            return np.asarray(picture.convert("RGBA"))
    except Exception as error:  # Pillow raises all kinds for what it finds damaged
        raise ValueError(str(error) or type(error).__name__) from None


def _orientation(content):
    """How a JPEG is turned, as its Exif data say; 1 is upright, also of what is no JPEG."""
    if not content.startswith(b"\xff\xd8\xff"):
        return 1
    try:
        with _opened(content) as picture:
            return picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # as above; the pixels may be sound
        return 1


def _check_size(content, name):
    """Refuses what claims more pixels than the memory may hold, which takes few bytes of file."""
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
        with Image.open(io.BytesIO(content), formats=_FORMATS) as picture:
            yield picture
