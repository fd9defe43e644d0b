"""Convolutions that are fast under every precision, on a CPU too.

TensorFlow has no fast float16 convolutions for CPUs: one training step of the quick start took more
than two minutes. Where there is only a CPU, float16 convolutions are therefore computed in float32
and rounded, which is what a GPU's tensor cores do: products of float16, summed in float32.
"""

import keras
from keras import layers, ops


def conv(inputs, kernel, **kwargs):
    return _widened(ops.conv, inputs, kernel, **kwargs)


def conv_transpose(inputs, kernel, **kwargs):
    return _widened(ops.conv_transpose, inputs, kernel, **kwargs)


@keras.saving.register_keras_serializable(package="r2n2_keras")
class Conv2D(layers.Conv2D):
    """`keras.layers.Conv2D` with its arguments, channels last: `(B, H, W, C)`."""

    def convolution_op(self, inputs, kernel):
        return _widened(super().convolution_op, inputs, kernel)

    def call(self, inputs):
        # Keras adds the bias as TensorFlow's BiasAdd, whose gradient TensorFlow fuses with the
        # kernel's into a slower operation on a CPU: half as long again for the first convolution.
        outputs = self.convolution_op(inputs, self.kernel)
        if self.use_bias:
            outputs = outputs + ops.reshape(self.bias, (1, 1, 1, -1))
        return self.activation(outputs)


@keras.saving.register_keras_serializable(package="r2n2_keras")
class Conv3D(layers.Conv3D):
    """`keras.layers.Conv3D` with its arguments: `(B, N, N, N, C)`."""

    def convolution_op(self, inputs, kernel):
        return _widened(super().convolution_op, inputs, kernel)


def _widened(function, inputs, kernel, **kwargs):
    dtype = keras.backend.standardize_dtype(inputs.dtype)
    if dtype != "float16" or not _is_slow_in_float16():
        return function(inputs, kernel, **kwargs)
    wide = function(ops.cast(inputs, "float32"), ops.cast(kernel, "float32"), **kwargs)
    return ops.cast(wide, dtype)


def _is_slow_in_float16():
    if keras.backend.backend() != "tensorflow":
        return False
    return all(device.startswith("cpu") for device in keras.distribution.list_devices())
