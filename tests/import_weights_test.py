"""The command `import_weights`: as a user runs it, and what it refuses."""

import os
import pickle
import re
from pathlib import Path

import commands
import numpy as np
import pytest
from commands import fail, process, succeed
from PIL import Image
from reference import RESIDUAL, theano_shapes

from r2n2_keras import config, import_weights
from r2n2_keras.model import notebook_weights, theano_weights
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.r2n2 import R2N2


def randomised(shapes):
    rng = np.random.default_rng(0)
    return [0.01 * rng.standard_normal(shape, "float32") for shape in shapes]


def save(path, arrays):
    """As `np.save` wrote a list while it still took lists whose arrays differ in shape."""
    objects = np.empty(len(arrays), object)
    for n, array in enumerate(arrays):
        objects[n] = array
    np.save(path, objects)


# Networks at their full size


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "parameters"),
    [("gru_1", "30,929,314"), ("gru_3", "32,207,266"), ("res_gru_3", "35,968,706")],
)
def test_weights_of_the_original(preset, parameters, tmp_path):
    arrays = randomised(theano_shapes(R2N2.from_preset(preset)))
    save(tmp_path / "weights.npy", arrays)
    flags = ("--source=theano", "--weights=weights.npy", "--out=my models/m.keras")
    result = process("import_weights", *flags, "--alpha=threshold", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    assert f"Wrote my models/m.keras: {preset}, {parameters} parameters." in result.stdout
    assert "python -m r2n2_keras.predict --model_file='my models/m.keras'" in result.stdout
    assert os.listdir(tmp_path / "my models") == ["m.keras"]
    model = R2N2.from_preset(tmp_path / "my models" / "m.keras")
    assert (model.image_spec.background, model.image_spec.alpha) == (240, "threshold")
    expected = R2N2.from_preset(preset)
    theano_weights.assign(expected, arrays)
    for weight, imported in zip(expected.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(imported, weight)


def test_weights_of_the_notebook(tmp_path):
    shapes = notebook_weights.expected_shapes(R2N2.from_preset("notebook"))
    np.savez(tmp_path / "n.npz", **dict(zip(shapes, randomised(shapes.values()), strict=True)))
    flags = ("--source=notebook", "--weights=n.npz", "--out=m.keras")
    printed = succeed("import_weights", *flags, cwd=tmp_path)
    assert "Wrote m.keras: notebook, 30,924,961 parameters." in printed
    assert sorted(os.listdir(tmp_path)) == ["m.keras", "n.npz"]
    Image.new("RGBA", (137, 137)).save(tmp_path / "view.png")
    flags = ("--model_file=m.keras", "--images=view.png", "--out=prediction")
    succeed("predict", *flags, cwd=tmp_path)
    assert (tmp_path / "prediction" / "prediction.npz").is_file()


# What is refused, with networks that are narrow under the names of the presets


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The current folder, with good weights in `weights.npy`."""
    monkeypatch.setitem(PRESETS, "res_gru_3", RESIDUAL)
    monkeypatch.chdir(tmp_path)
    save("weights.npy", arrays_of_narrow())
    return tmp_path


def arrays_of_narrow():
    return randomised(theano_shapes(R2N2(**RESIDUAL)))


def convert(**settings):
    defaults = {"source": "theano", "weights": "weights.npy", "out": "out/m.keras"}
    import_weights.main(config.Config(**{**defaults, **settings}))


def refusal(home, **settings):
    """The line with which the command refuses; nothing is written."""
    before = sorted(home.rglob("*"))
    line = commands.refusal(convert, **settings)
    assert sorted(home.rglob("*")) == before
    assert re.search("^.*xpected.*received.*$", line)
    return line


def test_a_file_that_exists_is_kept_unless_told(home, capsys):
    convert()
    R2N2.from_preset("out/m.keras")
    Path("out/m.keras").write_text("precious")
    assert "out/m.keras, which exists" in refusal(home)
    assert Path("out/m.keras").read_text() == "precious"
    convert(overwrite=True)
    R2N2.from_preset("out/m.keras")
    assert capsys.readouterr().out.count("Wrote out/m.keras: res_gru_3, ") == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": None}, "--source=theano or --source=notebook"),
        ({"weights": ""}, "Expected --weights=FILE"),
        ({"out": "m.h5"}, "Expected --out=FILE.keras to write, received m.h5"),
        ({"out": "folder.keras"}, "received the folder folder.keras"),
        ({"weights": "none.npy"}, "--weights=none.npy, which does not exist"),
        ({"weights": "folder.keras"}, "--weights=folder.keras, which is a folder"),
        ({"swap_yz": True}, "--swap_yz with --source=notebook only"),
        (
            {"weights": "same.keras", "out": "same.keras", "overwrite": True},
            "--out to be another file than --weights",
        ),
        ({"source": "notebook"}, "weights.npy (File is not a zip file)"),
    ],
)
def test_flags_that_are_refused(home, settings, message):
    Path("folder.keras").mkdir()
    Path("same.keras").write_text("the only copy")
    assert message in refusal(home, **settings)


def test_bad_files_end_the_command_in_one_line(home):
    class Malice:
        def __reduce__(self):
            return os.system, ("touch marker",)

    content = Path("weights.npy").read_bytes()
    Path("cut.npy").write_bytes(content[:-10])
    Path("code.npy").write_bytes(content[:128] + pickle.dumps(Malice()))
    np.save("array.npy", np.ones(3))
    arrays = arrays_of_narrow()
    save("short.npy", arrays[:9] + arrays[10:])
    before = sorted(os.listdir())
    for weights, message in (
        ("code.npy", "it would run 'posix.system', which was not done"),
        ("cut.npy", "its pickle is damaged"),
        ("array.npy", "one array of float64, shape (3,)"),
        ("short.npy", "short.npy: Expected 63 arrays, received 62"),
    ):
        assert message in refusal(home, weights=weights)
    flags = ("--source=theano", "--weights=code.npy", "--out=m.keras")
    line = fail("import_weights", *flags, cwd=home, how=process)
    assert line.startswith("error: Expected a .npy file") and "posix.system" in line
    assert sorted(os.listdir()) == before
