"""URLs that TensorFlow opens with TensorFlow I/O: http and s3, from servers on this machine."""

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("tensorflow_io", reason="the io extra is not installed: make test-io")

import tensorflow as tf

from r2n2_keras.data import remote
from r2n2_keras.errors import InputError

LENGTHS = [100_000 + n for n in range(20)]


@pytest.fixture(scope="module")
def records(web):
    """A TFRecord file in the folder of the HTTP server, and where its records begin."""
    path = web.folder / "x.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for length in LENGTHS:
            writer.write(os.urandom(length))
    content, offsets = path.read_bytes(), [0]
    while offsets[-1] < len(content):
        offsets.append(offsets[-1] + struct.unpack_from("<Q", content, offsets[-1])[0] + 16)
    return path, offsets[:-1]


def probe(url, records, env=None, fail=False):
    """Exit code and standard error of `probe.py`, and what it lists; looks at the rest itself."""
    path, offsets = records
    size = path.stat().st_size
    asked = {"url": url, "size": size, "offsets": [offsets[13], offsets[2]], "fail": fail}
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("probe.py")], input=json.dumps(asked),
        capture_output=True, text=True, timeout=120, env={**os.environ, **(env or {})},
    )  # fmt: skip
    assert result.stdout, result.stderr[-3000:]
    found = json.loads(result.stdout)
    listed = found.pop("listed", None)
    assert found == {
        "exists": [True, False], "size": [False, True, False, False], "isdir": [False, False],
        "whole": size, "file": size, "records": [LENGTHS[13], LENGTHS[2]],
    }  # fmt: skip
    return result.returncode, result.stderr, listed


def test_files_over_http(web, records):
    assert probe(f"{web.url}/x.tfrecord", records) == (0, "", None)


def test_files_and_folders_over_s3_and_an_error_after_it(s3, records):
    url = s3.upload(records[0], "folder/x.tfrecord")
    assert probe(url, records, s3.env) == (0, "", [True, True])
    line = "error: Expected nothing more, received the wish to fail.\n"
    assert probe(url, records, s3.env, fail=True) == (1, line, [True, True])


def test_every_scheme_is_opened():
    for scheme in remote._WITH_TENSORFLOW_IO:
        remote.tensorflow_io("a test")
        assert scheme in tf.io.gfile.get_registered_schemes()


def test_sizes_over_http_need_no_download(web, records):
    url, size = f"{web.url}/x.tfrecord", records[0].stat().st_size
    remote.require(url)
    web.requests.clear()
    assert remote.has_size(url, size)
    assert not remote.has_size(url, size + 1)
    assert not remote.isdir(url)
    assert remote.size(url) == 0
    assert web.requests and all("bytes=" in request for request in web.requests)


def test_a_server_that_does_not_do(plain_web, records):
    size = records[0].stat().st_size
    for url, reason in (
        (f"{plain_web.url}/x.tfrecord", "answers range requests, received: Unable to perform"),
        ("http://127.0.0.1:9/x", "received: Unable to perform .*Couldn't connect"),
    ):
        remote.require(url)
        with pytest.raises(InputError, match=reason):
            remote.has_size(url, size)
