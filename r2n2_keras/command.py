"""What all commands share: flags in, one line out when the input is bad."""

import os
import signal
import sys

# TensorFlow's C++ side greets every start with lines about CPU features and absent GPUs.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from r2n2_keras import config
from r2n2_keras.errors import InputError, reason


def run(main, doc, from_run=True):
    """Runs a command as `python -m r2n2_keras.<name>`.

    Args:
        main: function of a `Config`.
        doc: the command's docstring, shown by `--help`.
        from_run: start from the settings that the run in `--workdir` saved.
    """
    argv = sys.argv[1:]
    # As an exception, so that what is half-written is removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if os.environ.get("KERAS_BACKEND", "tensorflow") != "tensorflow":
            raise InputError(
                f"Expected KERAS_BACKEND=tensorflow, received {os.environ['KERAS_BACKEND']}. The "
                "model runs on every backend, the commands on TensorFlow: unset it."
            )
        if {"--help", "-h", "-help", "--helpfull", "--helpshort"} & set(argv):
            print(config.help_text(doc), flush=True)
        else:
            main(config.parse(argv, from_run))
    except InputError as error:
        fail(str(error))
    except BrokenPipeError:  # whoever read the output, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:  # a folder that cannot be written, a full disk
        fail(
            f"Expected to read or write {error.filename or 'a file'}, received: "
            f"{error.strerror or error}. Check the path, its permissions and the space left."
        )
    except Exception as error:
        if not _is_about_files(error):
            raise
        fail(
            f"Expected to read or write the files of this command, received: {reason(error)}. "
            "Check the paths, their permissions and the space left."
        )
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        sys.exit(130)


def _is_about_files(error):
    """Whether TensorFlow, which has exceptions of its own for what is an OSError, raised it."""
    if "tensorflow" not in sys.modules:
        return False
    errors = sys.modules["tensorflow"].errors
    kinds = (errors.ResourceExhaustedError, errors.PermissionDeniedError, errors.NotFoundError)
    return isinstance(error, (*kinds, errors.DataLossError, errors.UnavailableError))


def fail(message):
    """Prints one line on standard error and exits with code 1."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
