"""Binvox files that every reader refuses, and a slow reader to judge the others by."""

import math

import numpy as np

from r2n2_keras.data.binvox import Voxels

HEADER = b"#binvox 1\ndim 2 2 2\ntranslate 0 0 0\nscale 1\ndata\n"
RUNS = b"\1\3\0\1\1\4"  # of 2x2x2 cells, all but one occupied


# What is no file of 2x2x2 cells: (bytes, what the error says).
BAD = [
    (b"", r"begins with '#binvox 1', received b'' \(0 bytes\)"),
    (b"\x89PNG\r\n\x1a\n\ndata\n\0\1", r"begins with '#binvox 1', received b'\\x89PNG"),
    (b"#binvox 12\ndim 2 2 2\ndata\n\1\x08", "received b'#binvox 12'"),
    (b"#binvox 1 \ndim 2 2 2\ndata\n\1\x08", "received b'#binvox 1 '"),
    (b"#binvox 1", "a line 'data' after the header, received none"),
    (b"#binvox 1\ndim 2 2 2\n\1\x08", "a line 'data' after the header, received none"),
    (b"#binvox 1\ndim 2 2 2\ndata", "a line 'data' after the header, received none"),
    (b"#binvox 1\ndata\n\1\x08", "'dim' of at most 1073741824 cells, received none"),
    (b"#binvox 1\n#dim 2 2 2\ndata\n\1\x08", "cells, received none"),
    (b"#binvox 1\ndim 2 2\ndata\n\1\4", "'dim' with 3 counts above 0, received 'dim 2 2'"),
    (b"#binvox 1\ndim 2 0 2\ndata\n", "received 'dim 2 0 2'"),
    (b"#binvox 1\ndim 2 2\x85 2\ndata\n\1\x08", r"received 'dim 2 2\\x85 2'"),
    (b"#binvox 1\ndim 2 2 2\ndim 2 2 2\ndata\n\1\x08", "'dim 2 2 2' and 'dim 2 2 2'"),
    (b"#binvox 1\n" + b"dim 2 2 2\n" * 99 + b"data\n\1\x08", "'dim 2 2 2' and 'dim 2 2 2'. The"),
    (b"#binvox 1\ndim " + b"9" * 5000 + b" 1 1\ndata\n\1\x08", "received 'dim 9999"),
    (b"#binvox 1\ndim 2 2 2\nscale\ndata\n\1\x08", "with 1 number, received 'scale'"),
    (b"#binvox 1\ndim 2 2 2\nscale nan\ndata\n\1\x08", "received 'scale nan'"),
    (b"#binvox 1\ndim 2 2 2\nscale 1\nscale 2\ndata\n\1\x08", "'scale 1' and 'scale 2'"),
    (b"#binvox 1\ndim 2 2 2\ntranslate a b c\ndata\n\1\x08", "received 'translate a b c'"),
    (b"#binvox 1\ndata 8\ndim 2 2 2\ndata\n\1\x08", "received 'data 8' and 'data'"),
    (HEADER, "fill 2x2x2 cells, received 0 bytes for 0 cells"),
    (HEADER + b"\1\4", "fill 2x2x2 cells, received 2 bytes for 4 cells"),
    (HEADER + b"\1\4\0\5", "received 4 bytes for 9 cells"),
    (HEADER + b"\1\4\0", "received 3 bytes for 4 cells"),
    (HEADER + b"\1\x08\0", "received 3 bytes for 8 cells"),
    (HEADER + b"\1\x08" + b"\0\0" * 16, "received 34 bytes for 8 cells"),
    (HEADER + b"\1\4\2\4", "runs of 0 .empty. or 1 .occupied., received a run of 2"),
    (HEADER + b"\1\x08\xff\0", "received a run of 255"),
]

# What claims or holds far more than 2x2x2 cells, in few bytes or in many.
GREEDY = [
    (b"#binvox 1\ndim 99999 99999 9\ndata\n" + b"\1\xff" * 8, "received 'dim 99999 99999 9'"),
    (b"#binvox 1\ndim 10000 10000 10000\ndata\n" + b"\1\xff" * 8, "'dim 10000 10000 10000'"),
    (b"#binvox 1\ndim 1000000000000 1 1\ndata\n", "received 'dim 1000000000000 1 1'"),
    (b"#binvox 1\ndim 1025 1024 1024\ndata\n", "received 'dim 1025 1024 1024'"),
    (b"#binvox 1\ndim 1024 1024 1024\ndata\n" + b"\1\xff" * 8, "16 bytes for 2040 cells"),
    (HEADER + b"\1\xff" * 10_000_000, "cells and more"),
    (b"#binvox 1\ndim 2 2 2\n" + b"# data\n" * 3_000_000, "received none in 65536 bytes"),
]


def reference(content):
    """A slow reading of the format, line by line and cell by cell: Voxels, or None.

    Without regular expressions and without NumPy's runs: nothing is shared with what it judges.
    """
    header, position = {}, 0
    while "data" not in header:
        end = content.find(b"\n", position)
        if end < 0:
            return None
        line, first, position = content[position:end], position == 0, end + 1
        if first:
            if line.removesuffix(b"\r") != b"#binvox 1":
                return None
            continue
        text = line.partition(b"#")[0].replace(b"\t", b" ").replace(b"\r", b" ")
        words = [word for word in text.split(b" ") if word]
        if not words or words[0] not in (b"dim", b"translate", b"scale", b"data"):
            continue
        key = words[0].decode()
        if key in header:
            return None
        header[key] = words[1:]
    if header["data"] or len(header.get("dim", [])) != 3:
        return None
    if not all(set(word) <= set(b"0123456789") for word in header["dim"]):
        return None
    sizes = [int(word) for word in header["dim"]]
    translate = [_number(word) for word in header.get("translate", [b"0"] * 3)]
    scale = [_number(word) for word in header.get("scale", [b"1"])]
    if [len(translate), len(scale)] != [3, 1] or None in translate + scale:
        return None
    body = content[position:]
    if not 0 < math.prod(sizes) <= 1024**3 or len(body) % 2 or len(body) > 4 * math.prod(sizes):
        return None
    cells = []
    for value, count in zip(body[::2], body[1::2], strict=True):
        if value not in (0, 1):
            return None
        cells += [value == 1] * count
    depth, height, width = sizes
    if len(cells) != depth * height * width:
        return None
    grid = np.zeros((depth, width, height), bool)
    for x, y, z in np.ndindex(grid.shape):
        grid[x, y, z] = cells[(x * height + z) * width + y]
    return Voxels(grid, tuple(translate), scale[0])


def _number(word):
    """As a word of a header says it, or None where it is no number."""
    if not word or set(word) - set(b"+-.0123456789eE"):
        return None
    try:
        number = float(word)
    except ValueError:
        return None
    exponent = word.lower().partition(b"e")[2]
    return None if exponent and int(exponent) >= 100 else number
