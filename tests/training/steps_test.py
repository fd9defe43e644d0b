"""A training step: against a naive one, on one device as on several, and bit for bit again."""

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf

from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.training import steps

# === The parts of a step ===


@pytest.mark.parametrize("step", [0, 49, 50, 99, 100, 949])
def test_rate_dropped_every_n_steps_is_the_notebooks(step):
    rate = steps.learning_rate_at(step, 5e-5, drop_every=50, drop_factor=0.5)
    assert rate == pytest.approx(5e-5 * 0.5 ** (step // 50), rel=1e-5)


@pytest.mark.parametrize(
    ("step", "rate"), [(0, 1e-4), (19_999, 1e-4), (20_000, 1e-5), (59_999, 1e-5), (60_000, 1e-6)]
)
def test_rate_dropped_at_steps_is_the_papers(step, rate):
    received = steps.learning_rate_at(step, 1e-4, drop_steps=(20_000, 60_000), drop_factor=0.1)
    assert received == pytest.approx(rate, rel=1e-5)


def test_rate_without_drops_is_constant():
    assert steps.learning_rate_at(10**6, 3e-4) == 3e-4


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
        initial = 1e-3 if step < 4 else 1e-4
        optimizer.learning_rate = initial
        rate = initial * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
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


# === A step on one device ===

_PAPER_STYLE = {
    "image_size": 16,
    "encoder_filters": (8, 8),
    "encoder_kernel_sizes": (3, 3),
    "encoder_shortcuts": ("conv", "identity"),
    "features": 16,
    "hidden_channels": 8,
    "decoder_filters": (8, 2),
    "decoder_shortcuts": ("identity",),
    "grid_upsamplings": 1,
}
_NOTEBOOK_STYLE = {
    **_PAPER_STYLE,
    "encoder_shortcuts": None,
    "encoder_pooling": "valid",
    "recurrence": "lstm",
    "gate_input_bias": True,
    "decoder_filters": (8, 1),
    "decoder_shortcuts": None,
    "upsampling": "nearest",
}
_SPEC = (tf.TensorSpec((4, None, 16, 16, 3)), tf.TensorSpec((4, 8, 8, 8)))
_GO_ON, _STOP = tf.constant(0.0), tf.constant(1.0)


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
        strategy, model, optimizer, batch_size=4, threshold=0.4, **arguments
    )
    results = [train_step(*_batch(step), _GO_ON).numpy() for step in range(count)]
    return model, np.array(results), train_step


def _naive_training(style, count, clip_norm=0.0, l2=0.0, frozen=()):
    """The same without graph, optimizer or strategy: weights by their paths, and results."""
    model = _network(style)
    state = {v.path: [0.0, 0.0] for v in model.trainable_variables if v.path not in frozen}
    variables = [v for v in model.trainable_variables if v.path in state]
    results = []
    for step in range(count):
        images, voxels = _batch(step)
        with tf.GradientTape() as tape:
            p = model(images, training=True)
            cells = voxels * tf.math.log(p) + (1 - voxels) * tf.math.log(1 - p)
            loss = -tf.reduce_mean(cells)
        gradients = [g.numpy() for g in tape.gradient(loss, [v.value for v in variables])]
        norm = np.sqrt(sum(np.sum(np.square(g)) for g in gradients))
        for variable, gradient in zip(variables, gradients, strict=True):
            m, v = state[variable.path]
            weight = variable.numpy()
            if clip_norm:
                assert norm > clip_norm
                gradient = gradient * clip_norm / norm
            if weight.ndim > 1:
                gradient = gradient + 2 * l2 * weight
            m = 0.9 * m + 0.1 * gradient
            v = 0.999 * v + 0.001 * gradient**2
            state[variable.path] = [m, v]
            rate = 1e-2 * np.sqrt(1 - 0.999 ** (step + 1)) / (1 - 0.9 ** (step + 1))
            variable.assign(weight - rate * m / (np.sqrt(v) + 1e-8))
        occupied, solid = p.numpy() > 0.4, voxels > 0.5
        both = np.sum(occupied & solid, axis=(1, 2, 3))
        either = np.sum(occupied | solid, axis=(1, 2, 3))
        results.append([float(loss), np.mean(both / either), 0.0])
    return {v.path: v.numpy() for v in model.variables}, np.array(results)


def _assert_trained_as(model, results, expected, atol=1e-5):
    weights, expected_results = expected
    np.testing.assert_allclose(results, expected_results, atol=atol)
    for variable in model.variables:
        np.testing.assert_allclose(
            variable.numpy(), weights[variable.path], atol=10 * atol, err_msg=variable.path
        )


@pytest.mark.parametrize(
    ("style", "accumulation_steps"),
    [(_PAPER_STYLE, 1), (_PAPER_STYLE, 2), (_NOTEBOOK_STYLE, 1), (_NOTEBOOK_STYLE, 4)],
    ids=["paper-1", "paper-2", "notebook-1", "notebook-4"],
)
def test_a_step_is_that_of_the_whole_batch(style, accumulation_steps):
    model, results, _ = _trained(style, 4, accumulation_steps=accumulation_steps)
    expected = _naive_training(style, 4)
    _assert_trained_as(model, results, expected)
    assert expected[1][-1][0] < expected[1][0][0] - 1e-3  # it did train


def test_the_loss_is_without_weight_decay_and_the_norm_is_that_of_all_weights():
    settings = {"l2": 1e-3, "clip_norm": 2e-2}
    model, results, _ = _trained(_PAPER_STYLE, 4, optimizer=settings, accumulation_steps=2)
    _assert_trained_as(model, results, _naive_training(_PAPER_STYLE, 4, **settings))


def test_weights_that_are_not_trainable_stay():
    settings = {"l2": 1e-3, "ema_decay": 0.9}
    frozen = [v.path for v in _network(_PAPER_STYLE).get_layer("recurrence").trainable_variables]
    model, results, _ = _trained(_PAPER_STYLE, 4, freeze=("recurrence",), optimizer=settings)
    expected = _naive_training(_PAPER_STYLE, 4, l2=1e-3, frozen=frozen)
    _assert_trained_as(model, results, expected)
    assert len(frozen) == 3
    for weight, first in zip(
        model.get_layer("recurrence").get_weights(),
        _network(_PAPER_STYLE).get_layer("recurrence").get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(weight, first)


@pytest.mark.slow
@pytest.mark.parametrize("style", [_PAPER_STYLE, _NOTEBOOK_STYLE], ids=["paper", "notebook"])
def test_a_compiled_step_is_the_same(style):
    # Compiled for one number of views, then for another.
    model, results, _ = _trained(style, 2, jit_compile=True, accumulation_steps=2)
    _assert_trained_as(model, results, _naive_training(style, 2), atol=1e-4)


def test_one_graph_serves_any_number_of_views():
    _, results, train_step = _trained(_NOTEBOOK_STYLE, 5, element_spec=_SPEC)
    assert train_step.experimental_get_tracing_count() == 1
    _, others, _ = _trained(_NOTEBOOK_STYLE, 5)
    np.testing.assert_allclose(results, others, atol=1e-5)


def test_a_batch_that_cannot_be_shared_out_is_refused():
    with pytest.raises(ValueError, match=r"3 parts.*batch_size=4"):
        _trained(_NOTEBOOK_STYLE, 0, accumulation_steps=3)


@pytest.mark.parametrize("num_views", [3, None])
def test_one_graph_scores_any_batch(num_views):
    model = _network(_NOTEBOOK_STYLE)
    eval_step = steps.make_eval_step(model, 0.4, num_views)
    images, voxels = _batch(0)  # 3 views
    expected = model(images).numpy()
    for size in (4, 1):
        losses, ious, occupancy = eval_step(images[:size], voxels[:size])
        np.testing.assert_allclose(occupancy, expected[:size], atol=1e-6)
        np.testing.assert_allclose(losses, steps.sample_losses(voxels, expected)[:size], rtol=1e-5)
        solid, occupied = voxels[:size] > 0.5, expected[:size] > 0.4
        both, either = (solid & occupied).sum((1, 2, 3)), (solid | occupied).sum((1, 2, 3))
        np.testing.assert_allclose(ious, both / either, rtol=1e-6)
    assert eval_step.experimental_get_tracing_count() == 1


# === The same step in other processes ===

# Logical devices and workers must be set before TensorFlow starts.
_TRAIN = """
import json, sys
import keras, numpy as np, tensorflow as tf

settings = json.loads(sys.argv[1])
tf.config.experimental.enable_op_determinism()
if settings["devices"] == "two":
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = {
    "one": lambda: tf.distribute.OneDeviceStrategy("CPU:0"),
    "two": lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]),
    "workers": tf.distribute.MultiWorkerMirroredStrategy,
}[settings["devices"]]()

import steps_test
from r2n2_keras.training import adam, steps

keras.mixed_precision.set_dtype_policy(settings["precision"])
with strategy.scope():
    model = steps_test._network(steps_test._NOTEBOOK_STYLE)
    optimizer = steps.make_optimizer(1e-3, settings["precision"], **settings["optimizer"])
    optimizer.build(model.trainable_variables)
first, last = settings["steps"]

def batches():
    for step in range(first, last):
        images, voxels = steps_test._batch(step)
        if step == settings["overflow_at"]:
            images[2:] *= 1e30  # more than float16 holds, in the second replica's half
        yield images, voxels

dataset = tf.data.Dataset.from_generator(batches, output_signature=steps_test._SPEC)
options = tf.data.Options()
options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.DATA
dataset = strategy.experimental_distribute_dataset(dataset.with_options(options))
train_step = steps.make_train_step(
    strategy, model, optimizer, batch_size=4, threshold=0.4, element_spec=dataset.element_spec,
    **settings["step"],
)
checkpoint = tf.train.Checkpoint(model=model, optimizer=optimizer)
if settings["restore"]:
    checkpoint.read(settings["restore"]).assert_consumed()

def weights():
    return np.concatenate([weight.ravel() for weight in model.get_weights()])

# The second of two workers was told to stop.
worker = strategy.cluster_resolver.task_id if settings["devices"] == "workers" else 1
results, history, scales = [], [weights()], []
for batch in dataset:
    results.append(train_step(*batch, tf.constant(float(worker))).numpy())
    history.append(weights())
    scales.append(float(optimizer.scale_loss(1.0)))
with adam.averaged_weights(model, optimizer):
    averages = weights()
if settings["save"]:
    checkpoint.write(settings["save"])
np.savez(
    settings["out"] + str(worker), replicas=strategy.num_replicas_in_sync, results=results,
    weights=history, scales=scales, averages=averages, restored=weights(),
)
"""


def _run(
    devices="one",
    count=10,
    first=0,
    precision="float32",
    optimizer=None,
    overflow_at=-1,
    restore="",
    save="",
    **arguments,
):
    """What a process (of several workers: the second) finds, by name."""
    with tempfile.TemporaryDirectory() as folder:
        settings = {
            "devices": devices,
            "steps": (first, first + count),
            "precision": precision,
            "optimizer": optimizer or {},
            "overflow_at": overflow_at,
            "restore": str(restore),
            "save": str(save),
            "step": arguments,
            "out": os.path.join(folder, "found"),
        }
        clusters = _clusters(2) if devices == "workers" else [None]
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", _TRAIN, json.dumps(settings)],
                env=_environment(cluster),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
            for cluster in clusters
        ]
        try:
            ends = [worker.communicate(timeout=300)[1][-2000:] for worker in workers]
        finally:
            for worker in workers:
                worker.kill()
        assert not any(worker.returncode for worker in workers), "\n".join(ends)
        with np.load(settings["out"] + "1.npz") as found:
            return dict(found)


def _environment(cluster):
    here = os.path.dirname(__file__)
    paths = [here, os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    environment.pop("TF_CONFIG", None)
    return environment | ({"TF_CONFIG": json.dumps(cluster)} if cluster else {})


def _clusters(count):
    """`TF_CONFIG` of each worker of a cluster on this machine."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    names = [f"127.0.0.1:{server.getsockname()[1]}" for server in sockets]
    for server in sockets:
        server.close()
    return [
        {"cluster": {"worker": names}, "task": {"type": "worker", "index": index}}
        for index in range(count)
    ]


_ALL = {"l2": 1e-3, "clip_norm": 1e-2, "ema_decay": 0.9}


@functools.cache
def _on_one(with_all):
    return _run(optimizer=_ALL if with_all else {})


@pytest.mark.parametrize(
    ("devices", "with_all", "accumulation_steps"),
    [
        ("two", True, 2),
        pytest.param("two", False, 1, marks=pytest.mark.slow),
        pytest.param("workers", True, 1, marks=pytest.mark.slow),
    ],
)
def test_several_replicas_train_as_one(devices, with_all, accumulation_steps):
    one = _on_one(with_all)
    several = _run(
        devices, optimizer=_ALL if with_all else {}, accumulation_steps=accumulation_steps
    )
    assert (one["replicas"], several["replicas"]) == (1, 2)
    np.testing.assert_allclose(several["results"][:, :2], one["results"][:, :2], atol=1e-5)
    np.testing.assert_allclose(several["weights"], one["weights"], atol=1e-5)
    np.testing.assert_allclose(several["averages"], one["averages"], atol=1e-5)
    assert np.any(several["averages"] != several["restored"]) == with_all
    for run in (one, several):
        np.testing.assert_array_equal(run["restored"], run["weights"][-1])
    stops = {"one": 1, "two": 2, "workers": 1}
    assert set(one["results"][:, 2]) == {stops["one"]}
    assert set(several["results"][:, 2]) == {stops[devices]}
    first, last = one["results"][0][0], one["results"][-1][0]
    assert last != pytest.approx(first, abs=1e-4)  # it did train


@pytest.mark.parametrize(
    "devices", ["two", *(pytest.param(name, marks=pytest.mark.slow) for name in ("one", "workers"))]
)
def test_an_overflow_on_any_replica_is_left_out_on_all(devices):
    found = _run(devices, 4, precision="mixed_float16", optimizer=_ALL, overflow_at=2)
    results, weights, scales = found["results"], found["weights"], found["scales"]
    np.testing.assert_array_equal(weights[3], weights[2])
    assert list(scales / scales[0]) == [1, 1, 0.5, 0.5]
    assert np.all(np.isfinite(weights[4]))
    assert not np.array_equal(weights[4], weights[3])
    float32 = _on_one(True)["results"]
    np.testing.assert_allclose(results[:2, :2], float32[:2, :2], atol=1e-2)


def test_a_run_that_goes_on_ends_with_the_same_bits(tmp_path):
    undisturbed = _on_one(True)
    again = _run(count=4, optimizer=_ALL, save=tmp_path / "state")
    # The first batch here has another number of views than the first batch there.
    resumed = _run(first=4, count=6, optimizer=_ALL, restore=tmp_path / "state")
    for name in ("weights", "results"):
        whole, halves = undisturbed[name], [again[name], resumed[name]]
        if name == "weights":
            halves[1] = halves[1][1:]  # those restored
        np.testing.assert_array_equal(np.concatenate(halves), whole)
    np.testing.assert_array_equal(resumed["averages"], undisturbed["averages"])
