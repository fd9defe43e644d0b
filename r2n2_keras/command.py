"""What all commands share: flags in, one line out when the input is bad."""

import contextlib
import os
import signal
import sys
import traceback

from r2n2_keras import config
from r2n2_keras.data import remote
from r2n2_keras.errors import InputError, reason
from r2n2_keras.quiet import quiet_tensorflow

quiet_tensorflow()

_HELP = {"--help", "-h", "-help", "--helpshort"}


def run(main, doc, name=None, argv=None):
    """Runs `main`, a function of a `Config`, as `python -m r2n2_keras.<name>`.

    `doc` is what `--help` shows; `argv` are the flags of the process unless given.
    """
    with _exit_code_kept():
        _run(main, doc, name, sys.argv[1:] if argv is None else argv)


@contextlib.contextmanager
def _exit_code_kept():
    """Ends the process at once where `s3://` was used.

    TensorFlow I/O's S3 client aborts the process while the interpreter shuts down, when all work is
    done, and the code of that would stand for the command's.
    """
    code = 0
    try:
        yield
    except SystemExit as end:
        code = end.code or 0
        raise
    except BaseException:
        code = 1
        if "s3" in remote.used():
            traceback.print_exc()
        raise
    finally:
        if "s3" in remote.used():
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)


def _run(main, doc, name, argv):
    # As an exception, so that what is half-written is removed on the way out.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if _HELP & set(argv):
            print(config.help_text(doc, name), flush=True)
        elif "--helpfull" in argv:
            print(config.help_text(doc), flush=True)
        else:
            settings = config.parse(argv, name)
            _check_backend()
            main(settings)
        sys.stdout.flush()  # here, where a closed pipe is taken care of
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


def _check_backend():
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend != "tensorflow":
        raise InputError(
            f"Expected KERAS_BACKEND=tensorflow, received {backend}. The model runs on every "
            "backend, the commands on TensorFlow: unset it."
        )


def _is_about_files(error):
    """Whether TensorFlow, which has exceptions of its own for what is an OSError, raised it."""
    if "tensorflow" not in sys.modules:
        return False
    errors = sys.modules["tensorflow"].errors
    kinds = (errors.ResourceExhaustedError, errors.PermissionDeniedError, errors.NotFoundError)
    kinds += (errors.DataLossError, errors.UnavailableError)
    if remote.used():  # a connection that fails, a refused login, a server without writing
        kinds += (errors.InternalError, errors.UnknownError)
        kinds += (errors.FailedPreconditionError, errors.UnimplementedError)
    return isinstance(error, kinds)


def fail(message):
    """Prints one line on standard error and exits with code 1."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(1)
