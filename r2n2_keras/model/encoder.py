"""The encoder: one vector of features per view. Letters and sources: see `r2n2.py`."""

from keras import layers

from r2n2_keras.model.convolution import Conv2D
from r2n2_keras.model.initialization import initializers_of
from r2n2_keras.model.layers import LeakyReLU, PaddedMaxPooling2D


def encode(x, net):
    """Views of all samples `(B, H, W, C)` to features `(B, F)`; `net` has `R2N2`'s arguments."""
    stages = zip(net.encoder_filters, net.encoder_kernel_sizes, strict=True)
    for n, (filters, kernel_size) in enumerate(stages, start=1):
        if net.encoder_shortcuts is None:
            x = _conv(x, filters, kernel_size, f"{n}", net)
            x = _pool(x, n, net)  # before the activation
            x = _activation(x, f"{n}", net)
        else:
            x = _residual_stage(x, n, filters, kernel_size, net)
            x = _pool(x, n, net)
    x = layers.Flatten(name="encoder_flatten")(x)
    fans = initializers_of(net.initialization, x.shape[-1], net.features)
    x = layers.Dense(net.features, name="encoder_dense", **fans)(x)
    if net.features_slope != 1:
        x = LeakyReLU(net.features_slope, name="encoder_dense_act")(x)
    return x


def _residual_stage(x, n, filters, kernel_size, net):
    """Two convolutions beside a shortcut; no activation follows their sum.

    Which shortcut a stage has is the code's choice: the paper's figure gives the first stage one,
    which the code does not have, and the sixth a convolution, where the code has the identity.
    """
    y = _activation(_conv(x, filters, kernel_size, f"{n}a", net), f"{n}a", net)
    y = _activation(_conv(y, filters, 3, f"{n}b", net), f"{n}b", net)
    shortcut = net.encoder_shortcuts[n - 1]
    if shortcut == "none":
        return y
    if shortcut == "conv":
        x = _conv(x, filters, 1, f"{n}c", net)
    return layers.Add(name=f"encoder_add{n}")([y, x])


def _conv(x, filters, kernel_size, suffix, net):
    area = kernel_size**2
    fans = initializers_of(net.initialization, x.shape[-1] * area, filters * area)
    name = f"encoder_conv{suffix}"
    return Conv2D(filters, kernel_size, padding="same", name=name, **fans)(x)


def _activation(x, suffix, net):
    return LeakyReLU(net.encoder_slope, name=f"encoder_act{suffix}")(x)


def _pool(x, n, net):
    if net.encoder_pooling == "padded":
        return PaddedMaxPooling2D(name=f"encoder_pool{n}")(x)
    return layers.MaxPooling2D(2, name=f"encoder_pool{n}")(x)
