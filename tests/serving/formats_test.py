"""The exported files, asked as a user asks them: by the runtimes alone."""

import functools
import importlib.util
import os
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from reference import RESIDUAL, spread

from r2n2_keras.errors import InputError
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import formats

needs_onnx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("tf2onnx", "onnx", "onnxruntime"))),
    reason="the extra is not installed: pip install '.[export]'",
)


@functools.cache
def network(name):
    return R2N2.from_preset("tiny") if name == "tiny" else spread(R2N2(**RESIDUAL))


@pytest.fixture(scope="module", params=["tiny", "residual"])
def model(request):
    return network(request.param)


def _check(answer, model, objects, views):
    """Asks about random pictures."""
    shape = (objects, views, *model.input_shape[2:])
    images = np.random.default_rng(7).random(shape, dtype=np.float32)
    received = answer(images)
    assert received.shape == (objects, *model.output_shape[1:])
    assert received.dtype == np.float32
    np.testing.assert_allclose(received, model.predict(images, verbose=0), atol=1e-5)
    assert np.ptp(received) > 1e-3  # an answer, not a constant


@pytest.fixture(scope="module")
def session(model, tmp_path_factory):
    import onnxruntime

    path = tmp_path_factory.mktemp("onnx") / "new" / "model.onnx"
    assert formats.export_onnx(model, path).startswith("checked with onnxruntime")
    assert os.listdir(path.parent) == ["model.onnx"]
    return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])


@needs_onnx
@pytest.mark.parametrize("objects, views", [(1, 1), (3, 1), (1, 2), (2, 3), (1, 5)])
def test_onnx_gives_the_models_answers(model, session, objects, views):
    _check(lambda images: session.run(["occupancy"], {"images": images})[0], model, objects, views)


@needs_onnx
def test_onnx_leaves_objects_and_views_open(model, session):
    (given,), (answered,) = session.get_inputs(), session.get_outputs()
    assert (given.name, given.type) == ("images", "tensor(float)")
    assert given.shape == ["batch", "views", *model.input_shape[2:]]
    assert (answered.name, answered.type) == ("occupancy", "tensor(float)")
    assert answered.shape == ["batch", *model.output_shape[1:]]


@pytest.fixture(scope="module", params=[("tiny", 3), ("residual", 1), ("residual", 3)])
def litert(request, tmp_path_factory):
    """The network, the number of views and the file."""
    model, views = network(request.param[0]), request.param[1]
    path = tmp_path_factory.mktemp("litert") / "new" / "model.tflite"
    assert formats.export_litert(model, path, views).startswith("checked with TensorFlow")
    assert os.listdir(path.parent) == ["model.tflite"]
    return model, views, str(path)


@pytest.fixture(params=["ai_edge_litert.interpreter", "tensorflow.lite"])
def interpreter(request, litert):
    if request.param == "tensorflow.lite":
        with pytest.warns(UserWarning, match="deprecated"):
            return tf.lite.Interpreter(model_path=litert[2])
    return pytest.importorskip(request.param).Interpreter(model_path=litert[2])


def test_litert_gives_the_models_answers_to_one_object(litert, interpreter):
    model, views, _ = litert
    answer = interpreter.get_signature_runner()
    _check(lambda images: answer(images=images)["occupancy"], model, 1, views)
    (given,), (answered,) = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["shape"].tolist() == [1, views, *model.input_shape[2:]]
    assert answered["shape"].tolist() == [1, *model.output_shape[1:]]
    assert given["dtype"] == answered["dtype"] == np.float32
    operations = {operation["op_name"] for operation in interpreter._get_ops_details()}
    assert "CONV_3D" in operations
    # Needs no delegate.
    assert not {name for name in operations if name.startswith("Flex") or name == "CUSTOM"}


def test_litert_takes_a_view_at_least(tmp_path):
    with pytest.raises(InputError, match="at least one view, received 0"):
        formats.export_litert(network("residual"), tmp_path / "model.tflite", 0)


def _forget_in_litert(model, monkeypatch):
    # As TensorFlow's converter does by itself when handed a Keras model.
    kind = tf.lite.TFLiteConverter
    convert = kind.from_concrete_functions
    forget = staticmethod(lambda functions, owner: convert(functions, model))
    monkeypatch.setattr(kind, "from_concrete_functions", forget)


def _forget_in_onnx(model, monkeypatch):
    import onnx

    def save(proto, path, save=onnx.save):
        for tensor in proto.graph.initializer:
            if len(tensor.dims) == 5:  # a kernel of the decoder
                tensor.raw_data = bytes(len(tensor.raw_data))
        save(proto, path)

    monkeypatch.setattr(onnx, "save", save)


@pytest.mark.parametrize(
    "forget_weights, export",
    [
        (_forget_in_litert, functools.partial(formats.export_litert, views=2)),
        pytest.param(_forget_in_onnx, formats.export_onnx, marks=needs_onnx),
    ],
)
def test_another_answer_leaves_what_was_there(forget_weights, export, tmp_path, monkeypatch):
    path = tmp_path / "model"
    path.write_text("of yesterday")
    model = network("residual")
    forget_weights(model, monkeypatch)
    with pytest.raises(InputError, match=r"some that differ by [1-9n].*nothing was written"):
        export(model, path)
    assert os.listdir(tmp_path) == ["model"]
    assert path.read_text() == "of yesterday"


def test_not_a_number_is_another_answer():
    small = network("residual")
    nothing = np.full((1, *small.output_shape[1:]), np.nan, "float32")
    with pytest.raises(InputError, match="differ by nan"):
        formats._checked(small, lambda images: nothing, [(1, 1)], "a runtime")


@pytest.mark.parametrize("library", ["tf2onnx", pytest.param("onnx", marks=needs_onnx)])
def test_what_is_missing_is_named(library, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)  # import raises ModuleNotFoundError
    with pytest.raises(InputError, match=rf'{library}, .*pip install "r2n2-keras\[export\]"'):
        formats.export_onnx(network("residual"), tmp_path / "model.onnx")
    assert os.listdir(tmp_path) == []


@needs_onnx
def test_without_the_runtime_the_file_is_called_unchecked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = formats.export_onnx(network("residual"), tmp_path / "model.onnx")
    assert message == "not checked: onnxruntime is not installed"
    assert os.listdir(tmp_path) == ["model.onnx"]


@needs_onnx
@pytest.mark.slow
def test_nothing_is_said_but_the_result(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CPP_MIN_LOG_LEVEL")
    code = f"""
from r2n2_keras import command  # as every command does, before TensorFlow
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import formats
model, path = R2N2.from_preset("tiny"), {str(tmp_path / "model")!r}
print(formats.export_onnx(model, path))
print(formats.export_litert(model, path, 2))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
    assert re.fullmatch(r"(checked with .*\n){2}", result.stdout)
