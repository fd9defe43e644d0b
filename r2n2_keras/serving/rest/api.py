"""Answers requests whose route is known: JSON in, the graph run, JSON out."""

import json
import time
import zlib

from r2n2_keras.serving.rest import answers, codec, examples, json_text
from r2n2_keras.serving.rest.routes import Route
from r2n2_keras.serving.rest.status import HTTP, StatusError, invalid

MAX_UNZIPPED = 100 * 2**20
_GZIP = 16 + zlib.MAX_WBITS


class Api:
    """Answers for the models in `models`.

    Args:
        models: a `versions.Models`.
        monitor: a `monitoring.Monitor`.
        say: told, in a line, of what should never happen.
    """

    def __init__(self, models, monitor, say=lambda line: None):
        self._models = models
        self._monitor = monitor
        self._say = say

    def get(self, route: Route) -> bytes:
        """The answer to a status or metadata request.

        Raises:
            StatusError: there is none.
        """
        if route.verb == "metadata":
            with self._models.use(route.model, route.version, route.label) as servable:
                return servable.metadata
        listed = self._models.status(route.model, route.version)
        return json.dumps({"model_version_status": listed}, indent=1).encode() + b"\n"

    def post(self, route: Route, body: bytes, gzipped: bool, deadline: float):
        """Answers a predict, classify or regress request.

        Args:
            route: what is asked.
            body: of the request.
            gzipped: whether the body is compressed.
            deadline: when to have ended, on `time.monotonic`.

        Returns:
            HTTP's status and the body of the answer; errors are answers as well.
        """
        started = time.perf_counter()
        code = "OK"
        try:
            content = self._answer(route, gunzip(body) if gzipped else body, deadline)
        except StatusError as error:
            code, content = error.code, answers.error(error)
        except TimeoutError:
            code, content = "DEADLINE_EXCEEDED", answers.error(late())
        except MemoryError:
            code = "RESOURCE_EXHAUSTED"
            content = answers.error(StatusError(code, f"{code}: out of memory"))
        except Exception as error:
            self._say(f"A request failed: {type(error).__name__}: {error}")
            code, content = "INTERNAL", answers.error(StatusError("INTERNAL", str(error)))
        if self._models.knows(route.model):  # any other name would be kept for good
            self._monitor.count(route.model, code)
            seconds = time.perf_counter() - started
            self._monitor.request_took(route.model, route.verb, seconds)
        return HTTP[code], content

    def _answer(self, route, body, deadline):
        request = json_text.parse(body, lambda: time.monotonic() > deadline)
        name = codec.signature_name(request)
        if route.verb == "predict":
            with self._models.use(route.model, route.version, route.label) as servable:
                signature = servable.signature(name)
                form, arrays = codec.feeds(request, signature.inputs)
                del request, body  # they may be large, and a run long
                return answers.predictions(signature.run(arrays), form)
        serialised = examples.feeds(request)
        with self._models.use(route.model, route.version, route.label) as servable:
            signature = servable.example_signature(name)
            answer = examples.classify if route.verb == "classify" else examples.regress
            return answer(signature, serialised)


def late() -> StatusError:
    """The error of a request that took too long."""
    return StatusError("DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED: the request took too long")


def gunzip(body: bytes) -> bytes:
    """Unpacks a body.

    Raises:
        StatusError: it is not gzip, or too large unpacked.
    """
    unpacker = zlib.decompressobj(_GZIP)
    try:
        content = unpacker.decompress(body, MAX_UNZIPPED + 1)
    except zlib.error:
        raise invalid("Failed to uncompress the gzip body of the request") from None
    if len(content) > MAX_UNZIPPED:
        raise invalid(f"The body of the request exceeds {MAX_UNZIPPED} bytes uncompressed")
    if not unpacker.eof:
        raise invalid("Failed to uncompress the gzip body of the request: it is cut off")
    return content
