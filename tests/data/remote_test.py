"""Files by path and by URL; `tests/io` has the URLs that TensorFlow I/O opens."""

import importlib.util
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from r2n2_keras.data import remote
from r2n2_keras.errors import InputError

without_extra = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_io") is not None, reason="the io extra is installed"
)


def test_local_files_need_no_tensorflow(tmp_path):
    """Nor do the modules that list, split and read them."""
    (tmp_path / "file").write_bytes(b"12345")
    code = f"""
import sys
from r2n2_keras.data import binvox, categories, objects, remote, shards, splits, trees
folder = {str(tmp_path)!r}
remote.require(folder, writing=True)
assert remote.isdir(folder) and remote.listdir(folder) == ["file"]
assert remote.read(folder + "/file") == b"12345" and remote.has_size(folder + "/file", 5)
print([name for name in ("tensorflow", "keras") if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code]) == b"[]\n"


def test_paths_that_tensorflow_opens_itself():
    for path in ("data", "/data/a b", "C:\\data", "gs://b/data", "file:///d", "ram://a"):
        remote.require(path)


@without_extra
@pytest.mark.parametrize(
    "url", ["s3://bucket/data", "http://host/a.tgz", "https://host/a", "az://a/b/c"]
)
def test_the_extra_is_named_where_it_is_missing(url):
    with pytest.raises(InputError, match=r"received none\. Install .*make setup-io") as error:
        remote.require(url)
    assert url in str(error.value)
    assert url.split(":")[0] not in remote.used()


def test_urls_that_nobody_opens_or_writes():
    with pytest.raises(InputError, match=r"a URL of gs:// or .*s3.*received ftp://host/a\.tgz"):
        remote.require("ftp://host/a.tgz")
    with pytest.raises(InputError, match=r"can be written, received https://host/out\. Write to"):
        remote.require("https://host/out", writing=True)


@pytest.fixture(params=["local", "ram://remote_test"])
def folder(request, tmp_path):
    """A folder that holds a file and a folder; a path and a URL."""
    place = str(tmp_path) if request.param == "local" else request.param
    tf.io.gfile.makedirs(f"{place}/sub")
    with tf.io.gfile.GFile(f"{place}/file", "wb") as file:
        file.write(b"12345")
    yield place
    tf.io.gfile.rmtree(place)


def test_files_and_folders(folder):
    path = f"{folder}/file"
    assert remote.isdir(folder) and not remote.isdir(path) and not remote.isdir(f"{folder}/no")
    assert remote.isfile(path) and not remote.isfile(f"{folder}/no")
    assert [name.rstrip("/") for name in remote.listdir(folder)] == ["file", "sub"]
    assert remote.read(path) == b"12345" and remote.read(path, 2) == b"12"
    with remote.open_file(path) as file:
        assert (file.read(2), file.read()) == (b"12", b"345")
    assert remote.size(path) == 5
    assert [remote.has_size(path, size) for size in (4, 5, 6)] == [False, True, False]


@pytest.mark.parametrize("name", ["no", "no/file", "file/file"])
@pytest.mark.parametrize(
    "function", [remote.read, remote.size, remote.listdir, lambda path: remote.has_size(path, 5)]
)
def test_what_is_not_there_is_an_os_error(folder, function, name):
    path = f"{folder}/{name}"
    with pytest.raises((FileNotFoundError, NotADirectoryError)) as caught:
        function(path)
    assert caught.value.filename == path and not caught.value.strerror.startswith(path)


def test_a_folder_where_a_file_is_expected(folder):
    with pytest.raises(OSError) as caught:
        remote.read(f"{folder}/sub")
    assert caught.value.filename == f"{folder}/sub"
    assert not remote.isfile(f"{folder}/sub") or "://" in folder


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    (tmp_path / "broken").symlink_to("nowhere")
    for name in ("pipe", "link"):
        for function in (remote.read, remote.open_file):
            with pytest.raises(OSError, match="it is a pipe or a device"):
                function(str(tmp_path / name))
        assert not remote.isfile(str(tmp_path / name))
    assert remote.listdir(str(tmp_path)) == ["broken", "link", "pipe"]
    assert remote.listdir(str(tmp_path), pipes=False) == ["broken"]


def test_names_that_are_no_text(tmp_path):
    with open(bytes(tmp_path) + b"/\xff.png", "wb"):
        pass
    with pytest.raises(InputError, match=r"in UTF-8 in .*, received b'\\xff\.png'\. Rename"):
        remote.listdir(str(tmp_path))
