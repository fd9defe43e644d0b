"""Reads a `.npy` file that holds a list of arrays, as the original's Theano code saves its weights.

`np.save` pickles such a list. A pickle is a program; here it is not run but read as data: whatever
else than arrays of floats it asks for is refused.
"""

import dataclasses
import io
import math
import os
import pickletools
import warnings

import numpy as np

from r2n2_keras.errors import InputError
from r2n2_keras.model.weight_files import check_file, npy_header

_LONGEST = 20_000  # instructions; 63 arrays take about 2,300
_FUNCTIONS = {
    # NumPy 1 and NumPy 2 call the same module by two names.
    "numpy.core.multiarray _reconstruct": "array",
    "numpy._core.multiarray _reconstruct": "array",
    "numpy ndarray": "type",
    "numpy dtype": "dtype",
    "_codecs encode": "encode",  # makes bytes, in what Python 3 writes for Python 2
}


@dataclasses.dataclass(eq=False)
class _Call:
    """A call that a pickle asks for: which function, with what, and the state set afterwards."""

    function: str
    arguments: tuple = ()
    state: tuple = ()


def read(path: str | os.PathLike) -> list[np.ndarray]:
    """The arrays of floats in a file that `np.save` made of a list; an InputError for any other."""
    check_file(path)
    try:
        with open(path, "rb") as file:
            content = io.BytesIO(file.read())
    except OSError as error:
        raise InputError(
            f"Expected the weights of a Theano network, received {path}: "
            f"{error.strerror or error}. Check the path."
        ) from None
    try:
        shape, dtype = npy_header(content)
        if dtype != np.dtype(object):
            raise ValueError(f"one array of {dtype}, shape {shape}")
        arrays = _unpickled(content)
        if shape != (len(arrays),):
            raise ValueError(f"{len(arrays)} arrays where its header says {shape}")
    except ValueError as error:
        raise InputError(
            f"Expected a .npy file that holds a list of arrays of floats, received {path} "
            f"({error}). Give a file that the original's Theano code saved."
        ) from None
    return arrays


def _unpickled(file):
    """The arrays of a pickled list, read as data: nothing in it is looked up or run.

    Knows only the instructions of which `np.save` makes lists of arrays, in protocols 2 to 4. None
    of them takes more memory than it has bytes in the file. An InputError tells of any others.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of odd backslashes in names
            value = _interpret(file)
        *_, items = _state(value, "array")
        if type(items) is not list:
            raise InputError("it holds no list of arrays")
        arrays, size = [], 0
        for n, item in enumerate(items):
            arrays.append(_array(item, f"array {n}"))
            size += arrays[-1].nbytes
            if size > file.tell():  # a pickle can repeat what it holds by reference
                raise InputError("its arrays are larger than the file")
    except InputError:
        raise
    except (LookupError, AttributeError, TypeError, ValueError):
        raise InputError("its pickle is damaged") from None
    if file.read(1):
        raise InputError("something follows the list")
    return arrays


def _interpret(file):
    stack, outer_stacks, memo = [], [], {}
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count > _LONGEST:
            raise InputError(f"its pickle has more than {_LONGEST} instructions")
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BINSTRING" | "SHORT_BINSTRING":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[opcode.name])
            case "EMPTY_TUPLE":
                stack.append(())
            case "EMPTY_LIST":
                stack.append([])
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [stack.pop() for _ in range(int(opcode.name[-1]))]
                stack.append(tuple(items[::-1]))
            case "MARK":
                outer_stacks.append(stack)
                stack = []
            case "TUPLE":
                items, stack = stack, outer_stacks.pop()
                stack.append(tuple(items))
            case "APPENDS":
                items, stack = stack, outer_stacks.pop()
                stack[-1].extend(items)
            case "APPEND":
                item = stack.pop()
                stack[-1].append(item)
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_function(argument))
            case "STACK_GLOBAL":
                name, module = stack.pop(), stack.pop()
                stack.append(_function(" ".join((module, name))))
            case "REDUCE":
                arguments = stack.pop()
                stack.append(_Call(stack.pop().function, arguments))
            case "BUILD":
                state = stack.pop()
                stack[-1].state = state
            case "STOP":
                (value,) = stack
                return value
            case other:
                raise InputError(f"its pickle has the instruction {other}, which lists do not need")


def _function(name):
    if name not in _FUNCTIONS:
        raise InputError(f"it would run {name.replace(' ', '.')[:60]!a}, which was not done")
    return _Call(_FUNCTIONS[name])


def _state(value, function):
    if type(value) is not _Call or value.function != function or type(value.state) is not tuple:
        raise InputError("it holds something else than arrays of floats")
    return value.state


def _array(value, name):
    """The array that a call stands for, by the state that NumPy gives its arrays."""
    _, shape, dtype, fortran, data = _state(value, "array")
    kind, byte_order = dtype.arguments[0], _state(dtype, "dtype")[1]
    if kind not in ("f2", "f4", "f8") or byte_order not in ("<", ">"):
        raise InputError(f"{name} does not hold floats")
    if type(shape) is not tuple or not all(type(n) is int and 0 <= n < 2**31 for n in shape):
        raise InputError(f"{name} has no shape")
    if type(data) is _Call and data.function == "encode":
        data, encoding = data.arguments
        if encoding != "latin1":
            raise InputError(f"{name} is in an unknown encoding")
    if type(data) is str:  # Python 2's bytes, or Python 3's for Python 2
        data = data.encode("latin1")
    dtype = np.dtype(byte_order + kind)
    if type(data) is not bytes or len(data) != math.prod(shape) * dtype.itemsize:
        raise InputError(f"{name} does not fill its shape")
    return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran is True else "C")
