"""Weights of the original, a list of arrays of its Theano code, into an `R2N2`.

Beside the letters of `r2n2.py`: O I outputs and inputs, k a kernel's edge. The grids' [x, y, z] are
the original's d, h, w. Its `models/net.py` saves a list in the order in which it made its layers:

| arrays | shapes | here |
|---|---|---|
| W, b of the encoder's convolutions | `(O, I, k, k)`, `(O,)` | `(k, k, I, O)` |
| W, b of the dense layer | `(C*H*W, F)`, `(F,)` | `(H*W*C, F)` |
| Wh, Wx, b of the gates: | `(C, k, C, k, k)`, | `(k, k, k, C, 2*C)`, `(k, k, k, C, C)`, |
| update, reset, candidate | `(F, N*C*N*N)`, `(C,)` | `(F, N*N*N*3*C)`, `(3*C,)` |
| W, b of the decoder's convolutions | `(O, k, I, k, k)`, `(O,)` | `(k, k, k, I, O)` |

Theano convolves in the word's own sense, Keras correlates: each kernel is also turned around.

What the file cannot tell: two arrays of equal shape that changed places, and whether the 33 arrays
of a shallow network are a 3D-GRU's, as is assumed, or those of the original's 3D-LSTM, which have
the same shapes. In which order the latter were saved is not known.
"""

import re

import numpy as np

from r2n2_keras.errors import InputError
from r2n2_keras.model.weight_files import channels_last, finite_float32, listing, misfits

_RESIDUAL, _SHALLOW = 63, 33  # arrays of the original's ResidualGRUNet and GRUNet
_GATE_ARRAYS = slice(14, 23)  # of GRUNet: behind 6 convolutions and a dense layer
_GATES = ("update", "reset", "candidate")


def preset_of(arrays: list[np.ndarray]) -> str:
    """The preset whose network saves such a list: "res_gru_3", "gru_3" or "gru_1".

    Goes by the number of arrays, the nearest one where it is none of the two, and the edge of the
    recurrent kernels; `assign` says where the rest does not fit.
    """
    if len(arrays) > (_RESIDUAL + _SHALLOW) / 2:
        return "res_gru_3"
    edges = [array.shape[1] for array in arrays[_GATE_ARRAYS] if array.ndim == 5]
    return "gru_1" if edges.count(1) > edges.count(3) else "gru_3"


def assign(model, arrays: list[np.ndarray]) -> None:
    """Gives a model with a 3D-GRU the weights of such a list, once all of them are known to fit.

    An InputError tells of arrays of another network or size, and of numbers that are not finite.
    """
    if model.recurrence != "gru" or model.gate_input_bias:
        raise InputError(
            'Expected a model with recurrence="gru" and without gate_input_bias, received '
            f"{model.recurrence!r} and gate_input_bias={model.gate_input_bias}. In which order the "
            "original saved its 3D-LSTM is not known: take one of its 3D-GRU networks."
        )
    arrays = iter(_checked(arrays, _expected(model)))
    for _, layer in _convs(model, "encoder"):
        layer.kernel.assign(_kernel(next(arrays)))
        layer.bias.assign(next(arrays))
    dense = model.get_layer("encoder_dense")
    dense.kernel.assign(channels_last(next(arrays), model.encoder_filters[-1]))
    dense.bias.assign(next(arrays))
    _assign_gates(model, [(next(arrays), next(arrays), next(arrays)) for _ in _GATES])
    for _, layer in _convs(model, "decoder"):
        layer.kernel.assign(_kernel(next(arrays)))
        layer.bias.assign(next(arrays))


def _convs(model, part):
    """Convolutions of the encoder or decoder, by the original's names and in its order."""
    found = {}
    for layer in model.layers:
        if match := re.fullmatch(rf"{part}_(?:up_)?conv(\d+)([abc]?)", layer.name):
            found[int(match[1]), match[2]] = layer
    # The original counts on from the encoder over the dense layer to the decoder: conv6, fc7, conv7
    first = 0 if part == "encoder" else len(model.encoder_filters)
    return [(f"conv{first + n}{letter}", layer) for (n, letter), layer in sorted(found.items())]


def _expected(model):
    def of_convs(part):
        for name, layer in _convs(model, part):
            *edges, inputs, outputs = layer.kernel.shape
            inner = (inputs, *edges) if len(edges) == 2 else (edges[0], inputs, *edges[1:])
            yield f"{name} W", (outputs, *inner)
            yield f"{name} b", (outputs,)

    features, hidden = model.features, model.hidden_channels
    edge, grid = model.recurrent_kernel_size, model.grid_edge
    fc = f"fc{len(model.encoder_filters) + 1}"
    shapes = dict(of_convs("encoder"))
    shapes[f"{fc} W"] = tuple(model.get_layer("encoder_dense").kernel.shape)
    shapes[f"{fc} b"] = (features,)
    for gate in _GATES:
        shapes[f"{gate} Wh"] = (hidden, edge, hidden, edge, edge)
        shapes[f"{gate} Wx"] = (features, grid * hidden * grid * grid)
        shapes[f"{gate} b"] = (hidden,)
    return shapes | dict(of_convs("decoder"))


def _checked(arrays, expected):
    labels = [f"array {n} ({name})" for n, name in enumerate(expected)]
    arrays = [np.asarray(array) for array in arrays]
    received = {label: array.shape for label, array in zip(labels, arrays, strict=False)}
    faults = misfits(dict(zip(labels, expected.values(), strict=True)), received)
    if len(arrays) != len(expected):
        faults += [f"{label} is missing" for label in labels[len(arrays) :]]
        faults += [f"array {n} is too many" for n in range(len(expected), len(arrays))]
        raise InputError(
            f"Expected {len(expected)} arrays, received {len(arrays)}. The first that does not "
            f"fit, counted from 0: {faults[0]}. Give the whole list that the original saved."
        )
    if faults:
        raise InputError(
            f"Expected the arrays of this network, received other shapes, counted from 0: "
            f"{listing(faults)}. Give the list in the order in which the original saved it."
        )
    return [finite_float32(*pair) for pair in zip(arrays, labels, strict=True)]


def _kernel(array):
    """`(O, I, k, k)` or `(O, k, I, k, k)`, turned around, to `(k, .., I, O)`."""
    if array.ndim == 4:
        return np.flip(array, (2, 3)).transpose(2, 3, 1, 0)
    return np.flip(array, (1, 3, 4)).transpose(1, 3, 4, 2, 0)


def _assign_gates(model, gates):
    """Gives the recurrence its gates' `(Wh, Wx, b)`: update, reset, candidate."""
    hidden_weights, input_weights, biases = zip(*gates, strict=True)
    cell = model.get_layer("recurrence").cell
    update, reset, candidate = map(_kernel, hidden_weights)
    cell.recurrent_kernel.assign(np.concatenate([update, reset], axis=-1))
    cell.candidate_kernel.assign(candidate)
    cell.bias.assign(np.concatenate(biases))
    shape = (model.features, model.grid_edge, model.hidden_channels, *[model.grid_edge] * 2)
    # (F, x, C, y, z) for each gate to (F, x, y, z, gate, C)
    inputs = [array.reshape(shape).transpose(0, 1, 3, 4, 2) for array in input_weights]
    kernel = np.stack(inputs, axis=4).reshape(model.features, -1)
    model.get_layer("recurrence_gate_inputs").kernel.assign(kernel)
