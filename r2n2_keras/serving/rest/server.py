"""The HTTP side: reads requests within bounds, has them answered in threads, writes answers.

A request costs a place from the moment its body is here until its work has ended; a client that
sends or reads slowly holds a connection and nothing else, and that for a bounded time.
"""

import asyncio
import concurrent.futures
import functools
import logging
import os
import threading
import time

from aiohttp import web

from r2n2_keras.serving.rest import answers, routes
from r2n2_keras.serving.rest.api import late
from r2n2_keras.serving.rest.status import HTTP, StatusError, invalid

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_NOT_FOUND = (
    b"<html><head><title>404 Not Found</title></head>"
    b"<body><h1>Not Found</h1></body></html>\n"
)  # fmt: skip
# Bytes of bodies that may be held at once, those that arrive or wait included; four of the largest
# may, however large.
_HELD = 256 * 2**20
_LINGER_SECONDS = 5


class Server:
    """Serves an `api.Api` over HTTP.

    Args:
        api: what answers.
        monitor: a `monitoring.Monitor`.
        timeout_in_ms: longest time of a request, its arrival included.
        max_body: largest body in bytes.
        max_requests: how many may be in work or wait.
        metrics_path: path of the Prometheus page; empty: none.
        cors: let pages of other origins ask.
        threads: how many requests are in work at once; 0: as many as there are cores.
    """

    def __init__(
        self,
        api,
        monitor,
        *,
        timeout_in_ms,
        max_body,
        max_requests,
        metrics_path="",
        cors=False,
        threads=0,
    ):
        self._api = api
        self._monitor = monitor
        self._timeout = timeout_in_ms / 1000
        self._max_body = max_body
        self._max_requests = max_requests
        self._metrics_path = metrics_path
        self._cors = _CORS if cors else {}
        self._pool = concurrent.futures.ThreadPoolExecutor(
            threads or len(os.sched_getaffinity(0)), thread_name_prefix="request"
        )
        self._lock = threading.Lock()
        self._places_taken = 0
        self._held = 0
        self._runner = None

    async def start(self, host: str, port: int) -> int:
        """Listens.

        Returns:
            The port.

        Raises:
            OSError: that cannot be.
        """
        # A client's mistakes are answered, not written down.
        logger = logging.Logger("requests", logging.CRITICAL + 1)
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            keepalive_timeout=self._timeout,
            lingering_time=min(_LINGER_SECONDS, self._timeout),
            max_line_size=16_384,
            max_field_size=16_384,
            auto_decompress=False,
            access_log=None,
            logger=logger,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=self._timeout)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, reuse_address=True)
        try:
            await site.start()
        except BaseException:
            await self.stop()
            raise
        return self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stops listening, and lets requests in work end for as long as they may take."""
        await self._runner.cleanup()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, request):
        deadline = time.monotonic() + self._timeout
        path = request.raw_path
        if path.startswith("http://"):
            path = "/" + path[7:].partition("/")[2]
        ours = routes.is_ours(path)
        try:
            if ours:
                response = await self._respond(request, path, deadline)
            elif self._metrics_path and path == self._metrics_path:
                response = web.Response(body=self._monitor.page(), content_type="text/plain")
            else:
                response = web.Response(status=404, body=_NOT_FOUND, content_type="text/html")
        except StatusError as error:
            response = _json(HTTP[error.code], answers.error(error))
        except (_TooSlow, ConnectionError):
            return _hang_up(request)
        except web.RequestPayloadError:  # chunks that are none, or a client that went away
            error = invalid("Failed to read the body of the request")
            response = _json(400, answers.error(error))
            response.force_close()
        if ours:
            response.headers.update(self._cors)
        return await self._write(request, response)

    async def _respond(self, request, path, deadline):
        if request.method == "OPTIONS":
            origin = request.headers.get("Origin", "")
            fits = origin.startswith(("http://", "https://"))
            return web.Response(status=200 if fits else 400, content_type="application/json")
        route = routes.parse(request.method, path)
        if request.method == "GET":
            return _json(200, self._api.get(route))
        body = await self._read(request, deadline)
        if body is None:
            error = invalid(f"The body of the request exceeds {self._max_body} bytes")
            response = _json(400, answers.error(error))
            response.force_close()
            return response
        gzipped = "gzip" in request.headers.get("Content-Encoding", "").lower()
        return _json(*await self._work(route, body, gzipped, deadline))

    async def _read(self, request, deadline):
        """The body; None where it is too large."""
        length = request.content_length
        if length is not None and length > self._max_body:
            return None
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        parts, size = [], 0
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                while part := await request.content.readany():
                    parts.append(part)
                    size += len(part)
                    self._hold(len(part))
                    if size > self._max_body:
                        return None
            return parts[0] if len(parts) == 1 else b"".join(parts)
        except TimeoutError:
            raise _TooSlow from None
        finally:
            self._hold(-size)

    def _hold(self, size):
        with self._lock:
            self._held += size
            if size > 0 and self._held > max(_HELD, 4 * self._max_body):
                raise _too_many("hold as much as may be held")

    async def _work(self, route, body, gzipped, deadline):
        with self._lock:
            if self._places_taken >= self._max_requests:
                raise _too_many("are in work or wait, as many as may be")
            self._places_taken += 1
            self._held += len(body)
        work = self._pool.submit(self._api.post, route, body, gzipped, deadline)
        work.add_done_callback(functools.partial(self._leave, len(body)))
        del body
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise late() from None

    def _leave(self, size, _):
        with self._lock:
            self._places_taken -= 1
            self._held -= size

    async def _write(self, request, response):
        """Writes an answer here, so that a client that does not read it can be left."""
        try:
            async with asyncio.timeout(self._timeout):
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionError):
            return _hang_up(request)
        return response


class _TooSlow(Exception):
    """A body that did not arrive in time."""


def _too_many(what):
    return StatusError(
        "RESOURCE_EXHAUSTED", f"RESOURCE_EXHAUSTED: requests that {what}; try again later"
    )


def _json(status, content):
    return web.Response(status=status, body=content, content_type="application/json")


def _hang_up(request):
    if request.transport is not None:
        request.transport.abort()
    response = web.Response()
    response.force_close()
    return response
