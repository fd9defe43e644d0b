"""The named sizes of the network: arguments of `R2N2`."""

PRESETS = {
    # The PyTorch notebook's network: 30,924,961 parameters.
    "notebook": {
        "image_size": 137,
        "channels": 4,
        "encoder_filters": (96, 128, 256, 256, 256, 256),
        "encoder_kernel_sizes": (7, 3, 3, 3, 3, 3),
        "features": 1024,
        "grid_edge": 4,
        "hidden_channels": 128,
        "recurrent_kernel_size": 3,
        "decoder_filters": (128, 128, 64, 32, 1),
        "grid_upsamplings": 3,
        "encoder_slope": 0.1,
        "decoder_slope": 1,
        "initialization": "pytorch",
    },
    # The same parts, small enough to learn on two CPU cores in minutes.
    "tiny": {
        "image_size": 64,
        "channels": 3,
        "encoder_filters": (16, 32, 64, 96, 128),
        "encoder_kernel_sizes": (5, 3, 3, 3, 3),
        "features": 256,
        "grid_edge": 4,
        "hidden_channels": 32,
        "recurrent_kernel_size": 3,
        "decoder_filters": (48, 32, 8, 1),
        "grid_upsamplings": 3,
        "encoder_slope": 0.1,
        "decoder_slope": 1,
        "initialization": "original",
    },
}
