"""The layers of 3D-R2N2 that Keras does not have. Letters and sources: see `r2n2.py`."""

import math

import keras
from keras import initializers, ops

from r2n2_keras.model.convolution import conv_transpose


@keras.saving.register_keras_serializable(package="r2n2_keras")
class FoldViews(keras.layers.Layer):
    """Folds the views into the batch, `(B, T, ...)` to `(B * T, ...)`, for the encoder.

    `keras.layers.TimeDistributed` would do this in words, but in Keras 3.14 to 3.15.1 it runs over
    the batch instead of the views where both are unknown in a traced graph.
    """

    def call(self, views):
        return ops.reshape(views, (-1, *views.shape[2:]))

    def compute_output_shape(self, views_shape):
        return (None, *views_shape[2:])


@keras.saving.register_keras_serializable(package="r2n2_keras")
class UnfoldViews(keras.layers.Layer):
    """Undoes `FoldViews`, whose input `views` tells T: features `(B * T, F)` to `(B, T, F)`."""

    def call(self, features, views):
        return ops.reshape(features, (-1, ops.shape(views)[1], features.shape[-1]))

    def compute_output_shape(self, features_shape, views_shape):
        return (*views_shape[:2], features_shape[-1])


@keras.saving.register_keras_serializable(package="r2n2_keras")
class LeakyReLU(keras.layers.Layer):
    """`keras.layers.LeakyReLU` for any shape, whose gradient needs its output only.

    With a `negative_slope` above 0 output and input have the same sign, so what came in need not be
    kept for training. TensorFlow fuses a convolution, its bias and the activation as if it were
    not; where the gradient does ask for it, as Keras' own does, that fails and prints an error.
    """

    def __init__(self, negative_slope, **kwargs):
        super().__init__(**kwargs)
        self.negative_slope = negative_slope

    def call(self, inputs):
        @ops.custom_gradient
        def leaky_relu(x):
            y = ops.leaky_relu(x, self.negative_slope)

            def gradient(*args, upstream=None):
                (upstream,) = args if upstream is None else (upstream,)
                return ops.where(y > 0, upstream, self.negative_slope * upstream)

            return y, gradient

        return leaky_relu(inputs)

    def compute_output_shape(self, inputs_shape):
        return inputs_shape

    def get_config(self):
        return {**super().get_config(), "negative_slope": self.negative_slope}


@keras.saving.register_keras_serializable(package="r2n2_keras")
class PaddedMaxPooling2D(keras.layers.Layer):
    """2x2 max-pooling, stride 2, of a picture with one more row and column on each side.

    The padding is minus infinity: it never wins. `(B, H, W, C)` becomes
    `(B, H // 2 + 1, W // 2 + 1, C)`, so that the paper's 127 pixels go 64, 33, 17, 9, 5, 3.
    `keras.layers.MaxPooling2D(padding="same")` pads at the end only, and an even edge not at all.
    """

    def call(self, images):
        margins = ((0, 0), (1, 1), (1, 1), (0, 0))
        padded = ops.pad(images, margins, constant_values=-float("inf"))
        return ops.max_pool(padded, pool_size=2, strides=2, padding="valid")

    def compute_output_shape(self, images_shape):
        batch, height, width, channels = images_shape
        return (batch, height // 2 + 1, width // 2 + 1, channels)


@keras.saving.register_keras_serializable(package="r2n2_keras")
class Unpool3D(keras.layers.Layer):
    """Doubles a grid by zeros: cell i goes to cell 2i, the seven others of each eight are 0.

    `(B, N, N, N, C)` to `(B, 2N, 2N, 2N, C)`. The original's `Unpool3DLayer`; neither
    nearest-neighbour upsampling nor a transposed convolution.
    """

    def call(self, grids):
        shape = list(grids.shape[1:])
        for axis in (2, 1, 0):
            # What follows an axis lies side by side: as much again of zeros after every cell.
            row = math.prod(shape[axis + 1 :])
            grids = ops.pad(ops.reshape(grids, (-1, row)), ((0, 0), (0, row)))
            shape[axis] *= 2
        return ops.reshape(grids, (-1, *shape))

    def compute_output_shape(self, grids_shape):
        batch, *grid, channels = grids_shape
        return (batch, *(2 * edge for edge in grid), channels)


@keras.saving.register_keras_serializable(package="r2n2_keras")
class UpsampleConv3D(keras.layers.Layer):
    """Upsampling by 2, then a convolution, as one transposed convolution of stride 2.

    That spreads each input cell over a neighbourhood of the doubled grid, as the two steps do:

    * Upsampling by zeros (`Unpool3D`): the neighbourhood is the kernel, back to front: 27/8
      products per output cell instead of 27.
    * Nearest-neighbour upsampling: each pair of equal neighbours meets the kernel's taps w0, w1, w2
      in only two ways per axis, which gives four taps [w2, w1 + w2, w0 + w1, w0]: 8 products.

    Args:
        filters: int, number of output channels.
        kernel_size: int, odd edge of the kernel; the weight stays the convolution's plain kernel.
        upsampling: "zeros" or "nearest".
        kernel_initializer, bias_initializer: as those of Keras' convolutions.

    Input shape: `(B, N, N, N, C)`. Output shape: `(B, 2N, 2N, 2N, filters)`.
    """

    def __init__(
        self,
        filters,
        kernel_size=3,
        upsampling="nearest",
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.upsampling = upsampling
        self.kernel_initializer = initializers.get(kernel_initializer)
        self.bias_initializer = initializers.get(bias_initializer)

    def build(self, grids_shape):
        shape = (*[self.kernel_size] * 3, grids_shape[-1], self.filters)
        self.kernel = self.add_weight(shape, self.kernel_initializer, name="kernel")
        self.bias = self.add_weight((self.filters,), self.bias_initializer, name="bias")

    def call(self, grids):
        kernel = ops.flip(ops.swapaxes(ops.convert_to_tensor(self.kernel), 3, 4), axis=(0, 1, 2))
        if self.upsampling == "nearest":
            for axis in range(3):  # a convolution of the taps with [1, 1]
                before, after = ([(0, 0)] * 5 for _ in range(2))
                before[axis], after[axis] = (1, 0), (0, 1)
                kernel = ops.pad(kernel, before) + ops.pad(kernel, after)
            return conv_transpose(grids, kernel, strides=2, padding="same") + self.bias
        # Tap k of cell i belongs to cell 2i + k - reach of the doubled grid; "same" would put it
        # elsewhere.
        reach, edges = self.kernel_size // 2, grids.shape[1:-1]
        grids = conv_transpose(grids, kernel, strides=2, padding="valid")
        x, y, z = (slice(reach, reach + 2 * edge) for edge in edges)
        return grids[:, x, y, z] + self.bias

    def compute_output_shape(self, grids_shape):
        batch, *grid, _ = grids_shape
        return (batch, *(2 * edge for edge in grid), self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "upsampling": self.upsampling,
            "kernel_initializer": initializers.serialize(self.kernel_initializer),
            "bias_initializer": initializers.serialize(self.bias_initializer),
        }


@keras.saving.register_keras_serializable(package="r2n2_keras")
class Occupancy(keras.layers.Layer):
    """The probability that a voxel is occupied, from the decoder's last convolution.

    `(B, N, N, N, 1)` or `(B, N, N, N, 2)` to `(B, N, N, N)`. Two channels are the scores of "empty"
    and "occupied": the answer is the second one's share of their softmax, which is the sigmoid of
    their difference. One channel is that difference itself.
    """

    def call(self, scores):
        if scores.shape[-1] == 2:
            return ops.sigmoid(scores[..., 1] - scores[..., 0])
        return ops.sigmoid(scores[..., 0])

    def compute_output_shape(self, scores_shape):
        return tuple(scores_shape[:-1])
