"""The network against the notebook's, on whatever backend is configured."""

import json
import math
import zipfile

import keras
import numpy as np
import pytest
from reference import NotebookNetwork, images_of, predict, spread

from r2n2_keras.errors import InputError
from r2n2_keras.model.metrics import VoxelIoU
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.r2n2 import R2N2

# The notebook's wiring, narrow: pooling leaves 6 and 3 of 13 pixels, the grid grows from 2 to 16.
# All tests share its shapes: a backend that compiles by shape then does so once.
NARROW = {
    "image_size": 13,
    "channels": 4,
    "encoder_filters": (4, 8),
    "encoder_kernel_sizes": (7, 3),
    "encoder_shortcuts": None,
    "encoder_pooling": "valid",
    "encoder_slope": 0.1,
    "features": 8,
    "features_slope": 1,
    "recurrence": "lstm",
    "grid_edge": 2,
    "hidden_channels": 4,
    "recurrent_kernel_size": 3,
    "gate_input_bias": True,
    "decoder_filters": (8, 8, 4, 2, 1),
    "decoder_shortcuts": None,
    "decoder_slope": 1,
    "grid_upsamplings": 3,
    "upsampling": "nearest",
    "initialization": "pytorch",
}


@pytest.fixture(scope="module")
def narrow():
    model = spread(R2N2(**NARROW))
    return model, NotebookNetwork(model)


@pytest.mark.parametrize("views", [1, 3, 5])
def test_forward_pass_is_the_notebooks(narrow, views):
    model, notebook = narrow
    images = images_of(model, batch=2, views=views)
    occupancy = predict(model, images)
    assert occupancy.shape == (2, 16, 16, 16)
    assert np.ptp(occupancy) > 0.2
    np.testing.assert_allclose(occupancy, notebook(images), atol=1e-4)


def test_more_views_and_other_orders_change_the_answer(narrow):
    model, _ = narrow
    images = images_of(model, views=3)
    whole = predict(model, images)
    for other in (images[:, :2], images[:, 1:], images[:, ::-1]):
        assert np.abs(predict(model, other) - whole).max() > 1e-2


def test_decoder_slope_puts_activations_between_the_decoders_convolutions():
    names = [layer.name for layer in R2N2(**{**NARROW, "decoder_slope": 0.1}).layers]
    decoder = names[names.index("recurrence") + 1 :]
    assert decoder == [
        "decoder_up_conv1",
        "decoder_act1",
        "decoder_up_conv2",
        "decoder_act2",
        "decoder_up_conv3",
        "decoder_act3",
        "decoder_conv4",
        "decoder_act4",
        "decoder_conv5",
        "occupancy",
    ]


# The presets


@pytest.fixture(scope="module")
def notebook():
    keras.utils.set_random_seed(0)
    return R2N2.from_preset("notebook")


def params(model, prefix):
    return sum(layer.count_params() for layer in model.layers if layer.name.startswith(prefix))


def conv_params(kernel_cells, fan_in, filters):
    return sum(
        (cells * channels + 1) * out
        for cells, channels, out in zip(kernel_cells, fan_in, filters, strict=True)
    )


def test_notebook_has_the_notebooks_parameters(notebook):
    filters = (96, 128, 256, 256, 256, 256)
    encoder = conv_params((7**2, *[3**2] * 5), (4, *filters[:-1]), filters)
    # 137 pixels are halved six times: 68, 34, 17, 8, 4, 2.
    dense = (2 * 2 * 256 + 1) * 1024
    gate_inputs = 3 * (1024 + 1) * 4**3 * 128
    recurrent = 3 * (3**3 * 128 + 1) * 128
    decoder = conv_params([3**3] * 5, (128, 128, 128, 64, 32), (128, 128, 64, 32, 1))
    assert (encoder, dense, gate_inputs) == (2_195_040, 1_049_600, 25_190_400)
    assert (recurrent, decoder) == (1_327_488, 1_162_433)

    assert params(notebook, "encoder_conv") == encoder
    assert params(notebook, "encoder_dense") == dense
    assert params(notebook, "recurrence_gate_inputs") == gate_inputs
    assert notebook.get_layer("recurrence").count_params() == recurrent
    assert params(notebook, "decoder") == decoder
    assert notebook.count_params() == 30_924_961
    assert encoder + dense + gate_inputs + recurrent + decoder == 30_924_961


def test_notebook_takes_and_gives_what_the_notebook_does(notebook):
    assert notebook.input_shape == (None, None, 137, 137, 4)
    assert notebook.output_shape == (None, 32, 32, 32)


def test_weights_start_as_in_pytorch(notebook):
    layers = [layer for layer in notebook.layers if layer.weights]
    assert len(layers) == 6 + 2 + 1 + 5
    for layer in layers:
        kernel, bias = layer.get_weights()
        limit = math.prod(kernel.shape[:-1]) ** -0.5
        for weight in (kernel, bias):
            assert np.abs(weight).max() <= limit, layer.name
            assert np.all(weight[:1] != 0), layer.name
            if weight.size >= 512:
                assert weight.max() > 0.95 * limit, layer.name
                assert weight.min() < -0.95 * limit, layer.name
                # A uniform distribution has this deviation; a normal one of that range has less.
                assert weight.std() == pytest.approx(limit / math.sqrt(3), rel=0.1), layer.name
        assert np.abs(kernel).max() > 0.99 * limit, layer.name


@pytest.fixture(scope="module")
def tiny():
    keras.utils.set_random_seed(0)
    return R2N2.from_preset("tiny")


def test_tiny_predicts_a_grid_of_probabilities(tiny):
    assert tiny.name == "tiny"
    assert tiny.input_shape[1] is None
    occupancy = predict(tiny, images_of(tiny, batch=3, views=2))
    assert occupancy.shape == (3, 32, 32, 32)
    assert occupancy.dtype == np.float32
    assert 0 <= occupancy.min() < occupancy.max() <= 1


def test_weights_start_as_in_the_original(tiny):
    assert tiny.initialization == "original"
    for layer in tiny.layers:
        if not layer.weights:
            continue
        kernel, bias = layer.get_weights()
        np.testing.assert_array_equal(bias, np.float32(0.1))
        *cells, fan_in, fan_out = kernel.shape
        if layer.name.startswith("recurrence"):
            fan_out //= 3  # the original makes the three gates one by one
        expected = math.sqrt(2 / (math.prod(cells) * (fan_in + fan_out) / 2))
        error = 5 / math.sqrt(2 * kernel.size)  # five deviations of an estimated deviation
        assert kernel.std() == pytest.approx(expected, rel=error), layer.name
        assert abs(kernel.mean()) < 5 * expected / math.sqrt(kernel.size), layer.name
        assert np.abs(kernel).max() > 2 * expected, layer.name  # normal, and not truncated


def test_other_initializations_are_refused():
    message = "Expected initialization.*'original', 'pytorch'.*Received.*'keras'"
    with pytest.raises(ValueError, match=message):
        R2N2(**{**NARROW, "initialization": "keras"})


def test_probabilities_are_float32_under_mixed_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = spread(R2N2(**NARROW))
    finally:
        keras.config.set_dtype_policy("float32")
    for name in ("encoder_conv1", "recurrence_gate_inputs", "recurrence", "decoder_up_conv1"):
        assert model.get_layer(name).compute_dtype == "bfloat16"
    assert model.get_layer("recurrence").cell.compute_dtype == "bfloat16"
    assert all(weight.dtype == "float32" for weight in model.weights)
    occupancy = predict(model, images_of(model, views=2))
    assert occupancy.dtype == np.float32
    # Computed in float32, not only cast to it: bfloat16 has 2 decimal digits.
    rounded = keras.ops.convert_to_numpy(keras.ops.cast(occupancy, "bfloat16")).astype("float32")
    assert np.mean(occupancy == rounded) < 0.5


# Learning


@pytest.fixture(scope="module")
def learner():
    """A compiled network whose SGD step subtracts the gradient itself, and its first weights."""
    model = spread(R2N2(**NARROW))
    model.compile(keras.optimizers.SGD(1.0), "binary_crossentropy")
    return model, model.get_weights()


def gradient(learner, images, voxels, variable):
    """The gradient of the loss as a training step applies it to one weight."""
    model, weights = learner
    model.set_weights(weights)
    before = keras.ops.convert_to_numpy(variable)
    model.train_on_batch(images, voxels)
    return before - keras.ops.convert_to_numpy(variable)


def random_voxels(model, batch=1):
    shape = (batch, *model.output_shape[1:])
    return np.random.default_rng(1).integers(0, 2, shape).astype("float32")


@pytest.mark.parametrize("lit", [0, 1, 2])
def test_every_view_teaches_the_encoder(learner, lit):
    # The notebook detaches the state between views, so there only the last view does. A black view
    # has no part in the first kernel's gradient: what is there came through the lit one.
    model, _ = learner
    kernel = model.get_layer("encoder_conv1").kernel
    voxels = random_voxels(model)
    images = np.zeros_like(images_of(model, views=3))
    assert np.all(gradient(learner, images, voxels, kernel) == 0)
    images[:, lit] = images_of(model)[:, 0]
    assert np.abs(gradient(learner, images, voxels, kernel)).max() > 1e-5


@pytest.mark.parametrize("lit", [[0], [1], [0, 1]])
def test_the_encoders_gradient_is_that_of_the_loss(learner, lit):
    model, weights = learner
    kernel = model.get_layer("encoder_conv1").kernel
    voxels = random_voxels(model)
    images = np.zeros_like(images_of(model, views=2))
    images[:, lit] = images_of(model, views=2)[:, lit]
    slope = gradient(learner, images, voxels, kernel)

    def loss(shift):
        model.set_weights(weights)
        kernel.assign(keras.ops.convert_to_numpy(kernel) + shift * slope)
        occupancy = predict(model, images).astype("float64")
        return -np.mean(np.log(np.where(voxels > 0, occupancy, 1 - occupancy)))

    squared = float(np.sum(slope.astype("float64") ** 2))
    shift = 1e-4 / squared  # moves the loss by 1e-4: above rounding, below the pooling's kinks
    difference = (loss(shift) - loss(-shift)) / (2 * shift)
    assert difference == pytest.approx(squared, rel=0.02)


def test_compile_and_fit_learn_one_object():
    keras.utils.set_random_seed(0)
    model = R2N2(**NARROW)
    voxels = np.zeros((1, 16, 16, 16), "float32")
    voxels[:, 2:10, 4:8, 6:16] = 1
    images = images_of(model, views=2)
    model.compile(
        keras.optimizers.Adam(1e-2), "binary_crossentropy", metrics=[VoxelIoU(threshold=0.4)]
    )
    before = model.evaluate(images, voxels, verbose=0, return_dict=True)
    many = (np.repeat(array, 50, axis=0) for array in (images, voxels))
    history = model.fit(*many, batch_size=1, epochs=2, verbose=0).history
    after = model.evaluate(images, voxels, verbose=0, return_dict=True)
    assert set(history) == {"loss", "iou"}
    assert before["iou"] < 0.2
    assert after["iou"] > 0.95
    np.testing.assert_array_equal(predict(model, images) > 0.4, voxels > 0)


# Files


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network of its own kind, and the workdir that holds it."""
    other = {"encoder_slope": 0.2, "decoder_slope": 0.3, "recurrent_kernel_size": 1}
    model = spread(R2N2(**{**NARROW, **other}, name="other"))
    workdir = tmp_path_factory.mktemp("workdir")
    model.save(workdir / "model.keras")
    return model, workdir


@pytest.mark.parametrize("given", ["file", "folder", "text"])
def test_saved_model_gives_the_same_answer(saved, given):
    model, workdir = saved
    file = workdir / "model.keras"
    again = R2N2.from_preset({"file": file, "folder": workdir, "text": str(file)}[given])
    assert type(again) is R2N2
    assert again.get_config() == model.get_config()
    images = images_of(model, batch=2, views=3)
    np.testing.assert_allclose(predict(again, images), predict(model, images), atol=1e-6)


def test_keras_loads_a_saved_model(saved):
    model, workdir = saved
    again = keras.saving.load_model(workdir / "model.keras")
    images = images_of(model)
    np.testing.assert_allclose(predict(again, images), predict(model, images), atol=1e-6)


def test_model_comes_back_from_its_config(saved):
    model, _ = saved
    config = json.loads(json.dumps(model.get_config()))
    assert set(config) == {"name", "trainable", "background", "alpha", *NARROW}
    again = R2N2.from_config(config)
    assert again.get_config() == model.get_config()
    assert [w.shape for w in again.weights] == [w.shape for w in model.weights]
    again.set_weights(model.get_weights())
    images = images_of(model, views=2)
    np.testing.assert_allclose(predict(again, images), predict(model, images), atol=1e-6)


def error_of(preset):
    with pytest.raises(InputError) as caught:
        R2N2.from_preset(preset)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("Expected ")
    assert str(preset) in message
    return message


def test_unknown_preset_names_the_presets():
    message = error_of("lstm_9")
    assert all(name in message for name in PRESETS)
    assert "Choose one of the presets or check the path." in message


def test_missing_file_is_told(tmp_path):
    assert "does not exist" in error_of(tmp_path / "nothing.keras")
    assert "does not exist" in error_of(tmp_path)  # a folder without model.keras


def test_file_of_another_model_is_told(tmp_path):
    file = tmp_path / "dense.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)], name="dense").save(file)
    assert "which holds a Sequential" in error_of(file)


@pytest.mark.parametrize("kind", ["empty", "text", "half"])
def test_broken_file_is_told(saved, tmp_path, kind):
    _, workdir = saved
    whole = (workdir / "model.keras").read_bytes()
    content = {"empty": b"", "text": b"not a model", "half": whole[: len(whole) // 2]}[kind]
    file = tmp_path / "broken.keras"
    file.write_bytes(content)
    assert "which is none or is damaged" in error_of(file)


def test_file_with_a_lost_member_is_told(saved, tmp_path):
    _, workdir = saved
    file = tmp_path / "lost.keras"
    with (
        zipfile.ZipFile(workdir / "model.keras") as whole,
        zipfile.ZipFile(file, "w") as rest,
    ):
        for name in whole.namelist():
            if name != "model.weights.h5":
                rest.writestr(name, whole.read(name))
    assert "which cannot be read" in error_of(file)
