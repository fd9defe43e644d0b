"""Runs the `serve` command for tests."""

import contextlib
import re
import subprocess
import sys
from types import SimpleNamespace


@contextlib.contextmanager
def running(*flags):
    """The command on a free port until the block ends.

    Gives `url` and `process`; what the process says on standard error is passed through.
    """
    command = [sys.executable, "-m", "r2n2_keras.serve", "--rest_api_port=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        for line in process.stdout:
            if found := re.search(r"http://[\d.]+:\d+", line):
                break
        else:
            raise AssertionError(f"the server ended with {process.wait()}")
        yield SimpleNamespace(url=found[0], process=process)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
