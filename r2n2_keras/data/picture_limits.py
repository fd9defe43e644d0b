"""Bounds what pictures in a request may cost to decode, in the graph, before they are decoded.

A few bytes of file can claim more pixels than the memory holds, frames that are larger than the
picture, or so many passes over it that a decoder is busy for minutes. A server has no other check.

Source of the layouts: the GIF89a specification, RFC 9649 (WebP), ITU T.81 (JPEG), Microsoft's
BITMAPINFOHEADER, ISO 18181-2 (JPEG XL).
"""

import tensorflow as tf

MAX_SCANS = 100  # passes of a JPEG; progressive ones have about 10
MAX_GIF_BLOCKS = 20_000  # of 255 bytes each, where they are filled

_JPEG, _SCAN = b"\xff\xd8", b"\xff\xda"
_JPEG_XL = (b"\xff\n", b"\0\0\0\x0cJXL ")  # bare, and in a container


def check(content, max_pixels: int):
    """An assertion for `tf.control_dependencies`: a JPEG, BMP, GIF or WebP is within bounds.

    It may have `max_pixels`, of all frames together. Files of another kind pass. Where it does not
    hold, the graph raises tf.errors.InvalidArgumentError when it runs.
    """
    pixels = tf.case(
        [
            (_starts(content, 0, _JPEG), lambda: _jpeg_pixels(content)),
            (_starts(content, 0, b"GIF8"), lambda: _gif_pixels(content)),
        ],
        default=lambda: _claimed_pixels(content),
        exclusive=True,
    )
    return tf.debugging.Assert(pixels <= max_pixels, ["picture: of more pixels than", max_pixels])


def is_no_jpeg_xl(content):
    """An assertion, as `check` gives: not JPEG XL, which TensorFlow decodes from 2.21 on.

    The size of such a picture stands in bits that take a decoder to read, so nothing bounds it.
    """
    starts = [_starts(content, 0, text) for text in _JPEG_XL]
    return tf.debugging.Assert(~tf.reduce_any(starts), ["picture: JPEG XL, which is not read"])


def _starts(content, first, text):
    return tf.equal(tf.strings.substr(content, first, len(text)), text)


def _jpeg_pixels(content):
    height, width, _ = tf.unstack(tf.cast(tf.image.extract_jpeg_shape(content), tf.int64))
    scans = tf.size(tf.strings.split(content, _SCAN)) - 1
    message = f"picture: a JPEG of more than {MAX_SCANS} scans"
    with tf.control_dependencies([tf.debugging.Assert(scans <= MAX_SCANS, [message])]):
        return height * width


def _claimed_pixels(content):
    """By the header of a WebP or a BMP; 0 of others."""
    start = tf.strings.substr(tf.strings.join([content, tf.constant(bytes(30))]), 0, 30)
    at = tf.cast(tf.io.decode_raw(start, tf.uint8), tf.int64)

    def number(first, count):
        return sum(at[first + n] * 256**n for n in range(count))

    def size(first):  # of 32 bits, negative where rows stand the other way up
        value = number(first, 4)
        return tf.minimum(value, 2**32 - value)

    lossless = number(21, 4)  # 14 bits each, the last byte's highest ones are of no matter
    return sum(
        tf.where(is_kind, tall * wide, tf.zeros([], tf.int64))
        for is_kind, tall, wide in (
            (_starts(start, 12, b"VP8 "), number(28, 2) % 2**14, number(26, 2) % 2**14),
            (_starts(start, 12, b"VP8L"), 1 + lossless // 2**14 % 2**14, 1 + lossless % 2**14),
            (_starts(start, 12, b"VP8X"), 1 + number(27, 3), 1 + number(24, 3)),
            (_starts(start, 0, b"BM"), size(22), size(18)),
        )
    )


def _gif_pixels(content):
    """Of all frames of a GIF, which the decoder unpacks before it takes one, or of its screen.

    Goes from block to block. What is cut off counts as far as it goes, which the decoder does too.
    """
    # Zeros behind it let the walk look ahead, and end it as an unknown block does.
    data = tf.io.decode_raw(tf.strings.join([content, tf.constant(bytes(16))]), tf.uint8)
    end = tf.strings.length(content)

    def byte(place):
        return tf.cast(data[tf.minimum(place, end + 15)], tf.int32)

    def pair(place):
        return tf.cast(byte(place) + 256 * byte(place + 1), tf.int64)

    def palette(flags):
        """Bytes of the table of colours that flags tell of."""
        return tf.where(flags >= 128, 3 * tf.bitwise.left_shift(2, flags % 8), 0)

    def more(place, in_data, count, pixels):
        del in_data, count, pixels
        return place < end

    def step(place, in_data, count, pixels):
        kind = byte(place)
        is_frame = ~in_data & (kind == 0x2C)
        is_extension = ~in_data & (kind == 0x21)
        pixels += tf.where(is_frame, pair(place + 5) * pair(place + 7), tf.zeros([], tf.int64))
        frame_end = place + 11 + palette(byte(place + 9))  # behind the code size
        place = tf.case(
            [
                (in_data, lambda: place + 1 + kind),
                (is_frame, lambda: frame_end),
                (is_extension, lambda: place + 2),
            ],
            default=lambda: end,
            exclusive=True,
        )
        in_data = tf.where(in_data, kind > 0, is_frame | is_extension)
        return place, in_data, count + 1, pixels

    first = 13 + palette(byte(10))
    start = (first, tf.constant(False), 0, tf.zeros([], tf.int64))
    # One more than may be, to tell that there are.
    _, _, count, pixels = tf.while_loop(
        more, step, start, maximum_iterations=MAX_GIF_BLOCKS + 1, parallel_iterations=1
    )
    message = f"picture: a GIF of more than {MAX_GIF_BLOCKS:,} blocks"
    check = tf.debugging.Assert(count <= MAX_GIF_BLOCKS, [message])
    with tf.control_dependencies([check]):
        return tf.maximum(pixels, pair(6) * pair(8))
