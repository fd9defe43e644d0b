"""Files and folders that appear under their final name only when they are whole."""

import contextlib
import os
import shutil


@contextlib.contextmanager
def replacing(path):
    """Gives a name beside `path` to write to; renames it when the block ends without an error.

    After an error nothing is left and what stood at `path` still stands. The name keeps the
    suffix, for writers that look at it, and is no number, for servers that look for versions.
    """
    folder, name = os.path.split(os.fspath(path))
    partial = os.path.join(folder, f"partial-{os.getpid()}.{name}")
    try:
        yield partial
        os.replace(partial, path)
    finally:
        if os.path.isdir(partial):
            shutil.rmtree(partial, ignore_errors=True)
        elif os.path.lexists(partial):
            os.remove(partial)
