"""Signals to a process that trains."""

import signal
import subprocess
import sys

import pytest

from r2n2_keras.training.stopping import StopRequest

# A process that notices requests to stop between "steps" that Python cannot interrupt: a thread's
# lock is held in C code, as a step of TensorFlow is.
_TRAINS = """
import os, sys, time
from r2n2_keras.training.stopping import StopRequest
print("before", flush=True)
with StopRequest() as stop:
    print("ready", flush=True)
    while not stop.signal:
        time.sleep(0.05)
    print("saving", flush=True)
    time.sleep(float(sys.argv[1]))
print("saved", flush=True)
sys.exit(128 + stop.signal)
"""


@pytest.mark.parametrize(
    ("number", "times", "saving", "code", "is_saved"),
    [
        (signal.SIGTERM, 1, 0.2, 143, True),
        (signal.SIGINT, 1, 0.2, 130, True),
        (signal.SIGTERM, 2, 1, 143, True),
        (signal.SIGINT, 2, 60, 130, False),
    ],
)
def test_a_run_saves_unless_sigint_comes_twice(number, times, saving, code, is_saved):
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAINS, str(saving)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert "ready\n" in process.stdout
        process.send_signal(number)
        if times == 2:
            assert "saving\n" in process.stdout
            process.send_signal(number)
        out, err = process.communicate(timeout=10)
    finally:
        process.kill()
    assert ("saved" in out) == is_saved
    assert process.returncode == code
    assert err.count("Stopping after this step") == 1


def test_what_was_there_is_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert stop.signal == 0
    assert signal.set_wakeup_fd(-1) == -1
