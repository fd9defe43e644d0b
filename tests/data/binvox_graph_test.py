"""The graph reads binvox files as NumPy does: eagerly, in a graph and in tf.data."""

import binvox_files
import numpy as np
import peak_memory
import pytest
import tensorflow as tf
from binvox_files import HEADER
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from r2n2_keras.data import binvox, binvox_graph
from r2n2_keras.data.binvox import Voxels

GRIDS = st_numpy.arrays(
    bool, st.integers(1, 8).map(lambda edge: (edge,) * 3), elements=st.booleans()
).filter(np.any)
# Files that NumPy reads, but that no network of 2x2x2 cells can be trained on.
MISFITS = [
    binvox.encode(Voxels(np.ones((5, 5, 5), bool))),
    binvox.encode(Voxels(np.ones((2, 2, 3), bool))),
    binvox.encode(Voxels(np.zeros((2, 2, 2), bool))),
    HEADER + b"\1\0\0\x08",  # its occupied run has no length
]


@tf.function(input_signature=[tf.TensorSpec((), tf.string)], autograph=False)
def _graph(content):
    return binvox_graph.decode(content, 2)


@given(GRIDS)
def test_grids_of_any_size(grid):
    decoded = binvox_graph.decode(binvox.encode(Voxels(grid)), grid.shape[0])
    assert decoded.dtype == tf.float32
    np.testing.assert_array_equal(decoded, grid)


def test_real_files(real_data):
    paths = sorted(real_data.glob("ShapeNetVox32/*/*/model.binvox"))
    paths.append(real_data / "odd" / "chair_model.binvox")
    assert len(paths) > 1
    dataset = tf.data.Dataset.from_tensor_slices(list(map(str, paths))).map(tf.io.read_file)
    decoded = list(dataset.map(lambda content: binvox_graph.decode(content, 32)))
    for path, voxels in zip(paths, decoded, strict=True):
        np.testing.assert_array_equal(voxels, binvox.read(path).data, err_msg=str(path))


def test_files_that_do_not_fit_are_errors():
    """What stops the pipeline must be something that the NumPy reader can explain."""
    for content, _ in binvox_files.BAD:
        with pytest.raises(tf.errors.InvalidArgumentError, match="binvox: "):
            _graph(content)
    for content in MISFITS:
        with pytest.raises(tf.errors.InvalidArgumentError, match="binvox: "):
            _graph(content)
        data = binvox.decode(content).data
        assert data.shape != (2, 2, 2) or not data.any()


def test_no_memory_is_taken_by_what_a_file_claims():
    """The graph is done at once, with little."""
    for content, _ in binvox_files.GREEDY:
        tensor = tf.constant(content)
        with peak_memory.below(10e6), pytest.raises(tf.errors.InvalidArgumentError):
            _graph(tensor)
