"""What the tests of the layers share: arrays, convolution in NumPy, Keras' battery of tests."""

import keras
import numpy as np
import pytest
from keras.src import testing  # private: what Keras tests its own layers with; imported only here

keras_battery = pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning")


def run_layer_test(*args, **kwargs):
    testing.TestCase().run_layer_test(*args, **kwargs)


def numpy_of(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def correlate(grids, kernel):
    """The 'same' convolution of deep learning, tap by tap: `(B, X, Y, Z, C)`, `(k, k, k, C, F)`."""
    edge, (nx, ny, nz) = kernel.shape[0], grids.shape[1:4]
    padded = np.pad(grids.astype("float64"), [(0, 0), *[(edge // 2, edge // 2)] * 3, (0, 0)])
    result = 0
    for x, y, z in np.ndindex(edge, edge, edge):
        result = result + padded[:, x : x + nx, y : y + ny, z : z + nz] @ kernel[x, y, z]
    return result


def voxels_and_occupancy(samples=3):
    """`(B, N, N, N)` each, of objects of very different sizes: no mean is that of all cells."""
    rng = np.random.default_rng(0)
    filled = np.linspace(0.05, 0.9, samples).reshape(samples, 1, 1, 1)
    voxels = (rng.uniform(size=(samples, 4, 4, 4)) < filled).astype("float32")
    return voxels, rng.uniform(0.02, 0.98, voxels.shape).astype("float32")
