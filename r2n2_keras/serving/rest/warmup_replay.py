"""Replays the warm-up requests of a version before it may answer."""

import os

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from r2n2_keras.serving.rest import examples
from r2n2_keras.serving.rest.status import StatusError, invalid, of_tensorflow

MAX_RECORDS = 1000
_FILE = os.path.join("assets.extra", "tf_serving_warmup_requests")


def replay(servable) -> int:
    """Runs the requests in the version's folder.

    Returns:
        How many there are; 0 where there is no file.

    Raises:
        StatusError: one cannot be read or run, or there are too many.
    """
    path = os.path.join(servable.folder, _FILE)
    if not os.path.isfile(path):
        return 0
    count = 0
    try:
        for record in tf.data.TFRecordDataset(path).as_numpy_iterator():
            count += 1
            if count > MAX_RECORDS:
                raise invalid(f"Number of warmup records exceeds the maximum ({MAX_RECORDS}).")
            _run(servable, prediction_log_pb2.PredictionLog.FromString(record))
    except DecodeError:
        raise invalid(f"Failed to parse warmup record: record {count} in {path}") from None
    except tf.errors.OpError as error:
        raise of_tensorflow(error) from None
    return count


def _run(servable, log):
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        request = log.predict_log.request
        signature = servable.signature(request.model_spec.signature_name)
        arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
        if arrays.keys() != signature.inputs.keys():
            raise invalid(
                f"Warmup request with inputs {sorted(arrays)}, signature with "
                f"{sorted(signature.inputs)}."
            )
        signature.run(arrays)
    elif kind in ("classify_log", "regress_log"):
        request = getattr(log, kind).request
        _run_examples(servable, kind.removesuffix("_log"), request.model_spec, request.input)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        for task in request.tasks:
            method = task.method_name.rsplit("/", 1)[-1]
            if method not in ("classify", "regress"):
                raise StatusError("UNIMPLEMENTED", f"Unsupported method: {task.method_name}")
            _run_examples(servable, method, task.model_spec, request.input)
    else:
        raise StatusError("UNIMPLEMENTED", f"Unsupported log_type for warmup: {kind}")


def _run_examples(servable, method, spec, given):
    if given.HasField("example_list_with_context"):
        shared = given.example_list_with_context.context.SerializeToString()
        listed = given.example_list_with_context.examples
    else:
        shared, listed = b"", given.example_list.examples
    serialised = np.empty(len(listed), object)
    for index, example in enumerate(listed):
        serialised[index] = shared + example.SerializeToString()
    signature = servable.example_signature(spec.signature_name)
    (examples.classify if method == "classify" else examples.regress)(signature, serialised)
