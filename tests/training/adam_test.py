"""The optimizer: against the original's update in NumPy, with all that can be added to it."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.training import steps
from r2n2_keras.training.adam import FusedAdam, averaged_weights

_KERNEL, _BIAS = np.array([[1.0, -2.0], [3.0, 0.5]]), np.array([0.5, -1.0])


def _made(precision="float32", model=None, **settings):
    """A model, else what the optimizer and `averaged_weights` need of one, and its optimizer."""
    if model is None:
        weights = [keras.Variable(_KERNEL, name="kernel"), keras.Variable(_BIAS, name="bias")]
        model = types.SimpleNamespace(trainable_variables=weights)
    optimizer = steps.make_optimizer(1e-3, precision, **settings)
    optimizer.build(model.trainable_variables)
    return model, optimizer


def _gradients(count):
    rng = np.random.default_rng(0)
    # Of another size at every step: Adam makes little of a factor that all steps share.
    sizes = 10.0 ** np.array([-1, -3, 0, -2, -8, -1])  # one of epsilon's
    return [(rng.normal(size=(2, 2)) * size, rng.normal(size=2) * size) for size in sizes[:count]]


def _apply(optimizer, model, gradients):
    scale = float(optimizer.scale_loss(1.0))
    tensors = [tf.constant(gradient * scale, tf.float32) for gradient in gradients]
    optimizer.apply(tensors, model.trainable_variables)


def _weights(model):
    return [variable.numpy() for variable in model.trainable_variables]


def _averages(model, optimizer):
    with averaged_weights(model, optimizer):
        return _weights(model)


def _assert_close(received, expected, **tolerance):
    for one, other in zip(received, expected, strict=True):
        np.testing.assert_allclose(one, other, **tolerance)


def _reference(gradients, l2=0.0, clip_norm=0.0, ema_decay=0.0):
    """`ADAM` of the original's `lib/solver.py`, clipping before and averaging after it."""
    weights = [_KERNEL, _BIAS]
    m, v, averages = [0.0, 0.0], [0.0, 0.0], list(weights)
    for step, both in enumerate(gradients, start=1):
        norm = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in both))
        for i, gradient in enumerate(both):
            if clip_norm and norm > clip_norm:
                gradient = gradient * clip_norm / norm
            if i == 0:
                gradient = gradient + 2 * l2 * weights[i]
            m[i] = 0.9 * m[i] + 0.1 * gradient
            v[i] = 0.999 * v[i] + 0.001 * gradient**2
            rate = 1e-3 * np.sqrt(1 - 0.999**step) / (1 - 0.9**step)
            weights[i] = weights[i] - rate * m[i] / (np.sqrt(v[i]) + 1e-8)
            decay = min(ema_decay, (1 + step) / (10 + step))
            averages[i] = decay * averages[i] + (1 - decay) * weights[i]
    return weights, averages


@pytest.mark.parametrize("precision", ["float32", "mixed_float16"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"l2": 2.5e-5},
        {"l2": 0.1},
        {"clip_norm": 0.05},  # some of the gradients are above
        {"ema_decay": 0.9},
        {"ema_decay": 0.2},  # reached at the second update
        {"l2": 0.1, "clip_norm": 0.05, "ema_decay": 0.9},
    ],
    ids=str,
)
def test_an_update_is_the_originals(settings, precision):
    model, optimizer = _made(precision, **settings)
    for gradients in _gradients(6):
        _apply(optimizer, model, gradients)
    weights, averages = _reference(_gradients(6), **settings)
    _assert_close(_weights(model), weights, rtol=1e-6)
    _assert_close(_averages(model, optimizer), averages, rtol=1e-6)  # without any: the weights


def test_a_step_that_is_left_out_changes_nothing():
    settings = {"l2": 0.1, "clip_norm": 0.05, "ema_decay": 0.9}
    model, optimizer = _made("mixed_float16", **settings)
    first, second = _gradients(2)
    _apply(optimizer, model, first)
    before = [*_weights(model), *_averages(model, optimizer)]
    _apply(optimizer, model, [np.full((2, 2), np.inf), second[1]])
    _assert_close([*_weights(model), *_averages(model, optimizer)], before, rtol=0)
    _apply(optimizer, model, second)
    weights, averages = _reference(_gradients(2), **settings)
    _assert_close(_weights(model), weights, rtol=1e-6)
    _assert_close(_averages(model, optimizer), averages, rtol=1e-6)


def test_averaged_weights_change_places_exactly():
    model, optimizer = _made(ema_decay=0.9)
    _assert_close(_averages(model, optimizer), [_KERNEL, _BIAS], rtol=0)
    for gradients in _gradients(3):
        _apply(optimizer, model, gradients)
    before, averages = _weights(model), _averages(model, optimizer)
    assert not np.array_equal(before[0], averages[0])
    with pytest.raises(RuntimeError, match="inside"), averaged_weights(model, optimizer):
        _assert_close(_weights(model), averages, rtol=0)
        raise RuntimeError("inside")
    _assert_close(_weights(model), before, rtol=0)
    _assert_close(_averages(model, optimizer), averages, rtol=0)


@pytest.mark.parametrize("preset", PRESETS)
def test_weight_decay_is_for_all_weights_but_the_biases(preset):
    blocks, decoder_blocks = (
        len(PRESETS[preset].get(f"{part}_filters", default))
        for part, default in (("encoder", range(6)), ("decoder", range(5)))
    )
    model = R2N2.from_preset(
        preset, image_size=64, encoder_filters=(4,) * blocks, features=8, hidden_channels=4,
        decoder_filters=(4,) * (decoder_blocks - 1) + (1,),
    )  # fmt: skip
    model, optimizer = _made(model=model, l2=0.1)
    for variable in model.trainable_variables:
        variable.assign(np.full(variable.shape, 0.5))  # fresh biases are 0
    _apply(optimizer, model, [np.zeros(v.shape) for v in model.trainable_variables])
    for variable in model.trainable_variables:
        # The network has no other vectors: even what the notebook adds for each cell is one.
        is_bias = len(variable.shape) == 1
        assert np.all(variable.numpy() == 0.5) == is_bias, variable.path


def test_the_settings_can_be_saved():
    optimizer = FusedAdam(1e-3, l2=0.1, ema_decay=0.9, global_clipnorm=2.0)
    copy = FusedAdam.from_config(optimizer.get_config())
    assert (copy.l2, copy.ema_decay, copy.global_clipnorm) == (0.1, 0.9, 2.0)
