"""How much memory a process takes, TensorFlow's included, for tests of what hostile files cost."""

import contextlib

import pytest


@contextlib.contextmanager
def below(limit):
    """Fails where the process's memory grows by more than that many bytes at a time."""
    before = _most(reset=True)
    yield
    assert _most() - before < limit


def _most(reset=False):
    """Bytes that the process has held at most, since the last reset."""
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")
        with open("/proc/self/status") as file:
            (line,) = [line for line in file if line.startswith("VmHWM")]
    except OSError:
        pytest.skip("this system does not tell the peak of a process's memory")
    return int(line.split()[1]) * 1024
