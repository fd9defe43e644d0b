"""The 3D-R2N2 network: encoder, recurrence over views, decoder.

Shapes are written with these letters: B batch, T views, H W pixels, N grid edge, C channels,
F features. Grids are [x, y, z]. Source: Choy et al. 2016, arXiv:1604.00449, and the original's
code, `lib/layers.py` and `models/gru_net.py` (shallow) and `models/res_gru_net.py` (residual).
Where the two differ, the code wins.
"""

import os
import types

import keras
from keras import layers

from r2n2_keras.errors import InputError
from r2n2_keras.files import replacing
from r2n2_keras.model.arguments import checked
from r2n2_keras.model.decoder import decode
from r2n2_keras.model.encoder import encode
from r2n2_keras.model.image_spec import ALPHA, BACKGROUND, ImageSpec
from r2n2_keras.model.initialization import initializers_of
from r2n2_keras.model.layers import FoldViews, Occupancy, UnfoldViews
from r2n2_keras.model.loading import read_model
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.model.recurrence import GridGRUCell, GridLSTMCell, GridRNN

_PRESET_FILE = "model.keras"
_NO_ARGUMENTS = ("self", "name", "trainable", "__class__")
_CELLS = {"gru": GridGRUCell, "lstm": GridLSTMCell}


@keras.saving.register_keras_serializable(package="r2n2_keras")
class R2N2(keras.Model):
    """3D-R2N2: several pictures of an object in, the voxels it occupies out.

    The encoder turns every view into a vector, the 3D-LSTM or 3D-GRU folds the vectors, view by
    view, into a grid of hidden states, the decoder grows the grid to the output's resolution. The
    defaults make the paper's largest network, Res3D-GRU-3; `from_preset` names the others.

    Args:
        image_size: int, height and width of a view in pixels.
        channels: int, 3 for RGB on a background, 4 for raw RGBA.
        background: int, grey level, 0 to 255, behind transparent pixels.
        alpha: "composite" or "threshold", how the background comes there: see `ImageSpec`, which
            tells both to what prepares pictures. The network itself uses neither.
        encoder_filters: one int per stage of the encoder; each ends with 2x2 max-pooling.
        encoder_kernel_sizes: one int per stage, of its first convolution.
        encoder_shortcuts: per stage "none", "identity" or "conv" (1x1): a residual encoder, with
            two convolutions a stage. None: a shallow one, with one.
        encoder_pooling: "padded", a margin of one pixel around as in the original, or "valid", an
            odd last pixel is dropped as in the notebook.
        encoder_slope: float, LeakyReLU's slope in the encoder's stages.
        features: int, length of a view's vector.
        features_slope: float, LeakyReLU's slope on that vector; 1 leaves it linear.
        recurrence: "gru" or "lstm".
        grid_edge: int, cells along each axis of the recurrent grid.
        hidden_channels: int, channels of the recurrent state in each cell.
        recurrent_kernel_size: int, edge of the recurrent convolution's kernel.
        gate_input_bias: bool, whether the gates' input products have a bias for every grid cell,
            beside the one that the cells share.
        decoder_filters: one int per block of the decoder. The last is 2, the scores of "empty" and
            "occupied" for a two-way softmax, or 1 for a sigmoid.
        decoder_shortcuts: per block but the last "none", "identity", "conv" (1x1x1) or "inner_conv"
            (3x3x3, from between the block's convolutions): a residual decoder. None: a shallow one.
        decoder_slope: float, LeakyReLU's slope after the decoder's convolutions, the last excepted;
            1 leaves them linear, as the notebook does.
        grid_upsamplings: int, how many blocks of the decoder, from the first on, double the grid:
            the output's edge is `grid_edge * 2**grid_upsamplings`.
        upsampling: "zeros", the original's unpooling, or "nearest".
        initialization: "original" or "pytorch", see `initialization.py`.

    Input shape: `(B, T, H, W, C)` float in [0, 1]; T need not be known before the call.
    Output shape: `(B, N, N, N)` float32 [x, y, z], y up: the probability that a voxel is occupied.

    Raises:
        ValueError: the arguments do not make a network.

    Example:
    ```
    model = R2N2.from_preset("res_gru_3")
    images = np.zeros((1, 3, 127, 127, 3))
    occupancy = model.predict(images)  # (1, 32, 32, 32)

    state = model.step(None, images[:, 0])  # a view at a time
    state = model.step(state, images[:, 1])
    occupancy = model.decode(state)
    ```
    """

    def __init__(
        self,
        *,
        image_size=127,
        channels=3,
        background=BACKGROUND,
        alpha=ALPHA,
        encoder_filters=(96, 128, 256, 256, 256, 256),
        encoder_kernel_sizes=(7, 3, 3, 3, 3, 3),
        encoder_shortcuts=("none", "conv", "conv", "none", "conv", "identity"),
        encoder_pooling="padded",
        encoder_slope=0.01,
        features=1024,
        features_slope=0.01,
        recurrence="gru",
        grid_edge=4,
        hidden_channels=128,
        recurrent_kernel_size=3,
        gate_input_bias=False,
        decoder_filters=(128, 128, 64, 32, 2),
        decoder_shortcuts=("identity", "identity", "conv", "inner_conv"),
        decoder_slope=0.01,
        grid_upsamplings=3,
        upsampling="zeros",
        initialization="original",
        name=None,
        trainable=True,
    ):
        given = {name: value for name, value in locals().items() if name not in _NO_ARGUMENTS}
        config = checked(given)
        net = types.SimpleNamespace(**config)

        images = keras.Input((None, net.image_size, net.image_size, net.channels), name="images")
        x = FoldViews(name="fold_views")(images)
        x = encode(x, net)
        x = UnfoldViews(name="unfold_views")(x, images)

        Cell = _CELLS[net.recurrence]
        gates = Cell.num_gates * net.hidden_channels
        # 70 % of Res3D-GRU-3's weights are in this layer: every grid cell has its own.
        fan_out = net.grid_edge**3 * net.hidden_channels  # of a gate
        x = layers.Dense(
            net.grid_edge**3 * gates,
            use_bias=net.gate_input_bias,
            name="recurrence_gate_inputs",
            **initializers_of(net.initialization, net.features, fan_out),
        )(x)
        shape = (-1, *[net.grid_edge] * 3, gates)
        gate_inputs = layers.Reshape(shape, name="recurrence_to_grid")(x)
        fan = net.hidden_channels * net.recurrent_kernel_size**3
        cell = Cell(
            net.hidden_channels,
            net.recurrent_kernel_size,
            name="cell",
            **initializers_of(net.initialization, fan, fan),
        )
        hidden = GridRNN(cell, name="recurrence")(gate_inputs)

        x = decode(hidden, net)
        # float32 under every precision: probabilities near 0 and 1 need it, and so does REST.
        occupancy = Occupancy(dtype="float32", name="occupancy")(x)

        super().__init__(inputs=images, outputs=occupancy, name=name, trainable=trainable)
        self._encode = keras.Function(images, gate_inputs)
        self._decode = keras.Function(hidden, occupancy)
        self._arguments = tuple(config)
        for argument, value in config.items():
            setattr(self, argument, value)

    @property
    def image_spec(self):
        return ImageSpec(self.image_size, self.channels, self.background, self.alpha)

    def call_padded(self, images, num_views):
        """`call` for objects with different numbers of views, int `(B,)`, 1 to T each.

        Of the images, `(B, T, H, W, C)` float in [0, 1], what comes after an object's last view is
        ignored. Returns the occupancy `(B, N, N, N)`, float32.
        """
        gate_inputs = self._encode(images)
        views = keras.ops.arange(keras.ops.shape(images)[1], dtype="int32")
        is_view = views < keras.ops.cast(num_views, "int32")[:, None]
        # Of as many axes as a grid has: JAX and PyTorch do not broadcast the mask to it.
        is_view = is_view[:, :, None, None, None, None]
        hidden = self.get_layer("recurrence")(gate_inputs, mask=is_view)
        return self._decode(hidden)

    def initial_state(self, batch_size):
        """Zeros, `[h, s]` of the 3D-LSTM or `[h]` of the 3D-GRU, each `(B, N, N, N, C)`."""
        return self.get_layer("recurrence").cell.get_initial_state(batch_size)

    def step(self, state, images):
        """The state after one more view per object, `(B, H, W, C)` float in [0, 1].

        `state` is what `initial_state` or `step` returned; None is the state before the first view.
        """
        images = keras.ops.convert_to_tensor(images, dtype="float32")
        if tuple(images.shape[1:]) != self.image_spec.shape:
            raise ValueError(
                f"Expected images of shape {('B', *self.image_spec.shape)}, one view per object. "
                f"Received: images.shape={tuple(images.shape)}"
            )
        if state is None:
            state = self.initial_state(keras.ops.shape(images)[0])
        gate_inputs = self._encode(keras.ops.expand_dims(images, axis=1))
        _, state = self.get_layer("recurrence").cell(gate_inputs[:, 0], state)
        return state

    def decode(self, state):
        """The occupancy `(B, N, N, N)` that a state stands for, float32."""
        return self._decode(state[0])

    def get_config(self):
        # Not chained to Functional's config, which lists layers instead of these arguments.
        arguments = {name: getattr(self, name) for name in self._arguments}
        return {"name": self.name, "trainable": self.trainable, **arguments}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)

    @classmethod
    def from_preset(cls, preset, **arguments):
        """Builds a preset with fresh weights, or loads a trained model.

        Args:
            preset: the name of a preset, a folder that `train` or `save_to_preset` wrote, or a
                `.keras` file.
            **arguments: of `R2N2`, in place of those of the named preset: `grid_upsamplings=4`
                makes a network for 64x64x64 voxels. A ValueError if they do not make a network.

        Raises:
            InputError: there is no such preset, or the file does not hold an R2N2.
        """
        preset = os.fspath(preset)
        if preset in PRESETS:
            return cls(**{"name": preset, **PRESETS[preset], **arguments})
        if arguments:
            raise ValueError(
                "Expected arguments only beside the name of a preset: the network of a file is "
                f"what it is. Received: preset={preset!r}, arguments={arguments}"
            )
        if preset.endswith(".keras"):
            return cls.from_file(preset)
        if os.path.isdir(preset):
            return cls.from_file(os.path.join(preset, _PRESET_FILE))
        raise InputError(
            f"Expected a preset ({', '.join(PRESETS)}), a workdir or a .keras file, received "
            f"{preset!r}. Choose one of the presets or check the path."
        )

    def save_to_preset(self, folder):
        """Writes the model, architecture and weights, to a folder for `from_preset`."""
        os.makedirs(folder, exist_ok=True)
        with replacing(os.path.join(folder, _PRESET_FILE)) as partial:
            self.save(partial)

    @classmethod
    def from_file(cls, path):
        """Loads a model from a `.keras` file; an InputError if that holds no R2N2."""
        model = read_model(path)
        if not isinstance(model, cls):
            raise InputError(
                f"Expected a .keras file that holds an R2N2, received {path}, which holds a "
                f"{type(model).__name__}. Give one that `train` or `import_weights` wrote."
            )
        return model
