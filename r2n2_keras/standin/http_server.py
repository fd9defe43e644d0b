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

import tensorflow as tf
from aiohttp import web

from r2n2_keras.standin import rest, status

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
# Bytes of bodies that may be held at once, those that arrive or wait included; four of the largest
# may, however large.
_HELD = 256 * 2**20


class Server:
    """Serves a `rest.Api`, as a `process.Settings` says; without `metrics_path` no Prometheus."""

    def __init__(self, api, monitor, settings, metrics_path=""):
        self._api = api
        self._monitor = monitor
        self._timeout = settings.rest_api_timeout_in_ms / 1000
        self._max_body = settings.rest_api_max_body
        self._places = settings.rest_api_max_requests
        self._metrics_path = metrics_path
        self._cors = _CORS if settings.rest_api_enable_cors_support else {}
        self._pool = concurrent.futures.ThreadPoolExecutor(
            settings.rest_api_num_threads or len(os.sched_getaffinity(0))
        )
        self._lock = threading.Lock()
        self._held = 0
        self._runner = None

    async def start(self, host: str, port: int) -> int:
        """Listens, and returns the port; raises OSError where that cannot be."""
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            keepalive_timeout=self._timeout,
            lingering_time=min(5, self._timeout),
            max_line_size=16_384,
            max_field_size=16_384,
            auto_decompress=False,
            access_log=None,
            # A client's mistakes are answered, not written down.
            logger=logging.Logger("requests", logging.CRITICAL + 1),
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=self._timeout)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port, reuse_address=True).start()
        return self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Stops listening, and lets requests in work end for as long as they may take."""
        await self._runner.cleanup()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _handle(self, request):
        is_ours = request.raw_path[:4].lower() == "/v1/"
        try:
            response = await self._respond(request, request.raw_path, is_ours)
        except tf.errors.OpError as error:
            response = _json(status.http(error), rest.error_body(error))
        except ConnectionError:
            return _hang_up(request)
        except web.RequestPayloadError:  # chunks that are none, or a client that went away
            response = _json(400, rest.error_body(status.invalid("The body cannot be read.")))
            response.force_close()
        if is_ours:
            response.headers.update(self._cors)
        try:  # here, so that a client that does not read the answer can be left
            async with asyncio.timeout(self._timeout):
                await response.prepare(request)
                await response.write_eof()
        except (TimeoutError, ConnectionError):
            return _hang_up(request)
        return response

    async def _respond(self, request, path, is_ours):
        deadline = time.monotonic() + self._timeout
        if self._metrics_path and path == self._metrics_path:
            return web.Response(body=self._monitor.page(), content_type="text/plain")
        if not is_ours:
            return _page(404, "Not Found")
        if request.method == "OPTIONS":
            fits = request.headers.get("Origin", "").startswith(("http://", "https://"))
            return web.Response(status=200 if fits else 400, content_type="application/json")
        expected = request.headers.get("Expect", "").lower()
        if expected not in ("", "100-continue"):
            return _page(417, "Expectation Failed")
        route = rest.parse_route(request.method, path)
        if request.method == "GET":
            return _json(200, self._api.get(route))
        if expected:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        body = await self._read(request, deadline)
        gzipped = "gzip" in request.headers.get("Content-Encoding", "")
        return _json(*await self._work(route, body, gzipped, deadline))

    async def _read(self, request, deadline):
        body, declared = bytearray(), request.content_length or 0
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                while max(declared, len(body)) <= self._max_body:
                    if not (part := await request.content.readany()):
                        return body
                    body += part
                    self._hold(len(part))
            raise status.invalid(f"Expected at most {self._max_body} bytes, received more.")
        except TimeoutError:
            raise ConnectionAbortedError from None
        finally:
            self._hold(-len(body))

    def _hold(self, size):
        with self._lock:
            self._held += size
            if size > 0 and self._held > max(_HELD, 4 * self._max_body):
                raise status.error("RESOURCE_EXHAUSTED", "Too much is under way; try again later.")

    async def _work(self, route, body, gzipped, deadline):
        with self._lock:
            if not self._places:
                raise status.error("RESOURCE_EXHAUSTED", "Too many requests wait; try again later.")
            self._places -= 1
            self._held += len(body)
        work = self._pool.submit(self._api.predict, route, body, gzipped)
        work.add_done_callback(functools.partial(self._leave, len(body)))
        del body
        try:
            async with asyncio.timeout(deadline - time.monotonic()):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise status.error("DEADLINE_EXCEEDED", "The request took too long.") from None

    def _leave(self, size, _):
        with self._lock:
            self._places += 1
            self._held -= size


def _json(code, content):
    return web.Response(status=code, body=content, content_type="application/json")


def _page(code, text):
    body = f"<html><head><title>{code} {text}</title></head><body><h1>{text}</h1></body></html>\n"
    return web.Response(status=code, text=body, content_type="text/html")


def _hang_up(request):
    if request.transport:
        request.transport.abort()
    return web.Response()
