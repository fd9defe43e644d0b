"""The exported files, asked as a user asks them: by the runtimes alone."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from reference import RESIDUAL, spread

from r2n2_keras.errors import InputError
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import formats


@functools.cache
def network(name):
    return R2N2.from_preset("tiny") if name == "tiny" else spread(R2N2(**RESIDUAL))


@pytest.fixture(scope="module", params=["tiny", "residual"])
def model(request):
    return network(request.param)


@pytest.fixture(scope="module")
def small():
    return network("residual")


def _pictures(model, objects, views):
    shape = (objects, views, *model.input_shape[2:])
    return np.random.default_rng(7).random(shape, dtype=np.float32)


def _assert_same(received, model, images):
    assert received.shape == (len(images), *model.output_shape[1:])
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, model.predict(images, verbose=0), atol=1e-5)
    assert np.ptp(received) > 1e-3  # an answer, not a constant


# === ONNX ===


def _skip_without_onnx(runtime=True):
    for library in ("tf2onnx", "onnx", "onnxruntime")[: 3 if runtime else 2]:
        pytest.importorskip(library, reason="the extra is not installed: pip install '.[export]'")


@pytest.fixture(scope="module")
def session(model, tmp_path_factory):
    _skip_without_onnx()
    import onnxruntime

    path = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    message = formats.export_onnx(model, path)
    assert message.startswith("checked with onnxruntime")
    assert os.listdir(path.parent) == ["model.onnx"]
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("objects, views", [(1, 1), (3, 1), (1, 2), (2, 3), (1, 5)])
def test_onnx_gives_the_models_answers(model, session, objects, views):
    images = _pictures(model, objects, views)
    (received,) = session.run(["occupancy"], {"images": images})
    _assert_same(received, model, images)


def test_onnx_leaves_objects_and_views_open(model, session):
    (given,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("images", "tensor(float)")
    assert given.shape == ["batch", "views", *model.input_shape[2:]]
    assert (answered.name, answered.type) == ("occupancy", "tensor(float)")
    assert answered.shape == ["batch", *model.output_shape[1:]]


# === LiteRT ===


@pytest.fixture(scope="module", params=[("tiny", 3), ("residual", 1), ("residual", 3)])
def litert(request, tmp_path_factory):
    """The network, the number of views and the file."""
    model, views = network(request.param[0]), request.param[1]
    path = tmp_path_factory.mktemp("litert") / "new" / "model.tflite"
    message = formats.export_litert(model, path, views)
    assert message.startswith("checked with TensorFlow")
    assert os.listdir(path.parent) == ["model.tflite"]
    return model, views, path


@pytest.fixture(params=["ai_edge_litert.interpreter", "tensorflow.lite"])
def interpreter(request, litert):
    if request.param == "tensorflow.lite":
        with pytest.warns(UserWarning, match="deprecated"):
            return tf.lite.Interpreter(model_path=str(litert[2]))
    module = pytest.importorskip(
        request.param, reason="the extra is not installed: pip install '.[export]'"
    )
    return module.Interpreter(model_path=str(litert[2]))


def test_litert_gives_the_models_answers_to_one_object(litert, interpreter):
    model, views, _ = litert
    images = _pictures(model, 1, views)
    received = interpreter.get_signature_runner()(images=images)["occupancy"]
    _assert_same(received, model, images)
    (given,), (answered,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["shape"].tolist() == [1, views, *model.input_shape[2:]]
    assert answered["shape"].tolist() == [1, *model.output_shape[1:]]
    assert given["dtype"] == answered["dtype"] == np.float32


def test_litert_needs_no_delegate(interpreter):
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "CONV_3D" in operations
    assert not {name for name in operations if name.startswith("Flex") or name == "CUSTOM"}


def test_litert_takes_a_view_at_least(small, tmp_path):
    with pytest.raises(InputError, match="at least one view, received 0"):
        formats.export_litert(small, tmp_path / "model.tflite", 0)


# === Failures ===


def _export(form, model, path):
    if form == "litert":
        return formats.export_litert(model, path, 2)
    _skip_without_onnx()
    return formats.export_onnx(model, path)


@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_another_answer_leaves_what_was_there(small, form, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_text("of yesterday")
    _lose_weights(small, form, monkeypatch)
    with pytest.raises(InputError, match=r"some that differ by [1-9n].*nothing was written"):
        _export(form, small, path)
    assert os.listdir(tmp_path) == ["model"]
    assert path.read_text() == "of yesterday"


def _lose_weights(model, form, monkeypatch):
    """Spoils the file between the converter and the check."""
    if form == "litert":  # as TensorFlow's converter does by itself when handed a Keras model
        converter = tf.lite.TFLiteConverter
        convert = converter.from_concrete_functions
        monkeypatch.setattr(
            converter, "from_concrete_functions", lambda functions, owner: convert(functions, model)
        )
        return
    _skip_without_onnx()
    import onnx

    def save(proto, path, save=onnx.save):
        for tensor in proto.graph.initializer:
            if len(tensor.dims) == 5:  # a kernel of the decoder
                tensor.raw_data = bytes(len(tensor.raw_data))
        save(proto, path)

    monkeypatch.setattr(onnx, "save", save)


def test_not_a_number_is_another_answer(small):
    nothing = np.full((1, *small.output_shape[1:]), np.nan, "float32")
    with pytest.raises(InputError, match="differ by nan"):
        formats._checked(small, lambda images: nothing, [(1, 1)], "a runtime")


@pytest.mark.parametrize("library", ["tf2onnx", "onnx"])
def test_what_is_missing_is_named(small, library, tmp_path, monkeypatch):
    if library == "onnx":
        _skip_without_onnx(runtime=False)
    monkeypatch.setitem(sys.modules, library, None)  # import raises ModuleNotFoundError
    with pytest.raises(InputError, match=rf'{library}, .*pip install "r2n2-keras\[export\]"'):
        formats.export_onnx(small, tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


def test_without_the_runtime_the_file_is_called_unchecked(small, tmp_path, monkeypatch):
    _skip_without_onnx(runtime=False)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = formats.export_onnx(small, tmp_path / "model.onnx")
    assert message == "not checked: onnxruntime is not installed"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_nothing_is_said_but_the_result(tmp_path):
    _skip_without_onnx()
    code = f"""
from r2n2_keras import command  # as every command does, before TensorFlow
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import formats
model, path = R2N2.from_preset("tiny"), {str(tmp_path / "model")!r}
print(formats.export_onnx(model, path))
print(formats.export_litert(model, path, 2))
"""
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stderr == ""
    lines = result.stdout.splitlines()
    assert len(lines) == 2 and all(line.startswith("checked with") for line in lines)
