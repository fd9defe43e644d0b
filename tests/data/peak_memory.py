"""How much memory is taken, for tests of what hostile files cost."""

import contextlib
import tracemalloc

import pytest


@contextlib.contextmanager
def below(limit):
    """Fails where the process's memory, TensorFlow's too, grows by more than that many bytes."""
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
        pytest.skip("only Linux tells the peak of a process's memory and sets it back")
    return int(line.split()[1]) * 1024


@contextlib.contextmanager
def of_python_below(limit):
    """Fails where Python and NumPy have more than that many bytes allocated at a time."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()
