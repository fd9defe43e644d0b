"""A run that is killed outright, again and again, ends as one that was left alone."""

import random
import re
import signal
import time

import pytest
from commands import succeed
from training_runs import assert_same_run, checkpoint_steps, rows_of, start

_KILLS = 20
_FLAGS = (
    "--model=tiny", "--batch_size=2", "--num_views=1..3", "--steps=900", "--seed=5",
    "--learning_rate=1e-3", "--learning_rate_drop_steps=300,600", "--l2=1e-5", "--ema_decay=0.99",
    "--random_background=225,255", "--evaluate_every_steps=60", "--checkpoint_every_steps=4",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_twenty_kills_change_nothing(tree, tmp_path):
    flags = (*_FLAGS, f"--data_dir={tree}")
    succeed("train", *flags, "--workdir=through", cwd=tmp_path)
    moments = random.Random(7)
    for kill in range(_KILLS):
        _kill_at_random(tmp_path, (*flags, "--workdir=killed"), moments, early=kill % 4 == 3)
    assert checkpoint_steps(tmp_path / "killed")[-1] < 900  # else a kill came too late to count
    output = succeed("train", *flags, "--workdir=killed", cwd=tmp_path)
    assert "Passing over" not in output  # a kill never leaves a damaged checkpoint
    assert_same_run(tmp_path / "killed", tmp_path / "through")
    assert [row["step"] for row in rows_of(tmp_path / "killed")] == list(range(60, 901, 60))


def _kill_at_random(folder, flags, moments, early):
    """Starts the command and kills it: as it starts, or some time after its next checkpoint."""
    before = checkpoint_steps(folder / "killed")
    process = start(*flags, cwd=folder)
    if early:
        time.sleep(moments.uniform(0, 6))
    else:
        while checkpoint_steps(folder / "killed")[-1:] == before[-1:] and process.poll() is None:
            time.sleep(0.02)
        time.sleep(moments.uniform(0, 1.5))
    process.send_signal(signal.SIGKILL)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    # It went on from the last checkpoint that there was: no step was lost beyond it.
    for step in re.findall(r"Going on at step (\d+)", output):
        assert int(step) == before[-1]
