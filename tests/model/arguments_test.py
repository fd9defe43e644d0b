"""The arguments of `R2N2`: which there are, what they do, which are refused."""

import inspect
import json
import math

import numpy as np
import pytest
from reference import RESIDUAL, SHALLOW, images_of, predict

from r2n2_keras.model.r2n2 import R2N2

DEFAULTS = {
    name: parameter.default
    for name, parameter in inspect.signature(R2N2.__init__).parameters.items()
    if name not in ("self", "name", "trainable")
}


@pytest.mark.parametrize("unknown", [{"hiden_channels": 4}, {"dtype": "mixed_bfloat16"}])
def test_arguments_that_do_not_exist_are_refused(unknown):
    with pytest.raises(TypeError, match=next(iter(unknown))):
        R2N2(**RESIDUAL, **unknown)


def test_more_upsamplings_make_a_finer_grid():
    # The original's 64^3 network: block 10 doubles the grid as well, its shortcut the clean one.
    shortcuts = ("identity", "identity", "conv", "conv")
    model = R2N2(**{**RESIDUAL, "grid_upsamplings": 4, "decoder_shortcuts": shortcuts})
    assert model.output_shape == (None, 32, 32, 32)
    assert model.get_layer("decoder_up_conv4a").kernel.shape == (3, 3, 3, 4, 3)
    assert model.get_layer("decoder_up_conv4c").kernel.shape == (1, 1, 1, 4, 3)
    assert predict(model, images_of(model)).shape == (1, 32, 32, 32)


def test_defaults_are_the_residual_presets():
    config = R2N2.from_preset("res_gru_3", **RESIDUAL).get_config()
    assert config == {"name": "res_gru_3", "trainable": True, **DEFAULTS, **RESIDUAL}


def test_arguments_replace_those_of_the_preset():
    others = {**SHALLOW, "recurrent_kernel_size": 3, "grid_upsamplings": 2}
    model = R2N2.from_preset("gru_1", **others, name="other")
    assert model.output_shape == (None, 8, 8, 8)
    shortcuts = {"encoder_shortcuts": None, "decoder_shortcuts": None}
    expected = {"name": "other", "trainable": True, **DEFAULTS, **shortcuts, **others}
    assert model.get_config() == expected


def test_every_argument_comes_back_from_the_config():
    """As JSON has them, also where they were given as lists or as NumPy's numbers."""
    others = {
        "image_size": 13, "channels": 4, "background": 255, "alpha": "threshold",
        "encoder_filters": [3, 4, 4], "encoder_kernel_sizes": (5, 3, 1),
        "encoder_shortcuts": ("conv", "none", "identity"), "encoder_pooling": "valid",
        "encoder_slope": np.float32(0.5), "features": np.int64(7), "features_slope": 0.3,
        "recurrence": "lstm", "grid_edge": 3, "hidden_channels": 2, "recurrent_kernel_size": 1,
        "gate_input_bias": True, "decoder_filters": (2, 3, 1),
        "decoder_shortcuts": ("identity", "inner_conv"), "decoder_slope": 0.4,
        "grid_upsamplings": 1, "upsampling": "nearest", "initialization": "pytorch",
    }  # fmt: skip
    assert set(others) == set(DEFAULTS)
    assert all(others[name] != default for name, default in DEFAULTS.items())
    model = R2N2(**others, name="other")
    again = R2N2.from_config(json.loads(json.dumps(model.get_config())))
    expected = {"name": "other", "trainable": True, **others, "encoder_filters": (3, 4, 4)}
    assert again.get_config() == model.get_config() == expected
    assert [(w.path, w.shape) for w in again.weights] == [(w.path, w.shape) for w in model.weights]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"background": 256}, "background to be at most 255.*Received: background=256"),
        ({"background": -1}, "background.*of at least 0.*Received: background=-1"),
        ({"alpha": "blend"}, "alpha.*'composite'.*'threshold'.*Received: alpha='blend'"),
        ({"recurrence": "rnn"}, "recurrence.*'gru'.*'lstm'.*Received: recurrence='rnn'"),
        ({"encoder_pooling": "same"}, "encoder_pooling.*Received: encoder_pooling='same'"),
        ({"upsampling": "linear"}, "upsampling.*Received: upsampling='linear'"),
        ({"encoder_kernel_sizes": (7, 3)}, "6 encoder_kernel_sizes.*Received: .*=\\(7, 3\\)"),
        ({"encoder_shortcuts": ("none",) * 5}, "6 encoder_shortcuts.*Received: .*'none'"),
        ({"encoder_shortcuts": ("inner_conv",) * 6}, "encoder_shortcuts.*Received: .*'inner_conv'"),
        ({"encoder_shortcuts": ("identity",) * 6}, "not 3 and 2.*Received: encoder_shortcuts="),
        ({"decoder_shortcuts": ("none",) * 5}, "4 decoder_shortcuts.*Received: .*'none'"),
        ({"decoder_shortcuts": ("skip",) * 4}, "decoder_shortcuts.*Received: .*'skip'"),
        ({"decoder_shortcuts": ("identity",) * 4}, "not 5 and 4.*Received: decoder_shortcuts="),
        ({"decoder_filters": (5, 5, 4, 3, 3)}, "to be 1 or 2.*Received: decoder_filters="),
        ({"grid_upsamplings": 6}, "grid_upsamplings.*Received: grid_upsamplings=6"),
        ({"grid_edge": 0}, "grid_edge.*Received: grid_edge=0"),
        ({"features": True}, "features to be an integer.*Received: features=True"),
        ({"encoder_filters": 4}, "encoder_filters to be a list.*Received: encoder_filters=4"),
        ({"encoder_filters": ()}, "one at least.*Received: encoder_filters=\\(\\)"),
        ({"recurrent_kernel_size": 2}, "odd integer.*Received: recurrent_kernel_size=2"),
        ({"encoder_kernel_sizes": (4,) * 6}, "odd integer.*Received: encoder_kernel_sizes="),
        ({"grid_upsamplings": 1.5}, "grid_upsamplings.*Received: grid_upsamplings=1.5"),
        ({"decoder_shortcuts": 7}, "decoder_shortcuts.*Received: decoder_shortcuts=7"),
        ({"encoder_shortcuts": "none"}, "encoder_shortcuts.*Received: encoder_shortcuts='none'"),
        ({"encoder_slope": "a"}, "encoder_slope.*Received: encoder_slope='a'"),
        ({"decoder_slope": math.nan}, "decoder_slope.*Received: decoder_slope=nan"),
        ({"gate_input_bias": "yes"}, "gate_input_bias.*Received: gate_input_bias='yes'"),
        ({"encoder_pooling": "valid"}, "image_size of at least 64.*Received: image_size=13"),
    ],
)
def test_arguments_that_make_no_network_are_refused(arguments, message):
    with pytest.raises(ValueError, match="^Expected .*" + message):
        R2N2(**{**RESIDUAL, **arguments})
