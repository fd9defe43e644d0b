"""Bytes to the views that a network takes, inside the TensorFlow graph.

The same functions serve training, evaluation, prediction and the exported model, so what a network
sees cannot drift between them. Letters: T views, H W pixels, C channels.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from r2n2_keras.data import picture_limits
from r2n2_keras.data.png import MAX_PNG_EDGE

CROP_MARGIN = 10  # the original crops its renderings of 137 pixels to 127

PNG = b"\x89PNG"


class Transform(NamedTuple):
    """How a view is cropped, mirrored and coloured; the defaults are those of evaluation.

    Those of several views are one `Transform`, whose tensors begin with a further axis `(T, ...)`.
    """

    crop: object = None  # (down, right) in [0, 1): which of the possible crops; None: the centre
    mirrored: object = None  # scalar bool, left for right; None: no
    background: object = None  # float `(3,)`, 0 to 255; None: the network's
    # Float `(3, 3)` and a scalar: the object's RGB in [0, 1] becomes `rgb @ a + b`; what is
    # composited of it is cut to [0, 1]. None: unchanged.
    colour: object = None

    def of(self, view):
        """That of one of several views."""
        parts = [
            part if part is None else tf.nest.map_structure(lambda tensor: tensor[view], part)
            for part in self
        ]
        return Transform(*parts)


CENTRE_CROP = Transform()


def decode_renderings(contents, count, spec, transforms=CENTRE_CROP):
    """Decodes PNG renderings, string `(T,)`, to float32 `(T, H, W, C)` in [0, 1]; see `to_view`.

    T is `count`. Where all of them can be cropped, which is the rule, their size is told from the
    files' headers, and what is drawn or checked once for all of them is not done for each. Errors
    are those of `decode_png`.
    """
    edges, depths = _png_header(contents)
    margins = edges - spec.image_size
    begins = _crop_begins(margins, transforms.crop)

    def cropped():
        size = [spec.image_size, spec.image_size]
        views = []
        for view in range(count):
            words = _words(tf.io.decode_png(contents[view], channels=4))
            views.append(_colour(tf.slice(words, begins[view], size), spec, transforms.of(view)))
        return tf.stack(views)

    def any_size():
        return tf.stack(
            [
                to_view(decode_png(contents[number]), spec, transforms.of(number))
                for number in range(count)
            ]
        )

    return tf.cond(tf.reduce_all(_croppable(margins) & (depths >= 8)), cropped, any_size)


def decode_png(content):
    """A PNG as uint8 `(H, W, 4)`; InvalidArgumentError where it is damaged or too large."""
    _, depth = _png_header(content)
    pixels = tf.ensure_shape(tf.io.decode_png(content, channels=4), (None, None, 4))
    # TensorFlow makes opaque pixels as deep as the colours: 1 of 255 for black and white.
    opaque = tf.cast(tf.bitwise.left_shift(1, tf.minimum(depth, 8)) - 1, tf.uint8)
    is_shallow = (depth < 8) & tf.reduce_all(pixels[..., 3] == opaque)
    mask = tf.where(is_shallow, tf.constant([0, 0, 0, 255], tf.uint8), tf.zeros(4, tf.uint8))
    return tf.bitwise.bitwise_or(pixels, mask)


def _png_header(contents):
    """Height and width of PNGs, int32 `(..., 2)`, and bits of a sample, int32 `(...)`.

    Refuses what claims more than `MAX_PNG_EDGE` pixels along an edge.
    """
    # Lengthened, as TensorFlow's own complaint about too short a string quotes its bytes.
    header = tf.strings.substr(tf.strings.join([contents, tf.constant(bytes(25))]), 16, 9)
    edges = tf.io.decode_raw(tf.strings.substr(header, 0, 8), tf.int32, little_endian=False)
    depths = tf.cast(tf.io.decode_raw(tf.strings.substr(header, 8, 1), tf.uint8), tf.int32)
    fits = tf.reduce_all((edges > 0) & (edges <= MAX_PNG_EDGE))
    message = f"PNG: not 1 to {MAX_PNG_EDGE} pixels along each edge"
    with tf.control_dependencies([tf.debugging.Assert(fits, [message])]):
        return tf.reverse(edges, [-1]), depths[..., 0]


def decode_picture(content, spec, max_pixels=None):
    """Decodes any picture that TensorFlow knows into what a network takes; see `to_view`.

    Grey, grey with alpha, RGB and RGBA are told apart by their channels; of an animation the first
    picture counts. All but a PNG may have `max_pixels` at most; None: any number. What is no such
    picture, is damaged or too large raises tf.errors.InvalidArgumentError.
    """
    # By itself, as `decode_image` loses a colour that a PNG names as transparent.
    is_png = tf.equal(tf.strings.substr(content, 0, 4), PNG)
    rgba = tf.cond(is_png, lambda: decode_png(content), lambda: _decode_other(content, max_pixels))
    return to_view(rgba, spec)


def _decode_other(content, max_pixels):
    checks = [picture_limits.is_no_jpeg_xl(content)]
    if max_pixels is not None:
        checks.append(picture_limits.check(content, max_pixels))
    with tf.control_dependencies(checks):
        return _with_alpha(tf.io.decode_image(content, expand_animations=False))


def _with_alpha(pixels):
    """Grey, grey with alpha, RGB or RGBA as uint8 `(H, W, 4)`."""
    depth = tf.shape(pixels)[-1]
    has_alpha = tf.equal(depth % 2, 0)
    opaque = tf.fill(tf.shape(pixels[..., :1]), tf.constant(255, tf.uint8))
    alpha = tf.cond(has_alpha, lambda: pixels[..., -1:], lambda: opaque)
    colour = tf.cond(depth > 2, lambda: pixels[..., :3], lambda: tf.repeat(pixels[..., :1], 3, -1))
    return tf.ensure_shape(tf.concat([colour, alpha], axis=-1), (None, None, 4))


def to_view(rgba, spec, transform=CENTRE_CROP):
    """Turns a picture into what a network takes, float32 `(H, W, C)` in [0, 1].

    It is uint8 `(H, W, 4)`, alpha not premultiplied. If it is `CROP_MARGIN` pixels larger, at most,
    it is cropped, as the original crops its renderings of 137 pixels to 127; any other that does
    not fit is scaled whole. With 3 channels the background shows behind transparent pixels and
    beside pictures that are not square; 4 channels keep raw RGBA, as the notebook does.
    """
    words = _words(rgba)
    size = tf.shape(words)
    margin = size - spec.image_size
    croppable = _croppable(margin)
    begin = tf.where(croppable, _crop_begins(margin, transform.crop), 0)
    words = tf.slice(words, begin, tf.where(croppable, tf.fill([2], spec.image_size), size))
    return _fit(_colour(words, spec, transform), spec)


def _words(rgba):
    """Pixels as one word each, `(H, W)`: a fourth of the elements, and of the time to crop them."""
    return tf.bitcast(tf.ensure_shape(rgba, (None, None, 4)), tf.uint32)


def _croppable(margins):
    """Whether pictures that are larger by `(..., 2)` pixels than the spec are cropped."""
    return tf.reduce_all((margins >= 0) & (margins <= CROP_MARGIN), axis=-1)


def _crop_begins(margins, crop):
    """Where the crops begin, int32 `(..., 2)`."""
    if crop is None:
        return margins // 2
    return tf.cast(crop * tf.cast(margins + 1, tf.float32), tf.int32)


def _colour(words, spec, transform):
    """Mirrors and colours RGBA pixels: `(H, W)` words to float32 `(H, W, C)`."""
    if transform.mirrored is not None:
        words = tf.cond(transform.mirrored, lambda: tf.reverse(words, [1]), lambda: words)
    if spec.channels == 4:
        return tf.cast(tf.bitcast(words, tf.uint8), tf.float32) / 255.0
    return _composite(words, spec, transform)


def _composite(words, spec, transform):
    """Puts RGBA pixels before the background: `(H, W)` words to float32 `(H, W, 3)`.

    With rgb and alpha in [0, 255], background g and the transform's colours a, b:

        (alpha (rgb / 255 @ a + b) + (255 - alpha) g / 255) / 255

    which is one matrix product of (alpha rgb, 255 - alpha). The obvious form takes twice the time:
    broadcasting alpha over three channels, and cutting them out of four, are slow.
    """
    alpha = tf.bitwise.right_shift(words, _word(24))
    if spec.alpha == "threshold":
        alpha = tf.minimum(alpha, _word(1)) * _word(255)
        words = tf.bitwise.bitwise_and(words, _word(0x00FFFFFF))
        words = tf.bitwise.bitwise_or(words, tf.bitwise.left_shift(alpha, _word(24)))
    # Bytes (alpha, alpha, alpha, 1) times bytes (r, g, b, 255 - alpha).
    weights = tf.bitcast(alpha * _word(0x010101) + _word(0x01000000), tf.uint8)
    values = tf.bitcast(tf.bitwise.bitwise_xor(words, _word(0xFF000000)), tf.uint8)
    products = tf.cast(values, tf.float32) * tf.cast(weights, tf.float32)

    kernel, offset = _kernel(spec, transform)
    image = tf.matmul(tf.reshape(products, [-1, 4]), kernel)
    if offset is not None:
        # One pass over the picture where `tf.clip_by_value` makes two.
        image = tf.raw_ops.ClipByValue(t=image + offset, clip_value_min=0.0, clip_value_max=1.0)
    return tf.reshape(image, tf.concat([tf.shape(words), [3]], axis=0))


def _kernel(spec, transform):
    """What `_composite` multiplies by, `(4, 3)`, and adds, a scalar or None for nothing."""
    background = (
        np.full(3, spec.background) if transform.background is None else transform.background
    )
    matrix, offset = (np.eye(3), None) if transform.colour is None else transform.colour
    beside = background / 255.0 if offset is None else background / 255.0 - offset
    if transform.background is None and transform.colour is None:  # a constant
        return np.concatenate([matrix / 255.0**2, beside[None] / 255.0]).astype("float32"), None
    rows = [tf.cast(rows, tf.float32) for rows in (matrix / 255.0**2, beside[None] / 255.0)]
    return tf.concat(rows, axis=0), offset


def _word(value):
    return tf.constant(value, tf.uint32)


def _fit(image, spec):
    """Scales a picture whole into a view, with the background beside it."""

    def fit():
        # First smaller, then square: the square around a strip of pixels could fill the memory.
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.round(sides * (spec.image_size / tf.reduce_max(sides)))
        scaled = tf.maximum(tf.cast(scaled, tf.int32), 1)
        fitted = tf.image.resize(image, scaled, antialias=True)
        before = (spec.image_size - scaled) // 2
        after = spec.image_size - scaled - before
        padding = tf.pad(tf.stack([before, after], axis=1), [[0, 1], [0, 0]])
        # Beside a raw RGBA picture there is nothing: transparent black.
        beside = spec.background / 255.0 if spec.channels == 3 else 0.0
        return tf.pad(fitted, padding, constant_values=beside)

    fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], spec.image_size))
    return tf.ensure_shape(tf.cond(fits, lambda: image, fit), spec.shape)
