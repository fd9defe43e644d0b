"""The layers against NumPy and against Keras' own layers, on whatever backend is configured.

`networks_test.py` has what they do in a network.
"""

import keras
import numpy as np
import pytest
from grids import correlate, keras_battery, normal, numpy_of, run_layer_test

from r2n2_keras.model.convolution import Conv2D, Conv3D
from r2n2_keras.model.layers import (
    FoldViews,
    LeakyReLU,
    Occupancy,
    PaddedMaxPooling2D,
    UnfoldViews,
    Unpool3D,
    UpsampleConv3D,
)

# Keras' battery

CONVOLUTION = {"filters": 3, "kernel_size": 3, "padding": "same"}
UP = {"filters": 3, "kernel_initializer": "he_normal", "bias_initializer": "ones"}


class Unfold(UnfoldViews):
    # The battery builds by hand and names a shape for each argument of `call`.
    def build(self, features_shape, views_shape):
        pass


@keras_battery
@pytest.mark.parametrize(
    ("layer", "init_kwargs", "input_shape", "expected_output_shape", "weights"),
    [
        (FoldViews, {}, (2, 3, 4, 4, 1), (None, 4, 4, 1), 0),
        (Unfold, {}, {"features_shape": (6, 5), "views_shape": (2, 3, 4)}, (2, 3, 5), 0),
        (LeakyReLU, {"negative_slope": 0.1}, (2, 3, 3, 4), (2, 3, 3, 4), 0),
        (PaddedMaxPooling2D, {}, (2, 5, 4, 3), (2, 3, 3, 3), 0),
        (Unpool3D, {}, (2, 3, 3, 3, 4), (2, 6, 6, 6, 4), 0),
        (Occupancy, {}, (2, 3, 3, 3, 2), (2, 3, 3, 3), 0),
        (Conv2D, CONVOLUTION, (2, 4, 4, 2), (2, 4, 4, 3), 2),
        (Conv3D, CONVOLUTION, (2, 4, 4, 4, 2), (2, 4, 4, 4, 3), 2),
        (UpsampleConv3D, {**UP, "upsampling": "zeros"}, (2, 3, 3, 3, 4), (2, 6, 6, 6, 3), 2),
        (UpsampleConv3D, {**UP, "upsampling": "nearest"}, (2, 1, 3, 2, 4), (2, 2, 6, 4, 3), 2),
    ],
)
def test_layers_pass_the_battery(layer, init_kwargs, input_shape, expected_output_shape, weights):
    run_layer_test(
        layer,
        init_kwargs=init_kwargs,
        custom_objects={"Unfold": Unfold},
        input_shape=input_shape,
        expected_output_shape=expected_output_shape,
        expected_num_trainable_weights=weights,
        expected_num_non_trainable_weights=0,
        run_training_check=weights > 0,
    )


def test_convolution_keeps_activation_and_absence_of_bias():
    images = normal(2, 4, 4, 2)
    plain = Conv2D(3, 3, use_bias=False)
    expected = np.maximum(numpy_of(plain(images)), 0)
    relu = Conv2D(3, 3, use_bias=False, activation="relu")
    relu.build(images.shape)
    relu.set_weights(plain.get_weights())
    np.testing.assert_allclose(numpy_of(relu(images)), expected, atol=1e-6)


# LeakyReLU


def test_leaky_relu_and_its_gradient_are_those_of_keras():
    values, target = normal(50, 3), normal(50, 3, seed=1)
    assert np.all(values != 0)  # where backends differ
    start, learned = [np.eye(3), np.zeros(3)], []
    for activation in (LeakyReLU(0.1), keras.layers.LeakyReLU(0.1)):
        # The dense layer in front has the gradient with respect to the input; it lets all through.
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3), activation])
        model.set_weights(start)
        expected = np.where(values > 0, values, 0.1 * values)
        np.testing.assert_allclose(model.predict(values, verbose=0), expected, rtol=1e-6)
        model.compile(keras.optimizers.SGD(1.0), "mse")
        model.train_on_batch(values, target)
        learned.append(model.get_weights())
    for fused, plain, before in zip(*learned, start, strict=True):
        assert np.abs(fused - before).max() > 1e-2
        np.testing.assert_allclose(fused, plain, atol=1e-6)


# PaddedMaxPooling2D


@pytest.mark.parametrize("size", [(127, 64), (5, 8), (1, 2)])
def test_padded_pooling_takes_the_largest_of_each_window(size):
    images = normal(2, *size, 3) - 5  # below zero: a margin of zeros would win
    height, width = size
    padded = np.full((2, height + 2, width + 2, 3), -np.inf)
    padded[:, 1:-1, 1:-1] = images
    pooled = numpy_of(PaddedMaxPooling2D()(images))
    assert pooled.shape == (2, height // 2 + 1, width // 2 + 1, 3)
    for y, x in np.ndindex(pooled.shape[1:3]):
        window = padded[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        np.testing.assert_array_equal(pooled[:, y, x], window.max(axis=(1, 2)))


# Unpool3D and UpsampleConv3D


def unpool(grids):
    """Each value at the even indices, zeros elsewhere: the original's `Unpool3DLayer`."""
    batch, *edges, channels = grids.shape
    doubled = np.zeros((batch, *(2 * edge for edge in edges), channels), grids.dtype)
    doubled[:, ::2, ::2, ::2] = grids
    return doubled


def repeat(grids):
    return grids.repeat(2, axis=1).repeat(2, axis=2).repeat(2, axis=3)


UPSAMPLINGS = {"zeros": unpool, "nearest": repeat}


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 2, 2), (3, 4, 5)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
@pytest.mark.parametrize("upsampling", UPSAMPLINGS)
def test_upsample_conv_is_upsampling_then_convolution(upsampling, kernel_size, grid):
    grids = normal(2, *grid, 3)
    bias = keras.initializers.RandomNormal(seed=1)
    layer = UpsampleConv3D(4, kernel_size, upsampling, bias_initializer=bias)
    output = numpy_of(layer(grids))
    kernel, bias = numpy_of(layer.kernel), numpy_of(layer.bias)
    assert kernel.shape == (kernel_size,) * 3 + (3, 4)
    expected = correlate(UPSAMPLINGS[upsampling](grids), kernel) + bias
    np.testing.assert_allclose(output, expected, atol=1e-5)


# Occupancy


def test_occupancy_of_large_scores_does_not_overflow():
    scores = np.array([[[[[300.0, -300.0]]], [[[-300.0, 300.0]]]]], "float32")
    np.testing.assert_array_equal(numpy_of(Occupancy()(scores)).ravel(), [0, 1])
