"""Bytes to tensors inside the TensorFlow graph: pictures and binvox files.

The same functions serve training, evaluation, prediction and the exported model, so what a network
sees cannot drift between them. Letters: H W pixels, C channels, N grid edge.
"""

import tensorflow as tf

_HEADER_END = b"\ndata\n"


def rendering(content, image_size, channels, background):
    """Decodes a PNG rendering into the frame that a network takes; see `frame`."""
    return frame(tf.io.decode_png(content, channels=4), image_size, channels, background)


def picture(content, image_size, channels, background):
    """Decodes any picture that TensorFlow knows into the frame that a network takes.

    Grey, grey with alpha, RGB and RGBA are told apart by their channels; of an animation the
    first picture counts. See `frame`.
    """
    pixels = tf.io.decode_image(content, expand_animations=False)
    depth = tf.shape(pixels)[-1]
    has_alpha = tf.equal(depth % 2, 0)
    opaque = tf.fill(tf.shape(pixels[..., :1]), tf.constant(255, tf.uint8))
    alpha = tf.cond(has_alpha, lambda: pixels[..., -1:], lambda: opaque)
    colour = tf.cond(depth > 2, lambda: pixels[..., :3], lambda: tf.repeat(pixels[..., :1], 3, -1))
    return frame(tf.concat([colour, alpha], axis=-1), image_size, channels, background)


def frame(rgba, image_size, channels, background):
    """Fits a picture into the square frame of a network.

    Args:
        rgba: uint8 `(H, W, 4)`, alpha not premultiplied.
        image_size: edge of the frame in pixels.
        channels: 3 composites on the background; 4 keeps raw RGBA, as the notebook does.
        background: grey level 0 to 255, behind transparent pixels and beside pictures that are not
            square.

    Returns:
        float32 `(image_size, image_size, channels)` in [0, 1].
    """
    image = tf.cast(rgba, tf.float32) / 255.0
    grey = background / 255.0
    if channels == 3:
        colour, alpha = image[..., :3], image[..., 3:]
        # The bare RGB of a transparent pixel is garbage: alpha takes it away.
        image = colour * alpha + grey * (1.0 - alpha)
    image = tf.ensure_shape(image, (None, None, channels))

    def fit():
        # First smaller, then square: the square around a strip of pixels could fill the memory.
        sides = tf.cast(tf.shape(image)[:2], tf.float32)
        scaled = tf.round(sides * (image_size / tf.reduce_max(sides)))
        scaled = tf.maximum(tf.cast(scaled, tf.int32), 1)
        fitted = tf.image.resize(image, scaled, antialias=True)
        before = (image_size - scaled) // 2
        after = image_size - scaled - before
        padding = tf.pad(tf.stack([before, after], axis=1), [[0, 1], [0, 0]])
        # Beside a raw RGBA picture there is nothing: transparent black.
        return tf.pad(fitted, padding, constant_values=grey if channels == 3 else 0.0)

    fits = tf.reduce_all(tf.equal(tf.shape(image)[:2], image_size))
    image = tf.cond(fits, lambda: image, fit)
    return tf.ensure_shape(image, (image_size, image_size, channels))


def binvox(content, grid_edge):
    """Decodes a binvox file; the graph's twin of `r2n2_keras.data.binvox.decode`.

    Args:
        content: scalar string, the bytes of the file.
        grid_edge: cells along each axis that the network predicts.

    Returns:
        float32 `(N, N, N)` of 0 and 1, [x, y, z].

    Raises:
        tf.errors.InvalidArgumentError: the bytes are not a binvox file of that size with at least
            one occupied voxel.
    """
    data = tf.io.decode_raw(content, tf.uint8)
    # Not with regular expressions: they take UTF-8 only, and the runs are not.
    last_start = tf.maximum(tf.size(data) - len(_HEADER_END) + 1, 0)
    found = tf.ones([last_start], bool)
    for offset, byte in enumerate(_HEADER_END):
        found &= data[offset : offset + last_start] == byte
    starts = tf.where(found)[:1, 0]
    _check(tf.size(starts) == 1, "binvox: no line 'data'")
    header_size = tf.cast(tf.reduce_sum(starts), tf.int32)

    lines = tf.strings.split(tf.strings.substr(content, 0, header_size), "\n")
    _check(lines[0] == "#binvox 1", "binvox: no line '#binvox 1'")
    # \C is any byte: comments need not be UTF-8.
    is_dims = tf.strings.regex_full_match(lines, rf"\s*dim(\s+{grid_edge}){{3}}\s*(#\C*)?")
    _check(tf.reduce_any(is_dims), f"binvox: not {grid_edge} cells along each axis")

    runs = data[header_size + len(_HEADER_END) :]
    values, counts = runs[0::2], tf.cast(runs[1::2], tf.int32)
    ends = tf.cumsum(counts)
    cells = grid_edge**3
    _check(
        (tf.size(values) == tf.size(counts)) & (tf.reduce_sum(counts) == cells),
        "binvox: runs do not fill the grid",
    )
    _check(tf.reduce_any((values > 0) & (counts > 0)), "binvox: no voxel is occupied")
    run_of_cell = tf.searchsorted(ends, tf.range(cells), side="right")
    grid = tf.reshape(tf.gather(values, run_of_cell) > 0, [grid_edge] * 3)  # [x, z, y]
    return tf.cast(tf.transpose(grid, [0, 2, 1]), tf.float32)


def _check(holds, message):
    tf.debugging.Assert(holds, [message])
