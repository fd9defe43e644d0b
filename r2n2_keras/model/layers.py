"""The layers of 3D-R2N2 that Keras does not have.

Shapes are written with these letters: B batch, T views, H W pixels, N grid edge, C channels,
F features. Grids are [x, y, z]. Source: Choy et al. 2016, arXiv:1604.00449.

Only `keras` and `numpy` are imported, so the layers run on every Keras backend.
"""

import keras
from keras import initializers, ops

register = keras.saving.register_keras_serializable(package="r2n2_keras")


@register
class FoldViews(keras.layers.Layer):
    """Folds the views into the batch, so that the encoder sees all of them at once.

    `keras.layers.TimeDistributed` would do this in words, but in Keras 3.14 to 3.15.1 it runs over
    the batch instead of the views where both are unknown in a traced graph.

    Input shape: `(B, T, ...)`. Output shape: `(B * T, ...)`.
    """

    def call(self, views):
        return ops.reshape(views, (-1, *views.shape[2:]))

    def compute_output_shape(self, views_shape):
        return (None, *views_shape[2:])


@register
class UnfoldViews(keras.layers.Layer):
    """Undoes `FoldViews`.

    Call arguments:
        features: `(B * T, F)`.
        views: the tensor that was folded, `(B, T, ...)`; only its shape is used.

    Output shape: `(B, T, F)`.
    """

    def call(self, features, views):
        return ops.reshape(features, (-1, ops.shape(views)[1], features.shape[-1]))

    def compute_output_shape(self, features_shape, views_shape):
        return (*views_shape[:2], features_shape[-1])


@register
class GridLSTMCell(keras.layers.Layer):
    """One step of the 3D convolutional LSTM: forget and input gates, no output gate.

    ```
    f_t = sigmoid(x_f + U_f * h_{t-1} + b_f)
    i_t = sigmoid(x_i + U_i * h_{t-1} + b_i)
    s_t = f_t o s_{t-1} + i_t o tanh(x_s + U_s * h_{t-1} + b_s)
    h_t = tanh(s_t)
    ```
    `*` is a 3D convolution, `o` the product cell by cell. The original: `models/mv_lstm_net.py`.

    The input products `x_f, x_i, x_s = W T(x_t)` do not depend on the state: one dense layer
    computes them for all gates and all views before the recurrence, with weights of its own for
    every grid cell. That is what `keras.layers.ConvLSTM3D` lacks: it convolves its input, so all
    cells would share the input weights. It also has an output gate, which the paper leaves out.

    Args:
        filters: int, number of hidden channels per grid cell.
        kernel_size: int, edge of the recurrent kernel in grid cells. Defaults to 3.
        kernel_initializer: initializer of the recurrent kernel.
        bias_initializer: initializer of the bias, which all grid cells share.

    Call arguments:
        inputs: gate inputs x_f, x_i, x_s along the last axis, `(B, N, N, N, 3 * filters)`.
        states: `[h, s]`, each `(B, N, N, N, filters)`.

    Output: `h, [h, s]`.
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
        self.state_size = [filters, filters]  # keras.layers.RNN asks for it; GridRNN has the shape
        self.output_size = filters

    def build(self, inputs_shape):
        if len(inputs_shape) != 5 or inputs_shape[-1] != self.num_gates * self.filters:
            raise ValueError(
                f"Expected gate inputs of shape (B, N, N, N, {self.num_gates * self.filters}). "
                f"Received: inputs_shape={tuple(inputs_shape)}"
            )
        self.grid_shape = tuple(inputs_shape[1:-1])
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.kernel_size,) * 3 + (self.filters, self.num_gates * self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(self.num_gates * self.filters,),
            initializer=self.bias_initializer,
        )

    def call(self, inputs, states):
        h_tm1, s_tm1 = states
        gates = inputs + ops.conv(h_tm1, self.recurrent_kernel, padding="same") + self.bias
        f, i, s = ops.split(gates, self.num_gates, axis=-1)
        s = ops.sigmoid(f) * s_tm1 + ops.sigmoid(i) * ops.tanh(s)
        h = ops.tanh(s)
        return h, [h, s]

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


@register
class GridRNN(keras.layers.RNN):
    """Runs a cell whose state is a grid over the views, however many there are.

    `keras.layers.RNN` derives shapes from an integer state size, which a grid does not have; the
    shapes are all that this class adds.

    Args:
        cell: a Keras cell such as `GridLSTMCell`.
        **kwargs: those of `keras.layers.RNN`.

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


@register
class UpsampleConv3D(keras.layers.Layer):
    """Nearest-neighbour upsampling by 2, then a 3x3x3 convolution, as one transposed convolution.

    After upsampling, each pair of equal neighbours meets the kernel's taps w0, w1, w2 in only two
    ways per axis, so the two steps equal a transposed convolution of stride 2 whose four taps are
    [w2, w1 + w2, w0 + w1, w0]: 8 products per output cell instead of 27. The weight stays the plain
    3x3x3 kernel of `UpSampling3D` followed by `Conv3D(kernel_size=3, padding="same")`.

    Args:
        filters: int, number of output channels.
        kernel_initializer: initializer of the kernel.
        bias_initializer: initializer of the bias.

    Input shape: `(B, N, N, N, C)`. Output shape: `(B, 2N, 2N, 2N, filters)`.
    """

    def __init__(
        self, filters, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def build(self, grids_shape):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(3, 3, 3, grids_shape[-1], self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias", shape=(self.filters,), initializer=self.bias_initializer
        )

    def call(self, grids):
        kernel = ops.swapaxes(ops.convert_to_tensor(self.kernel), 3, 4)
        for axis in range(3):
            w0, w1, w2 = ops.split(kernel, 3, axis=axis)
            kernel = ops.concatenate([w2, w1 + w2, w0 + w1, w0], axis=axis)
        return ops.conv_transpose(grids, kernel, strides=2, padding="same") + self.bias

    def compute_output_shape(self, grids_shape):
        batch, *grid, _ = grids_shape
        return (batch, *(2 * edge for edge in grid), self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }
