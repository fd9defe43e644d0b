"""The networks of the paper against the Theano code's equations, on the configured backend."""

import math

import keras
import numpy as np
import pytest
import reference
from reference import (
    RESIDUAL,
    SHALLOW,
    PaperNetwork,
    images_of,
    loud,
    predict,
    spread,
    theano_arrays,
)
from scipy import ndimage

from r2n2_keras.model import theano_weights
from r2n2_keras.model.r2n2 import R2N2

# Widths and a gain. Without shortcuts more is lost on the way, not least in the grid that unpooling
# fills with zeros.
NETWORKS = {
    "lstm_1": (SHALLOW, 2.5),
    "gru_1": (SHALLOW, 2.5),
    "lstm_3": (SHALLOW, 2.5),
    "gru_3": (SHALLOW, 2.5),
    "res_gru_3": (RESIDUAL, 1.5),
}
numpy_of = keras.ops.convert_to_numpy


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    """A narrow network and its reference, with loud weights in the Keras layout."""
    name = request.param
    widths, gain = NETWORKS[name]
    model = spread(R2N2.from_preset(name, **widths), gain)
    return model, PaperNetwork(theano_arrays(model), "lstm" if "lstm" in name else "gru")


@pytest.fixture(scope="module")
def residual():
    return spread(R2N2(**RESIDUAL, name="narrow"))


def loud_arrays(model):
    """Another list for `PaperNetwork`, of the shapes that the model's own list has."""
    shapes = [array.shape for array in theano_arrays(model)]

    def fan_in(shape):
        return shape[0] if len(shape) == 2 else math.prod(shape[1:])

    _, gain = NETWORKS[model.name]
    arrays = loud(shapes, fan_in, gain, seed=3)
    return [array.astype("float32") for array in arrays]


# The forward pass


def assert_equal_and_loud(occupancy, expected):
    """Both of two objects' answers are the expected ones, and these tell something."""
    assert occupancy.shape == (2, 16, 16, 16)
    assert np.ptp(expected) > 0.2
    assert np.abs(expected[0] - expected[1]).max() > 0.05
    np.testing.assert_allclose(occupancy, expected, atol=1e-4)


@pytest.mark.parametrize("views", [1, 3, 5])
def test_forward_pass_is_the_originals(network, views):
    model, paper = network
    images = images_of(model, batch=2, views=views)
    assert_equal_and_loud(predict(model, images), paper(images))


# Not the LSTMs: the order of their arrays is not known.
@pytest.mark.parametrize("network", ["gru_1", "gru_3", "res_gru_3"], indirect=True)
def test_originals_arrays_give_the_originals_answer(network):
    model, _ = network
    weights = model.get_weights()
    arrays = loud_arrays(model)
    assert len(arrays) == (63 if model.encoder_shortcuts else 33)
    try:
        theano_weights.assign(model, arrays)
        for array, assigned in zip(arrays, theano_arrays(model), strict=True):
            np.testing.assert_array_equal(assigned, array)
        images = images_of(model, batch=2, views=3)
        occupancy = predict(model, images)
    finally:
        model.set_weights(weights)
    assert_equal_and_loud(occupancy, PaperNetwork(arrays)(images))


def test_steps_and_decode_are_the_whole(network):
    model, _ = network
    images = images_of(model, batch=2, views=3)
    zeros = model.initial_state(2)
    assert len(zeros) == (2 if model.recurrence == "lstm" else 1)
    for state in zeros:
        np.testing.assert_array_equal(numpy_of(state), np.zeros((2, 2, 2, 2, 5)))

    state = None
    for view in range(3):
        state = model.step(state, images[:, view])
    assert [tuple(part.shape) for part in state] == [tuple(part.shape) for part in zeros]
    occupancy = numpy_of(model.decode(state))
    np.testing.assert_allclose(occupancy, predict(model, images), atol=1e-5)

    with pytest.raises(ValueError, match=r"\('B', 13, 13, 3\), one view per object. Received: "):
        model.step(None, images)
    whole = np.ones((1, 13, 13, 3), "uint8")
    for one, other in zip(model.step(None, whole), model.step(None, whole / 1.0), strict=True):
        np.testing.assert_array_equal(numpy_of(one), numpy_of(other))

    fresh, given = model.step(None, images[:, 0]), model.step(zeros, images[:, 0])
    for one, other in zip(fresh, given, strict=True):
        np.testing.assert_array_equal(numpy_of(one), numpy_of(other))


def test_objects_with_fewer_views_are_answered_as_if_alone(network):
    model, _ = network
    images = images_of(model, batch=3, views=4)
    num_views = [2, 4, 1]
    images[0, 2:], images[2, 1:] = np.nan, 1e30  # what is ignored may be anything
    occupancy = numpy_of(model.call_padded(images, np.array(num_views)))
    for b, count in enumerate(num_views):
        alone = predict(model, images[b : b + 1, :count])[0]
        np.testing.assert_allclose(occupancy[b], alone, atol=1e-5)


# What other implementations do instead, or what is easily taken for the original. All of it changes
# the reference's answer by far more than the tolerance: the tests above tell it apart.


def margin_of_zeros(x):
    return reference.max_pool(np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)]))


def repeat(x):
    return x.repeat(2, axis=1).repeat(2, axis=3).repeat(2, axis=4)


def unpool_to_the_odd_index(x, unpool=reference.unpool):
    return np.roll(unpool(x), 1, axis=(1, 3, 4))


def activate_the_sum(main, shortcut):
    return reference.leaky_relu(main + shortcut)


def update_gate_replaces(self, x, h):
    update, reset, candidate = self.gates
    u = reference.sigmoid(self.gate(update, x, h))
    r = reference.sigmoid(self.gate(reset, x, h))
    return [(1 - u) * h + u * np.tanh(self.gate(candidate, x, r * h))]


def reset_after_the_convolution(self, x, h):
    update, reset, (w_h, w_x, bias) = self.gates
    u = reference.sigmoid(self.gate(update, x, h))
    r = reference.sigmoid(self.gate(reset, x, h))
    from_state = reference.conv3d(h, w_h, np.zeros_like(bias))
    from_view = self.gate((np.zeros_like(w_h), w_x, bias), x, h)
    return [u * h + (1 - u) * np.tanh(from_view + r * from_state)]


def shortcut_of_b(self, x, n, block=PaperNetwork.decoder_block):
    if n != 10:
        return block(self, x, n)
    b = reference.leaky_relu(self.conv3d(x, "10a"))
    b = reference.leaky_relu(self.conv3d(b, "10b"))
    return b + self.conv3d(b, "10c")


@pytest.mark.parametrize(
    ("where", "name", "replacement"),
    [
        (ndimage, "convolve", ndimage.correlate),
        (reference, "padded_max_pool", margin_of_zeros),
        (reference, "unpool", repeat),
        (reference, "unpool", unpool_to_the_odd_index),
        (reference, "joined", activate_the_sum),
        (reference, "leaky_relu", lambda x: np.maximum(x, 0)),
        (PaperNetwork, "gru", update_gate_replaces),
        (PaperNetwork, "gru", reset_after_the_convolution),
        (PaperNetwork, "decoder_block", shortcut_of_b),
    ],
)
def test_look_alikes_give_other_answers(residual, monkeypatch, where, name, replacement):
    arrays = theano_arrays(residual)
    images = images_of(residual, views=3)
    original = PaperNetwork(arrays)(images)
    monkeypatch.setattr(where, name, replacement)
    assert np.abs(PaperNetwork(arrays)(images) - original).max() > 1e-2


def test_inner_shortcut_starts_between_the_blocks_convolutions(residual):
    # Block 10 of the original; the shortcuts of the others start at the block's input.
    a, b, c = (residual.get_layer(f"decoder_conv4{letter}") for letter in "abc")
    assert c.input is b.input
    assert c.input is not a.input


# The presets

RECURRENCE = {1: 25_215_360, 3: 26_493_312}
# Parameters, all and by part: encoder's convolutions, recurrence, decoder.
PARAMETERS = {
    "lstm_1": (30_929_314, 2_190_336, RECURRENCE[1], 1_163_298),
    "gru_1": (30_929_314, 2_190_336, RECURRENCE[1], 1_163_298),
    "lstm_3": (32_207_266, 2_190_336, RECURRENCE[3], 1_163_298),
    "gru_3": (32_207_266, 2_190_336, RECURRENCE[3], 1_163_298),
    "res_gru_3": (35_968_706, 4_892_512, RECURRENCE[3], 2_222_562),
}


@pytest.fixture(scope="module", params=PARAMETERS)
def preset(request):
    keras.utils.set_random_seed(0)
    return R2N2.from_preset(request.param)


def params(model, prefix):
    return sum(layer.count_params() for layer in model.layers if layer.name.startswith(prefix))


def test_presets_have_the_papers_sizes(preset):
    whole, encoder, recurrence, decoder = PARAMETERS[preset.name]
    assert preset.count_params() == whole
    assert params(preset, "encoder_conv") == encoder
    assert params(preset, "encoder_dense") == 2_360_320
    assert params(preset, "recurrence") == recurrence
    assert params(preset, "decoder") == decoder
    assert preset.input_shape == (None, None, 127, 127, 3)
    assert preset.output_shape == (None, 32, 32, 32)
    pools = [preset.get_layer(f"encoder_pool{n}").output.shape[1:3] for n in range(1, 7)]
    assert pools == [(edge, edge) for edge in (64, 33, 17, 9, 5, 3)]


def test_presets_start_as_in_the_original(preset):
    for weight in preset.weights:
        values = numpy_of(weight)
        if values.ndim == 1:
            np.testing.assert_array_equal(values, np.float32(0.1))
            continue
        *cells, fan_in, fan_out = values.shape
        if "recurrence" in weight.path:  # the original makes the gates one by one
            fan_out = 4**3 * 128 if values.ndim == 2 else 128
        expected = math.sqrt(2 / (math.prod(cells) * (fan_in + fan_out) / 2))
        error = 5 / math.sqrt(2 * values.size)  # five deviations of an estimated deviation
        assert values.std() == pytest.approx(expected, rel=error), weight.path
        assert abs(values.mean()) < 5 * expected / math.sqrt(values.size), weight.path
        assert np.abs(values).max() > 2.5 * expected, weight.path  # normal, and not truncated


def test_presets_start_with_independent_weights(preset):
    starts = [numpy_of(weight).ravel()[:1000] for weight in preset.weights if len(weight.shape) > 1]
    cell = preset.get_layer("recurrence").cell
    starts += [numpy_of(cell.recurrent_kernel)[0, 0, 0, 0, 128:256]]  # the second gate's
    for n, one in enumerate(starts):
        for other in starts[:n]:
            assert np.all(one[:100] != other[:100])


# Files


@pytest.mark.parametrize("way", ["save", "save_to_preset"])
def test_saved_model_gives_the_same_answer(residual, tmp_path, way):
    if way == "save":
        residual.save(tmp_path / "model.keras")
        again = keras.saving.load_model(tmp_path / "model.keras")
    else:
        residual.save_to_preset(tmp_path / "new" / "folder")
        assert [file.name for file in (tmp_path / "new" / "folder").iterdir()] == ["model.keras"]
        again = R2N2.from_preset(tmp_path / "new" / "folder")
        with pytest.raises(ValueError, match=r"^Expected .* Received: .*'features': 8"):
            R2N2.from_preset(tmp_path / "new" / "folder", features=8)
    assert type(again) is R2N2
    assert again.get_config() == residual.get_config()
    for weight, other in zip(residual.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, other)
    images = images_of(residual, batch=2)
    state, other = residual.step(None, images[:, 0]), again.step(None, images[:, 0])
    occupancy, other = (
        numpy_of(model.decode(part)) for model, part in ((residual, state), (again, other))
    )
    np.testing.assert_allclose(occupancy, other, atol=1e-6)


# Learning and precision


def test_compile_and_fit_learn_one_object():
    model = spread(R2N2(**RESIDUAL))
    voxels = np.zeros((1, 16, 16, 16), "float32")
    voxels[:, 2:10, 4:8, 6:16] = 1
    model.compile(keras.optimizers.Adam(1e-2), "binary_crossentropy")
    many = (np.repeat(array, 25, axis=0) for array in (images_of(model, views=3), voxels))
    losses = model.fit(*many, batch_size=1, epochs=2, verbose=0).history["loss"]
    # To know how much is occupied, and not where, gives 0.27.
    assert losses[1] < 0.05 < losses[0]


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_probabilities_are_float32_under_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model = spread(R2N2(**RESIDUAL))
    finally:
        keras.config.set_dtype_policy("float32")
    short = policy.removeprefix("mixed_")
    for name in ("encoder_conv1a", "encoder_pool1", "recurrence", "decoder_up_conv1a"):
        assert model.get_layer(name).compute_dtype == short
    assert model.get_layer("recurrence").cell.compute_dtype == short
    assert all(weight.dtype == "float32" for weight in model.weights)
    images = images_of(model, batch=2, views=3)
    occupancy = predict(model, images)
    assert occupancy.dtype == np.float32
    np.testing.assert_allclose(occupancy, PaperNetwork(theano_arrays(model))(images), atol=0.05)
    # Computed in float32, not only cast to it: the short types have 2 and 3 decimal digits.
    rounded = numpy_of(keras.ops.cast(occupancy, short)).astype("float32")
    assert np.mean(occupancy == rounded) < 0.5
