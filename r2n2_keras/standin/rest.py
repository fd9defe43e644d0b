"""What each URL of the REST API asks for, and the answer to it."""

import json
import re
import time
import zlib
from typing import NamedTuple
from urllib.parse import unquote

from r2n2_keras.standin import json_codec, status

MAX_UNZIPPED = 100 * 2**20

_MODEL = r"/v1/models/([^/:]+)"
_WHICH = r"(?:/versions/([0-9]+)|/labels/([^/:]+))?"
_POST = re.compile(rf"(?i){_MODEL}{_WHICH}:(classify|regress|predict)", re.ASCII)
_GET = re.compile(rf"(?i)/v1/models(?:/([^/:]+))?{_WHICH}(?:/(metadata))?", re.ASCII)
_MOST = 2**63 - 1
_GZIP = 16 + zlib.MAX_WBITS


class Route(NamedTuple):
    """What is asked of which model; without version and label, of the newest version."""

    verb: str  # predict, status or metadata
    model: str
    version: int | None = None
    label: str | None = None


def parse_route(method: str, path: str) -> Route:
    """What a request asks for, its path undecoded and with the query; OpError for no such thing."""
    pattern = {"POST": _POST, "GET": _GET}.get(method)
    found = pattern.fullmatch(path) if pattern else None
    # A verb in capitals matches, but is none.
    if not found or (method == "POST" and not found[4].islower()):
        raise status.invalid(f"Malformed request: {method} {path}")
    model, version, label, verb = found.groups()
    if not model:
        raise status.invalid("Missing model name in request.")
    if version and (len(version.lstrip("0")) > 19 or int(version) > _MOST):
        raise status.invalid(f"Expected a version of at most {_MOST}, received {version[:100]}.")
    if verb in ("classify", "regress"):
        raise status.error("UNIMPLEMENTED", f"This stand-in knows no {verb}; ask for predict.")
    return Route(
        verb if verb in ("predict", "metadata") else "status",
        unquote(model, errors="surrogateescape"),
        int(version) if version else None,
        unquote(label, errors="surrogateescape") if label else None,
    )


class Api:
    """Answers for `models`, a `versions.Models`; tells `say` in a line what should never happen."""

    def __init__(self, models, monitor, say):
        self._models = models
        self._monitor = monitor
        self._say = say

    def get(self, route: Route) -> bytes:
        """The answer to a status or metadata request; OpError where there is none."""
        if route.verb == "metadata":
            with self._models.use(*route[1:]) as servable:
                return servable.metadata
        listed = self._models.status(route.model, route.version)
        return json.dumps({"model_version_status": listed}, indent=1).encode() + b"\n"

    def predict(self, route: Route, body: bytearray, gzipped: bool) -> tuple[int, bytes]:
        """HTTP's status and the body of the answer to a predict request; errors are answers too."""
        started = time.perf_counter()
        code, name = 200, "OK"
        try:
            content = self._predict(route, gunzip(body) if gzipped else body)
        except Exception as error:
            problem = status.of(error)
            if problem is not error:
                self._say(f"A request failed: {problem.message}")
            code, name, content = status.http(problem), status.name(problem), error_body(problem)
        if self._models.knows(route.model):  # any other name would be kept for good
            self._monitor.answered(route.model, name, time.perf_counter() - started)
        return code, content

    def _predict(self, route, body):
        request = json_codec.parse(body)
        with self._models.use(*route[1:]) as servable:
            signature = servable.signature(request.get("signature_name"))
            rows, tensors = json_codec.feeds(request, signature.inputs)
            del request, body  # they may be large, and a run long
            return json_codec.predictions(signature.run(tensors), rows)


def error_body(problem) -> bytes:
    """The body that tells an error, cut where TensorFlow names graph nodes at any length."""
    return json.dumps({"error": problem.message[:16_384]}, indent=4).encode()


def gunzip(body: bytearray) -> bytes:
    """Unpacks a body; OpError where it is not gzip and nothing else, or too large unpacked."""
    unpacker = zlib.decompressobj(_GZIP)
    try:
        content = unpacker.decompress(body, MAX_UNZIPPED)
        is_whole = unpacker.eof and not unpacker.unused_data
    except zlib.error:
        is_whole = False
    if not is_whole:
        most = f"at most {MAX_UNZIPPED} bytes unpacked"
        raise status.invalid(f"Expected a gzip body of {most} and nothing else, received another.")
    return content
