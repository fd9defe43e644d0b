"""Bytes to tensors inside the TensorFlow graph: pictures and binvox files.

The same functions serve training, evaluation, prediction and the exported model, so what a network
sees cannot drift between them. Letters: H W pixels, C channels, N grid edge.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from r2n2_keras.data import picture_limits
from r2n2_keras.data.binvox import (
    BLANK,
    KEYWORD_END,
    MAX_BYTES_PER_CELL,
    MAX_HEADER,
    MAX_RUN,
    NUMBER,
    line_pattern,
)

# A picture may claim more pixels than the memory holds in a few bytes of file.
MAX_PNG_EDGE = 4096
CROP_MARGIN = 10  # the original crops its renderings of 137 pixels to 127

PNG = b"\x89PNG"


@dataclasses.dataclass(frozen=True)
class Frame:
    """What a network takes and gives.

    Attributes:
        image_size: edge of a view in pixels.
        channels: 3 for composited RGB, 4 for raw RGBA.
        grid_edge: cells along each axis of the output.
        background: grey level 0 to 255 behind transparent pixels.
        alpha: "composite" blends by alpha; "threshold" shows the background where alpha is 0 and
            the bare colour elsewhere, as the original does.
    """

    image_size: int
    channels: int
    grid_edge: int
    background: int
    alpha: str = "composite"

    @classmethod
    def of(cls, model, background, alpha="composite"):
        """The frame of an `R2N2`."""
        return cls(model.image_size, model.channels, model.output_shape[-1], background, alpha)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a view, `(H, W, C)`."""
        return self.image_size, self.image_size, self.channels


class Look(NamedTuple):
    """How a view is cropped and coloured; the defaults are those of evaluation.

    The looks of several views are one `Look` whose tensors have a further axis `(T, ...)` in front.

    Attributes:
        place: (down, right) in [0, 1): which of the possible crops. None: the centre.
        mirrored: scalar bool, left for right. None: no.
        background: float `(3,)`, 0 to 255. None: the frame's.
        colour: float `(3, 3)` and a scalar: the object's RGB in [0, 1] becomes `rgb @ a + b`; what
            is composited of it is cut to [0, 1]. None: unchanged.
    """

    place: object = None
    mirrored: object = None
    background: object = None
    colour: object = None

    def of(self, view):
        """The look of one of several views."""
        parts = [
            part if part is None else tf.nest.map_structure(lambda tensor: tensor[view], part)
            for part in self
        ]
        return Look(*parts)


PLAIN = Look()


def renderings(contents, count, frame, looks=PLAIN):
    """Decodes PNG renderings into what a network takes; see `view`.

    Where all of them can be cropped, which is the rule, their size is told from the files' headers,
    and what is drawn or checked once for all of them is not done for each.

    Args:
        contents: PNG files, string `(T,)`.
        count: T, known beforehand.
        frame: what the network takes.
        looks: how to crop and colour each of them.

    Returns:
        float32 `(T, H, W, C)` of the frame, in [0, 1].
    """
    edges, depths = _png_header(contents)
    margins = edges - frame.image_size
    begins = _crop_begins(margins, looks.place)

    def cropped():
        size = [frame.image_size, frame.image_size]
        views = []
        for view in range(count):
            words = _words(tf.io.decode_png(contents[view], channels=4))
            views.append(_colour(tf.slice(words, begins[view], size), frame, looks.of(view)))
        return tf.stack(views)

    def any_size():
        return tf.stack(
            [view(png(contents[number]), frame, looks.of(number)) for number in range(count)]
        )

    return tf.cond(tf.reduce_all(_croppable(margins) & (depths >= 8)), cropped, any_size)


def png(content):
    """Decodes a PNG into uint8 `(H, W, 4)`.

    Raises:
        tf.errors.InvalidArgumentError: it is no PNG, is damaged, or is larger than `MAX_PNG_EDGE`.
    """
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


def picture(content, frame, max_pixels=None):
    """Decodes any picture that TensorFlow knows into what a network takes; see `view`.

    Grey, grey with alpha, RGB and RGBA are told apart by their channels; of an animation the
    first picture counts.

    Args:
        content: scalar string, the bytes of the file.
        frame: what the network takes.
        max_pixels: most pixels that a JPEG, BMP, GIF or WebP may have; None: any number.

    Raises:
        tf.errors.InvalidArgumentError: it is no such picture, is damaged or too large.
    """
    # By itself, as `decode_image` loses a colour that a PNG names as transparent.
    is_png = tf.equal(tf.strings.substr(content, 0, 4), PNG)
    rgba = tf.cond(
        is_png,
        lambda: png(content),
        lambda: _decode_other(content, max_pixels),
    )
    return view(rgba, frame)


def _decode_other(content, max_pixels):
    """A JPEG, BMP, GIF or WebP as uint8 `(H, W, 4)`."""
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


def view(rgba, frame, look=PLAIN):
    """Turns a decoded picture into what a network takes.

    A picture that is at most `CROP_MARGIN` pixels larger than the frame is cropped, as the original
    crops its renderings of 137 pixels to 127; any other that does not fit is scaled whole.

    Args:
        rgba: uint8 `(H, W, 4)`, alpha not premultiplied.
        frame: what the network takes. With 3 channels the background shows behind transparent
            pixels and beside pictures that are not square; 4 channels keep raw RGBA, as the
            notebook does.
        look: how to crop and colour it; RGBA keeps its colours.

    Returns:
        float32 `(H, W, C)` of the frame, in [0, 1].
    """
    words = _words(rgba)
    size = tf.shape(words)
    margin = size - frame.image_size
    croppable = _croppable(margin)
    begin = tf.where(croppable, _crop_begins(margin, look.place), 0)
    words = tf.slice(words, begin, tf.where(croppable, tf.fill([2], frame.image_size), size))
    return _fit(_colour(words, frame, look), frame)


def _words(rgba):
    """Pixels as one word each, `(H, W)`: a fourth of the elements, and of the time to crop them."""
    return tf.bitcast(tf.ensure_shape(rgba, (None, None, 4)), tf.uint32)


def _croppable(margins):
    """Whether pictures that are larger by `(..., 2)` pixels than the frame are cropped."""
    return tf.reduce_all((margins >= 0) & (margins <= CROP_MARGIN), axis=-1)


def _crop_begins(margins, places):
    """Where the crops begin, int32 `(..., 2)`."""
    if places is None:
        return margins // 2
    return tf.cast(places * tf.cast(margins + 1, tf.float32), tf.int32)


def _colour(words, frame, look):
    """Mirrors and colours RGBA pixels: `(H, W)` words to float32 `(H, W, C)`."""
    if look.mirrored is not None:
        words = tf.cond(look.mirrored, lambda: tf.reverse(words, [1]), lambda: words)
    if frame.channels == 4:
        return tf.cast(tf.bitcast(words, tf.uint8), tf.float32) / 255.0
    return _composite(words, frame, look)


def _composite(words, frame, look):
    """Puts RGBA pixels before the background: `(H, W)` words to float32 `(H, W, 3)`.

    With rgb and alpha in [0, 255], background g and the look's colours a, b:

        (alpha (rgb / 255 @ a + b) + (255 - alpha) g / 255) / 255

    which is one matrix product of (alpha rgb, 255 - alpha). The obvious form takes twice the time:
    broadcasting alpha over three channels, and cutting them out of four, are slow.
    """
    alpha = tf.bitwise.right_shift(words, _word(24))
    if frame.alpha == "threshold":
        alpha = tf.minimum(alpha, _word(1)) * _word(255)
        words = tf.bitwise.bitwise_and(words, _word(0x00FFFFFF))
        words = tf.bitwise.bitwise_or(words, tf.bitwise.left_shift(alpha, _word(24)))
    # Bytes (alpha, alpha, alpha, 1) times bytes (r, g, b, 255 - alpha).
    weights = tf.bitcast(alpha * _word(0x010101) + _word(0x01000000), tf.uint8)
    values = tf.bitcast(tf.bitwise.bitwise_xor(words, _word(0xFF000000)), tf.uint8)
    products = tf.cast(values, tf.float32) * tf.cast(weights, tf.float32)

    kernel, offset = _kernel(frame, look)
    image = tf.matmul(tf.reshape(products, [-1, 4]), kernel)
    if offset is not None:
        # One pass over the picture where `tf.clip_by_value` makes two.
        image = tf.raw_ops.ClipByValue(t=image + offset, clip_value_min=0.0, clip_value_max=1.0)
    return tf.reshape(image, tf.concat([tf.shape(words), [3]], axis=0))


def _kernel(frame, look):
    """What `_composite` multiplies by, `(4, 3)`, and adds, a scalar or None for nothing."""
    background = np.full(3, frame.background) if look.background is None else look.background
    matrix, offset = (np.eye(3), None) if look.colour is None else look.colour
    beside = background / 255.0 if offset is None else background / 255.0 - offset
    if look.background is None and look.colour is None:  # a constant
        return np.concatenate([matrix / 255.0**2, beside[None] / 255.0]).astype("float32"), None
    rows = [tf.cast(rows, tf.float32) for rows in (matrix / 255.0**2, beside[None] / 255.0)]
    return tf.concat(rows, axis=0), offset


def _word(value):
    return tf.constant(value, tf.uint32)


def _fit(image, frame):
    """Scales a picture whole into the frame, with the background beside it."""

    def fit():
        # First smaller, then square: the square around a strip of pixels could fill the memory.
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.round(sides * (frame.image_size / tf.reduce_max(sides)))
        scaled = tf.maximum(tf.cast(scaled, tf.int32), 1)
        fitted = tf.image.resize(image, scaled, antialias=True)
        before = (frame.image_size - scaled) // 2
        after = frame.image_size - scaled - before
        padding = tf.pad(tf.stack([before, after], axis=1), [[0, 1], [0, 0]])
        # Beside a raw RGBA picture there is nothing: transparent black.
        beside = frame.background / 255.0 if frame.channels == 3 else 0.0
        return tf.pad(fitted, padding, constant_values=beside)

    fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], frame.image_size))
    return tf.ensure_shape(tf.cond(fits, lambda: image, fit), frame.shape)


def binvox(content, grid_edge):
    r"""Decodes a binvox file; the graph's twin of `r2n2_keras.data.binvox.decode`.

    The two take the same files, but for the size and the empty grid, and make the same grids.

    Args:
        content: scalar string, the bytes of the file. Nothing is allocated by what its header
            claims or its runs sum to.
        grid_edge: cells along each axis that the network predicts.

    Returns:
        float32 `(N, N, N)` of 0 and 1, [x, y, z].

    Raises:
        tf.errors.InvalidArgumentError: the bytes are not a binvox file of that size with at least
            one occupied voxel.
    """
    cells = grid_edge**3
    start = tf.strings.substr(content, 0, MAX_HEADER)
    edges = " ".join([str(grid_edge)] * 3)
    numbers = " ".join([NUMBER] * 3)
    usual = rf"^#binvox 1\ndim {edges}\ntranslate {numbers}\nscale {NUMBER}\ndata\n"
    size = _matched(start, usual)
    # The whole grammar takes three times as long as the runs: only where the header asks for it.
    header_size = tf.cond(size > 0, lambda: size, lambda: _header_size(start, grid_edge))

    most = MAX_BYTES_PER_CELL * cells
    runs = tf.io.decode_raw(tf.strings.substr(content, header_size, most + 1), tf.uint8)
    values, counts = runs[0::2], tf.cast(runs[1::2], tf.int32)
    fills = tf.reduce_sum(tf.cast(counts, tf.int64)) == cells
    fills &= (tf.size(values) == tf.size(counts)) & (tf.size(runs) <= most)
    checks = [
        _check(fills, "binvox: runs do not fill the grid"),
        _check(tf.reduce_all(values <= 1), "binvox: a run is neither 0 nor 1"),
        _check(tf.reduce_any((values > 0) & (counts > 0)), "binvox: no voxel is occupied"),
    ]
    # Every possible run as bytes: to look them up and join them takes a sixth of the time of
    # searching for each cell's run.
    every_run = [bytes([value]) * count for value in (0, 1) for count in range(MAX_RUN + 1)]
    with tf.control_dependencies(checks):
        numbers = tf.cast(values, tf.int32) * (MAX_RUN + 1) + counts
    joined = tf.strings.reduce_join(tf.gather(tf.constant(every_run), numbers))
    grid = tf.reshape(tf.io.decode_raw(joined, tf.uint8), [grid_edge] * 3)  # [x, z, y]
    return tf.cast(tf.transpose(grid, [0, 2, 1]), tf.float32)


def _header_size(start, grid_edge):
    """Bytes of a binvox header by the whole grammar of `r2n2_keras.data.binvox`, checked."""
    # \C is any byte: comments need not be UTF-8, and the runs are not.
    comment = r"(#\C*?)?"
    header_size = _matched(start, rf"^\C*?\n{line_pattern('data')}{comment}\n")
    lines = tf.strings.split(tf.strings.substr(start, 0, header_size), "\n")
    is_magic = tf.strings.regex_full_match(lines[:1], r"#binvox 1\r?")
    checks = [
        _check(header_size > 0, "binvox: no line 'data'"),
        _check(tf.reduce_any(is_magic), "binvox: no line '#binvox 1'"),
    ]
    for key, value, count, least, message in (
        ("dim", f"0*{grid_edge}", 3, 1, f"not {grid_edge} cells along each axis"),
        ("translate", NUMBER, 3, 0, "not 3 numbers after 'translate'"),
        ("scale", NUMBER, 1, 0, "not 1 number after 'scale'"),
        ("data", "", 0, 1, "not one line 'data' alone"),
    ):
        keyed = tf.strings.regex_full_match(lines, rf"{BLANK}*{key}({KEYWORD_END}\C*)?")
        sound = tf.strings.regex_full_match(lines, line_pattern(key, value, count) + comment)
        found = tf.math.count_nonzero(keyed)
        holds = (found >= least) & (found <= 1) & tf.reduce_all(keyed == sound)
        checks.append(_check(holds, f"binvox: {message}"))
    with tf.control_dependencies(checks):
        return tf.identity(header_size)


def _matched(content, pattern):
    """How many bytes a pattern matches."""
    rest = tf.strings.regex_replace(content, pattern, "", replace_global=False)
    return tf.strings.length(content) - tf.strings.length(rest)


def _check(holds, message):
    return tf.debugging.Assert(holds, [message])
