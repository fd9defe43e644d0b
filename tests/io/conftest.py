"""Servers on this machine that the tests of TensorFlow I/O read from."""

import functools
import http.server
import io
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Web(NamedTuple):
    """An HTTP server on a folder."""

    url: str
    folder: Path
    requests: list[str]  # so far: path, and the range of bytes, if not all


class Bucket(NamedTuple):
    """A bucket of an S3 server."""

    env: dict[str, str]  # points TensorFlow at it
    upload: Callable[[Path, str], str]  # puts a file or a folder under a name; gives the URL


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves the files of a folder, also parts of them, which the base class does not."""

    def __init__(self, *args, requests, ranges, **kwargs):
        self._requests = requests
        self._ranges = ranges
        super().__init__(*args, **kwargs)

    def log_message(self, *_):
        """Says nothing."""

    def do_GET(self):
        asked = self.headers.get("Range", "")
        self._requests.append(f"{self.path} {asked}".strip())
        try:
            super().do_GET()
        except ConnectionError:  # the client has seen enough
            self.close_connection = True

    def send_head(self):
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        path = Path(self.translate_path(self.path))
        if not (self._ranges and match and path.is_file()):
            return super().send_head()
        size, first = path.stat().st_size, int(match[1])
        if first >= size:
            self.send_error(416)
            return None
        with open(path, "rb") as file:
            file.seek(first)
            content = file.read(int(match[2]) - first + 1)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{first + len(content) - 1}/{size}")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)


def _serve(folder, ranges):
    requests = []
    handler = functools.partial(_Handler, directory=folder, requests=requests, ranges=ranges)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield Web(f"http://127.0.0.1:{server.server_port}", folder, requests)
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """An HTTP server on an empty folder."""
    yield from _serve(tmp_path_factory.mktemp("web"), ranges=True)


@pytest.fixture(scope="module")
def plain_web(web):
    """A server on the same folder that answers no range requests, like Python's own."""
    yield from _serve(web.folder, ranges=False)


@pytest.fixture(scope="module")
def s3():
    """An empty bucket. Only other processes may read it: who did so aborts at its end."""
    moto = pytest.importorskip("moto.server")
    import boto3

    server = moto.ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    env = {
        "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing",
        "AWS_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
        "S3_ENDPOINT": f"http://127.0.0.1:{port}", "S3_USE_HTTPS": "0", "S3_VERIFY_SSL": "0",
    }  # fmt: skip
    client = boto3.client(
        "s3", endpoint_url=env["S3_ENDPOINT"], aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"], region_name=env["AWS_REGION"],
    )  # fmt: skip
    client.create_bucket(Bucket="bucket")

    def upload(source, name):
        source = Path(source)
        for path in [source] if source.is_file() else source.rglob("*.*"):
            key = name if path == source else f"{name}/{path.relative_to(source).as_posix()}"
            client.put_object(Bucket="bucket", Key=key, Body=path.read_bytes())
        return f"s3://bucket/{name}"

    yield Bucket(env, upload)
    server.stop()
