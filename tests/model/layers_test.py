"""The layers against NumPy and against Keras' own layers, on whatever backend is configured."""

import keras
import numpy as np
import pytest
from keras.src import testing  # private: Keras' battery of layer tests; imported only here

from r2n2_keras.model.layers import (
    FoldViews,
    GridLSTMCell,
    GridRNN,
    UnfoldViews,
    UpsampleConv3D,
)

FILTERS = 2
GATES = 3 * FILTERS


def numpy_of(tensor):
    return np.asarray(keras.ops.convert_to_numpy(tensor))


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def correlate(grids, kernel):
    """The 'same' convolution of deep learning, tap by tap: `(B, X, Y, Z, C)`, `(k, k, k, C, F)`."""
    edge, (nx, ny, nz) = kernel.shape[0], grids.shape[1:4]
    padded = np.pad(grids.astype("float64"), [(0, 0), *[(edge // 2, edge // 2)] * 3, (0, 0)])
    result = 0
    for x, y, z in np.ndindex(edge, edge, edge):
        result = result + padded[:, x : x + nx, y : y + ny, z : z + nz] @ kernel[x, y, z]
    return result


def step(gate_inputs, h, s, kernel, bias):
    """The equations of `GridLSTMCell`'s docstring, one gate at a time."""
    x_f, x_i, x_s = (gate_inputs[..., n * FILTERS : (n + 1) * FILTERS] for n in range(3))
    u_f, u_i, u_s = (kernel[..., n * FILTERS : (n + 1) * FILTERS] for n in range(3))
    b_f, b_i, b_s = bias.reshape(3, FILTERS)
    f = sigmoid(x_f + correlate(h, u_f) + b_f)
    i = sigmoid(x_i + correlate(h, u_i) + b_i)
    s = f * s + i * np.tanh(x_s + correlate(h, u_s) + b_s)
    return np.tanh(s), s


def loud_cell(kernel_size=3):
    """A cell whose recurrent part shows: its weights are not small, its biases not zero."""
    return GridLSTMCell(
        FILTERS,
        kernel_size,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=1),
        bias_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=2),
    )


def make_grid_rnn(dtype=None, **kwargs):
    return GridRNN(GridLSTMCell(FILTERS, dtype=dtype), dtype=dtype, **kwargs)


keras_battery = pytest.mark.filterwarnings("ignore:.shuffle=True. was passed:UserWarning")


def run_layer_test(*args, **kwargs):
    testing.TestCase().run_layer_test(*args, **kwargs)


# Keras' battery


@keras_battery
def test_fold_views_passes_the_battery():
    run_layer_test(
        FoldViews,
        init_kwargs={},
        input_shape=(2, 3, 4, 4, 1),
        expected_output_shape=(None, 4, 4, 1),
        expected_num_trainable_weights=0,
        run_training_check=False,  # there is nothing to train
    )


@keras_battery
def test_unfold_views_passes_the_battery():
    class Unfold(UnfoldViews):
        # The battery builds by hand and names a shape for each argument of `call`.
        def build(self, features_shape, views_shape):
            pass

    run_layer_test(
        Unfold,
        init_kwargs={},
        custom_objects={"Unfold": Unfold},
        input_shape={"features_shape": (6, 5), "views_shape": (2, 3, 4, 4, 1)},
        expected_output_shape=(2, 3, 5),
        expected_num_trainable_weights=0,
        run_training_check=False,
    )


@keras_battery
@pytest.mark.parametrize(
    ("kwargs", "expected_output_shape"),
    [
        ({}, (2, 4, 4, 4, FILTERS)),
        ({"return_sequences": True}, (2, 3, 4, 4, 4, FILTERS)),
    ],
)
def test_grid_rnn_passes_the_battery(kwargs, expected_output_shape):
    run_layer_test(
        make_grid_rnn,
        init_kwargs=kwargs,
        input_shape=(2, 3, 4, 4, 4, GATES),
        expected_output_shape=expected_output_shape,
        expected_num_trainable_weights=2,
        expected_num_non_trainable_weights=0,
    )


@keras_battery
def test_upsample_conv_passes_the_battery():
    run_layer_test(
        UpsampleConv3D,
        init_kwargs={"filters": 3, "kernel_initializer": "he_normal", "bias_initializer": "ones"},
        input_shape=(2, 3, 3, 3, 4),
        expected_output_shape=(2, 6, 6, 6, 3),
        expected_num_trainable_weights=2,
        expected_num_non_trainable_weights=0,
    )


# FoldViews and UnfoldViews


def test_views_fold_into_the_batch_and_back():
    images = normal(2, 3, 4, 4, 1)
    folded = FoldViews()(images)
    np.testing.assert_array_equal(numpy_of(folded), images.reshape(6, 4, 4, 1))
    features = keras.ops.reshape(folded, (6, 16))
    unfolded = UnfoldViews()(features, images)
    np.testing.assert_array_equal(numpy_of(unfolded), images.reshape(2, 3, 16))


def test_views_fold_where_batch_and_views_are_unknown():
    images = keras.Input((None, 4))
    folded = FoldViews()(images)
    unfolded = UnfoldViews()(folded, images)
    assert folded.shape == (None, 4)
    assert unfolded.shape == (None, None, 4)
    model = keras.Model(images, unfolded)
    for shape in ((2, 3, 4), (3, 1, 4), (1, 5, 4)):
        views = normal(*shape)
        np.testing.assert_array_equal(numpy_of(model(views)), views)


# GridLSTMCell


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_cell_follows_its_equations(kernel_size):
    cell = loud_cell(kernel_size)
    gate_inputs = normal(4, 2, 3, 3, 3, GATES)  # (step, B, N, N, N, gates)
    cell.build(gate_inputs.shape[1:])
    kernel, bias = numpy_of(cell.recurrent_kernel), numpy_of(cell.bias)
    assert kernel.shape == (kernel_size,) * 3 + (FILTERS, GATES)
    assert np.all(bias != 0)

    h = s = np.zeros((2, 3, 3, 3, FILTERS), "float32")
    expected_h, expected_s = h, s
    for x in gate_inputs:
        output, (h, s) = cell(x, [h, s])
        expected_h, expected_s = step(x, expected_h, expected_s, kernel, bias)
        np.testing.assert_allclose(numpy_of(output), expected_h, atol=1e-5)
        np.testing.assert_allclose(numpy_of(h), expected_h, atol=1e-5)
        np.testing.assert_allclose(numpy_of(s), expected_s, atol=1e-5)


def test_neighbours_reach_a_cell_through_the_recurrent_kernel_only():
    state = np.zeros((1, 3, 3, 3, FILTERS), "float32")
    bump = state.copy()
    bump[:, 0, 0, 0] = 1
    gate_inputs = normal(1, 3, 3, 3, GATES)
    reached = {}
    for kernel_size in (1, 3):
        cell = loud_cell(kernel_size)
        cell.build(gate_inputs.shape)
        still, _ = cell(gate_inputs, [state, state])
        moved, _ = cell(gate_inputs, [bump, state])
        reached[kernel_size] = np.abs(numpy_of(moved) - numpy_of(still)).max(axis=(0, -1)) > 0
    assert np.argwhere(reached[1]).tolist() == [[0, 0, 0]]
    np.testing.assert_array_equal(np.argwhere(reached[3]), list(np.ndindex(2, 2, 2)))


def test_open_forget_gate_and_closed_input_gate_keep_the_state():
    cell = loud_cell()
    gate_inputs = np.concatenate(
        [
            np.full((1, 2, 2, 2, FILTERS), 100.0),
            np.full((1, 2, 2, 2, FILTERS), -100.0),
            normal(1, 2, 2, 2, FILTERS),
        ],
        axis=-1,
    ).astype("float32")
    cell.build(gate_inputs.shape)
    h, s = normal(1, 2, 2, 2, FILTERS, seed=1), normal(1, 2, 2, 2, FILTERS, seed=2)
    output, (new_h, new_s) = cell(gate_inputs, [h, s])
    np.testing.assert_allclose(numpy_of(new_s), s, atol=1e-6)
    np.testing.assert_allclose(numpy_of(new_h), np.tanh(s), atol=1e-6)
    np.testing.assert_array_equal(numpy_of(output), numpy_of(new_h))


@pytest.mark.parametrize("shape", [(None, 4, 4, 4, GATES + 1), (None, 4, 4, GATES)])
def test_cell_refuses_other_gate_inputs(shape):
    message = rf"Expected gate inputs of shape \(B, N, N, N, {GATES}\)\. Received: inputs_shape="
    with pytest.raises(ValueError, match=message):
        GridLSTMCell(FILTERS).build(shape)


# GridRNN


@pytest.fixture(scope="module")
def any_views():
    """A cell, and one model of it that takes any number of views."""
    cell = loud_cell()
    gate_inputs = keras.Input((None, 3, 3, 3, GATES))
    return cell, keras.Model(gate_inputs, GridRNN(cell, return_sequences=True)(gate_inputs))


@pytest.mark.parametrize("views", [1, 2, 5])
def test_grid_rnn_is_a_loop_over_the_cell(any_views, views):
    cell, model = any_views
    gate_inputs = normal(2, views, 3, 3, 3, GATES)
    states = [np.zeros((2, 3, 3, 3, FILTERS), "float32")] * 2
    outputs = []
    for view in range(views):
        h, states = cell(gate_inputs[:, view], states)
        outputs.append(numpy_of(h))
    expected = np.stack(outputs, axis=1)
    np.testing.assert_allclose(model.predict(gate_inputs, verbose=0), expected, atol=1e-5)

    last = GridRNN(cell, return_state=True)
    output, h, s = last(gate_inputs)
    np.testing.assert_allclose(numpy_of(output), expected[:, -1], atol=1e-5)
    np.testing.assert_allclose(numpy_of(h), numpy_of(states[0]), atol=1e-5)
    np.testing.assert_allclose(numpy_of(s), numpy_of(states[1]), atol=1e-5)


def test_order_of_the_views_matters(any_views):
    _, model = any_views
    gate_inputs = normal(1, 2, 3, 3, 3, GATES)
    forward = numpy_of(model(gate_inputs))[:, -1]
    backward = numpy_of(model(gate_inputs[:, ::-1]))[:, -1]
    assert np.abs(forward - backward).max() > 0.1


def test_grid_rnn_starts_from_a_given_state(any_views):
    cell, _ = any_views
    layer = GridRNN(cell, return_state=True)
    gate_inputs = normal(1, 3, 3, 3, 3, GATES)
    whole, *_ = layer(gate_inputs)
    _, *states = layer(gate_inputs[:, :2])
    rest, *_ = layer(gate_inputs[:, 2:], initial_state=states)
    np.testing.assert_allclose(numpy_of(rest), numpy_of(whole), atol=1e-6)


@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_symbolic_shapes_are_the_eager_ones(return_sequences, return_state):
    layer = make_grid_rnn(return_sequences=return_sequences, return_state=return_state)
    shape = (2, 3, 4, 4, 4, GATES)

    def shapes(output):
        outputs = output if isinstance(output, (list, tuple)) else [output]
        return [tuple(tensor.shape) for tensor in outputs]

    eager = shapes(layer(normal(*shape)))
    assert shapes(layer(keras.KerasTensor(shape))) == eager
    assert len(eager) == (3 if return_state else 1)

    unknown = shapes(layer(keras.KerasTensor((None, None, *shape[2:]))))
    output = (None, None, 4, 4, 4, FILTERS) if return_sequences else (None, 4, 4, 4, FILTERS)
    assert unknown == [output, *[(None, 4, 4, 4, FILTERS)] * 2 * return_state]


def test_grid_rnn_comes_back_from_its_config():
    layer = GridRNN(
        GridLSTMCell(
            FILTERS,
            kernel_size=1,
            kernel_initializer=keras.initializers.RandomUniform(-0.5, 0.5),
            bias_initializer="ones",
            name="cell",
        ),
        return_sequences=True,
        name="recurrence",
    )
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert isinstance(again, GridRNN)
    assert isinstance(again.cell, GridLSTMCell)
    assert again.get_config() == layer.get_config()
    assert (again.cell.filters, again.cell.kernel_size) == (FILTERS, 1)
    assert again.cell.kernel_initializer.maxval == 0.5


# UpsampleConv3D


def two_steps(filters, **kwargs):
    """What `UpsampleConv3D` is short for; the convolution holds the weights."""
    return [
        keras.layers.UpSampling3D(2),
        keras.layers.Conv3D(filters, 3, padding="same", **kwargs),
    ]


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 2, 2), (3, 4, 5)])
def test_upsample_conv_is_upsampling_then_convolution(grid):
    grids = normal(2, *grid, 3)
    layer = UpsampleConv3D(4, bias_initializer=keras.initializers.RandomNormal(seed=1))
    output = numpy_of(layer(grids))

    kernel, bias = numpy_of(layer.kernel), numpy_of(layer.bias)
    upsampled = grids.repeat(2, axis=1).repeat(2, axis=2).repeat(2, axis=3)
    np.testing.assert_allclose(output, correlate(upsampled, kernel) + bias, atol=1e-5)

    steps = keras.Sequential(two_steps(4))
    steps.build(grids.shape)
    steps.set_weights([kernel, bias])
    np.testing.assert_allclose(output, numpy_of(steps(grids)), atol=1e-5)


def test_upsample_conv_learns_as_upsampling_then_convolution():
    grids, target = normal(2, 3, 3, 3, 2), normal(2, 6, 6, 6, 4, seed=1)
    # The dense layer in front is there for the gradient with respect to the input.
    short = keras.Sequential([keras.Input((3, 3, 3, 2)), keras.layers.Dense(3), UpsampleConv3D(4)])
    long = keras.Sequential([keras.Input((3, 3, 3, 2)), keras.layers.Dense(3), *two_steps(4)])
    start = short.get_weights()
    long.set_weights(start)
    for model in (short, long):
        model.compile(keras.optimizers.SGD(1.0), "mse")
        model.train_on_batch(grids, target)
    assert len(start) == 4
    for before, after, expected in zip(start, short.get_weights(), long.get_weights(), strict=True):
        assert np.abs(after - before).max() > 1e-3
        np.testing.assert_allclose(after, expected, atol=1e-5)
