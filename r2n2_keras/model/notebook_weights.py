"""Weights of the PyTorch notebook, its three state dicts in a `.npz` file, into an `R2N2`.

The notebook saves `encoder_net`, `lstm_3d_net` and `decoder_net` apart; `import_weights --help`
shows how one file is made of them. Beside the letters of `r2n2.py`: O I outputs and inputs, k a
kernel's edge.

| keys, each with .weight and .bias | weight | here |
|---|---|---|
| encoder.c1 to c6 | `(O, I, k, k)` | `(k, k, I, O)` |
| encoder.fc7 | `(F, C*H*W)` | `(H*W*C, F)` |
| lstm.fc_f, fc_i, fc_s | `(C*N*N*N, F)` | `(F, N*N*N*3*C)` |
| lstm.conv_f, conv_i, conv_s | `(C, C, k, k, k)` | `(k, k, k, C, 3*C)` |
| decoder.deconv1 to deconv5 | `(O, I, k, k, k)` | `(k, k, k, I, O)` |

The model answers what the notebook's modules answer, cell by cell. The notebook trains on the cells
of binvox files in the order of the file, so it answers [x, z, y], where models trained here answer
[x, y, z]. With `swap_yz` the network is turned: its kernels and the weights of its grid cells
change places, and it answers [x, y, z].

Two arrays of equal shape that changed places cannot be noticed.
"""

import io
import os
import re
import zipfile
import zlib

import numpy as np

from r2n2_keras.errors import InputError
from r2n2_keras.model.weight_files import (
    channels_last,
    check_file,
    finite_float32,
    listing,
    misfits,
    npy_header,
)

_GATES = ("f", "i", "s")
_KINDS = ("weight", "bias")
_SUFFIX = ".npy"  # of the members of a .npz file
_PACKINGS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_HEADER_BYTES = 16_384  # NumPy's own limit is 10,000


def read(path: str | os.PathLike, model) -> dict[str, np.ndarray]:
    """The arrays of a `.npz` file that `model` needs; an InputError if it lacks them or is damaged.

    No array is read before all keys, shapes and types are known to be right: whatever the file
    claims or unpacks to, no more is read than the model holds.
    """
    check_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, expected_shapes(model))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    except OSError as error:
        raise InputError(
            f"Expected the notebook's weights, received {path}: {error.strerror or error}. Check "
            "the path."
        ) from None
    # RuntimeError: it is encrypted, or packed in a way that Python does not know.
    except (zipfile.BadZipFile, EOFError, RuntimeError, ValueError, zlib.error) as error:
        raise InputError(
            f"Expected a .npz file of the notebook's weights, received {path} ({error}). Make it "
            "from the three state dicts, as `import_weights --help` shows."
        ) from None


def assign(model, state: dict[str, np.ndarray], swap_yz: bool = False) -> None:
    """Gives a model the notebook's weights, once all of them are known to fit.

    The model is wired as the preset "notebook" is, as large as the network that was saved; `state`
    has the keys above. An InputError tells of other arrays, and of numbers that are not finite.
    """
    expected = expected_shapes(model)
    _check(expected, {key: np.shape(value) for key, value in state.items()})
    state = {key: finite_float32(state[key], key) for key in expected}

    for key, layer in _convs(model):
        layer.kernel.assign(_kernel(state[f"{key}.weight"], swap_yz))
        layer.bias.assign(state[f"{key}.bias"])
    dense = model.get_layer("encoder_dense")
    key = _dense_key(model)
    dense.kernel.assign(channels_last(state[f"{key}.weight"].T, model.encoder_filters[-1]))
    dense.bias.assign(state[f"{key}.bias"])

    cell = model.get_layer("recurrence").cell
    kernels = [_kernel(state[f"lstm.conv_{gate}.weight"], swap_yz) for gate in _GATES]
    cell.recurrent_kernel.assign(np.concatenate(kernels, axis=-1))
    cell.bias.assign(np.concatenate([state[f"lstm.conv_{gate}.bias"] for gate in _GATES]))
    gate_inputs = model.get_layer("recurrence_gate_inputs")
    weights, biases = ([state[f"lstm.fc_{g}.{kind}"] for g in _GATES] for kind in _KINDS)
    gate_inputs.kernel.assign(_gates_last(model, weights, swap_yz).T)
    gate_inputs.bias.assign(_gates_last(model, biases, swap_yz))


def expected_shapes(model) -> dict[str, tuple[int, ...]]:
    """Keys and shapes that fit `model`; an InputError if it is wired in another way."""
    shallow = model.encoder_shortcuts is None and model.decoder_shortcuts is None
    if model.recurrence != "lstm" or not (shallow and model.gate_input_bias):
        raise InputError(
            'Expected a model wired as the preset "notebook" is, received one with '
            f"recurrence={model.recurrence!r}, gate_input_bias={model.gate_input_bias} and "
            f"{'no ' if shallow else ''}shortcuts. Import into the notebook's."
        )
    hidden, features, edge = model.hidden_channels, model.features, model.recurrent_kernel_size
    weights = {}
    for key, layer in _convs(model):
        *edges, inputs, outputs = layer.kernel.shape
        weights[key] = (outputs, inputs, *edges)
    weights[_dense_key(model)] = tuple(model.get_layer("encoder_dense").kernel.shape[::-1])
    for gate in _GATES:
        weights[f"lstm.fc_{gate}"] = (hidden * model.grid_edge**3, features)
        weights[f"lstm.conv_{gate}"] = (hidden, hidden, edge, edge, edge)
    shapes = {f"{key}.weight": shape for key, shape in weights.items()}
    return shapes | {f"{key}.bias": shape[:1] for key, shape in weights.items()}


def _convs(model):
    """The notebook's keys of the convolutions of encoder and decoder, and the layers here."""
    for layer in model.layers:
        if match := re.fullmatch(r"encoder_conv(\d+)", layer.name):
            yield f"encoder.c{match[1]}", layer
        elif match := re.fullmatch(r"decoder_(?:up_)?conv(\d+)", layer.name):
            yield f"decoder.deconv{match[1]}", layer


def _dense_key(model):
    return f"encoder.fc{len(model.encoder_filters) + 1}"


def _kernel(weight, swap_yz):
    """`(O, I, k, ..)` to `(k, .., I, O)`."""
    if swap_yz and weight.ndim == 5:
        weight = np.swapaxes(weight, -2, -1)
    return np.moveaxis(weight, (1, 0), (-2, -1))


def _gates_last(model, arrays, swap_yz):
    """`(C*N*N*N, ..)` for each gate to `(N*N*N*3*C, ..)`."""
    shape = (3, model.hidden_channels, *[model.grid_edge] * 3)
    gates = np.stack(arrays).reshape(*shape, *arrays[0].shape[1:])  # (3, C, x, y, z, ..)
    if swap_yz:
        gates = np.swapaxes(gates, 3, 4)
    gates = np.moveaxis(gates, (0, 1), (3, 4))  # (x, y, z, 3, C, ..)
    return gates.reshape(-1, *gates.shape[5:])


def _read(archive, expected):
    if any(member.compress_type not in _PACKINGS for member in archive.infolist()):
        raise ValueError("it is packed in a way in which NumPy packs no arrays")
    members = {name.removesuffix(_SUFFIX): name for name in archive.namelist()}
    shapes = {}
    for key, name in members.items():
        shapes[key] = None
        if key in expected:
            with archive.open(name) as member:
                shapes[key], dtype = npy_header(io.BytesIO(member.read(_HEADER_BYTES)))
            if dtype.kind != "f":
                raise ValueError(f"{key} holds {dtype} instead of floats")
    _check(expected, shapes)
    state = {}
    for key in expected:
        with archive.open(members[key]) as member:
            state[key] = np.lib.format.read_array(member, allow_pickle=False)
    return state


def _check(expected, received):
    kinds = (
        [f"{key} is missing" for key in expected if key not in received],
        [f"{key[:60]!a} is unknown" for key in received if key not in expected],
        misfits(expected, received),
    )
    if any(kinds):
        raise InputError(
            "Expected the weights of the notebook's three networks, received others: "
            f"{'; '.join(listing(faults) for faults in kinds if faults)}. Make the file from the "
            "three state dicts, as `import_weights --help` shows."
        )
