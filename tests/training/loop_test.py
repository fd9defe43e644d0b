"""A run from its first step to its files, on a small synthesised data set."""

import contextlib
import os
import re
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from training_runs import assert_same_run, rows_of, variables_of

from r2n2_keras import runs, workdir
from r2n2_keras.config import Config
from r2n2_keras.data import pipeline, splits, trees
from r2n2_keras.errors import InputError
from r2n2_keras.model.metrics import voxel_iou
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.outputs.summaries import Summaries
from r2n2_keras.training import distribution, loop, setup
from r2n2_keras.training.cluster import Cluster


@pytest.fixture(scope="module")
def parts(tree):
    return splits.split_objects(*trees.list_objects(str(tree))).parts


@pytest.fixture(autouse=True, scope="module")
def several_runs():
    """What lets one process train many times, and soon."""
    narrow = {
        **PRESETS["tiny"], "image_size": 16, "encoder_filters": (4, 8),
        "encoder_kernel_sizes": (3, 3), "features": 8, "hidden_channels": 4,
        "decoder_filters": (4, 4, 2, 1),
    }  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PRESETS, "tiny", narrow)
        yield


def _train(folder, parts, callbacks=(), weights=None, summarise=None, **settings):
    """Trains as the command does, in this process; gives the signal that stopped it, or 0."""
    defaults = {"batch_size": 2, "checkpoint_every_steps": 2, "num_views": "2", "seed": 3}
    config = Config(workdir=str(folder), model="tiny", **{**defaults, **settings})
    keras.utils.set_random_seed(config.seed)
    strategy = distribution.strategy_for("one_device", 1, Cluster(), 0)
    runs.check_workdir(config)
    with contextlib.nullcontext() if config.dry_run else runs.opened(config):
        return loop.train(config, strategy, Cluster(), parts, callbacks, weights, summarise)


def _noting(calls):
    """A callback that writes down what is called, with the names of its numbers."""
    return keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: calls.append("train"),
        on_epoch_begin=lambda epoch, logs: calls.append(f"epoch {epoch}"),
        on_train_batch_end=lambda batch, logs: calls.append(
            f"batch {batch}: {' '.join(sorted(logs))}"
        ),
        on_test_begin=lambda logs: calls.append("test"),
        on_epoch_end=lambda epoch, logs: calls.append(f"end {epoch}: {' '.join(sorted(logs))}"),
        on_train_end=lambda logs: calls.append("done"),
    )


# === A run that nothing disturbs ===

_SETTINGS = {
    "num_views": "1..3", "steps": 5, "evaluate_every_steps": 3, "learning_rate": 3e-3,
    "ema_decay": 0.9, "l2": 1e-4, "clip_norm": 0.1, "loss_limit": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def through(tmp_path_factory, parts, several_runs):
    """Such a run's folder, and what a Keras callback saw of it."""
    folder, calls = tmp_path_factory.mktemp("through"), []
    log = keras.callbacks.CSVLogger(str(folder / "log.csv"))
    saves = keras.callbacks.ModelCheckpoint(str(folder / "own.keras"))
    summarise = Summaries(str(folder / "run"), 0.4, "bce").write
    callbacks = [_noting(calls), log, saves]
    assert not _train(folder / "run", parts, callbacks, None, summarise, profile="1:3", **_SETTINGS)
    return folder / "run", calls


def test_metrics_curves_and_profile(through, parts):
    folder, _ = through
    first, last = workdir.read_metrics(str(folder))
    assert (first["step"], last["step"]) == (3, 5)  # every third step, and the last
    assert first["samples"] == 6
    assert last["epoch"] == pytest.approx(10 / len(parts["train"]))
    assert 0 < first["seconds"] < last["seconds"]
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert list((folder / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb"))


def test_tensorboard_has_scalars_and_pictures(through):
    (file,) = through[0].glob("tensorboard/events.*")
    values = {}
    for record in tf.data.TFRecordDataset(str(file)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            values[value.tag] = tf.make_ndarray(value.tensor)
    assert {"loss", "iou", "val_loss", "val_iou", "learning_rate", "validation"} <= set(values)
    width, height, png = values["validation"]
    assert tf.io.decode_png(png).shape == (int(height), int(width), 3)


def test_keras_callbacks_run_in_the_loop(through):
    folder, calls = through
    batches = [f"batch {number}: iou loss" for number in range(5)]
    ends = [f"end {number}: iou learning_rate loss val_iou val_loss" for number in range(2)]
    first, second = ["epoch 0", *batches[:3], "test", ends[0]], ["epoch 1", *batches[3:], "test"]
    assert calls == ["train", *first, *second, ends[1], "done"]
    assert len((folder.parent / "log.csv").read_text().splitlines()) == 3


def test_the_saved_model_is_the_best_and_its_weights_are_the_averages(through, parts):
    folder, _ = through
    model = R2N2.from_preset(folder)
    batches = pipeline.evaluation_batches(parts["val"], model.image_spec, batch_size=4, num_views=3)
    ious = [voxel_iou(voxels, model(images), 0.4) for images, voxels in batches]
    best = workdir.best_row(workdir.read_metrics(str(folder)))
    np.testing.assert_allclose(np.concatenate(ious).mean(), best["val_iou"], atol=1e-5)
    kernel = model.get_layer("encoder_conv1").kernel.numpy()
    saved = variables_of(folder, best["step"])
    same = [name for name, value in saved.items() if np.array_equal(value, kernel)]
    assert len(same) == 1 and "optimizer" in same[0]


def test_a_model_that_a_callback_saved_is_one_of_ours(through):
    folder, _ = through
    own = R2N2.from_preset(folder.parent / "own.keras")
    values = list(variables_of(folder).values())
    for weight in own.get_weights():
        assert any(np.array_equal(weight, value) for value in values)
    # Ours holds no optimizer.
    ours, theirs = folder / "model.keras", folder.parent / "own.keras"
    assert ours.stat().st_size < 0.6 * theirs.stat().st_size


# === A run that is disturbed ===


def _stop_after(step):
    """A callback that sends SIGTERM to this process after some step."""

    def on_train_batch_end(batch, logs):
        if batch + 1 == step:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(0.3)  # it is a thread that notices

    return keras.callbacks.LambdaCallback(on_train_batch_end=on_train_batch_end)


def test_what_was_stopped_damaged_and_lost_ends_as_the_undisturbed_run(
    tmp_path, parts, through, capsys
):
    settings = {**_SETTINGS, "checkpoint_every_steps": 100}
    # An evaluation is due after that step, in the middle of a period of callbacks.
    assert _train(tmp_path, parts, [_stop_after(3)], **settings) == signal.SIGTERM
    # A step may have been under way; not more.
    (step,) = re.findall(r"Stopped at step (\d+) of 5", capsys.readouterr().out)
    assert step in "34"
    _train(tmp_path, parts, **{**settings, "steps": 4})
    (tmp_path / "metrics.csv").write_text("spoilt")
    (file,) = (tmp_path / "checkpoints" / "step-000000004").glob("*.data-*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    _train(tmp_path, parts, **settings)
    output = capsys.readouterr().out
    assert "Passing over a damaged checkpoint" in output and "step-000000004" in output
    assert "Going on at step 3 of 5" in output
    assert_same_run(tmp_path, through[0])
    before = (tmp_path / "model.keras").read_bytes()
    _train(tmp_path, parts, **settings)
    assert "is at step 5 of 5: nothing left to train" in capsys.readouterr().out
    assert (tmp_path / "model.keras").read_bytes() == before


class _Stalling(keras.callbacks.Callback):
    """Sets a learning rate, as Keras' own callbacks do, at which the network stays as it is."""

    def on_train_begin(self, logs=None):
        self.model.optimizer.learning_rate = 1e-30


def test_early_stopping_ends_the_run_for_good(tmp_path, parts, capsys):
    settings = {"steps": 50, "evaluate_every_steps": 1, "early_stopping_evaluations": 2}
    _train(tmp_path, parts, [_Stalling()], **settings)
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3]
    assert rows_of(tmp_path)[-1]["learning_rate"] == pytest.approx(1e-30)
    output = capsys.readouterr().out
    assert "is at step 3 of 50 and no better than at step 1" in output
    assert output.count("the best so far: saved") == 1
    before = (tmp_path / "metrics.csv").read_text()
    (tmp_path / "metrics.csv").write_text("spoilt")
    _train(tmp_path, parts, **settings)
    assert "nothing left to train" in capsys.readouterr().out
    assert (tmp_path / "metrics.csv").read_text() == before  # from the checkpoint


def test_a_callback_may_stop_the_run(tmp_path, parts):
    stopping = keras.callbacks.EarlyStopping("val_iou", patience=0, mode="max")
    settings = {"steps": 9, "evaluate_every_steps": 1}
    assert _train(tmp_path, parts, [stopping, _Stalling()], **settings) == 0
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2]


# === Divergence ===


class _Spoil(keras.callbacks.Callback):
    """Makes weights NaN before a step, as long as the learning rate is above some limit."""

    def __init__(self, step, limit=0.0):
        super().__init__()
        self.step, self.limit = step, limit

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.step and float(self.model.optimizer.learning_rate) > self.limit:
            for weight in self.model.trainable_variables:
                weight.assign(weight * np.nan)


def _assert_finite(folder):
    assert all(np.isfinite(value).all() for value in variables_of(folder).values())


def test_divergence_tells_step_models_and_checkpoint(tmp_path, parts):
    with pytest.raises(InputError) as caught:
        _train(tmp_path, parts, steps=20, learning_rate=1e30, checkpoint_every_steps=10)
    message = str(caught.value)
    (step,) = re.findall(r"a finite loss, received nan at step (\d+), on ", message)
    assert int(step) in (2, 3)  # at once
    sampling = pipeline.Sampling(2, (2, 2), seed=3)
    samples = pipeline.batch_samples(parts["train"], sampling, int(step) - 1)
    expected = [parts["train"][index].name for index, _ in samples]
    assert re.findall(r"\d{8}/\w+", message) == expected
    assert "step-000000000. Start anew with a lower --learning_rate" in message
    assert "(now 1e+30)" in message
    _assert_finite(tmp_path)


@pytest.mark.parametrize("every", [{"checkpoint_every_steps": 1}, {"evaluate_every_steps": 1}])
def test_weights_that_are_not_finite_stop_the_run(tmp_path, parts, every):
    class SpoilOne(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch + 1 == 2:
                weight = self.model.weights[0]  # which pooling can keep from the loss
                weight.assign(weight * np.nan)

    settings = {"checkpoint_every_steps": 100, "evaluate_every_steps": 3, "steps": 3, **every}
    with pytest.raises(InputError, match=r"finite (weights|loss|validation loss), received"):
        _train(tmp_path, parts, [SpoilOne()], **settings)
    _assert_finite(tmp_path)
    if "evaluate_every_steps" in every:
        best = R2N2.from_preset(tmp_path)  # of step 1
        assert all(np.isfinite(weight).all() for weight in best.get_weights())


def test_a_loss_above_its_limit_is_divergence(tmp_path, parts):
    with pytest.raises(InputError, match=r"a loss of at most 0.1, received \d\.\d+ at step 1"):
        _train(tmp_path, parts, steps=1, loss_limit=0.1)


def test_rolling_back_halves_the_rate_and_goes_on(tmp_path, parts, capsys):
    spoil = _Spoil(3, limit=3e-4)  # until it was halved twice
    settings = {"steps": 4, "evaluate_every_steps": 3, "on_divergence": "rollback"}
    _train(tmp_path, parts, [spoil], learning_rate=1e-3, **settings)
    output = capsys.readouterr().out
    back = "Going back to step 3 with half the learning rate"
    assert f"{back}, 0.0005 (rollback 1 of" in output and f"{back}, 0.00025 (rollback 2" in output
    assert [row["learning_rate"] for row in rows_of(tmp_path)] == pytest.approx([1e-3, 2.5e-4])


def test_rolling_back_ends_after_three_times_across_restarts(tmp_path, parts, capsys):
    for _ in range(2):
        with pytest.raises(InputError, match=r"received nan at step 2, .*step-000000000\. Start"):
            _train(tmp_path, parts, [_Spoil(1)], steps=5, on_divergence="rollback")
    assert capsys.readouterr().out.count("Going back to step 0") == 3


# === What a run starts from ===


def test_data_without_validation_models(parts):
    with pytest.raises(InputError, match="at least one val model"):
        setup.check_data(Config(workdir="never", model="tiny"), {**parts, "val": []})


def test_starting_from_weights_of_which_some_are_frozen(tmp_path, parts):
    keras.utils.set_random_seed(99)
    other = R2N2.from_preset("tiny")
    other.save(tmp_path / "other.keras")
    # A first checkpoint that was never whole is no run to go on with.
    (tmp_path / "run" / "checkpoints" / "partial-1.step-000000000").mkdir(parents=True)
    settings = {"init_from": str(tmp_path / "other.keras"), "workdir": str(tmp_path / "run")}
    weights = setup.initial_weights(Config(model="tiny", **settings))
    _train(tmp_path / "run", parts, (), weights, steps=1, freeze=("encoder",), learning_rate=1e-2)
    trained = R2N2.from_preset(tmp_path / "run").weights
    for weight, before in zip(trained, other.weights, strict=True):
        difference = np.abs(weight - before).max()
        # The first update of Adam is as large as the learning rate, or almost.
        is_frozen = weight.path.startswith("encoder")
        assert difference == 0 if is_frozen else 0 < difference < 0.011, weight.path


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_answers_in_float32(tmp_path, parts, precision):
    images = np.random.default_rng(0).random((1, 2, 16, 16, 3), dtype="float32")
    keras.mixed_precision.set_dtype_policy(precision)
    try:
        _train(tmp_path, parts, steps=1, precision=precision)
        mixed = R2N2.from_preset(tmp_path)
        assert mixed.get_layer("encoder_conv1").compute_dtype == precision.removeprefix("mixed_")
        assert mixed(images).dtype == tf.float32
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert [row["step"] for row in rows_of(tmp_path)] == [1]
    # The weights are float32 throughout: the file serves under either policy.
    exact = R2N2.from_preset(tmp_path)
    assert exact.get_layer("encoder_conv1").compute_dtype == "float32"
    np.testing.assert_allclose(exact(images), mixed(images), atol=0.05)
