"""Runs the `serve` command for tests."""

import contextlib
import re
import subprocess
import sys
from types import SimpleNamespace


@contextlib.contextmanager
def running(*flags, stderr=None):
    """The command on a free port until the block ends; gives `url`, `greeting` and `process`."""
    command = [sys.executable, "-m", "r2n2_keras.serve", "--rest_api_port=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
    try:
        for line in process.stdout:
            if found := re.search(r"http://[\d.]+:\d+", line):
                break
        else:
            raise AssertionError(f"the server ended with {process.wait()}")
        yield SimpleNamespace(url=found[0], greeting=line, process=process)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()
