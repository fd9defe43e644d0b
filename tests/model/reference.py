"""What the tests of the network compare it with, in NumPy, and the helpers that they share.

Both references take weights, work in the axis orders of the code that they stand for, and convert
the images themselves: `(B, T, H, W, C)` in, `(B, N, N, N)` out.
"""

import itertools
import math
import re

import numpy as np
from scipy import ndimage

# Narrow widths of the paper's wirings and the notebook's; neighbouring layers differ wherever the
# wiring lets them. Pooling leaves 7, 4, 3, 2, 2 and 2 of 13 pixels (the notebook's 6 and 3), the
# grid grows from 2 to 16. All tests share the shapes: a backend that compiles by shape then does so
# once.
RESIDUAL = {
    "image_size": 13,
    "encoder_filters": (2, 3, 4, 5, 6, 6),
    "features": 9,
    "grid_edge": 2,
    "hidden_channels": 5,
    "decoder_filters": (5, 5, 4, 3, 2),
}
SHALLOW = {**RESIDUAL, "encoder_filters": (2, 3, 4, 5, 6, 7), "decoder_filters": (6, 7, 4, 3, 2)}
NOTEBOOK = {
    **RESIDUAL,
    "encoder_filters": (4, 8),
    "encoder_kernel_sizes": (7, 3),
    "decoder_filters": (7, 6, 4, 2, 1),
}


# Helpers


def images_of(model, batch=1, views=1, seed=0):
    shape = (batch, views, model.image_size, model.image_size, model.channels)
    return np.random.default_rng(seed).uniform(size=shape).astype("float32")


def predict(model, images):
    return model.predict(images, verbose=0)


def loud(shapes, fan_in, gain=1.5, seed=2):
    """Draws weights, the same on every backend, with which all parts of a network show.

    Initial weights shrink a signal from layer to layer: a fresh network says 0.5 whatever it sees.
    `fan_in` tells how many inputs a kernel of some shape sums, `gain` how loud their sum is.
    """
    rng = np.random.default_rng(seed)

    def draw(shape):
        deviation = gain * fan_in(shape) ** -0.5 if len(shape) > 1 else 0.2
        return rng.normal(0, deviation, shape)

    return [draw(shape) for shape in shapes]


def spread(model, gain=1.5):
    """Gives a model loud weights."""
    shapes = [weight.shape for weight in model.weights]
    model.set_weights(loud(shapes, lambda shape: math.prod(shape[:-1]), gain))
    return model


# Mathematics


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def leaky_relu(x, slope=0.01):
    return np.where(x > 0, x, slope * x)


def conv(x, kernel, bias, filtered):
    """Sums `filtered` channels, zeros around them: `(B, C, ...)`, `(F, C, ...)`, `(F,)`."""
    outputs = []
    for kernel_of, bias_of in zip(kernel, bias, strict=True):
        channels = (
            filtered(x[:, c], taps[np.newaxis], mode="constant") for c, taps in enumerate(kernel_of)
        )
        outputs.append(bias_of + sum(channels))
    return np.stack(outputs, axis=1)


def max_pool(x):
    """2x2 pooling of `(B, C, H, W)`; an odd last row or column is dropped."""
    height, width = x.shape[2] // 2, x.shape[3] // 2
    x = x[:, :, : 2 * height, : 2 * width]
    return x.reshape(*x.shape[:2], height, 2, width, 2).max(axis=(3, 5))


# The networks of the paper, as the Theano code wires them


def conv2d(x, kernel, bias):
    """`(B, C, H, W)` with `(F, C, h, w)`: a convolution in the word's own sense, kernel flipped."""
    return conv(x, kernel, bias, ndimage.convolve)


def conv3d(x, kernel, bias):
    """The same, `(B, d, C, h, w)` with `(F, d, C, h, w)`."""
    x, kernel = np.moveaxis(x, 2, 1), np.moveaxis(kernel, 2, 1)
    return np.moveaxis(conv(x, kernel, bias, ndimage.convolve), 1, 2)


def padded_max_pool(x):
    """2x2 pooling with one pixel around the image that never is the maximum."""
    return max_pool(np.pad(x, [(0, 0), (0, 0), (1, 1), (1, 1)], constant_values=-np.inf))


def unpool(x):
    """Doubles the grid of `(B, d, C, h, w)`: a value goes to the even index, zeros elsewhere."""
    batch, depth, channels, height, width = x.shape
    doubled = np.zeros((batch, 2 * depth, channels, 2 * height, 2 * width))
    doubled[:, ::2, :, ::2, ::2] = x
    return doubled


class PaperNetwork:
    """The networks of the paper, from weights in the original's order and layout.

    Kernels are those of `conv2d` and `conv3d`. The dense layer's rows are the pooled map's
    `(C, H, W)`, the columns of a gate's input weights the grid's `(d, C, h, w)`.

    Args:
        arrays: convolutions and dense layer of the encoder, `(W, b)` each; the gates,
            `(Wh, Wx, b)` each: update, reset, candidate; the decoder's convolutions. 63 arrays
            are the residual network, 33 the shallow one.
        recurrence: "gru" or "lstm". The gates of the LSTM are forget, input, state: a choice of
            these tests, no list of the original's is known.
    """

    ENCODERS = {33: "1 2 3 4 5 6", 63: "1a 1b 2a 2b 2c 3a 3b 3c 4a 4b 5a 5b 5c 6a 6b"}
    DECODERS = {33: "7 8 9 10 11", 63: "7a 7b 8a 8b 9a 9b 9c 10a 10b 10c 11"}

    def __init__(self, arrays, recurrence="gru"):
        self.recur = {"gru": self.gru, "lstm": self.lstm}[recurrence]
        self.num_states = {"gru": 1, "lstm": 2}[recurrence]
        self.arrays = arrays
        self.residual = len(arrays) == 63
        rest = (np.asarray(array, "float64") for array in arrays)

        def pairs(names):
            return {name: (next(rest), next(rest)) for name in names.split()}

        self.convs = pairs(self.ENCODERS[len(arrays)])
        self.fc7 = next(rest), next(rest)
        self.gates = [(next(rest), next(rest), next(rest)) for _ in range(3)]
        self.convs |= pairs(self.DECODERS[len(arrays)])
        assert not list(rest)

        _, w_x, bias = self.gates[0]
        edge = round((w_x.shape[1] / bias.size) ** (1 / 3))
        self.grid_shape = (edge, bias.size, edge, edge)

    def conv2d(self, x, name):
        return conv2d(x, *self.convs[name])

    def conv3d(self, x, name):
        return conv3d(x, *self.convs[name])

    def encode(self, x):
        for n in range(1, 7):
            if self.residual:
                x = padded_max_pool(self.encoder_block(x, n))
            else:
                x = leaky_relu(padded_max_pool(self.conv2d(x, f"{n}")))
        kernel, bias = self.fc7
        return leaky_relu(x.reshape(len(x), -1) @ kernel + bias)

    def encoder_block(self, x, n):
        a = leaky_relu(self.conv2d(x, f"{n}a"))
        b = leaky_relu(self.conv2d(a, f"{n}b"))
        if n in (2, 3, 5):
            return b + self.conv2d(x, f"{n}c")  # no activation follows the sum
        return b + x if n == 6 else b

    def gate(self, gate, x, h):
        w_h, w_x, bias = gate
        return conv3d(h, w_h, bias) + (x @ w_x).reshape(-1, *self.grid_shape)

    def gru(self, x, h):
        update, reset, candidate = self.gates
        u = sigmoid(self.gate(update, x, h))
        r = sigmoid(self.gate(reset, x, h))
        c = np.tanh(self.gate(candidate, x, r * h))
        return [u * h + (1 - u) * c]

    def lstm(self, x, h, s):
        forget, input_, state = self.gates
        f = sigmoid(self.gate(forget, x, h))
        i = sigmoid(self.gate(input_, x, h))
        s = f * s + i * np.tanh(self.gate(state, x, h))
        return [np.tanh(s), s]

    def decode(self, x):
        for n in range(7, 11):
            x = unpool(x) if n < 10 else x
            x = self.decoder_block(x, n) if self.residual else leaky_relu(self.conv3d(x, f"{n}"))
        empty, occupied = np.moveaxis(np.exp(self.conv3d(x, "11")), 2, 0)
        return occupied / (empty + occupied)

    def decoder_block(self, x, n):
        a = leaky_relu(self.conv3d(x, f"{n}a"))
        b = leaky_relu(self.conv3d(a, f"{n}b"))
        if n == 10:  # its shortcut starts at a, that of no other block does
            return b + self.conv3d(a, "10c")
        return b + (self.conv3d(x, "9c") if n == 9 else x)

    def __call__(self, images):
        images = np.moveaxis(images, -1, 2).astype("float64")
        state = [np.zeros((len(images), *self.grid_shape))] * self.num_states
        for view in range(images.shape[1]):
            state = self.recur(self.encode(images[:, view]), *state)
        return self.decode(state[0])


def theano_shapes(net):
    """Shapes of the list that the original saves of a network with the arguments of `net`."""
    count = 33 if net.encoder_shortcuts is None else 63

    def convs(names, widths, first):
        for name in names.split():
            number, letter = re.fullmatch(r"(\d+)([abc]?)", name).groups()
            inputs, outputs = widths[int(number) - first :][:2]
            inner = letter == "b" or name == "10c"  # starts at a, which has as many channels
            edge = 7 if name in ("1", "1a") else 1 if letter == "c" and not inner else 3
            edges = [edge, edge] if first == 1 else [edge, edge, edge]
            yield outputs, *edges[2:], outputs if inner else inputs, *edges[:2]
            yield (outputs,)

    channels, edge = net.encoder_filters[-1], net.image_size
    for _ in net.encoder_filters:
        edge = edge // 2 + 1
    yield from convs(PaperNetwork.ENCODERS[count], (net.channels, *net.encoder_filters), 1)
    yield from ((channels * edge**2, net.features), (net.features,))
    hidden, edge = net.hidden_channels, net.recurrent_kernel_size
    for _ in range(3):
        yield hidden, edge, hidden, edge, edge
        yield net.features, net.grid_edge**3 * hidden
        yield (hidden,)
    yield from convs(PaperNetwork.DECODERS[count], (hidden, *net.decoder_filters), 7)


def loud_arrays(net, gain=1.5):
    """Such a list, with which all parts of the network show."""

    def fan_in(shape):
        return shape[0] if len(shape) == 2 else math.prod(shape[1:])

    return [array.astype("float32") for array in loud(theano_shapes(net), fan_in, gain)]


# The network of the PyTorch notebook, in PyTorch's shapes: `(B, C, ...)`, kernels `(F, C, ...)`


def upsample(x):
    """`nn.Upsample(scale_factor=2, mode="nearest")`."""
    return x.repeat(2, axis=2).repeat(2, axis=3).repeat(2, axis=4)


NOTEBOOK_SHAPES = {
    "encoder.c1": (4, 4, 7, 7),
    "encoder.c2": (8, 4, 3, 3),
    "encoder.fc3": (9, 8 * 3 * 3),
    **{f"lstm.fc_{gate}": (5 * 2**3, 9) for gate in "fis"},
    **{f"lstm.conv_{gate}": (5, 5, 3, 3, 3) for gate in "fis"},
    **{
        f"decoder.deconv{n}": (outputs, inputs, 3, 3, 3)
        for n, (inputs, outputs) in enumerate(itertools.pairwise((5, 7, 6, 4, 2, 1)), start=1)
    },
}


def loud_state():
    """State dicts of the narrow notebook, as PyTorch has them."""
    shapes = {f"{key}.weight": shape for key, shape in NOTEBOOK_SHAPES.items()}
    shapes |= {f"{key}.bias": shape[:1] for key, shape in NOTEBOOK_SHAPES.items()}
    arrays = loud(shapes.values(), fan_in=lambda shape: math.prod(shape[1:]))
    return {key: array.astype("float32") for key, array in zip(shapes, arrays, strict=True)}


class NotebookNetwork:
    """Its modules Encoder, LSTM3D and Decoder, narrow, and its loop over the views."""

    def __init__(self, state):
        def pairs(*keys):
            return [(state[f"{key}.weight"], state[f"{key}.bias"]) for key in keys]

        self.encoder_convs = pairs("encoder.c1", "encoder.c2")
        (self.fc3,) = pairs("encoder.fc3")
        self.gates = [pairs(f"lstm.fc_{gate}", f"lstm.conv_{gate}") for gate in "fis"]
        self.decoder_convs = pairs(*(f"decoder.deconv{n}" for n in range(1, 6)))

    def conv(self, x, kernel, bias):
        """`nn.Conv2d` or `nn.Conv3d` with `padding=kernel_size // 2`."""
        return conv(x, kernel, bias, ndimage.correlate)

    def encode(self, x):
        for kernel, bias in self.encoder_convs:
            x = leaky_relu(max_pool(self.conv(x, kernel, bias)), slope=0.1)
        kernel, bias = self.fc3
        return x.reshape(len(x), -1) @ kernel.T + bias

    def recur(self, x, h, s):
        def gate(fc, conv_weights):
            kernel, bias = fc
            return (x @ kernel.T + bias).reshape(h.shape) + self.conv(h, *conv_weights)

        f, i, s_new = (gate(*weights) for weights in self.gates)
        s = sigmoid(f) * s + sigmoid(i) * np.tanh(s_new)
        return np.tanh(s), s

    def decode(self, x):
        for number, (kernel, bias) in enumerate(self.decoder_convs):
            x = self.conv(upsample(x) if number < 3 else x, kernel, bias)
        return sigmoid(x[:, 0])

    def __call__(self, images):
        images = np.moveaxis(images, -1, 2).astype("float64")
        h = s = np.zeros((len(images), 5, 2, 2, 2))
        for view in range(images.shape[1]):
            h, s = self.recur(self.encode(images[:, view]), h, s)
        return self.decode(h)
