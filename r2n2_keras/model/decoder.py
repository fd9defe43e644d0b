"""The decoder, from hidden states to scores of voxels. Letters and sources: see `r2n2.py`."""

from keras import layers

from r2n2_keras.model.convolution import Conv3D
from r2n2_keras.model.initialization import initializers_of
from r2n2_keras.model.layers import LeakyReLU, Unpool3D, UpsampleConv3D


def decode(x, net):
    """Hidden states `(B, N, N, N, C)` to scores; `net` has the arguments of `R2N2`."""
    for n, filters in enumerate(net.decoder_filters, start=1):  # the original's block 6 + n
        grows = net.upsampling if n <= net.grid_upsamplings else None
        last = n == len(net.decoder_filters)
        if net.decoder_shortcuts is None or last:
            x = _conv(x, filters, 3, f"{n}", net, grows)
            x = x if last else _activation(x, f"{n}", net)
        else:
            x = _residual_block(x, n, filters, grows, net)
    return x


def _residual_block(x, n, filters, grows, net):
    """Two convolutions of the upsampled grid beside a shortcut of it.

    The shortcut "inner_conv" starts after the first convolution, as block 10 of the code has it;
    the paper's figure lets it start at the block's input.
    """
    a = _activation(_conv(x, filters, 3, f"{n}a", net, grows), f"{n}a", net)
    y = _activation(_conv(a, filters, 3, f"{n}b", net), f"{n}b", net)
    shortcut = net.decoder_shortcuts[n - 1]
    if shortcut == "none":
        return y
    if shortcut == "conv":
        x = _conv(x, filters, 1, f"{n}c", net, grows)
    elif shortcut == "inner_conv":
        x = _conv(a, filters, 3, f"{n}c", net)
    elif grows == "zeros":
        x = Unpool3D(name=f"decoder_unpool{n}")(x)
    elif grows == "nearest":
        x = layers.UpSampling3D(2, name=f"decoder_up{n}")(x)
    return layers.Add(name=f"decoder_add{n}")([y, x])


def _conv(x, filters, kernel_size, suffix, net, grows=None):
    volume = kernel_size**3
    fans = initializers_of(net.initialization, x.shape[-1] * volume, filters * volume)
    if grows:
        name = f"decoder_up_conv{suffix}"
        return UpsampleConv3D(filters, kernel_size, upsampling=grows, name=name, **fans)(x)
    name = f"decoder_conv{suffix}"
    return Conv3D(filters, kernel_size, padding="same", name=name, **fans)(x)


def _activation(x, suffix, net):
    slope = net.decoder_slope
    return x if slope == 1 else LeakyReLU(slope, name=f"decoder_act{suffix}")(x)
