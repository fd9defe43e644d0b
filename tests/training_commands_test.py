"""`train` as its users treat it: stopped, out of disk space, on several workers, killed."""

import functools
import os
import re
import resource
import shutil
import signal
import time

import numpy as np
import pytest
from commands import TRAIN, fail, process, succeed
from training_runs import addresses_of, assert_same_model, checkpoint_steps, start, tf_config

from r2n2_keras.model.r2n2 import R2N2

ONE = ("--model=tiny", "--batch_size=4", "--seed=3", "--learning_rate=1e-3", "--num_views=1..3")


def _await_checkpoint(folder, process, after=0):
    """Waits until there is a checkpoint of a later step."""
    while process.poll() is None:
        steps = checkpoint_steps(folder)
        if steps and steps[-1] > after:
            return
        time.sleep(0.02)
    raise AssertionError(process.communicate()[1])


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)],
)
def test_a_signal_saves_and_the_same_command_goes_on(tree, tmp_path, number, code):
    flags = (*ONE, f"--data_dir={tree}", "--workdir=run", "--checkpoint_every_steps=2")
    stopped = start(*flags, "--steps=100000", cwd=tmp_path)
    _await_checkpoint(tmp_path / "run", stopped)
    stopped.send_signal(number)
    out, err = stopped.communicate(timeout=60)
    assert stopped.returncode == code, err
    (step,) = map(int, re.findall(r"Stopped at step (\d+)", out))
    assert checkpoint_steps(tmp_path / "run")[-1] == step
    assert "The same command goes on from there" in out
    assert "Traceback" not in err
    again = succeed("train", "--workdir=run", f"--steps={step + 1}", cwd=tmp_path)
    assert f"Going on at step {step} of {step + 1}" in again
    assert "Next: python -m r2n2_keras.evaluate --workdir=run" in again


@pytest.mark.slow
def test_a_full_disk_spoils_nothing(home, tmp_path):
    shutil.copytree(home / "run", tmp_path / "run")
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    kept = {path: path.read_bytes() for path in files if "tensorboard" not in str(path)}
    flags = ("--workdir=run", "--steps=5")
    # No file may grow beyond 3 MB: what a full disk is to a checkpoint of 25 MB.
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (3_000_000, 3_000_000))
    stopped = start(*flags, cwd=tmp_path, preexec_fn=limit)
    _, err = stopped.communicate(timeout=300)
    assert stopped.returncode == 1
    (line,) = err.strip().splitlines()
    assert line.startswith("error: Expected to write")
    assert "too large" in line
    kept.pop(tmp_path / "run" / "flags.cfg")  # has the new --steps
    assert {path: path.read_bytes() for path in kept} == kept
    assert not list((tmp_path / "run").rglob("*partial*"))
    assert "Going on at step 3 of 5" in succeed("train", *flags, cwd=tmp_path)


def test_a_start_from_weights_of_another_network(tree, tmp_path):
    flags = (*TRAIN, f"--data_dir={tree}", "--init_from=other")
    (tmp_path / "other").mkdir()
    assert "other/model.keras, which does not exist" in fail("train", *flags, cwd=tmp_path)
    R2N2.from_preset("tiny", hidden_channels=8).save_to_preset(tmp_path / "other")
    line = fail("train", *flags, cwd=tmp_path)
    assert "like --model=tiny, received other, whose hidden_channels differ" in line
    assert not (tmp_path / "run").exists()


# === Several workers ===


def _start_workers(count, *flags, cwd):
    """Starts workers; {} in a flag is the number of each."""
    cluster = {"worker": addresses_of(count)}
    return [
        start(
            *(flag.format(index) for flag in flags), cwd=cwd,
            env={**os.environ, **tf_config(cluster, index)},
        )
        for index in range(count)
    ]  # fmt: skip


def _ended(processes):
    """Exit code, output and error lines of each."""
    try:
        outputs = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [
        (process.returncode, *output) for process, output in zip(processes, outputs, strict=True)
    ]


_PRINTS_LOSSES = """
import keras
class Losses(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("loss", repr(logs["loss"]), flush=True)
    def on_epoch_end(self, epoch, logs=None):
        print("loss", repr(logs["val_loss"]), flush=True)
"""


@pytest.mark.slow
def test_one_device_two_devices_two_and_three_workers_train_alike(tree, tmp_path):
    (tmp_path / "losses.py").write_text(_PRINTS_LOSSES)
    flags = (
        *ONE, f"--data_dir={tree}", "--batch_size=6", "--steps=20", "--evaluate_every_steps=10",
        "--learning_rate=1e-4", "--l2=2.5e-5", "--clip_norm=0.1", "--callbacks=losses:Losses",
    )  # fmt: skip
    outputs = {"one": [succeed("train", *flags, "--workdir=one", cwd=tmp_path, how=process)]}
    two = succeed("train", *flags, "--workdir=two", "--cpu_devices=2", cwd=tmp_path, how=process)
    assert "Replicas: 2." in two
    outputs["two devices"] = [two]
    for count in (2, 3):
        ended = _ended(_start_workers(count, *flags, f"--workdir={count}", cwd=tmp_path))
        assert [code for code, _, _ in ended] == [0] * count, ended
        outputs[f"{count} workers"] = [out for _, out, _ in ended]
    losses = {
        (name, worker): [float(loss) for loss in re.findall(r"^loss (.*)$", out, re.MULTILINE)]
        for name, outs in outputs.items()
        for worker, out in enumerate(outs)
    }
    one = losses["one", 0]
    assert len(one) == 20 + 2
    assert one[-1] < 0.95 * one[0]
    for who, values in losses.items():
        np.testing.assert_allclose(values, one, atol=1e-5, err_msg=str(who))


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_a_worker_is_killed_and_the_job_restarted(tree, tmp_path, killed):
    flags = (
        *ONE, f"--data_dir={tree}", "--steps=60", "--evaluate_every_steps=20",
        "--checkpoint_every_steps=3",
    )  # fmt: skip
    for code, _, err in _ended(_start_workers(2, *flags, "--workdir=through", cwd=tmp_path)):
        assert code == 0, err
    processes = _start_workers(2, *flags, "--workdir=killed", cwd=tmp_path)
    _await_checkpoint(tmp_path / "killed", processes[0], after=12)
    processes[killed].kill()
    code, _, err = _ended(processes)[1 - killed]
    assert code == 1, err
    assert "one was lost" in err.strip().splitlines()[-1]
    for code, _, err in _ended(_start_workers(2, *flags, "--workdir=killed", cwd=tmp_path)):
        assert code == 0, err
    assert_same_model(tmp_path / "killed", tmp_path / "through")


@pytest.mark.slow
def test_a_worker_that_is_told_to_stop_stops_all(tree, tmp_path):
    flags = (*ONE, f"--data_dir={tree}", "--steps=100000", "--workdir=run")
    processes = _start_workers(2, *flags, "--checkpoint_every_steps=2", cwd=tmp_path)
    _await_checkpoint(tmp_path / "run", processes[0])
    processes[1].send_signal(signal.SIGTERM)
    (chief, out, err), (worker, _, _) = _ended(processes)
    assert (chief, worker) == (143, 143), err
    (step,) = map(int, re.findall(r"Stopped at step (\d+)", out))
    assert checkpoint_steps(tmp_path / "run")[-1] == step


@pytest.mark.slow
def test_workers_with_other_settings_are_told(tree, tmp_path):
    flags = (*ONE, f"--data_dir={tree}", "--steps=3", "--workdir=run", "--overwrite", "--l2={}")
    kept = tmp_path / "run" / "checkpoints" / "step-000000001"
    kept.mkdir(parents=True)
    for code, _, err in _ended(_start_workers(2, *flags, cwd=tmp_path)):
        assert code == 1
        assert "'--l2=1.0' where the chief has '--l2=0.0'" in err
    assert kept.exists()  # nothing is removed before all agree


def test_a_worker_that_never_joins(tree, tmp_path):
    here, gone = addresses_of(2)
    flags = (*ONE, f"--data_dir={tree}", "--steps=3", "--workdir=run", "--worker_timeout=2")
    environment = tf_config({"worker": [here, gone]})
    line = fail("train", *flags, cwd=tmp_path, how=process, **environment)
    assert f"--worker_timeout=2 seconds, received no answer from {gone}" in line
    assert not (tmp_path / "run").exists()
