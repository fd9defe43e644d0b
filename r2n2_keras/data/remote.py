"""Files by path or URL: the system's, TensorFlow's own file systems, or those of TensorFlow I/O.

`require` comes before a path is opened. Plain paths cost nothing: TensorFlow is imported for URLs
only, TensorFlow I/O for those that TensorFlow alone cannot open.

Over http there are no folders, and to answer `gfile.stat`, `isdir` and `exists` TensorFlow I/O
downloads the whole file: `isdir`, `size` and `has_size` here are for what may be large.
"""

import contextlib
import errno
import importlib
import os
import re
import warnings

from r2n2_keras.errors import InputError, reason

_WITH_TENSORFLOW_IO = ("az", "har", "hdfs", "http", "https", "oss", "s3", "viewfs")
_HTTP = ("http", "https")
_INSTALL = (
    'Install the extra "io" in Python 3.11 or 3.12: make setup-io, or pip install "r2n2-keras[io]".'
)

_used = set()


def require(path: str, writing: bool = False) -> None:
    """Makes sure that TensorFlow can open a path or a URL; whether it exists is not asked.

    Raises an InputError where its scheme is unknown or cannot be written, or the extra that opens
    it is not installed.
    """
    scheme = _scheme(path)
    if not scheme:
        return
    if writing and scheme in _HTTP:
        raise InputError(
            f"Expected a place that can be written, received {path}. Write to a local folder or to "
            "one of gs:// or s3://, and copy it to the server."
        )
    import tensorflow as tf

    if scheme not in tf.io.gfile.get_registered_schemes():
        if scheme not in _WITH_TENSORFLOW_IO:
            raise InputError(
                f"Expected a path or a URL of gs:// or {', '.join(_WITH_TENSORFLOW_IO)}, received "
                f"{path}. Give another, or copy the files to a local folder."
            )
        tensorflow_io(f"{path}, which TensorFlow alone cannot open")
    _used.add(scheme)


def used() -> frozenset[str]:
    """The schemes of the URLs that this process has opened, such as "s3"."""
    return frozenset(_used)


def tensorflow_io(purpose: str):
    """The module that gives TensorFlow its file systems; an InputError where it does not load."""
    import tensorflow as tf

    try:
        with warnings.catch_warnings():  # said below, in one line
            warnings.simplefilter("ignore")
            module = importlib.import_module("tensorflow_io")
    except ImportError:
        received = "none"
    else:
        if set(_WITH_TENSORFLOW_IO) <= set(tf.io.gfile.get_registered_schemes()):
            return module
        received = f"one that does not load into TensorFlow {tf.__version__}"
    raise InputError(f"Expected TensorFlow I/O for {purpose}, received {received}. {_INSTALL}")


def isdir(path: str) -> bool:
    """Whether there is a folder of that path; never over http."""
    scheme = _scheme(path)
    if not scheme:
        return os.path.isdir(path)
    return scheme not in _HTTP and _gfile().isdir(path)


def isfile(path: str) -> bool:
    """Whether there is a plain file of that path; behind a URL a folder counts, too."""
    return _gfile().exists(path) if _scheme(path) else os.path.isfile(path)


def listdir(folder: str, pipes: bool = True) -> list[str]:
    """Sorted names in a folder; object stores add a slash to those of folders.

    Without `pipes` those of local pipes and devices are not among them: to read one might never
    end. Raises an OSError where it cannot be read, an InputError where a name is no UTF-8.
    """
    if _scheme(folder):
        with os_errors(folder):
            return sorted(_gfile().listdir(folder))
    with os.scandir(folder) as entries:
        # Nearly all are files, which the system says without being asked again.
        names = [one.name for one in entries if pipes or one.is_file() or not _is_pipe(one.path)]
    for name in map(os.fsencode, names):
        if name.decode(errors="ignore").encode() != name:
            raise InputError(
                f"Expected names of files in UTF-8 in {folder}, received {name!r}. Rename or "
                "remove that file."
            )
    return sorted(names)


def open_file(path: str):
    """A file, open for reading bytes; an OSError where it cannot be, as of a pipe or a device."""
    if _scheme(path):
        with os_errors(path):
            return _gfile().GFile(path, "rb")
    if _is_pipe(path):
        raise OSError(errno.EINVAL, "it is a pipe or a device", path)
    return open(path, "rb")


def read(path: str, most: int = -1) -> bytes:
    """The bytes of a file, `most` of them where that is not negative; errors as of `open_file`."""
    with os_errors(path), open_file(path) as file:
        return file.read(most)


def size(path: str) -> int:
    """Bytes of a file; 0 over http, where that is not known. An OSError where it cannot be read."""
    scheme = _scheme(path)
    if not scheme:
        return os.path.getsize(path)
    with os_errors(path):
        return 0 if scheme in _HTTP else _gfile().stat(path).length


def has_size(path: str, expected: int) -> bool:
    """Whether a file has that many bytes, above 0; over http by asking for its end.

    Raises an OSError where it cannot be read; an InputError where an HTTP server has no such file,
    or answers no range requests, without which nothing large can be read.
    """
    if _scheme(path) not in _HTTP:
        return size(path) == expected
    import tensorflow as tf

    with os_errors(path):
        try:
            with _gfile().GFile(path, "rb") as file:
                file.seek(expected - 1)
                return len(file.read(2)) == 1
        except tf.errors.OutOfRangeError:
            return False
        except tf.errors.InternalError as error:
            raise InputError(
                f"Expected {path} on a server that answers range requests, received: "
                f"{reason(error)}. Check the URL; Python's own http.server, for one, answers none."
            ) from None


@contextlib.contextmanager
def os_errors(path: str):
    """Makes of TensorFlow's errors the system's, so that callers know one kind: OSError."""
    try:
        yield
    except Exception as error:
        if not hasattr(error, "error_code"):  # none of TensorFlow's
            raise
        import tensorflow as tf

        text = reason(error).removeprefix(f"{path}; ")
        if isinstance(error, (tf.errors.UnavailableError, tf.errors.DeadlineExceededError)):
            raise ConnectionError(errno.EIO, text, path) from None  # no fault of the file
        absent = isinstance(error, tf.errors.NotFoundError)
        raise OSError(errno.ENOENT if absent else errno.EIO, text, path) from None


def _is_pipe(path):
    """Whether a local path is there, but neither a file nor a folder."""
    return os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path)


def _gfile():
    import tensorflow as tf

    return tf.io.gfile


def _scheme(path):
    match = re.match(r"([A-Za-z][0-9A-Za-z+.-]*)://", path)
    return match[1] if match else ""
