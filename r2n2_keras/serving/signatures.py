"""The exported model: a SavedModel whose signatures TensorFlow Serving answers.

Both are stateless, batch first, and use stock TensorFlow ops only:
    serving_default: image_bytes string (B, T), encoded pictures
    images: images float32 (B, T, H, W, C) in [0, 1]
and give occupancy float32 (B, N, N, N).
"""

import os
import re

import keras
import tensorflow as tf

from r2n2_keras.atomic import replacing
from r2n2_keras.data.decode import Frame
from r2n2_keras.serving.preprocess import decode_views


def export_version(model, export_dir: str, frame: Frame) -> str:
    """Writes the next numbered version of a model, beside those that are there.

    A server that watches the folder sees a version only when it is whole: it is written under a
    name that is no number, then renamed.

    Args:
        model: an `R2N2`.
        export_dir: folder of the versions.
        frame: what the model takes.

    Returns:
        The folder of the new version.
    """
    os.makedirs(export_dir, exist_ok=True)
    versions = [int(name) for name in os.listdir(export_dir) if re.fullmatch(r"\d+", name)]
    final = os.path.join(export_dir, str(max(versions, default=0) + 1))
    with replacing(final) as partial:
        _archive(model, frame).write_out(partial, verbose=False)
    return final


def _archive(model, frame):
    def from_images(images):
        # A server does not hold a request against the signature's shape.
        images = tf.ensure_shape(images, (None, None, *frame.shape))
        tf.debugging.assert_greater(tf.shape(images)[1], 0, "Expected at least one view.")
        return {"occupancy": model(images, training=False)}

    def from_bytes(image_bytes):
        image_bytes = tf.ensure_shape(image_bytes, (None, None))
        tf.debugging.assert_greater(tf.size(image_bytes), 0, "Expected at least one view.")
        return from_images(decode_views(image_bytes, frame))

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        "serving_default", from_bytes, [tf.TensorSpec((None, None), tf.string, "image_bytes")]
    )
    archive.add_endpoint(
        "images", from_images, [tf.TensorSpec((None, None, *frame.shape), tf.float32, "images")]
    )
    return archive
