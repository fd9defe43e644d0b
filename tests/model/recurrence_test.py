"""The recurrent cells against their equations in NumPy, on whatever backend is configured."""

import keras
import numpy as np
import pytest
from grids import correlate, keras_battery, normal, numpy_of, run_layer_test

from r2n2_keras.model.recurrence import GridGRUCell, GridLSTMCell, GridRNN

FILTERS = 2
GATES = 3 * FILTERS


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def thirds(array):
    return (array[..., n * FILTERS : (n + 1) * FILTERS] for n in range(3))


def lstm_step(gate_inputs, states, cell):
    """The equations of `GridLSTMCell`'s docstring, one gate at a time."""
    h, s = states
    x_f, x_i, x_s = thirds(gate_inputs)
    u_f, u_i, u_s = thirds(numpy_of(cell.recurrent_kernel))
    b_f, b_i, b_s = thirds(numpy_of(cell.bias))
    f = sigmoid(x_f + correlate(h, u_f) + b_f)
    i = sigmoid(x_i + correlate(h, u_i) + b_i)
    s = f * s + i * np.tanh(x_s + correlate(h, u_s) + b_s)
    return [np.tanh(s), s]


def gru_step(gate_inputs, states, cell):
    """The equations of `GridGRUCell`'s docstring, one gate at a time."""
    (h,) = states
    x_u, x_r, x_c = thirds(gate_inputs)
    u_u, u_r = (numpy_of(cell.recurrent_kernel)[..., n * FILTERS :][..., :FILTERS] for n in (0, 1))
    b_u, b_r, b_c = thirds(numpy_of(cell.bias))
    u = sigmoid(x_u + correlate(h, u_u) + b_u)
    r = sigmoid(x_r + correlate(h, u_r) + b_r)
    c = np.tanh(x_c + correlate(r * h, numpy_of(cell.candidate_kernel)) + b_c)
    return [u * h + (1 - u) * c]


CELLS = {"lstm": GridLSTMCell, "gru": GridGRUCell}
STEPS = {"lstm": lstm_step, "gru": gru_step}
both_cells = pytest.mark.parametrize("kind", CELLS)


def loud_cell(kind="lstm", kernel_size=3):
    """A cell whose recurrent part shows: its weights are not small, its biases not zero."""
    return CELLS[kind](
        FILTERS,
        kernel_size,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=1),
        bias_initializer=keras.initializers.RandomNormal(stddev=0.5, seed=2),
    )


def make_grid_rnn(kind="lstm", dtype=None, **kwargs):
    return GridRNN(CELLS[kind](FILTERS, dtype=dtype), dtype=dtype, **kwargs)


# Keras' battery


@keras_battery
@pytest.mark.parametrize(
    ("kwargs", "expected_output_shape", "weights"),
    [
        ({}, (2, 4, 4, 4, FILTERS), 2),
        ({"return_sequences": True}, (2, 3, 4, 4, 4, FILTERS), 2),
        ({"kind": "gru"}, (2, 4, 4, 4, FILTERS), 3),
    ],
)
def test_grid_rnn_passes_the_battery(kwargs, expected_output_shape, weights):
    run_layer_test(
        make_grid_rnn,
        init_kwargs=kwargs,
        input_shape=(2, 3, 4, 4, 4, GATES),
        expected_output_shape=expected_output_shape,
        expected_num_trainable_weights=weights,
        expected_num_non_trainable_weights=0,
    )


# The cells


@pytest.mark.parametrize("kernel_size", [1, 3])
@both_cells
def test_cell_follows_its_equations(kind, kernel_size):
    cell = loud_cell(kind, kernel_size)
    gate_inputs = normal(4, 2, 3, 3, 3, GATES)  # (step, B, N, N, N, gates)
    cell.build(gate_inputs.shape[1:])
    kernels = {"lstm": [3], "gru": [2, 1]}[kind]
    assert [tuple(weight.shape) for weight in cell.weights] == [
        *((kernel_size,) * 3 + (FILTERS, gates * FILTERS) for gates in kernels),
        (GATES,),
    ]
    assert np.all(numpy_of(cell.bias) != 0)

    states = [np.zeros((2, 3, 3, 3, FILTERS), "float32") for _ in cell.state_size]
    expected = states
    for x in gate_inputs:
        output, states = cell(x, states)
        expected = STEPS[kind](x, expected, cell)
        np.testing.assert_allclose(numpy_of(output), expected[0], atol=1e-5)
        for state, expected_state in zip(states, expected, strict=True):
            np.testing.assert_allclose(numpy_of(state), expected_state, atol=1e-5)


class PlainCell(keras.layers.Layer):
    """Either cell with a kernel, a bias and a convolution of its own for every gate."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.state_size = [FILTERS] * {"lstm": 2, "gru": 1}[kind]
        self.output_size = FILTERS

    def build(self, inputs_shape):
        self.kernels = [self.add_weight(shape=(3, 3, 3, FILTERS, FILTERS)) for _ in range(3)]
        self.biases = [self.add_weight(shape=(FILTERS,)) for _ in range(3)]

    def gate(self, n, x, h):
        return x + keras.ops.conv(h, self.kernels[n], padding="same") + self.biases[n]

    def call(self, inputs, states):
        ops = keras.ops
        x, h = list(thirds(inputs)), states[0]
        first, second = (ops.sigmoid(self.gate(n, x[n], h)) for n in range(2))
        if self.kind == "gru":
            h = first * h + (1 - first) * ops.tanh(self.gate(2, x[2], second * h))
            return h, [h]
        s = first * states[1] + second * ops.tanh(self.gate(2, x[2], h))
        return ops.tanh(s), [ops.tanh(s), s]

    def get_initial_state(self, batch_size=None):
        return [keras.ops.zeros((batch_size, 3, 3, 3, FILTERS)) for _ in self.state_size]


@both_cells
def test_fused_gates_learn_as_gates_one_by_one(kind):
    gate_inputs, target = normal(2, 3, 3, 3, 3, 4), normal(2, 3, 3, 3, FILTERS, seed=1)

    def network(cell):
        # The dense layer in front is there for the gradient with respect to the input.
        inputs = keras.Input((3, 3, 3, 3, 4))
        model = keras.Model(inputs, GridRNN(cell)(keras.layers.Dense(GATES)(inputs)))
        model.compile(keras.optimizers.SGD(1.0), "mse")
        return model

    def gates(weights):
        """The fused cell's weights, gate by gate: three kernels, three biases."""
        *kernels, bias = weights
        kernel = np.concatenate(kernels, axis=-1)
        return [*thirds(kernel), *thirds(bias)]

    fused, plain = network(loud_cell(kind)), network(PlainCell(kind))
    start = fused.get_weights()
    plain.set_weights([*start[:2], *gates(start[2:])])
    for model in (fused, plain):
        model.train_on_batch(gate_inputs, target)
    learned = fused.get_weights()
    learned = [*learned[:2], *gates(learned[2:])]
    before = [*start[:2], *gates(start[2:])]
    assert len(learned) == 8
    for old, new, expected in zip(before, learned, plain.get_weights(), strict=True):
        assert np.abs(new - old).max() > 1e-4
        np.testing.assert_allclose(new, expected, atol=1e-5)


def test_neighbours_reach_a_cell_through_the_recurrent_kernel_only():
    state = np.zeros((1, 3, 3, 3, FILTERS), "float32")
    bump = state.copy()
    bump[:, 0, 0, 0] = 1
    gate_inputs = normal(1, 3, 3, 3, GATES)
    reached = {}
    for kernel_size in (1, 3):
        cell = loud_cell(kernel_size=kernel_size)
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


@pytest.mark.parametrize(("gate", "keeps"), [(100.0, 1), (-100.0, 0)])
def test_update_gate_keeps_the_old_state(gate, keeps):
    cell = loud_cell("gru", kernel_size=1)
    candidate = 100 * np.sign(normal(1, 2, 2, 2, FILTERS))  # so large that nothing else shows
    gate_inputs = np.full((1, 2, 2, 2, GATES), gate, "float32")
    gate_inputs[..., 2 * FILTERS :] = candidate
    cell.build(gate_inputs.shape)
    h = normal(1, 2, 2, 2, FILTERS, seed=1)
    _, (new_h,) = cell(gate_inputs, [h])
    np.testing.assert_allclose(numpy_of(new_h), h if keeps else np.sign(candidate), atol=1e-6)


@pytest.mark.parametrize("shape", [(None, 4, 4, 4, GATES + 1), (None, 4, 4, GATES)])
@both_cells
def test_cell_refuses_other_gate_inputs(kind, shape):
    message = rf"Expected gate inputs of shape \(B, N, N, N, {GATES}\)\. Received: inputs_shape="
    with pytest.raises(ValueError, match=message):
        CELLS[kind](FILTERS).build(shape)


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
