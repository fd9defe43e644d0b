"""A run from its first step to its files, on a small synthesised data set."""

import os
import re
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from r2n2_keras import runs, workdir
from r2n2_keras.config import Config
from r2n2_keras.data import pipeline, splits, trees
from r2n2_keras.errors import InputError
from r2n2_keras.model.metrics import voxel_iou
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.outputs.summaries import Summaries
from r2n2_keras.training import distribution, loop, setup


@pytest.fixture(scope="module")
def parts(tree):
    return splits.split_objects(*trees.list_objects(str(tree))).parts


_SEVEN_STEPS = {"num_views": "1..3", "steps": 7, "evaluate_every_steps": 3}


def _train(folder, parts, callbacks=(), weights=None, **settings):
    """Trains as the command does, in this process."""
    defaults = {"batch_size": 4, "checkpoint_every_steps": 2, "seed": 3}
    config = Config(workdir=str(folder), model="tiny", **{**defaults, **settings})
    keras.utils.set_random_seed(config.seed)
    cluster = cluster.read_cluster({})
    strategy = distribution.strategy_for("one_device", 1, cluster, 0)
    runs.check_workdir(config)
    if not config.dry_run:
        runs.open_workdir(config)
    # Each gets lists of its own: a run takes bad models out of them.
    parts = {part: list(models) for part, models in parts.items()}
    summarise = None if config.dry_run else Summaries(str(folder), config.threshold).write
    stopped_by = loop.train(config, strategy, cluster, parts, callbacks, weights, summarise)
    return stopped_by or config


def _weights(folder):
    """All variables of the newest checkpoint, by name."""
    newest = max((folder / "checkpoints").iterdir())
    reader = tf.train.load_checkpoint(str(newest / "state"))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if name.endswith("VARIABLE_VALUE")}


def _assert_equal(one, other):
    assert one.keys() == other.keys()
    assert len(one) > 20
    for name, value in one.items():
        assert np.array_equal(value, other[name]), name


@pytest.fixture(autouse=True, scope="module")
def several_runs():
    """What lets one process train many times, and soon."""
    narrow = {
        **PRESETS["tiny"],
        "image_size": 32,
        "encoder_filters": (8, 16),
        "encoder_kernel_sizes": (5, 3),
        "features": 32,
        "hidden_channels": 8,
        "decoder_filters": (8, 8, 4, 1),
    }
    with pytest.MonkeyPatch.context() as patch:
        # A process that trains keeps its workdir to itself.
        patch.setattr(workdir, "lock", lambda folder: None)
        patch.setitem(PRESETS, "tiny", narrow)
        yield


@pytest.fixture(scope="module")
def through(tmp_path_factory, parts, several_runs):
    """A run of 7 steps that nothing disturbed."""
    folder = tmp_path_factory.mktemp("through")
    _train(folder, parts, **_SEVEN_STEPS)
    return folder


def test_a_run_leaves_its_files(tmp_path, parts, capsys):
    _train(tmp_path, parts, steps=4, evaluate_every_steps=3, num_views="1..3")
    names = {path.name for path in tmp_path.iterdir()}
    expected = {"flags.cfg", "checkpoints", "metrics.csv", "tensorboard", "curves.png"}
    assert names == expected | {"model.keras"}
    rows = workdir.read_metrics(str(tmp_path))
    assert [row["step"] for row in rows] == [3, 4]  # every third step, and the last
    assert rows[0]["samples"] == 12
    assert rows[1]["epoch"] == pytest.approx(16 / len(parts["train"]))
    assert 0 < rows[0]["seconds"] < rows[1]["seconds"]
    assert "step 4: loss" in capsys.readouterr().out
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_tensorboard_has_scalars_and_pictures(tmp_path, parts):
    _train(tmp_path, parts, steps=1)
    (file,) = (tmp_path / "tensorboard").iterdir()
    values = {}
    for record in tf.data.TFRecordDataset(str(file)):
        for value in tf.compat.v1.Event.FromString(record.numpy()).summary.value:
            values[value.tag] = tf.make_ndarray(value.tensor)
    assert {"loss", "iou", "val_loss", "val_iou", "learning_rate", "validation"} <= set(values)
    width, height, png = values["validation"]
    assert tf.io.decode_png(png).shape == (int(height), int(width), 3)


def test_stopping_and_going_on_equals_going_through(tmp_path, parts, through, capsys):
    for steps in (2, 4, 7):  # in the middle of a period between evaluations, too
        _train(tmp_path, parts, **{**_SEVEN_STEPS, "steps": steps})
    assert "Going on at step 4 of 7" in capsys.readouterr().out
    _assert_equal(_weights(tmp_path), _weights(through))


class _StopAt(keras.callbacks.Callback):
    """Sends a signal to this process after some step."""

    def __init__(self, step, number=signal.SIGTERM):
        super().__init__()
        self.step, self.number = step, number

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == self.step:
            os.kill(os.getpid(), self.number)
            time.sleep(0.3)  # it is a thread that notices


@pytest.mark.parametrize("stop_at", [3, 5])  # an evaluation is due after the first
def test_a_signal_saves_and_loses_nothing(tmp_path, parts, through, capsys, stop_at):
    settings = {**_SEVEN_STEPS, "checkpoint_every_steps": 100}
    stopped_by = _train(tmp_path, parts, [_StopAt(stop_at)], **settings)
    assert stopped_by == signal.SIGTERM
    # A step may have been under way; not more.
    (step,) = re.findall(r"Stopped at step (\d+) of 7", capsys.readouterr().out)
    assert int(step) in (stop_at, stop_at + 1)
    _train(tmp_path, parts, **settings)
    _assert_equal(_weights(tmp_path), _weights(through))
    rows = [workdir.read_metrics(str(folder)) for folder in (tmp_path, through)]
    for row in [*rows[0], *rows[1]]:
        del row["seconds"]
    assert rows[0] == rows[1]
    assert [row["step"] for row in rows[0]] == [3, 6, 7]


def test_a_finished_run_is_left_alone(tmp_path, parts, capsys):
    _train(tmp_path, parts, steps=1)
    before = (tmp_path / "model.keras").read_bytes()
    _train(tmp_path, parts, steps=1)
    assert "nothing left to train" in capsys.readouterr().out
    assert (tmp_path / "model.keras").read_bytes() == before


def test_the_saved_model_is_the_best_one(tmp_path, parts):
    config = _train(tmp_path, parts, steps=3, evaluate_every_steps=1, learning_rate=3e-3)
    model = R2N2.from_preset(tmp_path)
    frame = model.image_spec
    ious = [
        voxel_iou(voxels, model(images), config.threshold)
        for images, voxels in pipeline.evaluation_batches(
            parts["val"], frame, batch_size=4, num_views=3
        )
    ]
    best = workdir.best_row(workdir.read_metrics(str(tmp_path)))
    np.testing.assert_allclose(np.concatenate(ious).mean(), best["val_iou"], atol=1e-4)


def test_data_are_checked_before_anything_is_written(parts):
    config = Config(workdir="never", model="tiny")
    setup.check_data(config, parts)
    with pytest.raises(InputError, match="at least one val model"):
        setup.check_data(config, {**parts, "val": []})
    with pytest.raises(InputError, match="at least 7 renderings"):
        setup.check_data(Config(workdir="never", model="tiny", num_views="1..7"), parts)


def test_metrics_csv_is_written_again_from_the_checkpoint(tmp_path, parts):
    _train(tmp_path, parts, steps=2, evaluate_every_steps=1)
    before = (tmp_path / "metrics.csv").read_text()
    best = (tmp_path / "model.keras").read_bytes()
    (tmp_path / "metrics.csv").write_text("spoilt")
    # At this rate the network stays as it is: no better than the best.
    steps = {"steps": 3, "evaluate_every_steps": 1}
    _train(tmp_path, parts, [_Rate(1e-30)], **steps)
    assert (tmp_path / "metrics.csv").read_text().startswith(before)
    assert workdir.read_metrics(str(tmp_path))[-1]["learning_rate"] == pytest.approx(1e-30)
    assert (tmp_path / "model.keras").read_bytes() == best


class _Rate(keras.callbacks.Callback):
    """Sets the learning rate, as Keras' own callbacks do."""

    def __init__(self, rate):
        super().__init__()
        self.rate = rate

    def on_train_begin(self, logs=None):
        self.model.optimizer.learning_rate = self.rate


def test_a_damaged_checkpoint_is_told_and_passed_over(tmp_path, parts, through, capsys):
    _train(tmp_path, parts, **{**_SEVEN_STEPS, "steps": 4})
    (file,) = max((tmp_path / "checkpoints").iterdir()).glob("*.data-*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    capsys.readouterr()
    _train(tmp_path, parts, **_SEVEN_STEPS)
    output = capsys.readouterr().out
    assert "Passing over a damaged checkpoint" in output and "step-000000004" in output
    assert "Going on at step 3 of 7" in output
    _assert_equal(_weights(tmp_path), _weights(through))


class _Spoil(keras.callbacks.Callback):
    """Makes the weights useless before a step, as long as the learning rate is above some limit."""

    def __init__(self, step, factor, limit=0.0):
        super().__init__()
        self.step, self.factor, self.limit = step, factor, limit

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.step and float(self.model.optimizer.learning_rate) > self.limit:
            for weight in self.model.trainable_variables:
                weight.assign(weight * self.factor)


def test_divergence_tells_step_models_and_checkpoint(tmp_path, parts):
    with pytest.raises(InputError) as caught:
        _train(tmp_path, parts, [_Spoil(3, np.nan)], steps=20, checkpoint_every_steps=3)
    message = str(caught.value)
    assert "a finite loss, received nan at step 4, on " in message
    named = re.findall(r"\d{8}/\w+", message)
    models = [one.name for one in parts["train"]]
    sampling = pipeline.Sampling(4, (3, 3), seed=3)
    expected = [models[index] for index, _ in pipeline.batch_samples(parts["train"], sampling, 3)]
    assert named == expected
    assert "step-000000003. Start anew with a lower --learning_rate" in message
    assert "(now 0.0001)" in message
    assert _weights(tmp_path)  # it can be read


class _SpoilFirst(keras.callbacks.Callback):
    """Makes one kernel NaN after a step, which pooling can keep from the loss."""

    def on_train_batch_end(self, batch, logs=None):
        if batch + 1 == 4:
            self.model.weights[0].assign(self.model.weights[0] * np.nan)


@pytest.mark.parametrize("every", [{"checkpoint_every_steps": 1}, {"evaluate_every_steps": 2}])
def test_weights_that_are_not_finite_stop_the_run(tmp_path, parts, every):
    settings = {"checkpoint_every_steps": 100, "evaluate_every_steps": 2, "steps": 4, **every}
    with pytest.raises(InputError, match=r"finite (weights|loss|validation loss), received"):
        _train(tmp_path, parts, [_SpoilFirst()], **settings)
    assert all(np.isfinite(value).all() for value in _weights(tmp_path).values())
    best = R2N2.from_preset(tmp_path)  # of step 2
    assert all(np.isfinite(weight).all() for weight in best.get_weights())


def test_rollbacks_are_counted_across_restarts(tmp_path, parts, capsys):
    settings = {"steps": 5, "on_divergence": "rollback"}
    for _ in range(2):
        with pytest.raises(InputError, match="received nan"):
            _train(tmp_path, parts, [_Spoil(1, np.nan)], **settings)
    assert capsys.readouterr().out.count("Going back") == 3


def test_divergence_by_learning_rate(tmp_path, parts):
    with pytest.raises(InputError, match=r"a finite loss, received nan at step \d+"):
        _train(tmp_path, parts, steps=20, learning_rate=1e30, evaluate_every_steps=100)
    assert all(np.isfinite(value).all() for value in _weights(tmp_path).values())


def test_a_loss_above_its_limit_is_divergence(tmp_path, parts):
    _train(tmp_path / "below", parts, steps=1, loss_limit=2)
    with pytest.raises(InputError, match=r"a loss of at most 0.1, received \d\.\d+ at step 1"):
        _train(tmp_path / "above", parts, steps=1, loss_limit=0.1)


def test_rolling_back_halves_the_rate_and_goes_on(tmp_path, parts, capsys):
    spoil = _Spoil(3, np.nan, limit=3e-4)  # until it was halved twice
    _train(
        tmp_path,
        parts,
        [spoil],
        steps=5,
        evaluate_every_steps=3,
        learning_rate=1e-3,
        on_divergence="rollback",
    )
    output = capsys.readouterr().out
    assert "Going back to step 3 with half the learning rate, 0.0005 (rollback 1" in output
    assert "Going back to step 3 with half the learning rate, 0.00025 (rollback 2" in output
    assert [row["learning_rate"] for row in workdir.read_metrics(str(tmp_path))] == pytest.approx(
        [1e-3, 2.5e-4]
    )


def test_rolling_back_ends_after_three_times(tmp_path, parts, capsys):
    with pytest.raises(InputError, match=r"received nan at step 2, on .*step-000000000\. Start"):
        _train(tmp_path, parts, [_Spoil(1, np.nan)], steps=5, on_divergence="rollback")
    assert capsys.readouterr().out.count("Going back to step 0") == 3


def test_early_stopping_ends_the_run_for_good(tmp_path, parts, capsys):
    settings = {"steps": 50, "evaluate_every_steps": 1, "early_stopping_evaluations": 2}
    _train(tmp_path, parts, [_Rate(1e-30)], **settings)
    steps = [row["step"] for row in workdir.read_metrics(str(tmp_path))]
    assert steps == [1, 2, 3]
    assert "is at step 3 of 50 and no better than at step 1" in capsys.readouterr().out
    _train(tmp_path, parts, **settings)
    assert "nothing left to train" in capsys.readouterr().out


class _Notes(keras.callbacks.Callback):
    """Writes down what is called."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def on_train_begin(self, logs=None):
        self.calls.append("train")

    def on_epoch_begin(self, epoch, logs=None):
        self.calls.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        assert set(logs) == {"loss", "iou"}
        self.calls.append(f"batch {batch}")

    def on_test_begin(self, logs=None):
        self.calls.append("test")

    def on_epoch_end(self, epoch, logs=None):
        assert set(logs) == {"loss", "iou", "val_loss", "val_iou", "learning_rate"}
        self.calls.append(f"end {epoch}")

    def on_train_end(self, logs=None):
        self.calls.append("done")


def test_keras_callbacks_run_in_the_loop(tmp_path, parts):
    notes, stopping = _Notes(), keras.callbacks.EarlyStopping("val_iou", patience=0, mode="max")
    log = keras.callbacks.CSVLogger(str(tmp_path / "log.csv"))
    _train(tmp_path / "run", parts, [notes, log], steps=4, evaluate_every_steps=3)
    assert notes.calls == [
        "train", "epoch 0", "batch 0", "batch 1", "batch 2", "test", "end 0",
        "epoch 1", "batch 3", "test", "end 1", "done",
    ]  # fmt: skip
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3
    config = _train(
        tmp_path / "stopped", parts, [stopping, _Rate(1e-30)], steps=9, evaluate_every_steps=1
    )
    assert [row["step"] for row in workdir.read_metrics(config.workdir)] == [1, 2]


def test_a_model_that_a_callback_saved_is_one_of_ours(tmp_path, parts):
    saves = keras.callbacks.ModelCheckpoint(str(tmp_path / "own.keras"))
    _train(tmp_path / "run", parts, [saves], steps=1)
    own, ours = (R2N2.from_preset(tmp_path / name) for name in ("own.keras", "run"))
    for one, other in zip(own.get_weights(), ours.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    # Ours holds no optimizer.
    assert (tmp_path / "run" / "model.keras").stat().st_size < 4.2 * ours.count_params() + 1e6


def test_a_profile_of_some_steps(tmp_path, parts, capsys):
    _train(tmp_path, parts, steps=4, profile="1:3")
    assert "Wrote a profile" in capsys.readouterr().out
    assert list((tmp_path / "tensorboard" / "plugins" / "profile").rglob("*.xplane.pb"))


def test_a_frozen_encoder_keeps_its_weights(tmp_path, parts):
    keras.utils.set_random_seed(3)
    fresh = R2N2.from_preset("tiny")
    _train(tmp_path, parts, steps=2, freeze=("encoder",), learning_rate=1e-2)
    trained = R2N2.from_preset(tmp_path)
    changed = {
        weight.path.split("/")[0].split("_")[0]
        for weight, before in zip(trained.weights, fresh.weights, strict=True)
        if not np.array_equal(weight, before)
    }
    assert changed == {"recurrence", "decoder"}


def test_starting_from_weights(tmp_path, parts):
    keras.utils.set_random_seed(99)
    other = R2N2.from_preset("tiny")
    other.save(tmp_path / "other.keras")
    weights = setup.initial_weights(
        Config(model="tiny", init_from=str(tmp_path / "other.keras"), workdir=str(tmp_path / "run"))
    )
    _train(tmp_path / "run", parts, steps=1, weights=weights, learning_rate=1e-30)
    tuned = R2N2.from_preset(tmp_path / "run")
    for one, before in zip(tuned.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, before)


def test_a_first_checkpoint_that_was_never_whole_is_no_run_to_go_on_with(tmp_path):
    R2N2.from_preset("tiny").save(tmp_path / "other.keras")
    (tmp_path / "run" / "checkpoints" / "partial-1.step-000000000").mkdir(parents=True)
    settings = {"init_from": str(tmp_path / "other.keras"), "workdir": str(tmp_path / "run")}
    assert setup.initial_weights(Config(model="tiny", **settings)) is not None


def test_weights_of_another_network(tmp_path):
    path = str(tmp_path / "other.keras")
    R2N2.from_preset("tiny", hidden_channels=4).save(path)
    with pytest.raises(InputError, match=r"like --model=tiny, received .*hidden_channels differ"):
        setup.initial_weights(Config(model="tiny", init_from=path))
    with pytest.raises(InputError, match="does not exist"):
        setup.initial_weights(Config(model="tiny", init_from="nowhere.keras"))


def test_averaged_weights_are_validated_and_saved(tmp_path, parts):
    config = _train(tmp_path, parts, steps=3, ema_decay=0.9, learning_rate=1e-2)
    model = R2N2.from_preset(tmp_path)
    values = _weights(tmp_path)
    frame = model.image_spec
    batches = pipeline.evaluation_batches(parts["val"], frame, batch_size=4, num_views=3)
    ious = [voxel_iou(voxels, model(images), config.threshold) for images, voxels in batches]
    (row,) = workdir.read_metrics(str(tmp_path))
    np.testing.assert_allclose(np.concatenate(ious).mean(), row["val_iou"], atol=1e-5)
    kernel = model.get_layer("encoder_conv1").kernel.numpy()
    (average,) = [
        value for name, value in values.items()
        if value.shape == kernel.shape and np.array_equal(value, kernel)
    ]  # fmt: skip
    assert average.shape == kernel.shape


def test_a_dry_run_writes_nothing(tmp_path, parts, capsys):
    folder = tmp_path / "run"
    _train(folder, parts, dry_run=True, steps=1000)
    assert "3 steps done, nothing written" in capsys.readouterr().out
    assert not folder.exists()


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_answers_in_float32(tmp_path, parts, precision):
    images = np.random.default_rng(0).random((1, 2, 32, 32, 3), dtype="float32")
    keras.mixed_precision.set_dtype_policy(precision)
    try:
        _train(tmp_path, parts, steps=1, precision=precision)
        _train(tmp_path, parts, steps=3, precision=precision)  # goes on
        mixed = R2N2.from_preset(tmp_path)
        assert mixed.get_layer("encoder_conv1").compute_dtype == precision.removeprefix("mixed_")
        assert mixed(images).dtype == tf.float32
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    assert [row["step"] for row in workdir.read_metrics(str(tmp_path))] == [1, 3]
    # The weights are float32 throughout: the file serves under either policy.
    exact = R2N2.from_preset(tmp_path)
    assert exact.get_layer("encoder_conv1").compute_dtype == "float32"
    np.testing.assert_allclose(exact(images), mixed(images), atol=0.05)
