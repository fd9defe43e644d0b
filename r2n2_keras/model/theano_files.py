"""Reads a `.npy` file that holds a list of arrays, as the original's Theano code saves its weights.

`np.save` pickles such a list. A pickle is a program; here it is not run but read as data: whatever
else than arrays of floats it asks for is refused.
"""

import dataclasses
import io
import math
import os
import pickle
import pickletools
import warnings
from pathlib import Path

import numpy as np

from r2n2_keras.errors import InputError, reading
from r2n2_keras.model.weight_files import check_file, npy_header

_LONGEST = 20_000  # instructions; 63 arrays take about 2,300
# Of protocols 2 to 4.
_INSTRUCTIONS = frozenset(
    "PROTO FRAME STOP MARK GLOBAL STACK_GLOBAL REDUCE BUILD NONE NEWTRUE NEWFALSE BININT BININT1 "
    "BININT2 LONG1 BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES BINBYTES8 "
    "BINSTRING SHORT_BINSTRING EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS "
    "BINPUT LONG_BINPUT MEMOIZE BINGET LONG_BINGET".split()
)
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

    def __call__(self, *arguments):
        return _Call(self.function, arguments)

    def __setstate__(self, state):
        self.state = state


def read(path: str | os.PathLike) -> list[np.ndarray]:
    """The arrays of floats in a file that `np.save` made of a list; an InputError for any other."""
    check_file(path)
    with reading("the weights of a Theano network", path, "Check the path."):
        content = io.BytesIO(Path(path).read_bytes())
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


class _Unpickler(pickle._Unpickler):
    """Makes a `_Call` of each call that a pickle asks for: nothing in it is looked up or run.

    Knows only the instructions of which `np.save` makes lists of arrays. None of them takes more
    memory than it has bytes in the file, which is not so of those of the unpickler in C.
    """

    def __init__(self, file):
        super().__init__(file, encoding="latin1")
        self.dispatch = _Instructions()

    def find_class(self, module, name):
        if (function := _FUNCTIONS.get(f"{module} {name}")) is None:
            raise InputError(f"it would run {f'{module}.{name}'[:60]!a}, which was not done")
        return _Call(function)


class _Instructions:
    """What stands behind each instruction of a pickle, as `pickle._Unpickler` asks for it."""

    def __init__(self):
        self._count = 0

    def __getitem__(self, code):
        self._count += 1
        if self._count > _LONGEST:
            raise InputError(f"its pickle has more than {_LONGEST} instructions")
        name = pickletools.code2op[chr(code)].name
        if name not in _INSTRUCTIONS:
            raise InputError(f"its pickle has the instruction {name}, which lists do not need")
        return _reduce if name == "REDUCE" else pickle._Unpickler.dispatch[code]


def _reduce(unpickler):
    # Else each call could make a copy of whatever large thing stands for its arguments.
    if type(unpickler.stack[-1]) is not tuple or len(unpickler.stack[-1]) > 3:
        raise InputError("its pickle is damaged")
    unpickler.load_reduce()


def _unpickled(file):
    """The arrays of a pickled list; an InputError tells of any other pickle."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Python's, of odd backslashes in names
            value = _Unpickler(file).load()
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
    except Exception:  # Python's unpickler raises all kinds for what it finds damaged
        raise InputError("its pickle is damaged") from None
    if file.read(1):
        raise InputError("something follows the list")
    return arrays


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
