"""A training step: against a naive one, and on one device as on several."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_runs import addresses_of, tf_config

from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.training import adam, distribution, steps


def test_the_rate_drops_every_n_steps_or_at_steps():
    def rates(steps_, **drops):
        return [steps.learning_rate_at(step, 3e-4, drop_factor=0.5, **drops) for step in steps_]

    every = rates(range(150), drop_every=50)
    assert every == pytest.approx([3e-4] * 50 + [1.5e-4] * 50 + [0.75e-4] * 50, rel=1e-5)
    at_steps = rates(range(80), drop_steps=(20, 60))
    assert at_steps == pytest.approx([3e-4] * 20 + [1.5e-4] * 40 + [0.75e-4] * 20, rel=1e-5)
    assert rates([10**6]) == [3e-4]


# === A step on one device ===

_PAPER_STYLE = {
    "image_size": 16, "encoder_filters": (8, 8), "encoder_kernel_sizes": (3, 3),
    "encoder_shortcuts": ("conv", "identity"), "features": 16, "hidden_channels": 8,
    "decoder_filters": (8, 2), "decoder_shortcuts": ("identity",), "grid_upsamplings": 1,
}  # fmt: skip
_NOTEBOOK_STYLE = {
    **_PAPER_STYLE, "encoder_shortcuts": None, "encoder_pooling": "valid", "recurrence": "lstm",
    "gate_input_bias": True, "decoder_filters": (8, 1), "decoder_shortcuts": None,
    "upsampling": "nearest",
}  # fmt: skip
_SPEC = (tf.TensorSpec((4, None, 16, 16, 3)), tf.TensorSpec((4, 8, 8, 8)))
_GO_ON = tf.constant(0.0)


def _batch(step):
    """Four samples, 1 to 5 views; those at the end are brighter, their gradients larger."""
    rng = np.random.default_rng(step)
    images = rng.random((4, 1 + (step + 2) % 5, 16, 16, 3), dtype="float32")
    images *= np.array([1, 1, 4, 4], "float32")[:, None, None, None, None]
    return images, (rng.random((4, 8, 8, 8)) > 0.7).astype("float32")


def _network(style):
    keras.utils.set_random_seed(0)
    return R2N2(**style)


def _trained(style, count, freeze=(), optimizer=None, **arguments):
    """A network after some steps, and each step's (loss, IoU, stops)."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    with strategy.scope():
        model = _network(style)
        for layer in freeze:
            model.get_layer(layer).trainable = False
        optimizer = steps.make_optimizer(1e-2, **(optimizer or {}))
        optimizer.build(model.trainable_variables)
    train_step = steps.make_train_step(
        strategy, model, optimizer, batch_size=4, threshold=0.4, element_spec=_SPEC, **arguments
    )
    results = [train_step(*_batch(step), _GO_ON).numpy() for step in range(count)]
    return model, np.array(results), train_step


def _naive_training(style, count, frozen=(), **settings):
    """The same without graph, parts or strategy: weights by their paths, and results."""
    model = _network(style)
    variables = [v for v in model.trainable_variables if v.path not in frozen]
    optimizer = steps.make_optimizer(1e-2, **settings)
    results = []
    for step in range(count):
        images, voxels = _batch(step)
        with tf.GradientTape() as tape:
            p = model(images, training=True)
            cells = voxels * tf.math.log(p) + (1 - voxels) * tf.math.log(1 - p)
            loss = -tf.reduce_mean(cells)
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply(gradients, variables)
        occupied, solid = p.numpy() > 0.4, voxels > 0.5
        both = np.sum(occupied & solid, axis=(1, 2, 3))
        either = np.sum(occupied | solid, axis=(1, 2, 3))
        results.append([float(loss), np.mean(both / either), 0.0])
    return {v.path: v.numpy() for v in model.variables}, np.array(results)


def _assert_trained_as(model, results, expected, atol=1e-5):
    weights, expected_results = expected
    np.testing.assert_allclose(results, expected_results, atol=atol)
    for one in model.variables:
        np.testing.assert_allclose(one, weights[one.path], atol=10 * atol, err_msg=one.path)


@pytest.mark.parametrize(
    ("style", "accumulation_steps", "settings"),
    [
        (_PAPER_STYLE, 1, {}),
        (_NOTEBOOK_STYLE, 4, {}),
        (_NOTEBOOK_STYLE, 2, {"l2": 1e-3, "clip_norm": 1e-2}),  # the norm is that of all weights
    ],
    ids=["paper", "notebook", "decay and clipping"],
)
def test_a_step_is_that_of_the_whole_batch(style, accumulation_steps, settings):
    model, results, train_step = _trained(
        style, 3, optimizer=settings, accumulation_steps=accumulation_steps
    )
    expected = _naive_training(style, 3, **settings)
    _assert_trained_as(model, results, expected)
    assert expected[1][-1][0] < expected[1][0][0] - 1e-3  # it did train
    assert train_step.experimental_get_tracing_count() == 1  # whatever the number of views


def test_weights_that_are_not_trainable_stay():
    settings = {"l2": 1e-3, "ema_decay": 0.9}
    before = _network(_NOTEBOOK_STYLE).get_layer("recurrence")
    frozen = [variable.path for variable in before.trainable_variables]
    model, results, _ = _trained(_NOTEBOOK_STYLE, 3, freeze=("recurrence",), optimizer=settings)
    _assert_trained_as(model, results, _naive_training(_NOTEBOOK_STYLE, 3, l2=1e-3, frozen=frozen))
    weights = zip(model.get_layer("recurrence").get_weights(), before.get_weights(), strict=True)
    for weight, first in weights:
        np.testing.assert_array_equal(weight, first)
    assert len(frozen) == 2


@pytest.mark.slow
@pytest.mark.parametrize("style", [_PAPER_STYLE, _NOTEBOOK_STYLE], ids=["paper", "notebook"])
def test_a_compiled_step_is_the_same(style):
    # Compiled for one number of views, then for another.
    model, results, _ = _trained(style, 2, jit_compile=True, accumulation_steps=2)
    _assert_trained_as(model, results, _naive_training(style, 2), atol=1e-4)


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match=r"3 parts.*batch_size=4"):
        _trained(_NOTEBOOK_STYLE, 0, accumulation_steps=3)


# === On several devices and workers ===

_ALL = {"l2": 1e-3, "clip_norm": 0.8, "ema_decay": 0.9}  # the first three gradients are larger
_CASES = {
    "all": {"count": 5, "optimizer": _ALL, "accumulation_steps": 2},
    "overflow": {"count": 4, "optimizer": _ALL, "precision": "mixed_float16", "overflow_at": 2},
}

# Logical devices and workers must be set before TensorFlow starts.
_TRAIN = """
import json, os, sys
import numpy as np, tensorflow as tf

tf.config.experimental.enable_op_determinism()
if "TF_CONFIG" in os.environ:
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
else:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])

import steps_test

for name, case in steps_test._CASES.items():
    np.savez(os.path.join(sys.argv[1], name), **steps_test._record(strategy, **case))
"""


def _record(strategy, count, optimizer, precision="float32", overflow_at=-1, accumulation_steps=1):
    """Trains under a strategy; gives what a step and its weights were, by name."""
    resolver = strategy.cluster_resolver
    own, last = (resolver.task_id, 1) if resolver else (0, 0)
    keras.mixed_precision.set_dtype_policy(precision)
    try:
        with strategy.scope():
            model = _network(_NOTEBOOK_STYLE)
            optimizer = steps.make_optimizer(1e-3, precision, **optimizer)
            optimizer.build(model.trainable_variables)
    finally:
        keras.mixed_precision.set_dtype_policy("float32")

    def dataset_from(first):
        def dataset_of(worker, workers, parts):
            def batches():
                for step in range(first, count):
                    images, voxels = _batch(step)
                    if step == overflow_at:
                        images[2:] *= 1e30  # more than float16 holds, in the second half
                    for part in range(worker * parts, (worker + 1) * parts):
                        share = slice(part * size, (part + 1) * size)
                        yield images[share], voxels[share]

            size = 4 // (workers * parts)
            spec = [tf.TensorSpec((size, *spec.shape[1:])) for spec in _SPEC]
            return tf.data.Dataset.from_generator(batches, output_signature=tuple(spec))

        return distribution.distribute(strategy, dataset_of)

    def weights():
        return np.concatenate([weight.ravel() for weight in model.get_weights()])

    dataset = dataset_from(0)
    train_step = steps.make_train_step(
        strategy, model, optimizer, batch_size=4, threshold=0.4,
        element_spec=dataset.element_spec, accumulation_steps=accumulation_steps,
    )  # fmt: skip
    results, history, scales, batches = [], [weights()], [], iter(dataset)
    for step in range(count):
        if step == 2 and own == last:
            batches = iter(dataset_from(step))  # as after a bad sample, of one worker alone
        # The last of the workers is told to stop.
        results.append(train_step(*next(batches), tf.constant(float(own == last))).numpy())
        history.append(weights())
        scales.append(float(optimizer.scale_loss(1.0)))
    with adam.averaged_weights(model, optimizer):
        averages = weights()
    return {
        "results": np.array(results), "weights": np.array(history), "scales": np.array(scales),
        "averages": averages, "restored": weights(), "replicas": strategy.num_replicas_in_sync,
    }  # fmt: skip


@pytest.fixture(scope="module")
def on_one():
    """Of each case, what it gives on one device."""
    strategy = tf.distribute.OneDeviceStrategy("CPU:0")
    return {name: _record(strategy, **case) for name, case in _CASES.items()}


@pytest.fixture(scope="module", params=["two", pytest.param("workers", marks=pytest.mark.slow)])
def on_several(request, tmp_path_factory):
    """The same on two devices of a process, or of two workers the second's."""
    paths = [os.path.dirname(__file__), *filter(None, sys.path)]
    environments = [{}]
    if request.param == "workers":
        cluster = {"worker": addresses_of(2)}
        environments = [tf_config(cluster, index) for index in range(2)]
    folders = [tmp_path_factory.mktemp("found") for _ in environments]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _TRAIN, folder],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **environment},
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        for folder, environment in zip(folders, environments, strict=True)
    ]  # fmt: skip
    try:
        ends = [process.communicate(timeout=300)[1][-2000:] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert not any(process.returncode for process in processes), "\n".join(ends)
    found = {"stops": 2 if request.param == "two" else 1}
    for name in _CASES:
        with np.load(folders[-1] / f"{name}.npz") as arrays:
            found[name] = dict(arrays)
    return found


def test_several_replicas_train_as_one(on_one, on_several):
    one, several = on_one["all"], on_several["all"]
    assert (one["replicas"], several["replicas"]) == (1, 2)
    for name in ("weights", "averages"):
        np.testing.assert_allclose(several[name], one[name], atol=1e-5, err_msg=name)
    np.testing.assert_allclose(several["results"][:, :2], one["results"][:, :2], atol=1e-5)
    assert set(one["results"][:, 2]) == {1}
    assert set(several["results"][:, 2]) == {on_several["stops"]}
    for run in (one, several):
        assert np.any(run["averages"] != run["restored"])
        np.testing.assert_array_equal(run["restored"], run["weights"][-1])
    first, last = one["results"][0][0], one["results"][-1][0]
    assert last != pytest.approx(first, abs=1e-4)  # it did train


def test_an_overflow_on_any_replica_is_left_out_on_all(on_one, on_several):
    for found in (on_one["overflow"], on_several["overflow"]):
        results, weights, scales = found["results"], found["weights"], found["scales"]
        np.testing.assert_array_equal(weights[3], weights[2])
        assert list(scales / scales[0]) == [1, 1, 0.5, 0.5]
        assert np.all(np.isfinite(weights[4]))
        assert not np.array_equal(weights[4], weights[3])
        float32 = on_one["all"]["results"]
        np.testing.assert_allclose(results[:2, :2], float32[:2, :2], atol=1e-2)
