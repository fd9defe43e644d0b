"""Decodes binvox files inside the TensorFlow graph. Letter: N grid edge."""

import tensorflow as tf

from r2n2_keras.data.binvox import (
    BLANK,
    KEYWORD_END,
    MAX_BYTES_PER_CELL,
    MAX_HEADER,
    MAX_RUN,
    NUMBER,
    line_pattern,
)


def decode(content, grid_edge):
    r"""Decodes a binvox file, a scalar string, to float32 `(N, N, N)` of 0 and 1, [x, y, z].

    The graph's twin of `r2n2_keras.data.binvox.decode`: the two take the same files, but for the
    size and the empty grid, and make the same grids. Nothing is allocated by what the header claims
    or the runs sum to.

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
    rest = tf.strings.regex_replace(content, pattern, "", replace_global=False)
    return tf.strings.length(content) - tf.strings.length(rest)


def _check(holds, message):
    return tf.debugging.Assert(holds, [message])
