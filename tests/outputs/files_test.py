"""Predictions as files: every format, and names that are none."""

from pathlib import Path

import numpy as np
import pytest

from r2n2_keras.data import binvox
from r2n2_keras.errors import InputError
from r2n2_keras.outputs import files


@pytest.fixture
def prediction():
    occupancy = np.random.default_rng(0).random((4, 4, 4), "float32")
    return files.Prediction(np.zeros((2, 8, 8, 3)), occupancy, occupancy > 0.4)


def test_every_format_is_written_and_whole(prediction, tmp_path):
    paths = files.write_prediction(tmp_path / "new", prediction, files.FORMATS)
    names = sorted(path.name for path in (tmp_path / "new").iterdir())
    assert names == sorted(f"prediction.{name}" for name in files.FORMATS)
    assert [path.endswith(f".{name}") for path, name in zip(paths, files.FORMATS, strict=True)]
    with np.load(paths[0]) as arrays:
        np.testing.assert_array_equal(arrays["occupancy"], prediction.occupancy)
        np.testing.assert_array_equal(arrays["voxels"], prediction.voxels)
    read = binvox.read(paths[1])
    np.testing.assert_array_equal(read.data, prediction.voxels)
    assert (read.translate, read.scale) == ((-0.5, -0.5, -0.5), 1)


def test_a_new_format_is_a_function_and_its_name(prediction, tmp_path, monkeypatch):
    def write(path, prediction):
        Path(path).write_text(str(prediction.voxels.sum()))

    monkeypatch.setitem(files.FORMATS, "txt", write)
    files.check_formats(["npz", "txt"])
    (path,) = files.write_prediction(tmp_path, prediction, ["txt"])
    assert Path(path).read_text() == str(prediction.voxels.sum())


@pytest.mark.parametrize("formats, received", [((), "none"), (("png", "PNG", "x"), "PNG,x")])
def test_names_that_are_no_formats(formats, received):
    with pytest.raises(InputError, match=f"among npz,binvox,png, received {received}"):
        files.check_formats(formats)
