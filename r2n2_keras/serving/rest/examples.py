"""Classify and regress: requests of `tf.Example`s, and what their signatures answer."""

import numpy as np
from tensorflow.core.example import example_pb2

from r2n2_keras.serving.rest import answers, dtypes, values
from r2n2_keras.serving.rest.status import StatusError, invalid

_KINDS = {"bytes_list": "bytes", "float_list": "float", "int64_list": "int64"}


def feeds(request: dict) -> np.ndarray:
    """The examples of a classify or regress request, serialised, along one axis.

    Raises:
        StatusError: they are missing, or not what can be made an example of.
    """
    shared = b""
    if "context" in request:
        shared = _example(request["context"]).SerializeToString()
    if "examples" not in request:
        raise _format_error(
            request, "When method is classify, key 'examples' is expected and was not found"
        )
    given = request["examples"]
    if type(given) is not list:
        raise _format_error(request, "Expecting 'examples' value to be an list/array")
    if not given:
        raise _format_error(request, "'examples' value is an empty array")
    serialised = np.empty(len(given), object)
    for index, one in enumerate(given):
        serialised[index] = shared + _example(one).SerializeToString()
    return serialised


def _format_error(request, text):
    return invalid(f"JSON Value: {values.echo(request)} {text}")


def _example(value):
    if type(value) is not dict:
        raise invalid(f"Example must be JSON object but got JSON {values.kind(value)}")
    example = example_pb2.Example()
    for name, content in value.items():
        key = dtypes.to_bytes(name).decode("utf-8", "replace")
        feature = example.features.feature[key]
        for one in content if type(content) is list else (content,):
            _add(one, key, feature)
    return example


def _add(value, name, feature):
    if type(value) is str or dtypes.is_base64(value):
        _of_kind(feature, "bytes_list", name)
        text = dtypes.base64(value) if type(value) is dict else dtypes.to_bytes(value)
        feature.bytes_list.value.append(text)
    elif value is None or type(value) in (list, dict):
        raise invalid(
            f"Feature: {name} has element with unexpected JSON type: {values.kind(value)}"
        )
    elif type(value) is float:
        _of_kind(feature, "float_list", name)
        with np.errstate(over="ignore"):
            feature.float_list.value.append(float(np.float32(value)))
    else:
        _of_kind(feature, "int64_list", name)
        if value >= 2**63:
            raise invalid(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.append(int(value))


def _of_kind(feature, kind, name):
    held = feature.WhichOneof("kind")
    if held not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {_KINDS[held]}")


def classify(signature, serialised: np.ndarray) -> bytes:
    """Answers a classify request.

    Args:
        signature: a `servable.Signature`.
        serialised: what `feeds` gave.

    Raises:
        StatusError: the signature is not of that kind, or what TensorFlow raised.
    """
    _check_input(signature, "classification")
    if len(signature.outputs) not in (1, 2):
        raise invalid(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if not {"classes", "scores"} & signature.outputs.keys():
        raise StatusError(
            "FAILED_PRECONDITION",
            "Expected classification signature outputs to contain at least one of "
            f'"classes" or "scores". Signature was: {signature.proto}',
        )
    found = signature.run({"inputs": serialised})
    labels, scores = found.get("classes"), found.get("scores")
    for name, array, dtype in (("classes", labels, object), ("scores", scores, np.float32)):
        if array is None:
            continue
        if array.ndim != 2:
            raise invalid(
                f"Expected Tensor shape: [batch_size num_classes] but got {_text(array.shape)}"
            )
        if array.dtype != dtype:
            kind = "DT_STRING" if dtype is object else "DT_FLOAT"
            raise invalid(f"Expected {name} Tensor of {kind}. Got: {array.dtype.name}")
        if len(array) != len(serialised):
            raise invalid(
                f"Expected {name} output batch size of {len(serialised)}. Got: {len(array)}"
            )
    if labels is not None and scores is not None and labels.shape != scores.shape:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{labels.shape[1]} vs. {scores.shape[1]}"
        )
    return answers.classifications(labels, scores)


def regress(signature, serialised: np.ndarray) -> bytes:
    """Answers a regress request; see `classify`."""
    _check_input(signature, "regression")
    if len(signature.outputs) != 1:
        raise invalid("Expected one output Tensor.")
    if "outputs" not in signature.outputs:
        raise StatusError(
            "FAILED_PRECONDITION",
            f"No regression outputs found in SignatureDef: {signature.proto}",
        )
    array = signature.run({"inputs": serialised})["outputs"]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"{_text(array.shape)}"
        )
    if len(array) != len(serialised):
        raise invalid(
            f"Input batch size did not match output batch size: {len(serialised)} vs. {len(array)}"
        )
    if array.dtype != np.float32:
        raise invalid(f"Expected output Tensor of DT_FLOAT.  Got: {array.dtype.name}")
    return answers.regressions(array.reshape(-1))


def _text(shape):
    return f"[{','.join(map(str, shape))}]"


def _check_input(signature, what):
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if "inputs" not in signature.inputs:
        raise StatusError(
            "FAILED_PRECONDITION",
            f"No {what} inputs found in SignatureDef: {signature.proto}",
        )
