"""Callbacks that users bring."""

import keras
import pytest

from r2n2_keras.errors import InputError
from r2n2_keras.training import callbacks


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "my_callbacks.py").write_text(
        "import keras\n"
        "class Mine(keras.callbacks.Callback): pass\n"
        "def two(): return [Mine(), Mine()]\n"
        "def number(): return 3\n"
        "def fails(): raise RuntimeError('not today')\n"
        "class Group:\n    Inner = Mine\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))


def test_a_class_or_a_function(module):
    made = callbacks.load([f"my_callbacks:{name}" for name in ("Mine", "two", "Group.Inner")])
    assert [type(callback).__name__ for callback in made] == ["Mine"] * 4
    (terminates,) = callbacks.load(["keras.callbacks:TerminateOnNaN"])
    assert isinstance(terminates, keras.callbacks.TerminateOnNaN)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no.such.module:x", "received no.such.module:x, which fails .ModuleNotFoundError"),
        ("my_callbacks:nothing", "AttributeError.*nothing"),
        ("my_callbacks:fails", "RuntimeError: not today"),
        ("my_callbacks:number", "to give Keras callbacks, received a int"),
    ],
)
def test_what_is_no_factory_of_callbacks(module, name, message):
    with pytest.raises(InputError, match=message):
        callbacks.load([name])
