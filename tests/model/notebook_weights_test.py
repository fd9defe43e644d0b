"""The notebook's state dicts: where each array goes, and files that are refused."""

import io
import zipfile

import numpy as np
import peak_memory
import pytest
from commands import refusal
from reference import NOTEBOOK, NotebookNetwork, images_of, loud_state, predict

from r2n2_keras.errors import InputError
from r2n2_keras.model import notebook_weights
from r2n2_keras.model.r2n2 import R2N2


@pytest.fixture(scope="module")
def narrow():
    return R2N2.from_preset("notebook", **NOTEBOOK)


@pytest.fixture
def state():
    return loud_state()


@pytest.fixture
def file(tmp_path):
    return tmp_path / "notebook.npz"


def test_the_imported_network_answers_what_the_notebook_answers(narrow, state, file):
    np.savez(file, **state)
    notebook_weights.assign(narrow, notebook_weights.read(file, narrow))
    images = images_of(narrow, batch=2, views=3)
    expected = NotebookNetwork(state)(images)
    assert np.ptp(expected) > 0.2
    np.testing.assert_allclose(predict(narrow, images), expected, atol=1e-4)

    notebook_weights.assign(narrow, state, swap_yz=True)
    assert np.abs(expected - expected.swapaxes(2, 3)).max() > 0.1
    np.testing.assert_allclose(predict(narrow, images), expected.swapaxes(2, 3), atol=1e-4)


def test_the_preset_has_the_notebooks_shapes():
    shapes = notebook_weights.expected_shapes(R2N2.from_preset("notebook"))
    assert len(shapes) == 36
    assert shapes["encoder.fc7.weight"] == (1024, 1024)
    assert shapes["lstm.fc_s.weight"] == (128 * 4**3, 1024)
    assert shapes["decoder.deconv5.weight"] == (1, 32, 3, 3, 3)


@pytest.mark.parametrize("dtype", [">f4", "float64", "float16"])
def test_other_floats_are_converted(narrow, state, file, dtype):
    np.savez_compressed(file, **{key: value.astype(dtype) for key, value in state.items()})
    notebook_weights.assign(narrow, notebook_weights.read(file, narrow))
    kernel = narrow.get_layer("encoder_conv2").get_weights()[0]
    expected = state["encoder.c2.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_allclose(kernel, expected, rtol=1e-3, atol=1e-6)


def swap(state, one, other):
    state[one], state[other] = state[other], state[one]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("lstm.fc_i.bias"), "lstm.fc_i.bias is missing"),
        (lambda s: s.update(more=np.ones(3)), "'more' is unknown"),
        (
            lambda s: swap(s, "encoder.c1.weight", "decoder.deconv2.bias"),
            r"c1.weight is \(6,\) instead of \(4, 4, 7, 7\).*deconv2.bias is \(4, 4, 7, 7\)",
        ),
        (
            lambda s: s.update({"module.c1.bias": s.pop("encoder.c1.bias")}),
            "encoder.c1.bias is missing; 'module.c1.bias' is unknown",
        ),
        (lambda s: s.clear(), "; and 24 more"),
        (
            lambda s: s["decoder.deconv3.weight"].__setitem__(0, np.nan),
            "decoder.deconv3.weight, received 162 that are NaN",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_named(narrow, state, file, change, message):
    before = narrow.get_weights()
    change(state)
    np.savez(file, **state)
    for arrays in (lambda: state, lambda: notebook_weights.read(file, narrow)):
        with pytest.raises(InputError, match=message) as error:
            notebook_weights.assign(narrow, arrays())
        assert "\n" not in str(error.value)
    for weight, kept in zip(narrow.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


# Files


def npy(shape, descr="<f4", data=b""):
    file = io.BytesIO()
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue() + data


@pytest.mark.parametrize(
    ("member", "message"),
    [
        (npy((2**40,)), r"encoder.c1.bias is \(1099511627776,\) instead of \(4,\)"),
        (npy((4,), "|O", b"\x80\x04cos\nsystem\n."), "encoder.c1.bias holds object instead"),
        (npy((4,), "<c8", bytes(32)), "encoder.c1.bias holds complex64"),
        (npy((4,), "<i8", bytes(32)), "encoder.c1.bias holds int64"),
        (npy((4,), data=bytes(15)), "EOF"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(2**27), "no header of NumPy's .npy format"),
        (b"", "no header"),
    ],
    ids=["huge", "pickle", "complex", "integers", "truncated", "bomb", "empty"],
)
def test_members_that_are_refused(narrow, state, file, member, message):
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in state.items():
            content = npy(value.shape, data=value.tobytes())
            archive.writestr(f"{key}.npy", member if key == "encoder.c1.bias" else content)
    with peak_memory.of_python_below(2**22), pytest.raises(InputError, match=message) as error:
        notebook_weights.read(file, narrow)
    assert "\n" not in str(error.value) and "notebook.npz" in str(error.value)


def test_files_that_are_refused(narrow, state, file):
    def read():
        notebook_weights.read(file, narrow)

    assert "notebook.npz, which cannot be read (No such file" in refusal(read)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("encoder.c1.bias.npy", npy((4,), data=bytes(16)))
    assert "in which NumPy packs no arrays" in refusal(read)
    np.savez(file, **state)
    content = file.read_bytes()
    for other in (b"", b"text", b"PK\x03\x04" * 99, npy((3,), data=bytes(12)), content[:-99]):
        file.write_bytes(other)
        assert "File is not a zip file" in refusal(read)
    at = content.index(state["encoder.c2.weight"].tobytes())
    file.write_bytes(content[:at] + b"damage" + content[at + 6 :])
    assert "Bad CRC-32" in refusal(read)
    file.unlink()
    file.mkdir()
    assert "which is no file" in refusal(read)


@pytest.mark.parametrize(
    "change",
    [{"recurrence": "gru"}, {"gate_input_bias": False}, {"encoder_shortcuts": ("none",) * 2}],
)
def test_networks_that_are_not_the_notebooks(state, change):
    with pytest.raises(InputError, match='Expected a model wired as the preset "notebook" is'):
        notebook_weights.assign(R2N2.from_preset("notebook", **NOTEBOOK, **change), state)
