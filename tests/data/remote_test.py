import importlib.util

import pytest

from r2n2_keras.data import remote
from r2n2_keras.errors import InputError

without_extra = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_io") is not None, reason="the io extra is installed"
)


@pytest.mark.parametrize(
    "path",
    ["data", "/data/a b", "../x.tgz", "C:\\data", "gs://bucket/data", "file:///data", "ram://a"],
)
def test_paths_that_tensorflow_opens_itself(path):
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


def test_a_scheme_that_nobody_opens():
    with pytest.raises(InputError, match=r"a URL of gs:// or .*s3.*received ftp://host/a\.tgz"):
        remote.require("ftp://host/a.tgz")


def test_a_web_server_is_not_written():
    with pytest.raises(InputError, match=r"can be written, received https://host/out\. Write to"):
        remote.require("https://host/out", writing=True)


def test_sizes_of_local_files(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    path = str(tmp_path / "file")
    assert remote.isdir(str(tmp_path)) and not remote.isdir(path)
    assert remote.size(path) == 5
    assert [remote.has_size(path, size) for size in (4, 5, 6)] == [False, True, False]
