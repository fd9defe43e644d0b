"""Checkpoints: whole, exact, and of use when some of them are not."""

from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from commands import refusal

from r2n2_keras.errors import InputError
from r2n2_keras.training import steps
from r2n2_keras.training.checkpoints import Checkpoints, RunState


class _Run:
    """A small network with an optimizer that has moments and averages to remember."""

    def __init__(self, folder, seed=0, precision="float32", units=3):
        keras.utils.set_random_seed(seed)
        self.model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(units)])
        self.optimizer = steps.make_optimizer(1e-2, precision, ema_decay=0.9)
        self.optimizer.build(self.model.trainable_variables)
        self.state = RunState()
        self.checkpoints = Checkpoints(str(folder), self.model, self.optimizer, self.state)

    def train(self, count):
        weights = self.model.trainable_variables
        for _ in range(count):
            rng = np.random.default_rng(self.state.step)
            gradients = [tf.constant(rng.normal(size=w.shape), tf.float32) for w in weights]
            self.optimizer.apply(gradients, weights)
            self.state.step += 1
            self.state.losses += 0.1

    def everything(self):
        variables = [*self.model.weights, *self.optimizer.variables]
        return [np.asarray(variable).tobytes() for variable in variables]


def _folder(tmp_path, step):
    return tmp_path / "checkpoints" / f"step-{step:09d}"


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
def test_a_checkpoint_is_everything(tmp_path, precision):
    through = _Run(tmp_path, precision=precision)
    through.train(3)
    rows = [{"step": 3, "val_iou": 0.1 + 0.2}]  # 0.30000000000000004
    through.state.rows += rows
    through.optimizer.learning_rate = 1e-3
    assert through.checkpoints.save()
    again = _Run(tmp_path, seed=1, precision=precision)
    assert again.everything() != through.everything()
    assert again.checkpoints.restore()
    assert again.state.rows == rows
    for count in (0, 2):
        for run in (through, again):
            run.train(count)
        assert again.everything() == through.everything()
        assert again.state.serialize() == through.state.serialize()


def test_the_last_three_are_kept_each_as_it_was_saved_last(tmp_path):
    run = _Run(tmp_path)
    assert not run.checkpoints.restore()
    assert list(tmp_path.iterdir()) == []
    for _ in range(5):
        run.train(1)
        run.checkpoints.save()
    run.state.rollbacks = 1
    run.checkpoints.save()
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [_folder(tmp_path, step).name for step in (3, 4, 5)]
    again = _Run(tmp_path)
    again.checkpoints.restore()
    assert (again.state.step, again.state.rollbacks) == (5, 1)


def _cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def _flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        *(("*.data-*", damage) for damage in (_cut, _flip, _empty, Path.unlink)),
        *(("*.index", damage) for damage in (_cut, _empty, Path.unlink)),
    ],
)
def test_a_damaged_one_is_named_and_passed_over(tmp_path, capsys, pattern, damage):
    run = _Run(tmp_path)
    run.train(1)
    run.checkpoints.save()
    before = run.everything()
    run.train(1)
    run.checkpoints.save()
    (file,) = _folder(tmp_path, 2).glob(pattern)
    damage(file)
    again = _Run(tmp_path, seed=1)
    assert again.checkpoints.restore()
    assert (again.state.step, again.everything()) == (1, before)
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(f"Passing over a damaged checkpoint: {_folder(tmp_path, 2)} (")
    # It is not the newest any more, and does not count among those that are kept.
    assert again.checkpoints.steps() == [1]
    assert (tmp_path / "checkpoints" / f"damaged-{_folder(tmp_path, 2).name}").is_dir()


def test_where_all_are_damaged_nothing_is_lost(tmp_path):
    run = _Run(tmp_path)
    for _ in range(2):
        run.train(1)
        run.checkpoints.save()
    other_network = _Run(tmp_path, units=5)
    assert "none can be restored" in refusal(other_network.checkpoints.restore)
    for file in tmp_path.rglob("*.data-*"):
        _cut(file)
    assert "none can be restored. --overwrite" in refusal(_Run(tmp_path).checkpoints.restore)
    assert run.checkpoints.steps() == [1, 2]


@pytest.mark.parametrize("name", ["metrics.csv", "model.keras"])
def test_a_run_whose_checkpoints_are_gone_is_not_started_afresh(tmp_path, name):
    (tmp_path / name).write_text("")
    assert f"the run has left {name}" in refusal(_Run(tmp_path).checkpoints.restore)


def test_what_cannot_be_gone_on_with_is_no_checkpoint(tmp_path):
    partial = tmp_path / "checkpoints" / "partial-123.step-000000007"  # of a killed process
    partial.mkdir(parents=True)
    (partial / "state.index").write_text("half")
    run = _Run(tmp_path)
    assert not run.checkpoints.restore()
    assert run.checkpoints.save()
    assert not partial.exists()
    run.model.set_weights([weight * np.nan for weight in run.model.get_weights()])
    run.state.step = 1
    assert not run.checkpoints.save()
    assert run.checkpoints.steps() == [0]


def test_a_folder_that_cannot_be_written(tmp_path):
    run = _Run(tmp_path)
    object.__setattr__(run.model, "optimizer", run.optimizer)
    (tmp_path / "model.keras").mkdir()
    with pytest.raises(InputError, match=r"write the model to .*there is no checkpoint yet"):
        run.checkpoints.save_model()
    (tmp_path / "checkpoints").write_text("a file in the way")
    with pytest.raises(InputError, match=r"checkpoint of step 0 to .*there is no checkpoint yet"):
        run.checkpoints.save()
