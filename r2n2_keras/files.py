"""Paths as people type them, and files that appear under their final name only when whole."""

import contextlib
import os
import shutil

from r2n2_keras.errors import InputError


def expand(path: str) -> str:
    """The path, a leading `~` or `~user` replaced; InputError where there is no such user."""
    expanded = os.path.expanduser(path)
    if path.startswith("~") and expanded == path:
        raise InputError(
            f"Expected a path, received {path}: the home of {path.split('/')[0]} is not known. "
            "Write the folder out; a file whose name begins so is ./~name."
        )
    return expanded


def split_paths(text: str) -> tuple[str, ...]:
    """Splits a text at commas, but not within paths that exist, and expands each path."""
    pieces, paths = text.split(","), []
    while pieces:
        for end in range(len(pieces), 0, -1):
            joined = ",".join(pieces[:end])
            found = [name for name in (joined, joined.strip()) if os.path.exists(expand(name))]
            if found or end == 1:
                break
        paths.append(expand(found[0] if found else joined.strip()))
        pieces = pieces[end:]
    return tuple(path for path in paths if path)


def is_url(path: str) -> bool:
    return "://" in path


def absolute(path: str) -> str:
    """The path from the root; none and URLs stay what they are."""
    return os.path.abspath(path) if path and not is_url(path) else path


def require(path: str, flag: str, what: str = "") -> None:
    """Raises an InputError where the path of a flag is not there; URLs are not asked.

    An empty path is a flag that is not given; `what` is "file" or "folder" where it has to be one.
    """
    if not path or is_url(path):
        return
    is_folder = os.path.isdir(path)
    wrong = {"file": is_folder, "folder": not is_folder}.get(what, False)
    if not os.path.exists(path):
        found = "does not exist"
    elif wrong:
        found = "is a folder" if is_folder else "is no folder"
    else:
        return
    expected = f"a {what}" if what else "a file or a folder"
    raise InputError(
        f"Expected {expected}, received --{flag}={path}, which {found}. Check the path."
    )


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
