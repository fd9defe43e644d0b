"""How a command ends, also where TensorFlow I/O's S3 client aborts the interpreter's shutdown."""

import signal
import subprocess
import sys

import pytest

# The abort that comes after all work is done, and a command that has used s3:// or has not.
PROGRAM = """
import atexit, os, sys
from r2n2_keras import command
from r2n2_keras.data import remote
from r2n2_keras.errors import InputError

atexit.register(os.abort)
if {used_s3}:
    remote._used.add("s3")

def main(config):
    print("done", end="")
    {body}

command.run(main, "A command.", "synthesize")
"""


def run(body, used_s3=True):
    program = PROGRAM.format(body=body, used_s3=used_s3)
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ("pass", 0, ""),
        ("raise InputError('Expected a, received b.')", 1, "error: Expected a, received b.\n"),
        ("raise OSError(28, 'full', 'x')", 1, "error: Expected to read or write x, received: full"),
        ("sys.exit(143)", 143, ""),
        ("sys.exit()", 0, ""),
        ("raise KeyboardInterrupt", 130, "Stopped.\n"),
        ("raise AssertionError('a bug')", 1, "AssertionError: a bug\n"),
    ],
)  # fmt: skip
def test_the_code_is_the_command_s_own_after_s3(body, code, message):
    result = run(body)
    assert result.returncode == code, result.stderr
    assert result.stdout == "done"
    assert message in result.stderr
    assert bool(result.stderr) == bool(message)


def test_a_closed_pipe_after_s3():
    program = PROGRAM.format(body="[print(n) for n in range(100_000)]", used_s3=True)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 1


def test_the_interpreter_shuts_down_as_ever_otherwise():
    assert run("pass", used_s3=False).returncode == -signal.SIGABRT
