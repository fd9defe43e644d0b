"""The presets against the equations of the original and of the notebook, on the configured backend.

The weights come in the layouts of the two and go in by `theano_weights` and `notebook_weights`.
"""

import math

import keras
import numpy as np
import pytest
from reference import (
    NOTEBOOK,
    RESIDUAL,
    SHALLOW,
    NotebookNetwork,
    PaperNetwork,
    images_of,
    loud_arrays,
    loud_state,
    predict,
)

from r2n2_keras.model import notebook_weights, theano_weights
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.r2n2 import R2N2

# Widths and a gain. Without shortcuts more is lost on the way, not least in the grid that unpooling
# fills with zeros.
NETWORKS = {
    **dict.fromkeys(("lstm_1", "gru_1", "lstm_3", "gru_3"), (SHALLOW, 2.5)),
    "res_gru_3": (RESIDUAL, 1.5),
    "notebook": (NOTEBOOK, 1.5),
}
numpy_of = keras.ops.convert_to_numpy


def loud_pair(name):
    """A narrow network and its reference, with the same loud weights."""
    widths, gain = NETWORKS[name]
    model = R2N2.from_preset(name, **widths)
    if name == "notebook":
        state = loud_state()
        notebook_weights.assign(model, state)
        return model, NotebookNetwork(state)
    gru = R2N2.from_preset(name.replace("lstm", "gru"), **widths)
    arrays = loud_arrays(gru, gain)
    theano_weights.assign(gru, arrays)
    for layer in model.layers:
        weights = gru.get_layer(layer.name).get_weights()
        if layer.name == "recurrence" and model.recurrence == "lstm":
            # In which order the original saved the LSTM is not known: the same, as one kernel.
            *kernels, bias = weights
            weights = [np.concatenate(kernels, axis=-1), bias]
        layer.set_weights(weights)
    return model, PaperNetwork(arrays, model.recurrence)


@pytest.fixture(scope="module", params=NETWORKS)
def network(request):
    return loud_pair(request.param)


# The forward pass


@pytest.mark.parametrize("views", [1, 3])
def test_forward_pass_is_the_originals(network, views):
    model, original = network
    images = images_of(model, batch=2, views=views)
    occupancy, expected = predict(model, images), original(images)
    assert occupancy.shape == (2, 16, 16, 16)
    assert np.ptp(expected) > 0.2
    assert np.abs(expected[0] - expected[1]).max() > 0.05
    np.testing.assert_allclose(occupancy, expected, atol=1e-4)


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

    fresh, given = model.step(None, images[:, 0]), model.step(zeros, images[:, 0])
    for one, other in zip(fresh, given, strict=True):
        np.testing.assert_array_equal(numpy_of(one), numpy_of(other))
    with pytest.raises(ValueError, match=r"\('B', 13, 13, [34]\), one view per object. Received: "):
        model.step(None, images)
    whole = np.ones((1, *model.image_spec.shape), "uint8")
    for one, other in zip(model.step(None, whole), model.step(None, whole / 1.0), strict=True):
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


# The presets: a view's shape; parameters, all, and those of the encoder's convolutions, the dense
# layer, the recurrence and the decoder.

SHAPES = {
    "lstm_1": (127, 3, 30_929_314, 2_190_336, 2_360_320, 25_215_360, 1_163_298),
    "gru_1": (127, 3, 30_929_314, 2_190_336, 2_360_320, 25_215_360, 1_163_298),
    "lstm_3": (127, 3, 32_207_266, 2_190_336, 2_360_320, 26_493_312, 1_163_298),
    "gru_3": (127, 3, 32_207_266, 2_190_336, 2_360_320, 26_493_312, 1_163_298),
    "res_gru_3": (127, 3, 35_968_706, 4_892_512, 2_360_320, 26_493_312, 2_222_562),
    "notebook": (137, 4, 30_924_961, 2_195_040, 1_049_600, 26_517_888, 1_162_433),
    "tiny": (64, 3, 2_074_001, 190_464, 131_328, 1_662_048, 90_161),
}
POOLS = {127: [64, 33, 17, 9, 5], 137: [68, 34, 17, 8, 4], 64: [32, 16, 8, 4, 2]}
PARTS = ("encoder_conv", "encoder_dense", "recurrence", "decoder")


@pytest.fixture(scope="module", params=PRESETS)
def preset(request):
    keras.utils.set_random_seed(0)
    return R2N2.from_preset(request.param)


def test_presets_have_their_sizes(preset):
    edge, channels, *parameters = SHAPES[preset.name]
    assert preset.image_spec.shape == (edge, edge, channels)
    assert preset.input_shape == (None, None, edge, edge, channels)
    assert preset.output_shape == (None, 32, 32, 32)
    parts = [
        sum(layer.count_params() for layer in preset.layers if layer.name.startswith(part))
        for part in PARTS
    ]
    assert [preset.count_params(), *parts] == parameters
    assert sum(parts) == preset.count_params()
    pools = [preset.get_layer(f"encoder_pool{n}").output.shape[1] for n in range(1, 6)]
    assert pools == POOLS[edge]


def test_presets_start_as_the_original_or_pytorch(preset):
    for weight in preset.weights:
        values = numpy_of(weight)
        error = 5 / math.sqrt(2 * values.size)  # five deviations of an estimated deviation
        *cells, fan_in, fan_out = values.shape if values.ndim > 1 else (0, 0)
        if preset.initialization == "original" and values.ndim == 1:
            np.testing.assert_array_equal(values, np.float32(0.1))
        elif preset.initialization == "original":
            if "recurrence" in weight.path:  # the original makes the gates one by one
                fan_out = preset.hidden_channels * (preset.grid_edge**3 if values.ndim == 2 else 1)
            expected = math.sqrt(2 / (math.prod(cells) * (fan_in + fan_out) / 2))
            assert values.std() == pytest.approx(expected, rel=error), weight.path
            assert abs(values.mean()) < 5 * expected / math.sqrt(values.size), weight.path
            assert np.abs(values).max() > 2 * expected, weight.path  # normal, and not truncated
        else:
            if values.ndim > 1:  # its bias comes next, with the same limit
                limit = math.prod(values.shape[:-1]) ** -0.5
            assert np.abs(values).max() <= limit, weight.path
            assert np.all(values[:1] != 0), weight.path
            if values.size >= 512:
                assert np.ptp(values) > 1.9 * limit, weight.path
                # A uniform distribution has this deviation; a normal one of that range has less.
                assert values.std() == pytest.approx(limit / math.sqrt(3), rel=0.1), weight.path


def test_presets_start_with_independent_weights(preset):
    starts = [numpy_of(weight).ravel()[:1000] for weight in preset.weights if len(weight.shape) > 1]
    second = slice(preset.hidden_channels, 2 * preset.hidden_channels)
    starts += [numpy_of(preset.get_layer("recurrence").cell.recurrent_kernel)[0, 0, 0, 0, second]]
    for n, one in enumerate(starts):
        for other in starts[:n]:
            size = min(100, one.size, other.size)
            assert np.all(one[:size] != other[:size])


# Precision


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_probabilities_are_float32_under_mixed_precision(policy):
    keras.config.set_dtype_policy(policy)
    try:
        model, paper = loud_pair("res_gru_3")
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
    np.testing.assert_allclose(occupancy, paper(images), atol=0.05)
    # Computed in float32, not only cast to it: the short types have 2 and 3 decimal digits.
    rounded = numpy_of(keras.ops.cast(occupancy, short)).astype("float32")
    assert np.mean(occupancy == rounded) < 0.5
