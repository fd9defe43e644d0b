"""The recurrence view by view, on whatever backend is configured.

`networks_test.py` has the equations of its cells, `r2n2_test.py` the gradient through them.
"""

import keras
import numpy as np
import pytest
from grids import keras_battery, normal, numpy_of, run_layer_test

from r2n2_keras.model.recurrence import GridGRUCell, GridLSTMCell, GridRNN

FILTERS = 2
GATES = 3 * FILTERS
CELLS = {"lstm": GridLSTMCell, "gru": GridGRUCell}


def loud_cell():
    """A cell whose recurrent part shows: its weights are not small, its biases not zero."""
    initializers = (keras.initializers.RandomNormal(stddev=0.5, seed=seed) for seed in (1, 2))
    return GridLSTMCell(FILTERS, 3, *initializers)


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


# GridRNN


def test_grid_rnn_is_a_loop_over_the_cell():
    """However many views one model is given."""
    cell = loud_cell()
    inputs = keras.Input((None, 3, 3, 3, GATES))
    model = keras.Model(inputs, GridRNN(cell, return_sequences=True)(inputs))
    last = GridRNN(cell, return_state=True)
    for views in (1, 2, 5):
        gate_inputs = normal(2, views, 3, 3, 3, GATES)
        states = [np.zeros((2, 3, 3, 3, FILTERS), "float32")] * 2
        outputs = []
        for view in range(views):
            h, states = cell(gate_inputs[:, view], states)
            outputs.append(numpy_of(h))
        expected = np.stack(outputs, axis=1)
        np.testing.assert_allclose(model.predict(gate_inputs, verbose=0), expected, atol=1e-5)
        for part, state in zip(last(gate_inputs), [outputs[-1], *states], strict=True):
            np.testing.assert_allclose(numpy_of(part), numpy_of(state), atol=1e-5)


@pytest.mark.parametrize("return_state", [False, True])
@pytest.mark.parametrize("return_sequences", [False, True])
def test_symbolic_shapes_are_the_eager_ones(return_sequences, return_state):
    layer = make_grid_rnn(return_sequences=return_sequences, return_state=return_state)
    shape = (2, 3, 4, 4, 4, GATES)

    def shapes_of(inputs):
        return [tuple(tensor.shape) for tensor in keras.tree.flatten(layer(inputs))]

    eager = shapes_of(normal(*shape))
    assert shapes_of(keras.KerasTensor(shape)) == eager
    unknown = [(None, 4, 4, 4, FILTERS)] * (3 if return_state else 1)
    if return_sequences:
        unknown[0] = (None, None, 4, 4, 4, FILTERS)
    assert shapes_of(keras.KerasTensor((None, None, *shape[2:]))) == unknown


def test_grid_rnn_comes_back_from_its_config():
    uniform = keras.initializers.RandomUniform(-0.5, 0.5)
    cell = GridLSTMCell(FILTERS, 1, uniform, bias_initializer="ones", name="cell")
    layer = GridRNN(cell, return_sequences=True, name="recurrence")
    again = keras.layers.deserialize(keras.layers.serialize(layer))
    assert isinstance(again, GridRNN) and isinstance(again.cell, GridLSTMCell)
    assert again.get_config() == layer.get_config()
    assert (again.cell.filters, again.cell.kernel_size) == (FILTERS, 1)
    assert again.cell.kernel_initializer.maxval == 0.5
