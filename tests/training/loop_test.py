"""A run from its first step to its files, on a small synthesised data set."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from r2n2_keras.config import Config
from r2n2_keras.data import catalogue, pipeline, splits
from r2n2_keras.data.decode import Frame
from r2n2_keras.errors import InputError
from r2n2_keras.evaluation.metrics import voxel_iou
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.training import distribution, loop, workdir


@pytest.fixture(scope="module")
def parts(tree):
    return splits.split_models(*catalogue.list_models(str(tree))).parts


def _train(folder, parts, **settings):
    defaults = {"batch_size": 4, "evaluate_every_steps": 3, "checkpoint_every_steps": 2, "seed": 3}
    config = Config(workdir=str(folder), model="tiny", **{**defaults, **settings})
    keras.utils.set_random_seed(config.seed)
    strategy = distribution.strategy_for("one_device", 1, config.batch_size)
    workdir.open_workdir(config)
    loop.train(config, strategy, parts)
    return config


def test_a_run_leaves_its_files(tmp_path, parts, capsys):
    _train(tmp_path, parts, steps=4, num_views="1..3")
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


def test_stopping_and_going_on_equals_going_through(tmp_path, parts, capsys):
    _train(tmp_path / "through", parts, steps=6, num_views="1..3")
    _train(tmp_path / "halves", parts, steps=3, num_views="1..3")
    _train(tmp_path / "halves", parts, steps=6, num_views="1..3")
    assert "Going on at step 3 of 6" in capsys.readouterr().out
    through, halves = (workdir.read_metrics(str(tmp_path / name)) for name in ("through", "halves"))
    assert [row["step"] for row in halves] == [3, 6]
    for name in ("loss", "iou", "val_loss", "learning_rate"):
        np.testing.assert_allclose(halves[-1][name], through[-1][name], rtol=1e-3, err_msg=name)


def test_a_finished_run_is_left_alone(tmp_path, parts, capsys):
    _train(tmp_path, parts, steps=1)
    before = (tmp_path / "model.keras").read_bytes()
    _train(tmp_path, parts, steps=1)
    assert "nothing left to train" in capsys.readouterr().out
    assert (tmp_path / "model.keras").read_bytes() == before


def test_the_saved_model_is_the_best_one(tmp_path, parts):
    config = _train(tmp_path, parts, steps=3, evaluate_every_steps=1, learning_rate=3e-3)
    model = R2N2.from_preset(tmp_path)
    frame = Frame.of(model, config.background)
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
    loop.check_data(config, parts)
    with pytest.raises(InputError, match="at least one val model"):
        loop.check_data(config, {**parts, "val": []})
    with pytest.raises(InputError, match="at least 7 renderings"):
        loop.check_data(Config(workdir="never", model="tiny", num_views="1..7"), parts)


def test_the_best_score_does_not_hang_on_metrics_csv(tmp_path, parts):
    _train(tmp_path, parts, steps=2, evaluate_every_steps=1, learning_rate=1e-3)
    (tmp_path / "metrics.csv").unlink()
    best = (tmp_path / "model.keras").read_bytes()
    # At this rate the network stays as it is: no better than the best.
    _train(tmp_path, parts, steps=3, evaluate_every_steps=1, learning_rate=1e-30)
    (row,) = workdir.read_metrics(str(tmp_path))
    assert row["learning_rate"] == pytest.approx(1e-30)  # the new rate, not the checkpoint's
    assert (tmp_path / "model.keras").read_bytes() == best


@pytest.mark.parametrize("kind", ["truncated data", "truncated index", "no list"])
def test_a_damaged_checkpoint_is_told(tmp_path, parts, kind):
    _train(tmp_path, parts, steps=1)
    folder = tmp_path / "checkpoints"
    if kind == "no list":
        (folder / "checkpoint").write_text("")
    else:
        (file,) = folder.glob("*.index" if kind == "truncated index" else "*.data-*")
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 3])
    with pytest.raises(InputError, match=r"checkpoint.*--overwrite"):
        _train(tmp_path, parts, steps=2)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path, parts):
    with pytest.raises(InputError, match=r"finite loss, received nan at step \d+\. Lower"):
        _train(tmp_path, parts, steps=20, learning_rate=1e30, evaluate_every_steps=100)


@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_trains_and_answers_in_float32(tmp_path, parts, precision):
    images = np.random.default_rng(0).random((1, 2, 64, 64, 3), dtype="float32")
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


def test_a_batch_that_replicas_cannot_share():
    with pytest.raises(InputError, match=r"multiple of the 2 replicas, received 3\. Use 2"):
        distribution.check_batch_size(3, 2)
