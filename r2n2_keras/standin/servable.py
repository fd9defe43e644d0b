"""One version of a model, loaded and run as TensorFlow Serving does: a graph and a session."""

import json
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import config_pb2, saved_model_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, prediction_log_pb2

from r2n2_keras.standin import status


class Signature:
    """A signature that can be run; `inputs` has the type of each input."""

    def __init__(self, proto, session, timeout_in_ms: int, observe):
        self.inputs = {name: tf.as_dtype(info.dtype) for name, info in proto.inputs.items()}
        self._outputs = list(proto.outputs)
        self._observe = observe
        options = config_pb2.CallableOptions(
            feed=[info.name for info in proto.inputs.values()],
            fetch=[info.name for info in proto.outputs.values()],
        )
        options.run_options.timeout_in_ms = timeout_in_ms
        self._callable = session._make_callable_from_options(options)

    def run(self, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        started = time.perf_counter()
        answers = self._callable(*(arrays[name] for name in self.inputs))
        self._observe(time.perf_counter() - started)
        return dict(zip(self._outputs, map(_as_array, answers), strict=True))


def _as_array(value):
    # A string without axes comes as bytes.
    return np.asarray(value, object if type(value) is bytes else None)


class Servable:
    """A loaded version, whose warm-up requests have been replayed.

    `observe` is told of the seconds of each run. Whoever hands a version out counts its `users`;
    `metadata` is the answer to a metadata request. OpError where the version cannot be loaded, or a
    warm-up request not be answered.
    """

    def __init__(self, name: str, version: int, folder: str, timeout_in_ms: int, observe):
        self.users = 0
        self._signatures = {}
        options = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        options.gpu_options.allow_growth = True
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=options)
        try:
            protos = _signature_protos(folder)
            with graph.as_default():
                tf.compat.v1.saved_model.load(self._session, ["serve"], folder)
            self._signatures = {
                key: Signature(proto, self._session, timeout_in_ms, observe)
                for key, proto in protos.items()
                if _is_dense(proto)
            }
            self.metadata = _metadata(name, version, protos)
            self._warm_up(Path(folder, "assets.extra", "tf_serving_warmup_requests"))
        except Exception as error:
            self.close()
            raise status.of(error) from None

    def signature(self, name: str | None) -> Signature:
        """The signature of a predict request, the default one without a name; OpError for none."""
        name = name or "serving_default"
        if name not in self._signatures:
            known = ", ".join(sorted(self._signatures))
            raise status.invalid(f"Expected one of the signatures {known}, received {name}.")
        return self._signatures[name]

    def _warm_up(self, path):
        records = tf.data.TFRecordDataset(str(path) if path.is_file() else [])
        for number, record in enumerate(records.as_numpy_iterator(), 1):
            log = prediction_log_pb2.PredictionLog.FromString(record)
            request = log.predict_log.request
            if not log.HasField("predict_log"):
                raise status.invalid(f"Expected a predict request as number {number} of {path}.")
            signature = self.signature(request.model_spec.signature_name)
            arrays = {name: tf.make_ndarray(tensor) for name, tensor in request.inputs.items()}
            if arrays.keys() != signature.inputs.keys():
                raise status.invalid(f"Expected other inputs in request {number} of {path}.")
            signature.run(arrays)

    def close(self) -> None:
        """Frees its memory; nobody may use it any more."""
        self._signatures = {}
        self._session.close()


def _signature_protos(folder):
    path = Path(folder, "saved_model.pb")
    if path.is_file():
        for graph in saved_model_pb2.SavedModel.FromString(path.read_bytes()).meta_graphs:
            if set(graph.meta_info_def.tags) == {"serve"}:
                return dict(graph.signature_def)
    raise status.error("NOT_FOUND", f"Could not find a SavedModel for serving in {folder}")


def _is_dense(proto):
    # Sparse tensors have no one name; what initialises takes nothing.
    infos = [*proto.inputs.values(), *proto.outputs.values()]
    return bool(proto.inputs and proto.outputs) and all(info.name and info.dtype for info in infos)


def _metadata(name, version, protos):
    described = get_model_metadata_pb2.SignatureDefMap()
    for key, proto in protos.items():
        described.signature_def[key].CopyFrom(proto)
    options = {"preserving_proto_field_name": True, "always_print_fields_with_no_presence": True}
    try:
        signatures = json_format.MessageToDict(described, **options)
    except TypeError:  # protobuf before 5.26
        options["including_default_value_fields"] = options.popitem()[1]
        signatures = json_format.MessageToDict(described, **options)
    spec = {"name": name, "signature_name": "", "version": str(version)}
    answer = {"model_spec": spec, "metadata": {"signature_def": signatures}}
    return json.dumps(answer, indent=1).encode() + b"\n"
