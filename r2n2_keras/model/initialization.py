"""How weights start: as in the original, or as in PyTorch."""

from keras import initializers


def initializers_of(initialization, fan_in, fan_out):
    """Initializers of a kernel and its bias, as arguments of a layer.

    Args:
        initialization: "original", N(0, sqrt(2/n)) over the mean n of inputs and outputs, not
            truncated, and biases of 0.1 (the "msra" filler of the original's `lib/layers.py`); or
            "pytorch", U(-1/sqrt(n), 1/sqrt(n)) over the inputs n, biases too: the default of
            PyTorch's convolutions and dense layers, which the notebook keeps.
        fan_in: int, how many inputs a cell of the output has.
        fan_out: int, how many outputs a cell of the input has.
    """
    if initialization == "original":
        kernel = initializers.RandomNormal(0.0, (4 / (fan_in + fan_out)) ** 0.5)
        bias = initializers.Constant(0.1)
    else:
        limit = fan_in**-0.5
        kernel, bias = (initializers.RandomUniform(-limit, limit) for _ in range(2))
    return {"kernel_initializer": kernel, "bias_initializer": bias}
