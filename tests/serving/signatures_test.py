"""The exported model, loaded as a server loads it: without this package."""

import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from r2n2_keras import atomic
from r2n2_keras.data.decode import Frame
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import preprocess, signatures

VIEWS = (1, 2, 3, 5)
BATCH = 2
FRAME = Frame(64, 3, 32, 240)  # of the preset `tiny`

# Loads the version, sends it the pictures in a folder, and stores what it answers.
_ASK = """
import pathlib, sys
import numpy as np, tensorflow as tf
signatures = tf.saved_model.load(sys.argv[1]).signatures
folder = pathlib.Path(sys.argv[2])
images = np.load(folder / "images.npz")
answers = {}
for views in map(int, images.files):
    pngs = [[(folder / f"{b}-{t}.png").read_bytes() for t in range(views)] for b in range(2)]
    answers[f"serving_default-{views}"] = signatures["serving_default"](
        image_bytes=tf.constant(pngs)
    )["occupancy"]
    answers[f"images-{views}"] = signatures["images"](
        images=tf.constant(images[str(views)])
    )["occupancy"]
np.savez(folder / "answers.npz", **answers)
assert not [name for name in sys.modules if name.startswith("r2n2_keras")]
"""


@pytest.fixture(scope="module")
def model():
    return R2N2.from_preset("tiny")


@pytest.fixture(scope="module")
def version(model, tmp_path_factory):
    return signatures.export_version(model, str(tmp_path_factory.mktemp("exports")), FRAME)


@pytest.fixture(scope="module")
def answers(model, version, tmp_path_factory):
    """Of a fresh process, and of `model.predict`, to the same pictures: {name: (B, N, N, N)}."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    modes = {"RGBA": 4, "RGB": 3, "LA": 2}  # the signature takes any picture, of any size
    for b in range(BATCH):
        for t, mode in zip(range(max(VIEWS)), [*modes, "RGBA", "RGBA"], strict=True):
            pixels = rng.integers(0, 256, (60 + 9 * t, 80, modes[mode]), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{b}-{t}.png")
    images = {str(views): rng.random((BATCH, views, 64, 64, 3), "float32") for views in VIEWS}
    np.savez(folder / "images.npz", **images)
    # -I: neither the working folder nor PYTHONPATH can bring the package in.
    command = [sys.executable, "-I", "-c", _ASK, version, str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]

    expected = {}
    for views in VIEWS:
        seen = [
            preprocess.read_views(
                [(f"{t}", (folder / f"{b}-{t}.png").read_bytes()) for t in range(views)], FRAME
            )
            for b in range(BATCH)
        ]
        expected[f"serving_default-{views}"] = model.predict(np.stack(seen), verbose=0)
        expected[f"images-{views}"] = model.predict(images[str(views)], verbose=0)
    with np.load(folder / "answers.npz") as received:
        return {name: (received[name], expected[name]) for name in expected}


@pytest.mark.parametrize("views", VIEWS)
@pytest.mark.parametrize("signature", ["images", "serving_default"])
def test_a_fresh_process_gives_the_models_answers(answers, signature, views):
    received, expected = answers[f"{signature}-{views}"]
    assert received.shape == (BATCH, 32, 32, 32)
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, expected, atol=1e-5)
    assert np.ptp(received) > 1e-3  # an answer, not a constant


def test_signatures_are_those_of_the_contract(version):
    loaded = tf.saved_model.load(version).signatures
    specs = {
        name: {spec.name: (spec.dtype, spec.shape.as_list()) for spec in signature.inputs[:1]}
        for name, signature in loaded.items()
    }
    assert set(specs) == {"serving_default", "images"}
    _, keywords = loaded["serving_default"].structured_input_signature
    assert keywords["image_bytes"].dtype == tf.string
    assert keywords["image_bytes"].shape.as_list() == [None, None]
    _, keywords = loaded["images"].structured_input_signature
    assert keywords["images"].dtype == tf.float32
    assert keywords["images"].shape.as_list() == [None, None, 64, 64, 3]
    for signature in loaded.values():
        (output,) = signature.structured_outputs.items()
        assert output[0] == "occupancy"
        assert output[1].dtype == tf.float32
        assert output[1].shape.as_list() == [None, 32, 32, 32]


def test_the_graph_holds_no_python(version):
    graph = tf.saved_model.load(version).signatures["serving_default"].graph.as_graph_def()
    nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
    ops = {node.op for node in nodes}
    assert "DecodeImage" in ops
    assert not {op for op in ops if "PyFunc" in op or "Xla" in op}


def test_no_views_are_refused(version):
    signature = tf.saved_model.load(version).signatures
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one view"):
        signature["serving_default"](image_bytes=tf.constant([], tf.string, shape=(1, 0)))
    with pytest.raises(tf.errors.InvalidArgumentError, match="at least one view"):
        signature["images"](images=tf.zeros((1, 0, 64, 64, 3)))


def test_versions_are_numbered_next_to_what_is_there(model, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    assert signatures.export_version(model, str(tmp_path), FRAME) == str(tmp_path / "8")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8", "notes"]


def test_a_failed_export_leaves_nothing(model, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("No space left on device")

    monkeypatch.setattr(atomic.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        signatures.export_version(model, str(tmp_path), FRAME)
    assert list(tmp_path.iterdir()) == []


def test_raw_rgba_for_the_notebooks_input(tmp_path):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (137, 137, 4), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "view.png")
    (view,) = preprocess.read_views(
        [("view", (tmp_path / "view.png").read_bytes())], Frame(137, 4, 32, 240)
    )
    np.testing.assert_allclose(view, pixels / 255.0, atol=1e-6)
