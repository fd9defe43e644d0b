"""What training changes of the renderings: their crop, their sides, their colours.

As in the original (`lib/data_augmentation.py`) the background's colour, the place of the crop of
137 to 127 pixels and left or right are drawn for every picture on its own; the voxels are not
mirrored. Besides, brightness, contrast and saturation can vary. All is a pure function of the seed.

An augmentation is a field of `AugmentationSettings`, which is also its flag, and an entry of
`_PARTS`: which random numbers it reads, and what it makes of a `Transform` with them. The commands
read the settings before they load TensorFlow.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from r2n2_keras import kinds

_LUMA = (0.299, 0.587, 0.114)  # grey of an RGB colour, ITU-R BT.601
_BLOCK = 9


class _Part(NamedTuple):
    """An augmentation: which random numbers it reads, and what it makes of them.

    `change` takes the `Transform`, the setting and what was drawn, float32 `(..., n)` in [0, 1).
    Each picture has an endless row of random numbers, of which this augmentation alone reads
    `columns`. The row is drawn in blocks of nine, each from a seed of its own: one more
    augmentation, on columns that are free, changes nothing that the others draw.
    """

    columns: slice
    change: Callable


def _crop(transform, _, draws):
    return transform._replace(crop=draws)


def _flip(transform, _, draws):
    return transform._replace(mirrored=draws[..., 0] < 0.5)


def _background(transform, levels, draws):
    lowest, highest = levels
    return transform._replace(background=lowest + (draws * (highest - lowest + 1)) // 1)


def _jitter(transform, strength, draws):
    """The linear maps of RGB in [0, 1] that change brightness, contrast and saturation."""
    factors = 1.0 + strength * (2.0 * draws - 1.0)
    brightness, contrast, saturation = (factors[..., place, None, None] for place in range(3))
    to_grey = np.tile(np.float32(_LUMA)[:, None], [1, 3])
    matrix = saturation * np.eye(3, dtype="float32") + (1.0 - saturation) * to_grey
    # Contrast turns about mid-grey, not the picture's mean: that would be a pass of its own.
    colour = brightness * contrast * matrix, 0.5 * (1.0 - contrast[..., 0, 0])
    return transform._replace(colour=colour)


_PARTS = {  # the next one reads from column 9 on
    "random_crop": _Part(slice(0, 2), _crop),
    "random_flip": _Part(slice(2, 3), _flip),
    "random_background": _Part(slice(3, 6), _background),
    "color_jitter": _Part(slice(6, 9), _jitter),
}


_setting = functools.partial(kinds.setting, commands="train", section="Augmentation", rare=True)


@dataclasses.dataclass(frozen=True)
class AugmentationSettings:
    """What is drawn anew for every picture; nothing unless set."""

    random_crop: bool = _setting(
        False, "Crop pictures up to 10 pixels too large at random places, not at the centre."
    )
    random_flip: bool = _setting(
        False, "Mirror every other picture, left to right, and not the voxels: the original's."
    )
    random_background: kinds.Levels = _setting(
        (), "Draw background colours from these levels; the original's: 225,255. Not for RGBA."
    )
    color_jitter: kinds.Part = _setting(
        0.0, "Change brightness, contrast, saturation by up to this part. Not for RGBA."
    )


class Augmentation(AugmentationSettings):
    """Draws for pictures and transforms them."""

    @classmethod
    def of(cls, settings) -> "Augmentation":
        """The augmentation that settings of the same names ask for."""
        names = (field.name for field in dataclasses.fields(cls))
        return cls(**{name: getattr(settings, name) for name in names})

    def draw(self, seed, shape):
        """Draws for pictures of a shape such as `[B, T]`; the seed is int64 `(2,)`.

        Gives float32 `(B, T, n)` in [0, 1), for `transforms`; None where nothing is random.
        """
        import tensorflow as tf

        used = self._used()
        if not used:
            return None
        end = max(_PARTS[name].columns.stop for name in used)
        blocks = [
            tf.random.stateless_uniform([*shape, _BLOCK], seed + [block << 32, 0])
            for block in range(-(-end // _BLOCK))
        ]
        return tf.concat(blocks, axis=-1)

    def transforms(self, draws):
        """The `Transform` of pictures by what was drawn for them, float32 `(..., n)`, or None."""
        from r2n2_keras.data.images import CENTRE_CROP

        transform = CENTRE_CROP
        for name, setting in self._used().items():
            columns, change = _PARTS[name]
            transform = change(transform, setting, draws[..., columns])
        return transform

    def _used(self):
        settings = {name: getattr(self, name) for name in _PARTS}
        return {name: setting for name, setting in settings.items() if setting}


NO_AUGMENTATION = Augmentation()
