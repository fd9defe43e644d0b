"""One version of a model, loaded and run as TensorFlow Serving does: a graph and a session."""

import json
import os
import threading
import time

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.apis import get_model_metadata_pb2

from r2n2_keras.serving.rest.status import StatusError, invalid, of_tensorflow

DEFAULT_SIGNATURE = "serving_default"
_TAGS = ["serve"]
_FILES = ("saved_model.pb", "saved_model.pbtxt")


class Signature:
    """A signature that can be run.

    Attributes:
        inputs: type of each input, a number of `types_pb2.DataType`.
        outputs: name of the tensor of each output.
        proto: the `SignatureDef`.
    """

    def __init__(self, proto, session, timeout_in_ms: int, observe):
        self.proto = proto
        self.inputs = {name: info.dtype for name, info in proto.inputs.items()}
        self.outputs = {name: info.name for name, info in proto.outputs.items()}
        self._fetched = list(dict.fromkeys(self.outputs.values()))
        self._observe = observe
        self._callable = None
        infos = [*proto.inputs.values(), *proto.outputs.values()]
        # Sparse tensors have no one name; what initialises has no type.
        if self.outputs and all(info.name and info.dtype for info in infos):
            options = config_pb2.CallableOptions()
            options.feed.extend(info.name for info in proto.inputs.values())
            options.fetch.extend(self._fetched)
            options.run_options.timeout_in_ms = timeout_in_ms
            self._callable = session._make_callable_from_options(options)

    def run(self, feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Runs the graph.

        Args:
            feeds: array of each input.

        Returns:
            Array of each output.

        Raises:
            StatusError: what TensorFlow raised.
        """
        if self._callable is None:
            raise invalid("Expected a signature with dense tensors in and out.")
        started = time.perf_counter()
        try:
            found = self._callable(*(feeds[name] for name in self.inputs))
        except tf.errors.OpError as error:
            raise of_tensorflow(error) from None
        self._observe(time.perf_counter() - started)
        arrays = dict(zip(self._fetched, map(_as_array, found), strict=True))
        return {name: arrays[tensor] for name, tensor in self.outputs.items()}

    def close(self):
        """Frees what the session holds for it."""
        self._callable = None


def _as_array(value):
    if isinstance(value, bytes):  # what a string without axes comes as
        array = np.empty((), object)
        array[()] = value
        return array
    return np.asarray(value)


class Servable:
    """A loaded version.

    Use it as a context for the length of a request: it is closed only outside of all of them.

    Args:
        name: the model's.
        version: number of the version.
        folder: its SavedModel.
        timeout_in_ms: longest time of a run.
        observe: told of the seconds of each run.

    Raises:
        StatusError: it cannot be loaded.
    """

    def __init__(self, name: str, version: int, folder: str, timeout_in_ms: int, observe):
        self.name = name
        self.version = version
        self.folder = folder
        self._users = 0
        self._retired = None
        self._lock = threading.Lock()
        if not any(os.path.isfile(os.path.join(folder, name)) for name in _FILES):
            raise StatusError("NOT_FOUND", f"Could not find a SavedModel in {folder}")
        graph = tf.Graph()
        options = tf.compat.v1.ConfigProto(allow_soft_placement=True)
        options.gpu_options.allow_growth = True
        self._session = tf.compat.v1.Session(graph=graph, config=options)
        self.signatures = {}
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.load(self._session, _TAGS, folder)
            protos = meta_graph.signature_def
            self.signatures = {
                key: Signature(protos[key], self._session, timeout_in_ms, observe) for key in protos
            }
            self.metadata = self._metadata(protos)
        except Exception as error:
            self.close()
            if isinstance(error, tf.errors.OpError):
                raise of_tensorflow(error) from None
            raise StatusError("UNKNOWN", str(error) or type(error).__name__) from None

    def signature(self, name: str) -> Signature:
        """The signature of a predict request.

        Raises:
            StatusError: there is none of this name, or it takes nothing.
        """
        key = name or DEFAULT_SIGNATURE
        if key not in self.signatures:
            raise invalid(f'Serving signature name: "{key}" not found in signature def')
        if not self.signatures[key].inputs:
            raise invalid(f"Failed to get input map for signature: {name or 'DEFAULT'}")
        return self.signatures[key]

    def example_signature(self, name: str) -> Signature:
        """The signature of a classify or regress request.

        Raises:
            StatusError: there is none of this name.
        """
        key = name or DEFAULT_SIGNATURE
        if key not in self.signatures:
            raise invalid(f"No signature was found with the name: {key}")
        return self.signatures[key]

    def _metadata(self, protos):
        """The answer to a metadata request."""
        described = get_model_metadata_pb2.SignatureDefMap()
        for key in protos:
            described.signature_def[key].CopyFrom(protos[key])
        options = {"preserving_proto_field_name": True, "indent": 1}
        try:
            text = json_format.MessageToJson(
                described, always_print_fields_with_no_presence=True, **options
            )
        except TypeError:  # protobuf before 5.26
            text = json_format.MessageToJson(
                described, including_default_value_fields=True, **options
            )
        model = json.dumps(
            {"name": self.name, "signature_name": "", "version": str(self.version)}, indent=1
        )
        signature_def = f'"metadata": {{"signature_def": {text}}}'
        return f'{{\n"model_spec":{model},\n{signature_def}\n}}\n'.encode()

    def __enter__(self):
        with self._lock:
            self._users += 1
        return self

    def __exit__(self, *_):
        with self._lock:
            self._users -= 1
            retired = self._retired if not self._users else None
        if retired:
            retired.set()

    def retire(self, done: threading.Event) -> None:
        """Has `done` set as soon as nobody uses it; nobody may begin to any more."""
        with self._lock:
            self._retired = done
            if not self._users:
                done.set()

    @property
    def in_use(self) -> bool:
        """Whether a request uses it."""
        return self._users > 0

    def close(self):
        """Frees its memory."""
        for signature in self.signatures.values():
            signature.close()
        self._session.close()
