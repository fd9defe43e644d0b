"""The losses against NumPy and each other, on whatever backend is configured."""

import keras
import numpy as np
import pytest
from grids import numpy_of, voxels_and_occupancy

from r2n2_keras.config import Config
from r2n2_keras.model.losses import LOSSES


def losses_of(name, voxels, occupancy):
    return numpy_of(LOSSES[name](voxels, occupancy))


def bce(v, p):
    return -np.mean(v * np.log(p) + (1 - v) * np.log(1 - p))


def dice(v, p):
    return 1 - (2 * np.sum(v * p) + 1) / (np.sum(v**2) + np.sum(p**2) + 1)


def focal(v, p, alpha=0.25, gamma=2):
    right = np.where(v > 0, p, 1 - p)
    weight = np.where(v > 0, alpha, 1 - alpha)
    return np.mean(-weight * (1 - right) ** gamma * np.log(right))


NUMPY = {"bce": bce, "dice": dice, "focal": focal, "bce_dice": lambda v, p: bce(v, p) + dice(v, p)}


def test_every_loss_is_compared_and_can_be_chosen():
    assert set(NUMPY) == set(LOSSES)
    assert all(Config(loss=name).loss == name for name in LOSSES)
    assert Config().loss == "bce"


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_samples_are_those_of_numpy(name):
    voxels, occupancy = voxels_and_occupancy()
    pairs = zip(voxels.astype("float64"), occupancy.astype("float64"), strict=True)
    expected = [NUMPY[name](*pair) for pair in pairs]
    losses = losses_of(name, voxels, occupancy)
    assert losses.shape == (3,) and losses.dtype == np.float32
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    assert np.ptp(losses) > 0.01


def test_focal_loss_is_that_of_keras():
    voxels, occupancy = voxels_and_occupancy()
    expected = keras.losses.BinaryFocalCrossentropy(True, alpha=0.25, gamma=2.0)(voxels, occupancy)
    assert losses_of("focal", voxels, occupancy).mean() == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_order_answers_and_end_at_zero(name):
    voxels, _ = voxels_and_occupancy()
    right, wrong = losses_of(name, voxels, voxels), losses_of(name, voxels, 1 - voxels)
    half = losses_of(name, voxels, np.full_like(voxels, 0.5))
    np.testing.assert_allclose(right, 0, atol=1e-6)
    assert np.all(right < half) and np.all(half < wrong)
    empty = np.zeros_like(voxels)
    np.testing.assert_allclose(losses_of(name, empty, empty), 0, atol=1e-6)
    assert np.all(np.isfinite(wrong)) and np.all(losses_of(name, empty, 1 - empty) > 0.5)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_at_zero_and_one_and_lead_downhill(name):
    voxels, occupancy = voxels_and_occupancy()
    occupancy[:, 0], occupancy[:, 1] = 0, 1  # right in some cells, wrong in others
    for exact in (True, False):
        start = occupancy if exact else np.clip(occupancy, 0.02, 0.98)
        model = keras.Sequential([keras.Input(start.shape[1:]), Shift()])
        model.compile(keras.optimizers.SGD(1e-2), lambda v, p: keras.ops.mean(LOSSES[name](v, p)))
        before = losses_of(name, voxels, start).mean()
        model.train_on_batch(start, voxels)
        (shift,) = model.get_weights()
        assert np.all(np.isfinite(shift)) and np.abs(shift).max() > 1e-5
        after = losses_of(name, voxels, start + shift).mean()
        assert exact or after < before


class Shift(keras.layers.Layer):
    """Adds a weight to every cell, so that a step of gradient descent shows the gradient."""

    def build(self, shape):
        self.shift = self.add_weight(shape=shape[1:], initializer="zeros")

    def call(self, grids):
        return grids + self.shift
