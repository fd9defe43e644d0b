"""Encoded pictures to the views that a network takes, outside a data set."""

import numpy as np
import tensorflow as tf

from r2n2_keras.data import decode
from r2n2_keras.errors import InputError, reason


def read_views(paths, image_size, channels, background) -> np.ndarray:
    """Reads pictures of one object.

    Returns:
        float32 `(T, image_size, image_size, channels)` in [0, 1].

    Raises:
        InputError: a file is missing or is not a picture that TensorFlow knows.
    """
    return np.stack([_read_view(path, image_size, channels, background) for path in paths])


def _read_view(path, image_size, channels, background):
    try:
        content = tf.io.read_file(path)
        return decode.picture(content, image_size, channels, background).numpy()
    except tf.errors.NotFoundError:
        raise InputError(
            f"Expected a picture, received {path}, which does not exist. Check the path."
        ) from None
    except tf.errors.OpError as error:
        raise InputError(
            f"Expected a PNG, JPEG, BMP or GIF picture, received {path}, which cannot be decoded "
            f"({reason(error)[:200]}). Give another file."
        ) from None


def decode_views(image_bytes, image_size, channels, background):
    """The same for encoded pictures in a graph.

    Args:
        image_bytes: string `(B, T)`.
        image_size: edge of the network's frame in pixels.
        channels: 3 or 4.
        background: grey level 0 to 255.

    Returns:
        float32 `(B, T, image_size, image_size, channels)`.
    """
    shape = (image_size, image_size, channels)
    images = tf.map_fn(
        lambda content: decode.picture(content, image_size, channels, background),
        tf.reshape(image_bytes, [-1]),
        fn_output_signature=tf.TensorSpec(shape, tf.float32),
    )
    return tf.reshape(images, tf.concat([tf.shape(image_bytes), shape], axis=0))
