"""What training changes of the renderings: their crop, their sides, their colours.

As in the original (`lib/data_augmentation.py`) the background's colour, the place of the crop of
137 to 127 pixels and left or right are drawn for every picture on its own; the voxels are not
mirrored. Besides, brightness, contrast and saturation can vary. All is a pure function of the seed.
"""

import dataclasses

import tensorflow as tf

from r2n2_keras.data.images import CENTRE_CROP, Transform

_LUMA = (0.299, 0.587, 0.114)  # grey of an RGB colour, ITU-R BT.601


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """What is drawn anew for every picture.

    Attributes:
        random_crop: crop at any place instead of the centre.
        random_flip: mirror every other picture.
        random_background: lowest and highest level, 0 to 255, of the background's channels; empty
            keeps the network's background.
        color_jitter: brightness, contrast and saturation are multiplied by factors of up to this
            much more or less than 1.
    """

    random_crop: bool = False
    random_flip: bool = False
    random_background: tuple[int, ...] = ()
    color_jitter: float = 0.0

    def draw(self, seed, shape):
        """Draws for some pictures.

        Args:
            seed: int64 `(2,)`.
            shape: of the pictures, such as `[B, T]`.

        Returns:
            float32 `(B, T, 9)` in [0, 1), for `transforms`; None where nothing is random.
        """
        if self == NO_AUGMENTATION:
            return None
        return tf.random.stateless_uniform([*shape, 9], seed)

    def transforms(self, draws) -> Transform:
        """The transforms of pictures by what was drawn for them, float32 `(..., 9)`, or None."""
        if draws is None:
            return CENTRE_CROP
        background = None
        if self.random_background:
            lowest, highest = self.random_background
            background = lowest + tf.floor(draws[..., 3:6] * (highest - lowest + 1))
        return Transform(
            place=draws[..., :2] if self.random_crop else None,
            mirrored=draws[..., 2] < 0.5 if self.random_flip else None,
            background=background,
            colour=self._colour(draws[..., 6:]) if self.color_jitter else None,
        )

    def _colour(self, draws):
        """The linear maps of RGB in [0, 1] that change brightness, contrast and saturation."""
        factors = 1.0 + self.color_jitter * (2.0 * draws - 1.0)
        brightness, contrast, saturation = (factors[..., place, None, None] for place in range(3))
        to_grey = tf.tile(tf.constant(_LUMA)[:, None], [1, 3])
        matrix = saturation * tf.eye(3) + (1.0 - saturation) * to_grey
        # Contrast turns about mid-grey, not the picture's mean: that would be a pass of its own.
        return brightness * contrast * matrix, 0.5 * (1.0 - contrast[..., 0, 0])


NO_AUGMENTATION = Augmentation()
