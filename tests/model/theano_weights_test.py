"""What lists of the original's arrays are taken for. `networks_test.py` has where each goes."""

import numpy as np
import pytest
from reference import RESIDUAL, theano_shapes

from r2n2_keras.errors import InputError
from r2n2_keras.model import theano_weights
from r2n2_keras.model.r2n2 import R2N2

SHALLOW = {**RESIDUAL, "encoder_shortcuts": None, "decoder_shortcuts": None}


@pytest.fixture(scope="module")
def residual():
    return R2N2(**RESIDUAL)


@pytest.fixture(scope="module")
def shallow():
    return R2N2(**SHALLOW)


def arrays_of(model, seed=0):
    """Random arrays of the shapes that the original's have."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype("float32") for shape in theano_shapes(model)]


@pytest.mark.parametrize("dtype", [">f4", "float64", "float16"])
def test_other_floats_are_converted(shallow, dtype):
    arrays = arrays_of(shallow)
    theano_weights.assign(shallow, arrays)
    expected = shallow.get_weights()
    theano_weights.assign(shallow, [array.astype(dtype) for array in arrays])
    for weight, other in zip(shallow.get_weights(), expected, strict=True):
        np.testing.assert_allclose(weight, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("edge", "count", "preset"), [(3, 63, "res_gru_3"), (3, 33, "gru_3"), (1, 33, "gru_1")]
)
def test_the_arrays_tell_the_preset(edge, count, preset):
    model = R2N2(**(RESIDUAL if count == 63 else SHALLOW), recurrent_kernel_size=edge)
    arrays = arrays_of(model)
    assert len(arrays) == count
    assert theano_weights.preset_of(arrays) == preset
    # What is wrong with a list is for `assign` to say, of the network that it is meant for.
    assert theano_weights.preset_of(arrays[1:]) == preset
    assert theano_weights.preset_of([*arrays, arrays[0]]) == preset
    arrays[14], arrays[13] = arrays[13], arrays[14]
    assert theano_weights.preset_of(arrays) == preset
    assert theano_weights.preset_of([]) == "gru_3"


def swap(arrays, one, other):
    arrays[one], arrays[other] = arrays[other], arrays[one]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda a: swap(a, 14, 40),
            r"array 14 \(conv3c W\) is \(5,\) instead of \(4, 3, 1, 1\); "
            r"array 40 \(candidate b\) is \(4, 3, 1, 1\) instead of \(5,\)",
        ),
        (lambda a: a.pop(32), r"Expected 63 arrays, received 62.*array 32 \(update Wh\) is"),
        (lambda a: a.pop(), r"Expected 63 arrays, received 62.*array 62 \(conv11 b\) is missing"),
        (lambda a: a.append(a[0]), r"Expected 63 arrays, received 64.*array 63 is too many"),
        (lambda a: a.clear(), r"received 0.*array 0 \(conv1a W\) is missing"),
        (lambda a: a.__setitem__(33, a[33].T), r"array 33 \(update Wx\) is \(40, 9\) instead"),
        (lambda a: a.__setitem__(30, a[30][:-1]), r"array 30 \(fc7 W\) is \(23, 9\) instead"),
        (lambda a: a[51].__setitem__((0,) * 5, np.nan), r"array 51 \(conv9b W\), received 1 that"),
        (lambda a: a[61].fill(np.inf), r"array 61 \(conv11 W\), received 162"),
        (lambda a: a.__setitem__(62, np.full(2, 1e300)), r"array 62 \(conv11 b\), received 2"),
        (lambda a: a.reverse(), "and 58 more"),
    ],
)
def test_arrays_that_do_not_fit_are_named(residual, change, message):
    before = residual.get_weights()
    arrays = arrays_of(residual, seed=3)
    change(arrays)
    with pytest.raises(InputError, match=message) as error:
        theano_weights.assign(residual, arrays)
    assert "\n" not in str(error.value)
    for weight, kept in zip(residual.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, kept)


def test_an_lstm_is_refused():
    model = R2N2(**SHALLOW, recurrence="lstm")
    with pytest.raises(InputError, match="saved its 3D-LSTM is not known"):
        theano_weights.assign(model, arrays_of(model))
