"""What importing the weights of other programs shares: checks, and the order of dense rows."""

import math
import os
import stat
import warnings

import numpy as np

from r2n2_keras.errors import InputError, reading

_LISTED = 4  # of many faults of one kind
_LARGEST = 2**30  # bytes; the largest network in float64 takes 288 MB


def check_file(path) -> None:
    """Raises InputError where a path is no file, or one too large to hold a network's weights."""
    with reading("a file of weights", path, "Check the path."):
        found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
        what = "is no file" if not stat.S_ISREG(found.st_mode) else f"has {found.st_size:,} bytes"
        raise InputError(
            f"Expected a file of weights of at most {_LARGEST:,} bytes, received {path}, which "
            f"{what}. Check the path."
        )


def npy_header(file) -> tuple[tuple[int, ...], np.dtype]:
    """Reads shape and dtype of a `.npy` file; a ValueError where there is no such header."""
    header = np.lib.format
    readers = {(1, 0): header.read_array_header_1_0, (2, 0): header.read_array_header_2_0}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's advice to save Python 2's files again
            shape, _, dtype = readers[header.read_magic(file)](file)
    except Exception as error:  # of every kind: it evaluates the header as a Python literal
        raise ValueError(f"no header of NumPy's .npy format ({type(error).__name__})") from None
    return shape, dtype


def finite_float32(array: np.ndarray, name: str) -> np.ndarray:
    """The array as native float32; an InputError if a number is not finite there."""
    with np.errstate(over="ignore", invalid="ignore"):
        array = np.asarray(array, "float32")
    faults = array.size - np.count_nonzero(np.isfinite(array))
    if faults:
        raise InputError(
            f"Expected finite float32 numbers in {name}, received {faults} that are NaN, infinite "
            "or too large. That network is of no use: give another of its checkpoints."
        )
    return array


def misfits(expected: dict[str, tuple], received: dict[str, tuple]) -> list[str]:
    """What is to be said about shapes, both by name, where they differ."""
    return [
        f"{name} is {tuple(received[name])} instead of {tuple(shape)}"
        for name, shape in expected.items()
        if name in received and tuple(received[name]) != tuple(shape)
    ]


def listing(faults: list[str]) -> str:
    """The first of many, and how many more there are."""
    more = len(faults) - _LISTED
    return "; ".join(faults[:_LISTED]) + (f"; and {more} more" if more > 0 else "")


def channels_last(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Reorders the rows of a dense kernel `(C*H*W, F)` behind a flattened map to `(H*W*C, F)`."""
    rows, features = kernel.shape
    edge = math.isqrt(rows // channels)
    kernel = kernel.reshape(channels, edge, edge, features).transpose(1, 2, 0, 3)
    return kernel.reshape(rows, features)
