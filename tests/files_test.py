"""Paths as people type them; files that appear whole or not at all."""

import os
from pathlib import Path

import pytest

from r2n2_keras import files
from r2n2_keras.errors import InputError


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    os.mkdir("home")
    return tmp_path


def test_homes_and_places(here):
    assert files.absolute("a/../b") == f"{here}/b"
    for path in ("", "/x", "s3://bucket/x"):
        assert files.absolute(path) == path
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


def test_what_is_not_there_is_told_from_what_is_another_thing(here):
    (here / "file").touch()
    for path, what in (
        ("file", "file"), ("home", "folder"), ("home", ""), ("", "file"), ("gs://a/file", "file"),
    ):  # fmt: skip
        files.require(path, "a_flag", what)
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
        Path(path).write_text(text)

    with files.replacing("new") as partial:
        write(partial, "whole")
        assert not os.path.exists("new")
    with pytest.raises(OSError), files.replacing("new") as partial:
        write(partial, "half")
        raise OSError
    assert sorted(os.listdir()) == ["home", "new"]
    assert Path("new/x" if kind == "folder" else "new").read_text() == "whole"
