"""One training step: its loss, its learning rate, and the same on one device as on two."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest

from r2n2_keras.training import steps


@pytest.mark.parametrize("step", [0, 49, 50, 99, 100, 949])
def test_rate_dropped_every_n_steps_is_the_notebooks(step):
    schedule = steps.learning_rate(5e-5, drop_every=50, drop_factor=0.5)
    assert float(schedule(step)) == pytest.approx(5e-5 * 0.5 ** (step // 50), rel=1e-5)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1e-4), (19_999, 1e-4), (20_000, 1e-5), (59_999, 1e-5), (60_000, 1e-6)]
)
def test_rate_dropped_at_steps_is_the_papers(step, rate):
    schedule = steps.learning_rate(1e-4, drop_steps=(20_000, 60_000), drop_factor=0.1)
    assert float(schedule(step)) == pytest.approx(rate, rel=1e-5)


def test_rate_without_drops_is_constant():
    assert steps.learning_rate(3e-4) == 3e-4


def test_the_optimizer_is_the_originals_adam():
    variable = keras.Variable([1.0, -2.0, 3.0])
    optimizer = steps.make_optimizer(1e-3)
    optimizer.build([variable])
    rng = np.random.default_rng(0)
    expected, m, v = np.array([1.0, -2.0, 3.0]), 0.0, 0.0
    for step in range(1, 6):
        gradient = rng.normal(size=3) * [1.0, 1e-3, 1e-8]  # the last is of epsilon's size
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        rate = 1e-3 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
        expected = expected - rate * m / (np.sqrt(v) + 1e-8)
        optimizer.apply([keras.ops.convert_to_tensor(gradient, "float32")], [variable])
    np.testing.assert_allclose(variable.numpy(), expected, rtol=1e-6)


def test_sample_losses_are_mean_cross_entropies():
    rng = np.random.default_rng(0)
    voxels = (rng.random((3, 4, 4, 4)) > 0.5).astype("float32")
    occupancy = rng.uniform(0.05, 0.95, voxels.shape).astype("float32")
    cells = -(voxels * np.log(occupancy) + (1 - voxels) * np.log(1 - occupancy))
    np.testing.assert_allclose(
        steps.sample_losses(voxels, occupancy), cells.mean(axis=(1, 2, 3)), rtol=1e-5
    )


# Logical devices must be set before TensorFlow starts, hence a process for each case.
_LOSSES = """
import json, sys
import keras, numpy as np, tensorflow as tf
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.training import distribution, steps

devices, precision = int(sys.argv[1]), sys.argv[2]
strategy = distribution.strategy_for("auto", devices, 4)
keras.mixed_precision.set_dtype_policy(precision)
keras.utils.set_random_seed(0)
with strategy.scope():
    model = R2N2(
        image_size=16, encoder_filters=(8, 8), encoder_kernel_sizes=(3, 3),
        encoder_shortcuts=("conv", "identity"), features=16, hidden_channels=8,
        decoder_filters=(8, 2), decoder_shortcuts=("identity",), grid_upsamplings=1,
    )
    optimizer = steps.make_optimizer(1e-3, precision)
    optimizer.build(model.trainable_variables)
train_step = steps.make_train_step(strategy, model, optimizer, 4, 0.4)
rng = np.random.default_rng(0)

def weights():
    return np.concatenate([weight.ravel() for weight in model.get_weights()])

def train(views=1, brightness=1.0):
    images = rng.random((4, views, 16, 16, 3), dtype="float32")
    images[2:] *= brightness  # the second device's half
    voxels = (rng.random((4, 8, 8, 8)) > 0.5).astype("float32")
    batch = tf.data.Dataset.from_tensors((images, voxels)).unbatch().batch(4)
    images, voxels = next(iter(strategy.experimental_distribute_dataset(batch)))
    return [float(x) for x in train_step(images, voxels)]

report = {
    "replicas": strategy.num_replicas_in_sync,
    "losses": [train(views=1 + step % 3) for step in range(10)],
    "weights": [float(np.abs(weight).sum()) for weight in model.get_weights()],
}
if precision == "mixed_float16":
    scale = lambda: float(optimizer.dynamic_scale.numpy())
    before, first_scale = weights(), scale()
    train(brightness=1e30)  # more than float16 holds
    report["kept"] = bool(np.array_equal(weights(), before))
    report["scale"] = scale() / first_scale
    train()
    after = weights()
    report["goes_on"] = bool(np.all(np.isfinite(after)) and not np.array_equal(after, before))
print(json.dumps(report))
"""


def _run(devices, precision="float32"):
    result = subprocess.run(
        [sys.executable, "-c", _LOSSES, str(devices), precision],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_two_mirrored_devices_train_as_one():
    one, two = _run(1), _run(2)
    assert (one["replicas"], two["replicas"]) == (1, 2)
    np.testing.assert_allclose(two["losses"], one["losses"], atol=1e-5)
    np.testing.assert_allclose(two["weights"], one["weights"], rtol=1e-4)
    first, last = one["losses"][0][0], one["losses"][-1][0]
    assert last != pytest.approx(first, abs=1e-4)  # it did train


def test_two_mirrored_devices_leave_out_an_overflow_of_either():
    one, two = _run(1, "mixed_float16"), _run(2, "mixed_float16")
    np.testing.assert_allclose(two["losses"], one["losses"], atol=1e-3)
    for run in (one, two):
        assert run["kept"]
        assert run["scale"] == 0.5
        assert run["goes_on"]
