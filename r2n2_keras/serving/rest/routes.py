"""What a request line asks for, by TensorFlow Serving's rules."""

import dataclasses
import re
from urllib.parse import unquote_to_bytes

from r2n2_keras.serving.rest.status import invalid

_OURS = re.compile(r"/v1/.*", re.IGNORECASE)
_MODEL = r"/v1/models/([^/:]+)"
_WHICH = r"(?:(?:/versions/([0-9]+))|(?:/labels/([^/:]+)))?"
_POST = re.compile(rf"{_MODEL}{_WHICH}:(classify|regress|predict)", re.IGNORECASE | re.ASCII)
_GET = re.compile(rf"/v1/models(?:/([^/:]+))?{_WHICH}(?:/(metadata))?", re.IGNORECASE | re.ASCII)
_MOST = 2**63 - 1


@dataclasses.dataclass(frozen=True)
class Route:
    """What is asked of which model.

    Attributes:
        verb: predict, classify, regress, status or metadata.
        model: the model's name.
        version: the version asked for; None: the newest, or the one with `label`.
        label: the version's label, or None.
    """

    verb: str
    model: str
    version: int | None = None
    label: str | None = None


def is_ours(path: str) -> bool:
    """Whether a path is one of the REST API's."""
    return _OURS.fullmatch(path) is not None


def parse(method: str, path: str) -> Route:
    """The route of a request.

    Args:
        method: HTTP's, in capitals.
        path: with the query string, not decoded.

    Raises:
        StatusError: there is none.
    """
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    if not found:
        raise _malformed(method, path)
    model, version, label, verb = found.groups()
    if version is not None:
        digits = version.lstrip("0") or "0"
        if len(digits) > 19 or int(digits) > _MOST:
            raise invalid(f"Failed to convert version: {version} to numeric.")
        version = int(digits)
    if method == "GET":
        if not model:
            raise invalid("Missing model name in request.")
        # Written in other letters it matches, but says nothing.
        verb = "metadata" if verb == "metadata" else "status"
    elif verb not in ("classify", "regress", "predict"):
        raise _malformed(method, path)
    return Route(
        verb,
        _decoded(model),
        version,
        None if label is None else _decoded(label),
    )


def _malformed(method, path):
    return invalid(f"Malformed request: {method} {path}")


def _decoded(text):
    raw = unquote_to_bytes(text.encode("utf-8", "surrogateescape"))
    return raw.decode("utf-8", "surrogateescape")
