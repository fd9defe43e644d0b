"""A trained model as one file for other runtimes: ONNX, and LiteRT, the former TensorFlow Lite.

Both take images float32 (B, T, H, W, C) in [0, 1] and give occupancy float32 (B, N, N, N). ONNX
leaves B and T open. LiteRT takes one object and as many views as the file was written for, and
needs built-in operations only: no Flex delegate.

A converter may lose weights or shift a grid without a word. Hence each file is asked about random
pictures before it gets its name, and one that answers otherwise than the model is not kept.
"""

import contextlib
import os
import warnings

import keras
import numpy as np
import tensorflow as tf

from r2n2_keras.errors import InputError, import_extra
from r2n2_keras.files import replacing
from r2n2_keras.quiet import quiet_libraries

_TOLERANCE = 1e-4  # of a probability; measured: 4e-6, from sums in another order


def export_onnx(model, path) -> str:
    """Writes an `R2N2` as ONNX, for any number of objects and views; makes the folder.

    Returns how the file was checked, or that it was not because onnxruntime is not installed.
    Raises an InputError where tf2onnx or onnx is missing, or the file answers otherwise.
    """
    with _quiet():
        tf2onnx, onnx = import_extra("tf2onnx", "export"), import_extra("onnx", "export")
    signature = [tf.TensorSpec((None, None, *model.input_shape[2:]), tf.float32, "images")]

    def occupancy(images):
        return {"occupancy": model(images, training=False)}

    function = tf.function(occupancy, input_signature=signature, autograph=False)
    with _written(path) as partial:
        with _quiet():
            proto, _ = tf2onnx.convert.from_function(function, input_signature=signature)
            _mend_transposed_convolutions(onnx, proto.graph)
            _name_open_sizes(proto.graph)
            onnx.save(proto, partial)
        try:
            with _quiet():
                runtime = import_extra("onnxruntime", "export")
        except InputError:
            return "not checked: onnxruntime is not installed"
        with _quiet():
            session = runtime.InferenceSession(partial, providers=["CPUExecutionProvider"])
        return _checked(
            model,
            lambda images: session.run(["occupancy"], {"images": images})[0],
            sizes=[(1, 1), (2, 3)],
            runtime=f"onnxruntime {runtime.__version__}",
        )


def export_litert(model, path, views: int) -> str:
    """Writes an `R2N2` as LiteRT, for one object and `views` views; makes the folder.

    Returns how it was checked; InputError for `views` below 1, or where the file answers otherwise.
    """
    if views < 1:
        raise InputError(f"Expected at least one view, received {views}. Give a number above 0.")
    gate_inputs = keras.Function(model.input, model.get_layer("recurrence_to_grid").output)
    cell = model.get_layer("recurrence").cell

    def occupancy(images):
        # The loop of `model.step`, written out: LiteRT has no loop over a list of grids. It slices
        # tensors of 5 axes at most, so the views take the place of the one object.
        grids = gate_inputs(images)
        grids = tf.reshape(grids, (views, *grids.shape[2:]))
        state = cell.get_initial_state(1)
        for view in range(views):
            _, state = cell(grids[view : view + 1], state)
        return {"occupancy": model.decode(state)}

    shape = (1, views, *model.input_shape[2:])
    function = tf.function(occupancy, autograph=False)
    with _written(path) as partial:
        with _quiet():
            traced = function.get_concrete_function(tf.TensorSpec(shape, tf.float32, "images"))
            # The converter freezes the variables that it finds here. In a Keras model it finds
            # none, and writes a file without weights.
            owner = tf.Module()
            owner.weights = [variable.value for variable in model.variables]
            owner.function = function
            converter = tf.lite.TFLiteConverter.from_concrete_functions([traced], owner)
            content = converter.convert()
            with open(partial, "wb") as file:
                file.write(content)
            answer = tf.lite.Interpreter(model_path=partial).get_signature_runner()
        return _checked(
            model,
            lambda images: answer(images=images)["occupancy"],
            sizes=[(1, views)],
            runtime=f"TensorFlow {tf.__version__}'s interpreter",
        )


@contextlib.contextmanager
def _written(path):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with replacing(path) as partial:
        yield partial


def _mend_transposed_convolutions(onnx, graph):
    """Writes what a transposed convolution adds to its far ends as ONNX wants it.

    tf2onnx makes it negative padding, which onnxruntime refuses. A kernel smaller than its stride
    needs it: the 1x1x1 shortcut beside an upsampling by zeros.
    """
    for node in graph.node:
        for attribute in node.attribute:
            if node.op_type == "ConvTranspose" and attribute.name == "pads":
                axes = len(attribute.ints) // 2
                ends = attribute.ints[axes:]
                if min(ends) < 0:
                    attribute.ints[axes:] = [max(end, 0) for end in ends]
                    added = [max(-end, 0) for end in ends]
                    node.attribute.append(onnx.helper.make_attribute("output_padding", added))


def _name_open_sizes(graph):
    for value in (*graph.input, *graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, ("batch", "views"), strict=False):
            if axis.dim_param:
                axis.dim_param = name


def _checked(model, answer, sizes, runtime):
    """Compares the answers to random pictures, B and T of each in `sizes`, with the model's own."""
    rng = np.random.default_rng(0)
    differences = []
    for objects, views in sizes:
        images = rng.random((objects, views, *model.input_shape[2:]), dtype=np.float32)
        with tf.device("CPU"):  # a GPU may round products to 10 bits
            expected = model(images, training=False).numpy()
        with _quiet():
            differences.append(np.abs(answer(images) - expected).max())
    worst = np.max(differences)
    if not worst <= _TOLERANCE:  # neither is NaN
        raise InputError(
            f"Expected the model's answers of {runtime}, received some that differ by "
            f"{worst:.1e}; nothing was written. Export a SavedModel instead, and report this."
        )
    return f"checked with {runtime}: differs from the model by at most {worst:.0e}"


@contextlib.contextmanager
def _quiet():
    with quiet_libraries(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
