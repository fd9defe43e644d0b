"""Addresses for workers on this machine, for tests."""

import contextlib
import socket


def addresses_of(count):
    """host:port of `count` ports where nobody listens yet."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]
