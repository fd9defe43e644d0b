"""The named networks: what each changes of `R2N2`'s defaults, which are Res3D-GRU-3's."""

_SHALLOW = {"encoder_shortcuts": None, "decoder_shortcuts": None}

# What the notebook does in other ways than the paper.
_NOTEBOOK_STYLE = {
    **_SHALLOW,
    "encoder_pooling": "valid",
    "encoder_slope": 0.1,
    "features_slope": 1,
    "recurrence": "lstm",
    "gate_input_bias": True,
    "upsampling": "nearest",
    "decoder_slope": 1,
}

PRESETS = {
    # The paper's five networks, 127x127 RGB; in millions of parameters:
    "lstm_1": {**_SHALLOW, "recurrence": "lstm", "recurrent_kernel_size": 1},  # 30.93
    "gru_1": {**_SHALLOW, "recurrent_kernel_size": 1},  # 30.93
    "lstm_3": {**_SHALLOW, "recurrence": "lstm"},  # 32.21
    "gru_3": _SHALLOW,  # 32.21
    "res_gru_3": {},  # 35.97
    # The PyTorch notebook's network, 137x137 RGBA: 30.92 million.
    "notebook": {
        **_NOTEBOOK_STYLE,
        "image_size": 137,
        "channels": 4,
        "decoder_filters": (128, 128, 64, 32, 1),
        "initialization": "pytorch",
    },
    # The notebook's kinds of layers, small enough for two CPU cores and minutes: 2.07 million.
    "tiny": {
        **_NOTEBOOK_STYLE,
        "image_size": 64,
        "encoder_filters": (16, 32, 64, 96, 128),
        "encoder_kernel_sizes": (5, 3, 3, 3, 3),
        "features": 256,
        "hidden_channels": 32,
        "decoder_filters": (48, 32, 8, 1),
    },
}
