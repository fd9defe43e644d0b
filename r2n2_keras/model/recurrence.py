"""The recurrence over views: 3D convolutional LSTM and GRU cells, and the layer that runs them.

Letters and sources: see `r2n2.py`. Both cells take the gates' input products `W T(x_t)` ready-made.
They do not depend on the state, so one dense layer computes them for all gates and views before the
recurrence, with weights of its own for every grid cell. `keras.layers.ConvLSTM3D` convolves its
input instead, with the same weights for all cells, and has an output gate, which the paper lacks.
"""

import keras
from keras import initializers, ops

from r2n2_keras.model.convolution import conv


class _GridCell(keras.layers.Layer):
    """What the two cells share: sizes, weights, an empty state.

    Args:
        filters: int, number of hidden channels per grid cell.
        kernel_size: int, edge of the recurrent kernel in grid cells. Defaults to 3.
        kernel_initializer, bias_initializer: of the recurrent kernels and the cells' shared bias.
    """

    num_gates = 3

    def __init__(
        self,
        filters,
        kernel_size=3,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)
        # keras.layers.RNN asks for both; the shapes are GridRNN's.
        self.state_size = [filters] * self.num_states
        self.output_size = filters

    def build(self, inputs_shape):
        self.grid_shape = tuple(inputs_shape[1:-1])
        self.build_kernels()
        shape = (self.num_gates * self.filters,)
        self.bias = self.add_weight(name="bias", shape=shape, initializer=self.bias_initializer)

    def add_kernel(self, name, first, gates):
        """A kernel from the hidden channels to those of `gates` gates, from gate `first` on."""
        start, end = first * self.filters, (first + gates) * self.filters

        def initializer(shape, dtype=None):
            # An initializer gives the same numbers at every call: each kernel is a part of one draw
            # for all gates, lest two gates start out equal.
            whole = (*shape[:-1], self.num_gates * self.filters)
            return self.kernel_initializer(whole, dtype=dtype)[..., start:end]

        shape = (*[self.kernel_size] * 3, self.filters, end - start)
        return self.add_weight(name=name, shape=shape, initializer=initializer)

    def get_initial_state(self, batch_size=None):
        shape = (batch_size, *self.grid_shape, self.filters)
        return [ops.zeros(shape, dtype=self.compute_dtype) for _ in self.state_size]

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="r2n2_keras")
class GridLSTMCell(_GridCell):
    """One step of the 3D-LSTM: forget and input gates, no output gate.

    ```
    f_t = sigmoid(x_f + U_f * h_{t-1} + b_f)
    i_t = sigmoid(x_i + U_i * h_{t-1} + b_i)
    s_t = f_t o s_{t-1} + i_t o tanh(x_s + U_s * h_{t-1} + b_s)
    h_t = tanh(s_t)
    ```
    `*` is a 3D convolution, `o` the product cell by cell, `x` the gate inputs. The original:
    `models/mv_lstm_net.py`, deleted from its head, as of commit 7a46a37.

    Args: those of `_GridCell`.

    Call arguments:
        inputs: gate inputs x_f, x_i, x_s along the last axis, `(B, N, N, N, 3 * filters)`.
        states: `[h, s]`, each `(B, N, N, N, filters)`. The output is `h, [h, s]`.
    """

    num_states = 2

    def build_kernels(self):
        self.recurrent_kernel = self.add_kernel("recurrent_kernel", first=0, gates=3)

    def call(self, inputs, states):
        h_tm1, s_tm1 = states
        gates = inputs + conv(h_tm1, self.recurrent_kernel, padding="same") + self.bias
        f, i, s = ops.split(gates, 3, axis=-1)
        s = ops.sigmoid(f) * s_tm1 + ops.sigmoid(i) * ops.tanh(s)
        h = ops.tanh(s)
        return h, [h, s]


@keras.saving.register_keras_serializable(package="r2n2_keras")
class GridGRUCell(_GridCell):
    """One step of the 3D-GRU: update and reset gates.

    ```
    u_t = sigmoid(x_u + U_u * h_{t-1} + b_u)
    r_t = sigmoid(x_r + U_r * h_{t-1} + b_r)
    c_t = tanh(x_c + U_c * (r_t o h_{t-1}) + b_c)
    h_t = u_t o h_{t-1} + (1 - u_t) o c_t
    ```
    `*` is a 3D convolution, `o` the product cell by cell, `x` the gate inputs. As the original
    codes it (`models/gru_net.py`): an update gate of 1 keeps the old state, where many write-ups
    let it replace the state, and the reset comes before the convolution.

    Args: those of `_GridCell`.

    Call arguments:
        inputs: gate inputs x_u, x_r, x_c along the last axis, `(B, N, N, N, 3 * filters)`.
        states: `[h]`, `(B, N, N, N, filters)`. The output is `h, [h]`.
    """

    num_states = 1

    def build_kernels(self):
        self.recurrent_kernel = self.add_kernel("recurrent_kernel", first=0, gates=2)
        self.candidate_kernel = self.add_kernel("candidate_kernel", first=2, gates=1)

    def call(self, inputs, states):
        (h_tm1,) = states
        x_ur, x_c = ops.split(inputs + self.bias, [2 * self.filters], axis=-1)
        gates = ops.sigmoid(x_ur + conv(h_tm1, self.recurrent_kernel, padding="same"))
        u, r = ops.split(gates, 2, axis=-1)
        c = ops.tanh(x_c + conv(r * h_tm1, self.candidate_kernel, padding="same"))
        h = u * h_tm1 + (1 - u) * c
        return h, [h]


@keras.saving.register_keras_serializable(package="r2n2_keras")
class GridRNN(keras.layers.RNN):
    """`keras.layers.RNN` of a cell whose state is a grid, over however many views.

    Keras derives shapes from an integer state size; the shapes are all that this class adds. Its
    arguments are a `GridLSTMCell` or `GridGRUCell` and those of `keras.layers.RNN`.

    Input shape: `(B, T, N, N, N, gates * filters)`, T may be unknown.
    Output shape: `(B, N, N, N, filters)`; `(B, T, N, N, N, filters)` with `return_sequences`;
        with `return_state` a list that adds the final states.
    """

    # Keras matches the names of these parameters with those of `call`.
    def compute_output_shape(self, sequences_shape, initial_state_shape=None):
        batch, views, *grid, _ = sequences_shape
        state = (batch, *grid, self.cell.output_size)
        output = (batch, views, *grid, self.cell.output_size) if self.return_sequences else state
        return [output] + [state] * len(self.cell.state_size) if self.return_state else output
