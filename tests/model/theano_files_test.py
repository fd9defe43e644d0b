"""Reading the original's weight files, old ones and hostile ones."""

import os
import pickle
import re
import time

import commands
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2n2_keras.errors import InputError
from r2n2_keras.model import theano_files

# What np.save of Python 2.7 with NumPy 1.10 writes behind the header for the list
# [arange(6, float32) as (2, 3), arange(4, float64) as (2, 2) in Fortran's order, arange(3, ">f4")].
PYTHON_2 = (
    b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85"
    b"U\x01b\x87Rq\x03(K\x01K\x03\x85cnumpy\ndtype\nq\x04U\x02O8K\x00K\x01\x87Rq\x05(K\x03U\x01"
    b"|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb\x89]q\x06(h\x01h\x02K\x00\x85U\x01b\x87Rq\x07("
    b"K\x01K\x02K\x03\x86h\x04U\x02f4K\x00K\x01\x87Rq\x08(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff"
    b"\xff\xff\xffK\x00tb\x89U\x18\x00\x00\x00\x00\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00"
    b"\x80@\x00\x00\xa0@tbh\x01h\x02K\x00\x85U\x01b\x87Rq\t(K\x01K\x02K\x02\x86h\x04U\x02f8K"
    b"\x00K\x01\x87Rq\n(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x88U \x00\x00"
    b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00@\x00\x00\x00\x00\x00\x00\xf0?\x00"
    b"\x00\x00\x00\x00\x00\x08@tbh\x01h\x02K\x00\x85U\x01b\x87Rq\x0b(K\x01K\x03\x85h\x04U\x02f4"
    b"K\x00K\x01\x87Rq\x0c(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x0c\x00"
    b"\x00\x00\x00?\x80\x00\x00@\x00\x00\x00tbetb."
)


def npy(pickled, shape="(1,)"):
    """A `.npy` file of objects around a pickle."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + pickled


def objects(items):
    array = np.empty(len(items), object)
    for n, item in enumerate(items):
        array[n] = item
    return array


def pickled(*items, protocol=4):
    return pickle.dumps(objects(items), protocol)


class Calls:
    """An object whose pickle calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def refusal(path, content):
    """The line with which a file is refused."""
    path.write_bytes(content)
    line = commands.refusal(theano_files.read, path)
    assert "Expected a .npy file that holds a list of arrays of floats, received" in line
    return line


@pytest.fixture
def file(tmp_path):
    return tmp_path / "weights.npy"


# Files that are read


@pytest.mark.parametrize("shape", ["(3,)", "(3L,)"])
def test_a_file_of_python_2(file, shape):
    file.write_bytes(npy(PYTHON_2, shape))
    arrays = theano_files.read(file)
    expected = [np.arange(6).reshape(2, 3), np.arange(4).reshape(2, 2), np.arange(3)]
    for array, values in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(array, values)
    assert [array.dtype.str for array in arrays] == ["<f4", "<f8", ">f4"]


ARRAYS = [
    np.arange(24, dtype="float32").reshape(2, 3, 4),
    np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    np.arange(8, dtype=">f8")[::2],
    np.arange(3, dtype="float16"),
    np.full(1000, 200.5, "float32"),  # bytes beyond ASCII
]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("module", [b"numpy.core.multiarray", b"numpy._core.multiarray"])
def test_files_of_python_3(file, protocol, module):
    content = pickled(*ARRAYS, protocol=protocol)
    if protocol < 4:  # where names do not stand behind their lengths
        for name in (b"numpy._core.multiarray", b"numpy.core.multiarray"):
            content = content.replace(b"c" + name, b"c" + module)
    file.write_bytes(npy(content, "(5,)"))
    for array, expected in zip(theano_files.read(file), ARRAYS, strict=True):
        assert array.dtype == expected.dtype
        np.testing.assert_array_equal(array, expected)


# Files that are refused


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch MARKER",), "posix.system"),
        (eval, ("open('MARKER', 'w').close()",), "eval"),
        (open, ("MARKER", "w"), "open"),
        (np.load, ("MARKER",), "numpy.load"),
        (np.memmap, ("MARKER", "uint8", "w+", 0, 9), "numpy.memmap"),
        (np.zeros, (2**40,), "numpy.zeros"),
        (getattr, ("", "join"), "getattr"),
        (bytearray, (2**40,), "bytearray"),
    ],
)
def test_no_code_is_run(file, monkeypatch, protocol, function, arguments, name):
    monkeypatch.chdir(file.parent)
    for content in (
        pickle.dumps(Calls(function, *arguments), protocol),
        pickled(np.ones(3), Calls(function, *arguments), protocol=protocol),
    ):
        line = refusal(file, npy(content))
        assert re.search(f"it would run '.*{name}', which was not done", line)
    assert os.listdir(file.parent) == ["weights.npy"]


RECONSTRUCT = b"cnumpy.core.multiarray\n_reconstruct\n"
DTYPE = b"cnumpy\ndtype\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickled(np.arange(3)), "array 0 does not hold floats"),
        (pickled(np.ones(3, complex)), "array 0 does not hold floats"),
        (pickled(np.ones(2, "f4,f4")), "does not hold floats|the instruction EMPTY_DICT"),
        (pickled(np.ones(3), objects([np.ones(3)])), "array 1 does not hold floats"),
        (pickled("text"), "something else than arrays"),
        (pickled({"a": 1}), "the instruction EMPTY_DICT"),
        (pickled([np.ones(3)], [np.ones(2)]), "something else than arrays"),
        (pickled(np.float32(1)), "it would run 'numpy._?core.multiarray.scalar'"),
        (pickle.dumps([np.ones(3)]), "something else than arrays"),
        (pickle.dumps(np.ones(3)), "it holds no list"),
        (pickled(np.ones(3)) + b"more", "something follows the list"),
        (pickled(np.ones(3), np.ones(3)), r"2 arrays where its header says \(1,\)"),
        (b"", "its pickle is damaged"),
        (b"\x80\x04.", "its pickle is damaged"),
        (b"\x80\x04]]]a.", "something else than arrays"),
        (b"\x80\x04h\x07.", "its pickle is damaged"),
        (b"\x80\x04" + RECONSTRUCT + b".", "its pickle is damaged"),
        (b"\x80\x04" + RECONSTRUCT + DTYPE + b"RR.", "its pickle is damaged"),
        (b"\x80\x04" + RECONSTRUCT + b"NRNb.", "its pickle is damaged"),
        (b"\x80\x04" + DTYPE + b"N\x85N\x85\x93.", "its pickle is damaged"),
        (b"cos\nsystem\n(S'touch MARKER'\ntR.", "it would run 'os.system'"),
        (b"(X\x0c\x00\x00\x00touch MARKERios\nsystem\n.", "the instruction INST"),
        (b"\x80\x02cmod\\.ule\nname\n.", "it would run"),
        (b"\x80\x04\x8c\x02os\x8c\x06\x1b[2J\n!\x93.", r"'os\.\\x1b\[2J\\n!'"),
        (b"\x80\x02N\x82\x01.", "the instruction EXT1"),
        (b"\x80\x02U\x01aQ.", "the instruction BINPERSID"),
        (b"\x80\x05\x96" + (2**62).to_bytes(8, "little") + b".", "the instruction BYTEARRAY8"),
    ],
)
def test_other_pickles_are_refused(file, content, message):
    assert re.search(message, refusal(file, npy(content)))
    assert os.listdir(file.parent) == ["weights.npy"]


# Two arrays, and 9,000 references to the second.
REPEATED = pickled(np.ones(2), np.ones(50_000), protocol=2)
REPEATED = REPEATED[:-6] + b"q\x50" + b"h\x50" * 9_000 + REPEATED[-6:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"\x80\x02Nr\xff\xff\xff\x7f0.", "the instruction POP"),  # a memo of 2**31 entries
        (b"\x80\x04\x8e" + (2**60).to_bytes(8, "little") + b"0", "damaged"),  # so many bytes
        (b"\x80\x02" + b"(" * 30_000 + b".", "more than 20000 instructions"),
        (b"\x80\x02N" + b"\x85" * 19_000 + b".", "something else than arrays"),  # nested deep
        (b"\x80\x02" + b"]" * 9_000 + b"a" * 8_999 + b".", "something else than arrays"),
        (b"\x80\x04)" + b"\x94h\x00h\x00\x86" * 40 + b"\x8c\x01a\x93.", "damaged"),  # 2**40 items
        (REPEATED, "its arrays are larger than the file"),
        (
            b"\x80\x04cnumpy\nndarray\n\x94\x8e" + (10**6).to_bytes(8, "little") + b"a" * 10**6
            + b"\x94" + b"h\0h\1R" * 6_000 + b".",
            "damaged",
        ),
    ],
    ids=["memo", "length", "marks", "tuples", "lists", "doubling", "repeated", "arguments"],
)  # fmt: skip
def test_small_files_do_not_grow(file, content, message):
    start = time.process_time()
    assert message in refusal(file, npy(content))
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    "shape", [(3, 2), (2**40,), (-6,), (2, 3, 2**60), (True,), ("6",), [6], (6.0,)]
)
def test_shapes_that_the_numbers_do_not_fill(file, shape):
    class Claims:
        def __reduce__(self):
            function, arguments, state = np.ones(6).__reduce__()
            return function, arguments, (state[0], shape, *state[2:-1], state[-1][:40])

    assert re.search(
        "fill its shape|no shape|has the instruction", refusal(file, npy(pickled(Claims())))
    )


def test_every_truncation_is_refused(file):
    content = npy(PYTHON_2, "(3,)")
    for length in range(0, len(content), 3):
        refusal(file, content[:length])


@given(position=st.integers(0), value=st.integers(0, 255), pad=st.binary(max_size=3))
def test_damage_is_refused_or_read(tmp_path_factory, position, value, pad):
    file = tmp_path_factory.getbasetemp() / "damaged.npy"
    content = bytearray(npy(PYTHON_2, "(3,)"))
    position %= len(content)
    content[position : position + 1] = bytes([value]) + pad
    file.write_bytes(content)
    try:
        assert len(theano_files.read(file)) == 3
    except InputError as error:
        assert "\n" not in str(error)


def test_what_is_no_list_of_arrays(file):
    np.save(file, np.ones((2, 3)))
    assert "one array of float64, shape (2, 3)" in refusal(file, file.read_bytes())
    headers = (npy(b"", shape) for shape in ("(1,", "1", "_" * 99))
    for content in (b"", b"text", b"PK\x03\x04" * 99, *headers):
        assert "no header of NumPy's .npy format" in refusal(file, content)
    assert "received" in refusal(file, npy(pickled(np.ones(3)), "(-1,)"))


def test_files_that_cannot_be_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.npy")  # reading it would wait for ever
    with open(tmp_path / "huge.npy", "wb") as file:
        file.truncate(2**36)  # sparse
    for name, message in (
        ("none.npy", r"none\.npy, which cannot be read \(No such file"),
        ("", "which is no file"),
        ("pipe.npy", "which is no file"),
        ("huge.npy", "which has 68,719,476,736 bytes"),
    ):
        with pytest.raises(InputError, match=message):
            theano_files.read(tmp_path / name)
