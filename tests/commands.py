"""Runs the commands as a user does, for tests: in a process and a folder of their own."""

import os
import subprocess
import sys


def run(command, *flags, cwd, **env):
    """Runs `python -m r2n2_keras.<command>`."""
    return subprocess.run(
        [sys.executable, "-m", f"r2n2_keras.{command}", *flags],
        capture_output=True, text=True, timeout=300, cwd=cwd, env={**os.environ, **env},
    )  # fmt: skip


def succeed(command, *flags, cwd, **env):
    """Runs a command that must work; gives what it printed."""
    result = run(command, *flags, cwd=cwd, **env)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def fail(command, *flags, cwd, **env):
    """Runs a command that must refuse in one line; gives that line."""
    result = run(command, *flags, cwd=cwd, **env)
    assert result.returncode == 1, (result.stdout, result.stderr[-3000:])
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr[-3000:]
    assert lines[0].startswith("error: ")
    return lines[0]


TRAIN = ("--model=tiny", "--workdir=run", "--batch_size=4", "--steps=3", "--evaluate_every_steps=2")
