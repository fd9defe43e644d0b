"""What a user sees of an error: one line."""

import contextlib
import csv
import importlib
import re

# What the errors of a graph begin with: where in the code the node was made that failed.
_TRACE = re.compile(
    r'Graph execution error:.*\n(  File "[^\n]*\n[^\n]*|<stack traces unavailable>)\n', re.DOTALL
)

# An assertion that fails outside of a graph.
_ASSERTION = re.compile(r"Summarized data: b['\"](.*?)['\"]$", re.DOTALL)

# What reading CSV or JSON raises, and looking for what should be there.
_MALFORMED = (OSError, LookupError, TypeError, ValueError, AttributeError, RecursionError)
_MALFORMED += (csv.Error,)


class InputError(ValueError):
    """Something given by the user cannot be used.

    The message says what was expected, what was received and what to do. Commands print it as
    one line on standard error and exit with code 1.
    """


def reason(error) -> str:
    """The message of an OSError or of one of TensorFlow's errors, without traces of the graph."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    message = _TRACE.sub("", str(error.message))
    if summary := _ASSERTION.search(message):
        return summary[1]
    return re.split(r"\n| \[Op:| with body ", message.split("}} ")[-1])[0]


@contextlib.contextmanager
def reading(what: str, path: str, advice: str):
    """A context in which a file that is missing or is no such thing is an InputError."""
    try:
        yield
    except InputError:
        raise
    except _MALFORMED as error:
        known = {UnicodeDecodeError: "it is no UTF-8 text", KeyError: f"it has no {error}"}
        found = known.get(type(error), f"{type(error).__name__}: {error}")
        found = reason(error) if isinstance(error, OSError) else found
        raise InputError(
            f"Expected {what}, received {path}, which cannot be read ({found}). {advice}"
        ) from None


def import_extra(name: str, extra: str):
    """A module of a package that an extra of ours brings; an InputError where it does not load."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(
            f"Expected the package {name}, received: {error}. Run: "
            f'pip install "r2n2-keras[{extra}]"'
        ) from None
