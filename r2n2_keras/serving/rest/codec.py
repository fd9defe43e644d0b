"""Predict requests to arrays: row format (`instances`) and column format (`inputs`).

Tensors are made in bulk. What does not fit is gone through once more, value by value in TensorFlow
Serving's order, to tell the first thing that is wrong in its words.
"""

import itertools

import numpy as np

from r2n2_keras.serving.rest import dtypes, values
from r2n2_keras.serving.rest.status import StatusError, invalid

ROW, COLUMN = "row", "column"


def signature_name(request) -> str:
    """The signature that a request asks for.

    Args:
        request: what its JSON says.

    Raises:
        StatusError: it is not an object, or its `signature_name` no string.
    """
    if type(request) is not dict:
        raise invalid(f"JSON Value: {values.echo(request)} Is not object")
    name = request.get("signature_name", "")
    if type(name) is not str:
        raise invalid(
            f"JSON Value: {values.echo(request)} not formatted correctly. 'signature_name' key "
            "must be a string value."
        )
    return name


def feeds(request: dict, inputs: dict[str, int]) -> tuple[str, dict[str, np.ndarray]]:
    """The arrays of a predict request.

    Args:
        request: what its JSON says.
        inputs: type of each input of the signature.

    Returns:
        `ROW` or `COLUMN`, and the array of each input.

    Raises:
        StatusError: it does not fit the signature.
    """
    if "instances" in request:
        if "inputs" in request:
            raise _format_error(
                request,
                "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to "
                "exist ",
            )
        instances = request["instances"]
        if type(instances) is not list:
            raise _format_error(request, "Expecting 'instances' to be an list/array")
        if not instances:
            raise _format_error(request, "No values in 'instances' array")
        return ROW, _of_rows(instances, inputs)
    if "inputs" in request:
        return COLUMN, _of_columns(request["inputs"], inputs)
    raise invalid("Missing 'inputs' or 'instances' key")


def _format_error(request, text):
    return invalid(f"JSON Value: {values.echo(request)} {text}")


def _of_columns(value, inputs):
    if type(value) is not dict or dtypes.is_base64(value):
        if len(inputs) > 1:
            raise invalid(
                "inputs is a plain value/list, but expecting an object as multiple input tensors "
                "required as per tensorinfo_map"
            )
        ((name, dtype),) = inputs.items()
        return {name: _tensor(value, dtype)}
    arrays = {}
    for name, dtype in inputs.items():
        if name not in value:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
        arrays[name] = _tensor(value[name], dtype)
    return arrays


def _tensor(value, dtype):
    shape = _shape(value)
    array = _array(value, shape, dtype)
    if array is None:
        _tell(value, shape, dtype)
        raise StatusError("INTERNAL", "A value was refused without a reason.")
    return array


def _shape(value):
    """The lengths of the lists that one meets going down the first elements."""
    shape = []
    while type(value) is list:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    return shape


def _array(value, shape, dtype):
    """`value` as an array; None where it is no tensor of this shape and type."""
    if len(shape) > 1 + _most_axes():
        return None
    level = [value]
    for size in shape:
        if set(map(type, level)) - {list} or set(map(len, level)) - {size}:
            return None
        level = list(itertools.chain.from_iterable(level)) if len(level) != 1 else level[0]
    if list in set(map(type, level)):
        return None
    flat = dtypes.array(level, dtype)
    return None if flat is None else flat.reshape(shape)


def _most_axes():
    # One less than numpy takes: the elements of a batch lie one axis deeper.
    return 63 if np.lib.NumpyVersion(np.__version__) >= "2.0.0" else 31


def _tell(value, shape, dtype):
    """Raises what TensorFlow Serving would say first of a value that is no tensor; gives its size.

    Without recursion: a value may be half a million levels deep.
    """
    count, open_lists = 0, [iter((value,))]
    while open_lists:
        for item in open_lists[-1]:
            level = len(open_lists) - 1
            if type(item) is list:
                if level >= len(shape):
                    raise invalid(
                        f"Encountered list at unexpected level: {level} expected < {len(shape)}"
                    )
                if len(item) != shape[level]:
                    raise invalid(
                        f"Encountered list at unexpected size: {len(item)} at level: {level} "
                        f"expected size: {shape[level]}"
                    )
                open_lists.append(iter(item))
                break
            if level != len(shape):
                raise invalid(
                    f"JSON Value: {values.echo(item)} found at incorrect level: {level + 1} in the "
                    f"JSON DOM. Expected at level: {len(shape)}"
                )
            dtypes.check(item, dtype)
            count += 1
        else:
            open_lists.pop()
    if len(shape) > _most_axes():
        raise invalid(f"Tensors have at most {_most_axes()} axes, received {len(shape)}.")
    return count


def _is_object(value):
    return type(value) is dict and not dtypes.is_base64(value)


def _of_rows(instances, inputs):
    if type(instances[0]) is not dict and len(inputs) > 1:
        raise invalid(
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map"
        )
    as_objects = _is_object(instances[0])
    arrays = _objects(instances, inputs) if as_objects else _plain(instances, inputs)
    if arrays is None:
        _tell_of_rows(instances, inputs, as_objects)
        raise StatusError("INTERNAL", "An instance was refused without a reason.")
    if missing := inputs.keys() - arrays.keys():
        raise invalid(
            f"input size does not match signature: {len(arrays)}!={len(inputs)}. Missing but "
            f"required: {{{','.join(sorted(missing))}}}."
        )
    return arrays


def _plain(instances, inputs):
    if any(map(_is_object, instances)):
        return None
    name, dtype = next(iter(inputs.items()))
    array = _array(instances, [len(instances), *_shape(instances[0])], dtype)
    return None if array is None else {name: array}


def _objects(instances, inputs):
    names = inputs.keys()
    if not all(_is_object(one) and one.keys() == names for one in instances):
        return None
    arrays = {}
    for name, dtype in inputs.items():
        column = [one[name] for one in instances]
        array = _array(column, [len(column), *_shape(column[0])], dtype)
        if array is None:
            return None
        arrays[name] = array
    return arrays


def _tell_of_rows(instances, inputs, as_objects):
    """Raises what TensorFlow Serving would say first of instances that make no tensors."""
    seen = {}
    plain_name = next(iter(inputs))
    for number, one in enumerate(instances):
        if as_objects and not _is_object(one):
            raise invalid(f"Expecting object but got list at item {number} of input list")
        if not as_objects and _is_object(one):
            raise invalid(f"Expecting value/list but got object at item {number} of input list")
        for name, value in one.items() if as_objects else ((plain_name, one),):
            try:
                _tell_of_item(name, value, inputs, seen)
            except StatusError as error:
                key = f" key: {name}" if as_objects else ""
                raise invalid(
                    f"Failed to process element: {number}{key} of 'instances' list. Error: {error}"
                ) from None
        if as_objects and one.keys() != inputs.keys():
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: "
                f"{values.echo(one)} keys must be equal to: {','.join(sorted(inputs))}"
            )


def _tell_of_item(name, value, inputs, seen):
    if name not in inputs:
        raise invalid(f"JSON object: does not have named input: {name}")
    shape = _shape(value)
    count = _tell(value, shape, inputs[name])
    first_count, first_shape = seen.setdefault(name, (count, shape))
    if count != first_count:
        raise invalid(f"Expecting tensor size: {first_count} but got: {count}")
    if shape != first_shape:
        raise invalid(f"Expecting shape {_text(first_shape)} but got: {_text(shape)}")


def _text(shape):
    return f"[{','.join(map(str, shape))}]"
