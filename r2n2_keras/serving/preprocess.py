"""Encoded pictures to the views that a network takes, outside a data set."""

import numpy as np
import tensorflow as tf

from r2n2_keras.data import decode, photos, remote
from r2n2_keras.errors import InputError, reason

# Of a picture in a request: of all that are decoded at a time the server's memory must hold some 70
# bytes a pixel.
MAX_PIXELS = decode.MAX_PNG_EDGE**2


def read_views(pictures, frame) -> np.ndarray:
    """Decodes pictures of one object.

    Args:
        pictures: pairs of a name, for messages, and the bytes of the file.
        frame: what the network takes.

    Returns:
        float32 `(T, H, W, C)` of the frame, in [0, 1].

    Raises:
        InputError: a file is not a picture, or only TensorFlow I/O, which is not there, knows it.
    """
    return np.stack([_view(name, content, frame) for name, content in pictures])


def _view(name, content, frame):
    photos.check_size(content, name)
    try:
        if photos.is_odd(content):
            return decode.view(photos.to_rgba(content, name), frame).numpy()
        return decode.picture(content, frame).numpy()
    except tf.errors.OpError as error:
        raise InputError(
            "Expected a picture in PNG, JPEG, BMP, GIF, WebP, TIFF or AVIF format, received "
            f"{name}, which cannot be decoded ({reason(error)[:200]}). Give another file."
        ) from None


def read_file(path: str) -> bytes:
    """The bytes of a picture.

    Raises:
        InputError: there is no such file, or it takes TensorFlow I/O to read it.
    """
    remote.require(path)
    try:
        return tf.io.read_file(path).numpy()
    except tf.errors.OpError as error:
        absent = isinstance(error, tf.errors.NotFoundError)
        found = "does not exist" if absent else f"cannot be read ({reason(error)})"
        raise InputError(
            f"Expected a picture, received {path}, which {found}. Check the path."
        ) from None


def decode_views(image_bytes, frame):
    """The same for encoded pictures in a graph, none of more than `MAX_PIXELS`.

    Args:
        image_bytes: string `(B, T)`.
        frame: what the network takes.

    Returns:
        float32 `(B, T, H, W, C)` of the frame.
    """
    images = tf.map_fn(
        lambda content: decode.picture(content, frame, MAX_PIXELS),
        tf.reshape(image_bytes, [-1]),
        fn_output_signature=tf.TensorSpec(frame.shape, tf.float32),
    )
    return tf.reshape(images, tf.concat([tf.shape(image_bytes), frame.shape], axis=0))
