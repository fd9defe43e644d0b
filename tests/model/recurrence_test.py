"""The recurrent cells gate by gate and view by view, on whatever backend is configured.

`networks_test.py` has their equations.
"""

import keras
import numpy as np
import pytest
from grids import keras_battery, normal, numpy_of, run_layer_test

from r2n2_keras.model.recurrence import GridGRUCell, GridLSTMCell, GridRNN

FILTERS = 2
GATES = 3 * FILTERS


def thirds(array):
    return (array[..., n * FILTERS : (n + 1) * FILTERS] for n in range(3))


CELLS = {"lstm": GridLSTMCell, "gru": GridGRUCell}
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
