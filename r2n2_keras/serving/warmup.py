"""Warm-up requests: what TensorFlow Serving asks a version before it lets users ask.

`assets.extra/tf_serving_warmup_requests` is a TFRecord file of `PredictionLog`s. The first request
of a kind builds what later ones share; without warm-up a user waits for that.
"""

import os

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from r2n2_keras.serving.golden import EXTRA

FILE = "tf_serving_warmup_requests"
VIEWS = (1, 3, 5)


def make_requests(pictures, images, states) -> list[tuple[str, dict[str, np.ndarray]]]:
    """A request for every signature, and number of views where it matters.

    Args:
        pictures: encoded views of one object, as many as the largest of `VIEWS`.
        images: the same decoded, float32 `(T, H, W, C)`.
        states: what `refine` takes as `state_bytes`: empty, and one of a first view.

    Returns:
        (signature, {input: value}) each.
    """
    requests = []
    for views in VIEWS:
        image_bytes = np.array([pictures[:views]], object)
        requests += [
            ("serving_default", {"image_bytes": image_bytes}),
            ("voxels", {"image_bytes": image_bytes}),
            ("images", {"images": images[None, :views]}),
            ("padded", {"image_bytes": image_bytes, "num_views": np.array([views], np.int32)}),
        ]
    for state in states:
        picture = np.array(pictures[:1], object)
        state_bytes = np.array([state], object)
        requests.append(("refine", {"image_bytes": picture, "state_bytes": state_bytes}))
    return requests


def write(folder: str, requests) -> None:
    """Writes the file into the version `folder`, whose `assets.extra` must exist."""
    with tf.io.TFRecordWriter(os.path.join(folder, EXTRA, FILE)) as writer:
        for signature, inputs in requests:
            log = prediction_log_pb2.PredictionLog()
            request = log.predict_log.request
            request.model_spec.signature_name = signature
            for name, value in inputs.items():
                request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
            writer.write(log.SerializeToString())


def read(folder: str) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The requests in a version folder, as `make_requests` gives them.

    Raises:
        tf.errors.OpError: the file is missing or damaged.
        google.protobuf.message.DecodeError: a record is not a `PredictionLog`.
    """
    requests = []
    path = os.path.join(folder, EXTRA, FILE)
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        requests.append((request.model_spec.signature_name, inputs))
    return requests
