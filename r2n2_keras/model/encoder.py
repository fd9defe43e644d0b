"""The encoder: one vector of features per view.

Letters: B views of all samples, H W pixels, C channels, F features. Source: Choy et al. 2016,
arXiv:1604.00449; the original's `models/gru_net.py` (shallow), `models/res_gru_net.py` (residual).
"""

from keras import layers

from r2n2_keras.model.convolution import Conv2D
from r2n2_keras.model.initialization import initializers_of
from r2n2_keras.model.layers import LeakyReLU, PaddedMaxPooling2D


def encode(
    x,
    filters,
    kernel_sizes,
    shortcuts,
    pooling,
    slope,
    features,
    features_slope,
    initialization,
):
    """Views `(B, H, W, C)` to features `(B, F)`; the arguments are those of `R2N2`."""
    stages = zip(filters, kernel_sizes, strict=True)
    for n, (stage_filters, kernel_size) in enumerate(stages, start=1):
        if shortcuts is None:
            x = _conv(x, stage_filters, kernel_size, f"{n}", initialization)
            x = _pool(x, pooling, n)  # before the activation
            x = LeakyReLU(slope, name=f"encoder_act{n}")(x)
        else:
            x = _residual_stage(
                x, n, stage_filters, kernel_size, shortcuts[n - 1], slope, initialization
            )
            x = _pool(x, pooling, n)
    x = layers.Flatten(name="encoder_flatten")(x)
    fans = initializers_of(initialization, x.shape[-1], features)
    x = layers.Dense(features, name="encoder_dense", **fans)(x)
    if features_slope != 1:
        x = LeakyReLU(features_slope, name="encoder_dense_act")(x)
    return x


def _residual_stage(x, n, filters, kernel_size, shortcut, slope, initialization):
    """Two convolutions beside a shortcut; no activation follows their sum.

    Which shortcut a stage has is the code's choice: the paper's figure gives the first stage one,
    which the code does not have, and the sixth a convolution, where the code has the identity.
    """
    y = _conv(x, filters, kernel_size, f"{n}a", initialization)
    y = LeakyReLU(slope, name=f"encoder_act{n}a")(y)
    y = _conv(y, filters, 3, f"{n}b", initialization)
    y = LeakyReLU(slope, name=f"encoder_act{n}b")(y)
    if shortcut == "none":
        return y
    if shortcut == "conv":
        x = _conv(x, filters, 1, f"{n}c", initialization)
    return layers.Add(name=f"encoder_add{n}")([y, x])


def _conv(x, filters, kernel_size, suffix, initialization):
    area = kernel_size**2
    return Conv2D(
        filters,
        kernel_size,
        padding="same",
        name=f"encoder_conv{suffix}",
        **initializers_of(initialization, x.shape[-1] * area, filters * area),
    )(x)


def _pool(x, pooling, n):
    if pooling == "padded":
        return PaddedMaxPooling2D(name=f"encoder_pool{n}")(x)
    return layers.MaxPooling2D(2, name=f"encoder_pool{n}")(x)
