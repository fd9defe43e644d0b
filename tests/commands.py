"""Runs the commands as a user does, for tests: in this process, or in one of their own."""

import contextlib
import importlib
import io
import os
import signal
import subprocess
import sys
import traceback
import warnings

import pytest

from r2n2_keras import command as command_lib
from r2n2_keras.errors import InputError

TRAIN = ("--model=tiny", "--workdir=run", "--batch_size=4", "--steps=3", "--evaluate_every_steps=2")


def process(command, *flags, cwd, **env):
    """Runs `python -m r2n2_keras.<command>` in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", f"r2n2_keras.{command}", *flags],
        capture_output=True, text=True, timeout=300, cwd=cwd, env={**os.environ, **env},
    )  # fmt: skip


def run(command, *flags, cwd, **env):
    """The same in this process, which has TensorFlow; leaves the process as it was.

    What C libraries write is not captured, and --cpu_devices, TF_CONFIG and a signal take a
    process.
    """
    module = importlib.import_module(f"r2n2_keras.{command}")
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    code = 0
    with _kept(cwd, env), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            command_lib.run(module.main, module.__doc__, command, list(flags))
        except SystemExit as end:
            code = end.code or 0
        except Exception:  # as the interpreter does
            traceback.print_exc()
            code = 1
    texts = (stream.buffer.getvalue().decode() for stream in (out, err))
    return subprocess.CompletedProcess((command, *flags), code, *texts)


@contextlib.contextmanager
def _kept(cwd, env):
    """Puts back what a command changes of its process."""
    folder, environ = os.getcwd(), dict(os.environ)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        os.chdir(cwd)
        os.environ.update(env)
        with warnings.catch_warnings():  # as outside of pytest
            warnings.resetwarnings()
            for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning):
                warnings.simplefilter("ignore", kind)
            warnings.simplefilter("ignore", ResourceWarning)
            yield
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(environ)
        signal.signal(signal.SIGTERM, handler)
        if "keras" in sys.modules:
            import keras
            from tensorflow.python.framework import config

            keras.mixed_precision.set_dtype_policy("float32")
            config.disable_op_determinism()


def succeed(command, *flags, cwd, how=run, **env):
    """Runs a command that must work; gives what it printed."""
    result = how(command, *flags, cwd=cwd, **env)
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


def fail(command, *flags, cwd, how=run, **env):
    """Runs a command that must refuse in one line; gives that line."""
    result = how(command, *flags, cwd=cwd, **env)
    assert result.returncode == 1, (result.stdout, result.stderr[-3000:])
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr[-3000:]
    assert lines[0].startswith("error: ")
    return lines[0]


def refusal(function, *args, **kwargs):
    """The one line with which a function refuses what it is given."""
    with pytest.raises(InputError) as caught:
        function(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)
