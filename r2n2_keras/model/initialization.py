"""How weights start: as in the original, or as in PyTorch."""

from keras import initializers


def initializers_of(initialization, fan_in, fan_out):
    """Initializers of a kernel and its bias, as arguments of a layer.

    "original": N(0, sqrt(2/n)) over the mean n of inputs and outputs, not truncated, and biases of
    0.1 (the "msra" filler of the original's `lib/layers.py`). "pytorch": U(-1/sqrt(n), 1/sqrt(n))
    over the inputs n, biases too: the default of PyTorch's layers, which the notebook keeps.
    `fan_in` counts the inputs of an output's cell, `fan_out` the outputs of an input's cell.
    """
    if initialization == "original":
        kernel = initializers.RandomNormal(0.0, (4 / (fan_in + fan_out)) ** 0.5)
        bias = initializers.Constant(0.1)
    else:
        limit = fan_in**-0.5
        kernel, bias = (initializers.RandomUniform(-limit, limit) for _ in range(2))
    return {"kernel_initializer": kernel, "bias_initializer": bias}
