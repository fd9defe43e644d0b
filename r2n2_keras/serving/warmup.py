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


def make_requests(signatures, pictures, images) -> list[tuple[str, dict[str, np.ndarray]]]:
    """The requests that `signatures` describes: (signature, {input: value}) each.

    `pictures` are encoded views of one object, as many as the most that are asked about; `images`
    are the same decoded, float32 `(T, H, W, C)`.
    """
    made = []
    for name, signature in signatures.items():
        for views in signature.warm_up_views:
            inputs = {}
            for request in signature.requests(pictures[:views], images[:views]):
                if lacking := signature.inputs.keys() - request.keys():
                    answer = signature.answer(**inputs)
                    request = {**request, **{alias: answer[alias].numpy() for alias in lacking}}
                inputs = {
                    alias: np.array(request[alias], spec.dtype.as_numpy_dtype)
                    for alias, spec in signature.inputs.items()
                }
                made.append((name, inputs))
    return made


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

    tf.errors.OpError for a missing or damaged file, protobuf's DecodeError for other records.
    """
    requests = []
    path = os.path.join(folder, EXTRA, FILE)
    for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
        request = prediction_log_pb2.PredictionLog.FromString(record).predict_log.request
        inputs = {name: tf.make_ndarray(value) for name, value in request.inputs.items()}
        requests.append((request.model_spec.signature_name, inputs))
    return requests
