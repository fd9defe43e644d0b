"""The 3D-R2N2 network: encoder, recurrence over views, decoder.

Shapes are written with these letters: B batch, T views, H W pixels, N grid edge, C channels,
F features. Source: Choy et al. 2016, arXiv:1604.00449, as the PyTorch notebook that this package
re-implements wires it.
"""

import os
import zipfile

import keras
from keras import layers

from r2n2_keras.errors import InputError
from r2n2_keras.model.layers import (
    FoldViews,
    GridLSTMCell,
    GridRNN,
    UnfoldViews,
    UpsampleConv3D,
    register,
)
from r2n2_keras.model.presets import PRESETS


@register
class R2N2(keras.Model):
    """3D-R2N2: several pictures of an object in, the voxels it occupies out.

    The encoder turns every view into a vector, the 3D-LSTM folds the vectors, view by view, into a
    grid of hidden states, the decoder grows the grid to the output's resolution.

    Args:
        image_size: int, height and width of a view in pixels.
        channels: int, 3 for RGB composited on a background, 4 for raw RGBA.
        encoder_filters: one int per convolution; each is followed by 2x2 max-pooling.
        encoder_kernel_sizes: one int per convolution of the encoder.
        features: int, length of a view's vector.
        grid_edge: int, cells along each axis of the recurrent grid.
        hidden_channels: int, channels of the recurrent state in each cell.
        recurrent_kernel_size: int, edge of the recurrent convolution's kernel.
        decoder_filters: one int per convolution of the decoder; the last is 1.
        grid_upsamplings: int, how many of the decoder's convolutions, from the first on, double
            the grid. The output's edge is `grid_edge * 2**grid_upsamplings`.
        encoder_slope: float, LeakyReLU's slope in the encoder.
        decoder_slope: float, LeakyReLU's slope between the decoder's convolutions; 1 leaves them
            linear, as the notebook does.
        initialization: "pytorch", U(-1/sqrt(n), 1/sqrt(n)) over the inputs n of a cell, biases
            too: the default of its convolutions and dense layers, which the notebook keeps; or
            "original", N(0, sqrt(2/n)) over the mean n of inputs and outputs, biases 0.1
            (`lib/layers.py` of the Theano code).

    Input shape: `(B, T, H, W, C)` float in [0, 1]; T need not be known before the call.
    Output shape: `(B, N, N, N)` float32 [x, y, z], y up: the probability that a voxel is occupied.

    Example:
    ```
    model = R2N2.from_preset("tiny")
    occupancy = model.predict(np.zeros((1, 3, 64, 64, 3)))  # (1, 32, 32, 32)
    ```
    """

    def __init__(
        self,
        image_size,
        channels,
        encoder_filters,
        encoder_kernel_sizes,
        features,
        grid_edge,
        hidden_channels,
        recurrent_kernel_size,
        decoder_filters,
        grid_upsamplings,
        encoder_slope,
        decoder_slope,
        initialization,
        **kwargs,
    ):
        # === Layers ===
        def filled(fan_in, fan_out):
            return _initializers(initialization, fan_in, fan_out)

        encoder = []
        fan_in = channels
        stages = zip(encoder_filters, encoder_kernel_sizes, strict=True)
        for n, (filters, kernel_size) in enumerate(stages, start=1):
            area = kernel_size**2
            encoder += [
                layers.Conv2D(
                    filters,
                    kernel_size,
                    padding="same",
                    name=f"encoder_conv{n}",
                    **filled(fan_in * area, filters * area),
                ),
                layers.MaxPooling2D(2, name=f"encoder_pool{n}"),
                layers.LeakyReLU(encoder_slope, name=f"encoder_act{n}"),
            ]
            fan_in = filters
        pooled_size = image_size // 2 ** len(encoder_filters)
        encoder += [
            layers.Flatten(name="encoder_flatten"),
            layers.Dense(
                features, name="encoder_dense", **filled(fan_in * pooled_size**2, features)
            ),
        ]

        gates = GridLSTMCell.num_gates * hidden_channels
        # About 4 of 5 weights of the full network are in this layer: every grid cell has its own.
        gate_inputs = layers.Dense(
            grid_edge**3 * gates,
            name="recurrence_gate_inputs",
            **filled(features, grid_edge**3 * hidden_channels),  # a gate at a time
        )
        to_grid = layers.Reshape((-1, *[grid_edge] * 3, gates), name="recurrence_to_grid")
        fan = hidden_channels * recurrent_kernel_size**3
        recurrence = GridRNN(
            GridLSTMCell(hidden_channels, recurrent_kernel_size, name="cell", **filled(fan, fan)),
            name="recurrence",
        )

        decoder = []
        fan_in = hidden_channels
        for n, filters in enumerate(decoder_filters, start=1):
            if n > 1 and decoder_slope != 1:
                decoder.append(layers.LeakyReLU(decoder_slope, name=f"decoder_act{n - 1}"))
            initializers = filled(fan_in * 3**3, filters * 3**3)
            if n <= grid_upsamplings:
                decoder.append(UpsampleConv3D(filters, name=f"decoder_up_conv{n}", **initializers))
            else:
                decoder.append(
                    layers.Conv3D(
                        filters, 3, padding="same", name=f"decoder_conv{n}", **initializers
                    )
                )
            fan_in = filters
        output_shape = (grid_edge * 2**grid_upsamplings,) * 3

        # === Functional Model ===
        images = keras.Input((None, image_size, image_size, channels), name="images")
        x = FoldViews(name="fold_views")(images)
        for layer in encoder:
            x = layer(x)
        x = UnfoldViews(name="unfold_views")(x, images)
        x = to_grid(gate_inputs(x))
        x = recurrence(x)
        for layer in decoder:
            x = layer(x)
        x = layers.Reshape(output_shape, name="squeeze_channel")(x)
        # float32 under every precision: probabilities near 0 and 1 need it, and so does REST.
        occupancy = layers.Activation("sigmoid", dtype="float32", name="occupancy")(x)
        super().__init__(inputs=images, outputs=occupancy, **kwargs)

        # === Config ===
        self.image_size = image_size
        self.channels = channels
        self.encoder_filters = tuple(encoder_filters)
        self.encoder_kernel_sizes = tuple(encoder_kernel_sizes)
        self.features = features
        self.grid_edge = grid_edge
        self.hidden_channels = hidden_channels
        self.recurrent_kernel_size = recurrent_kernel_size
        self.decoder_filters = tuple(decoder_filters)
        self.grid_upsamplings = grid_upsamplings
        self.encoder_slope = encoder_slope
        self.decoder_slope = decoder_slope
        self.initialization = initialization

    def get_config(self):
        # Not chained to Functional's config, which lists layers instead of these arguments.
        return {
            "name": self.name,
            "trainable": self.trainable,
            "image_size": self.image_size,
            "channels": self.channels,
            "encoder_filters": self.encoder_filters,
            "encoder_kernel_sizes": self.encoder_kernel_sizes,
            "features": self.features,
            "grid_edge": self.grid_edge,
            "hidden_channels": self.hidden_channels,
            "recurrent_kernel_size": self.recurrent_kernel_size,
            "decoder_filters": self.decoder_filters,
            "grid_upsamplings": self.grid_upsamplings,
            "encoder_slope": self.encoder_slope,
            "decoder_slope": self.decoder_slope,
            "initialization": self.initialization,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)

    @classmethod
    def from_preset(cls, preset):
        """Builds a preset with fresh weights, or loads a trained model.

        Args:
            preset: the name of a preset, a workdir that `train` wrote, or a `.keras` file.

        Raises:
            InputError: there is no such preset, or the file does not hold an R2N2.
        """
        preset = os.fspath(preset)
        if preset in PRESETS:
            return cls(**PRESETS[preset], name=preset)
        if preset.endswith(".keras"):
            return cls.from_file(preset)
        if os.path.isdir(preset):
            return cls.from_file(os.path.join(preset, "model.keras"))
        raise InputError(
            f"Expected a preset ({', '.join(PRESETS)}), a workdir or a .keras file, received "
            f"{preset!r}. Choose one of the presets or check the path."
        )

    @classmethod
    def from_file(cls, path):
        """Loads a trained model from a `.keras` file.

        Raises:
            InputError: there is no such file, or it does not hold an R2N2.
        """
        path = os.fspath(path)
        if not os.path.isfile(path):
            raise InputError(
                f"Expected a trained model, received {path}, which does not exist. Train one, or "
                "check the path."
            )
        if not (path.endswith(".keras") and zipfile.is_zipfile(path)):
            raise InputError(
                f"Expected a .keras file, received {path}, which is none or is damaged. Give one "
                "that `train` wrote."
            )
        try:
            model = keras.saving.load_model(path, compile=False)
        except Exception as error:  # zip, json, HDF5 and Keras each raise their own kinds
            # Keras advises to switch its safe mode off where a file holds code: not for us.
            reason = str(error).strip().split("\n")[0]
            reason = "it holds code" if "safe_mode" in str(error) else reason
            raise InputError(
                f"Expected a .keras file, received {path}, which cannot be read ({reason}). Give "
                "one that `train` wrote."
            ) from error
        if not isinstance(model, cls):
            raise InputError(
                f"Expected a .keras file that holds an R2N2, received {path}, which holds a "
                f"{type(model).__name__}. Give a file that `train` wrote."
            )
        return model


def _initializers(initialization, fan_in, fan_out):
    """Initializers of a kernel and its bias, as arguments of a layer."""
    if initialization == "pytorch":
        limit = fan_in**-0.5
        kernel, bias = (keras.initializers.RandomUniform(-limit, limit) for _ in range(2))
    elif initialization == "original":
        mean_fan = (fan_in + fan_out) / 2
        kernel = keras.initializers.RandomNormal(0.0, (2 / mean_fan) ** 0.5)
        bias = keras.initializers.Constant(0.1)
    else:
        raise ValueError(
            'Expected initialization to be "pytorch" or "original". '
            f"Received: initialization={initialization!r}"
        )
    return {"kernel_initializer": kernel, "bias_initializer": bias}
