"""Keeps what C libraries print off the terminal: one line of ours tells what is wrong."""

import contextlib
import os


@contextlib.contextmanager
def quiet_libraries():
    """Nothing written to standard error appears; errors that are raised are raised."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
