"""Paths as people type them; files that appear whole or not at all."""

import os

import pytest

from r2n2_keras import files
from r2n2_keras.errors import InputError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    os.mkdir("home")
    return tmp_path


def test_homes(here):
    assert files.expand("~/a b") == f"{here}/home/a b"
    assert files.expand("~root/a") == "/root/a"
    assert files.expand("./~x") == "./~x"
    for path in ("", "a~", "gs://bucket/~a"):
        assert files.expand(path) == path
    with pytest.raises(InputError, match="the home of ~nobody-here is not known"):
        files.expand("~nobody-here/x")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("a.png", ("a.png",)),
        ("a.png, b.png,", ("a.png", "b.png")),
        ("chair, front.png", ("chair, front.png",)),
        ("a.png,chair, front.png,b.png", ("a.png", "chair, front.png", "b.png")),
        ("~/my, chair.png,a.png", ("HOME/my, chair.png", "a.png")),
        ("gs://a/b.png,c.png", ("gs://a/b.png", "c.png")),
    ],
)
def test_lists_of_paths(text, expected, here):
    for name in ("chair, front.png", "home/my, chair.png"):
        (here / name).touch()
    expected = tuple(name.replace("HOME", f"{here}/home") for name in expected)
    assert files.split_paths(text) == expected


def test_absolute(here):
    assert files.absolute("a/../b") == f"{here}/b"
    for path in ("", "/x", "s3://bucket/x"):
        assert files.absolute(path) == path


def test_what_is_not_there_is_told_from_what_is_another_thing(here):
    (here / "file").touch()
    files.require("file", "a_flag", "file")
    files.require("home", "a_flag", "folder")
    files.require("home", "a_flag")
    files.require("", "a_flag", "file")
    files.require("gs://bucket/file", "a_flag", "file")
    for path, what, found in (
        ("none", "file", "--a_flag=none, which does not exist"),
        ("none", "", "Expected a file or a folder, received --a_flag=none, which does not exist"),
        ("file", "folder", "Expected a folder, received --a_flag=file, which is no folder"),
        ("home", "file", "Expected a file, received --a_flag=home, which is a folder"),
    ):
        with pytest.raises(InputError, match=found):
            files.require(path, "a_flag", what)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_nothing_half_written_is_left(kind, here):
    def write(path, text):
        if kind == "folder":
            os.mkdir(path)
            path = os.path.join(path, "x")
        with open(path, "w") as file:
            file.write(text)

    with files.replacing("new") as partial:
        write(partial, "whole")
        assert not os.path.exists("new")
    with pytest.raises(OSError), files.replacing("new") as partial:
        write(partial, "half")
        raise OSError
    assert sorted(os.listdir()) == ["home", "new"]
    with open("new/x" if kind == "folder" else "new") as file:
        assert file.read() == "whole"
