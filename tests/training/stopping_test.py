"""Signals to a process that trains."""

import signal
import subprocess
import sys
import time

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


@pytest.fixture
def trains():
    processes = []

    def start(saving=0.2):
        process = subprocess.Popen(
            [sys.executable, "-c", _TRAINS, str(saving)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        _await(process, "ready")
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


def _await(process, word):
    while line := process.stdout.readline():
        if line.strip() == word:
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_one_signal_lets_the_run_save(trains, number, code):
    process = trains()
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert "saved" in out
    assert process.returncode == code
    assert "Stopping after this step" in err


def test_a_second_sigint_stops_at_once(trains):
    process = trains(saving=60)
    process.send_signal(signal.SIGINT)
    _await(process, "saving")
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert time.monotonic() - began < 5
    assert process.returncode == 130
    assert "saved" not in out


def test_a_second_sigterm_does_not_hinder_saving(trains):
    process = trains(saving=1)
    process.send_signal(signal.SIGTERM)
    _await(process, "saving")
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert "saved" in out
    assert process.returncode == 143
    assert err.count("Stopping") == 1


def test_what_was_there_is_put_back():
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    assert stop.signal == 0
    assert signal.set_wakeup_fd(-1) == -1
