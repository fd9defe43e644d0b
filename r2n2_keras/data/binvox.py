r"""Read and write `.binvox` files: run-length encoded voxel grids.

Axis order: a binvox file lists its cells with x slowest, then z, then y fastest, and its line `dim`
counts them in that order. Arrays here are [x, y, z] with y up, as in the original's
`lib/binvox_rw.py` after its transpose. `axis_order="xyz"` is for tools that list x, y, z. trimesh
counts x, y, z in `dim` in either order: where y and z differ in length, it agrees in "xyz" only.

Format: https://www.patrickmin.com/binvox/binvox.html, version 1. What is taken, here and by the
graph's `r2n2_keras.data.binvox_graph.decode` alike:

* The first line is `#binvox 1`. Lines end with LF; blanks (space, tab, CR) part words and may stand
  anywhere else; `#` begins a comment; empty lines and unknown keywords are passed over.
* `dim`, three counts, exactly once; `translate`, three numbers, and `scale`, one number, at most
  once; in any order. Numbers are decimal, with at most 200 digits before the point and an exponent
  below 100, so that they are finite.
* `data`, alone on its line within the first 64 KiB, ends the header.
* Runs follow: a byte 0 (empty) or 1 (occupied) and a byte that says how many cells. Together they
  fill the grid exactly. Some writers add runs of no cells, so there may be two runs per cell.

Where a grid stands: `translate` is its corner and `scale` the length of its longest edge. In the
files of ShapeNetVox32 `translate` is the mesh's bounding-box minimum instead, and the grid is
centred on the origin: that is `centred` in `Voxels`.
"""

import dataclasses
import math
import os
import re

import numpy as np

from r2n2_keras.errors import InputError, reading
from r2n2_keras.files import replacing

MAGIC = b"#binvox 1"
MAX_RUN = 255  # a run's length is one byte
MAX_CELLS = 1024**3  # larger headers are taken for damage: no solid model here needs them
MAX_HEADER = 2**16  # bytes up to the end of the line `data`
MAX_BYTES_PER_CELL = 4  # of runs: one run of two bytes, and one of no cells

# The grammar of header lines for `re` and for RE2, which the graph uses: each text can be parted
# in one way only, so that no header makes `re` try many.
BLANK = r"[ \t\r]"
KEYWORD_END = r"[ \t\r#]"  # or the end of the line
COUNT = r"0*[1-9][0-9]{0,9}"
NUMBER = r"[+-]?([0-9]{1,200}(\.[0-9]*)?|\.[0-9]+)([eE](\+?0*[1-9]?[0-9]|-[0-9]+))?"


def line_pattern(key: str, value: str = "", count: int = 0) -> str:
    """Pattern of a header line that holds `key` and `count` values, without a comment."""
    return rf"{BLANK}*{key}({BLANK}+{value}){{{count}}}{BLANK}*"


_DATA = re.compile(rf"\n{line_pattern('data')}(#[^\n]*)?\n".encode())
_KEYED = re.compile(
    rf"^({BLANK}*(dim|translate|scale|data)(?={KEYWORD_END}|\n)[^#\n]*)".encode(), re.MULTILINE
)
_LINES = {
    key: (re.compile(line_pattern(key, value, count).encode()), meaning)
    for key, value, count, meaning in (
        ("dim", COUNT, 3, "3 counts above 0"),
        ("translate", NUMBER, 3, "3 numbers"),
        ("scale", NUMBER, 1, "1 number"),
        ("data", "", 0, "nothing else"),
    )
}
_AXES = {"xzy": (0, 2, 1), "xyz": (0, 1, 2)}  # each is its own inverse
_LARGEST_NUMBER = 9.9999999e99  # what `encode` may write in `NUMBER`'s form
_LARGEST_CELL = 2**53  # beyond it a float64 does not tell cells apart


@dataclasses.dataclass(frozen=True)
class Voxels:
    """A voxel grid and where it stands.

    Cells are cubes: a cell's edge is `scale` divided by the number of cells along the longest axis.

    Attributes:
        data: bool array [x, y, z], y up.
        translate: (x, y, z), in the units of the mesh.
        scale: length of the grid's longest edge, in the units of the mesh.
    """

    data: np.ndarray
    translate: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    @property
    def dims(self) -> tuple[int, int, int]:
        return self.data.shape

    def to_world(self, ijk, centred: bool = False) -> np.ndarray:
        """Centres of cells, float64 `(..., 3)`: x, y, z in the units of the mesh.

        Args:
            ijk: numbers of cells `(..., 3)` along x, y, z, from 0; also outside the grid.
            centred: the grid is centred on the origin, as in ShapeNetVox32, where `translate` is
                not the grid's corner.

        Raises:
            InputError: the last axis is not 3, or the scale is not above 0.
        """
        cell, corner = self._cell_and_corner(centred)
        return (_triples(ijk, "cells") + 0.5) * cell + corner

    def to_ijk(self, points, centred: bool = False) -> np.ndarray:
        """The cells that hold points `(..., 3)`, int64 `(..., 3)`; undoes `to_world`.

        Points are in the units of the mesh, and `centred` means what it does there. A point outside
        the grid gets the cell that would hold it: below 0, or `dims` and more. A point between two
        cells is in the upper one, up to rounding.

        Raises:
            InputError: the last axis is not 3, the scale is not above 0, or a point is not finite
                or 2^53 cells away.
        """
        cell, corner = self._cell_and_corner(centred)
        with np.errstate(over="ignore", invalid="ignore"):
            cells = (_triples(points, "points") - corner) / cell
        if not (np.abs(cells) < _LARGEST_CELL).all():
            raise InputError(
                f"Expected finite points within 2^53 cells of the grid, received "
                f"{np.max(np.abs(cells)):g} cells. Check the points and the scale {self.scale:g}."
            )
        return np.floor(cells).astype(np.int64)

    def _cell_and_corner(self, centred):
        """Edge of a cell, and the lowest corner of the grid `(3,)`."""
        if not (0 < self.scale < math.inf):
            raise InputError(
                f"Expected voxels of a scale above 0, received {self.scale:g}. Give the length of "
                "the grid's longest edge."
            )
        cell = self.scale / max(self.dims)
        corner = -0.5 * cell * np.array(self.dims) if centred else np.array(self.translate)
        return cell, corner


def read(path: str | os.PathLike, axis_order: str = "xzy") -> Voxels:
    """Reads a binvox file; see `decode`. No more is read than its header's grid can need.

    Raises:
        InputError: the file is missing or not a whole binvox file.
    """
    with reading("a binvox file", str(path), "Check the path."), open(path, "rb") as file:
        content = file.read(MAX_HEADER)
        if len(content) == MAX_HEADER:
            sizes = _header(content, str(path))[0]
            content += file.read(MAX_BYTES_PER_CELL * math.prod(sizes) + 1)
    return decode(content, str(path), axis_order)


def decode(content: bytes, name: str = "binvox", axis_order: str = "xzy") -> Voxels:
    """Decodes the bytes of a whole binvox file, which errors call `name`.

    `axis_order` is how the file lists its cells, slowest axis first: "xzy" as the format says, or
    "xyz". The array is [x, y, z] in either case.

    Raises:
        InputError: the bytes are not a whole binvox file; found before the grid is allocated.
    """
    axes = _axes(axis_order)
    sizes, translate, scale, values, counts = _parse(content, name)
    cells = np.repeat(values, counts).view(bool).reshape(sizes)
    return Voxels(np.ascontiguousarray(cells.transpose(axes)), translate, scale)


def check(
    content: bytes, name: str = "binvox", axis_order: str = "xzy"
) -> tuple[tuple[int, int, int], int]:
    """The numbers of cells along x, y, z and of occupied cells, without making the grid.

    It takes what `decode` takes, and raises an InputError where that does.
    """
    axes = _axes(axis_order)
    sizes, _, _, values, counts = _parse(content, name)
    occupied = int(counts[values.view(bool)].sum(dtype=np.int64))
    return tuple(sizes[axis] for axis in axes), occupied


def encode(voxels: Voxels, axis_order: str = "xzy") -> bytes:
    """The bytes of a binvox file; see `decode`. What is not bool is occupied where it is not 0.

    Raises an InputError where the grid is no grid, or what `decode` would not take.
    """
    axes = _axes(axis_order)
    shape = voxels.data.shape
    if len(shape) != 3 or not 0 < math.prod(shape) <= MAX_CELLS:
        raise InputError(
            f"Expected a grid of 3 axes [x, y, z], none of them empty, and at most {MAX_CELLS} "
            f"cells, received shape {shape}. Give the cells of one object."
        )
    place = np.array([*voxels.translate, voxels.scale], float)
    if place.shape != (4,) or not (np.abs(place) < _LARGEST_NUMBER).all():
        raise InputError(
            f"Expected 3 finite numbers for translate and 1 for scale, below 1e100, received "
            f"{voxels.translate} and {voxels.scale}. Correct the voxels."
        )
    cells = np.asarray(voxels.data, bool).transpose(axes)
    flat = cells.ravel()
    starts = np.concatenate([[0], np.flatnonzero(np.diff(flat)) + 1])
    lengths = np.diff(np.concatenate([starts, [flat.size]]))
    # A run of n cells becomes n // 255 full runs and one that holds the rest.
    pieces = -(-lengths // MAX_RUN)
    counts = np.full(pieces.sum(), MAX_RUN, np.uint8)
    counts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * MAX_RUN
    values = np.repeat(flat[starts], pieces)
    header = "\n".join(
        [
            MAGIC.decode(),
            "dim {} {} {}".format(*cells.shape),
            "translate {:.9g} {:.9g} {:.9g}".format(*voxels.translate),
            f"scale {voxels.scale:.9g}",
            "data\n",
        ]
    )
    return header.encode() + np.stack([values.astype(np.uint8), counts], axis=1).tobytes()


def write(path: str | os.PathLike, voxels: Voxels, axis_order: str = "xzy") -> None:
    """Writes a binvox file; it appears under its name only when it is whole. See `encode`."""
    content = encode(voxels, axis_order)
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write(content)


def _parse(content, name):
    """All that a file says: counts in its order, translate, scale, and each run's value and length.

    Nothing is allocated by the header's claim or by the sum of the runs.
    """
    sizes, translate, scale, start = _header(content, name)
    cells = math.prod(sizes)
    runs = np.frombuffer(
        memoryview(content)[start : start + MAX_BYTES_PER_CELL * cells + 1], np.uint8
    )
    values, counts = runs[0::2], runs[1::2]
    total = int(counts.sum(dtype=np.int64))
    if runs.size % 2 or total != cells or runs.size > MAX_BYTES_PER_CELL * cells:
        raise InputError(
            f"{name}: expected run lengths that fill {'x'.join(map(str, sizes))} cells, received "
            f"{len(content) - start} bytes for {total} cells{' and more' * (total > cells)}. The "
            "file is damaged: get it again."
        )
    if values.max() > 1:
        raise InputError(
            f"{name}: expected runs of 0 (empty) or 1 (occupied), received a run of "
            f"{values.max()}. The file is damaged: get it again."
        )
    return sizes, translate, scale, values, counts


def _header(content, name):
    """Counts in the order of the file, translate, scale, and where the runs begin."""
    if content[: len(MAGIC) + 2].partition(b"\n")[0] not in (MAGIC, MAGIC + b"\r"):
        raise InputError(
            f"{name}: expected a binvox file that begins with {MAGIC.decode()!r}, received "
            f"{content[:10]!r} ({len(content)} bytes). Give a binvox file."
        )
    end = _DATA.search(content, 0, MAX_HEADER)
    if not end:
        raise InputError(
            f"{name}: expected a line 'data' after the header, received none in "
            f"{min(len(content), MAX_HEADER)} bytes. The file is damaged: get it again."
        )
    lines = {key: [] for key in _LINES}
    for line, key in _KEYED.findall(content, 0, end.end()):
        lines[key.decode()].append(line)
    words = {key: _words(key, found, name) for key, found in lines.items()}
    sizes = tuple(int(word.lstrip(b"0")) for word in words["dim"] or ())
    if not sizes or math.prod(sizes) > MAX_CELLS:
        raise InputError(
            f"{name}: expected a header line 'dim' of at most {MAX_CELLS} cells, received "
            f"{_shown(lines['dim'])}. The file is damaged: get it again."
        )
    translate = tuple(float(word) for word in words["translate"] or (0, 0, 0))
    (scale,) = (float(word) for word in words["scale"] or (1,))
    return sizes, translate, scale, end.end()


def _words(key, found, name):
    """What stands behind `key` in the one line that was found, or None where there is none."""
    pattern, meaning = _LINES[key]
    if len(found) > 1 or not all(map(pattern.fullmatch, found)):
        raise InputError(
            f"{name}: expected one header line {key!r} with {meaning}, received {_shown(found)}. "
            "The file is damaged: get it again."
        )
    return found[0].split()[1:] if found else None


def _shown(lines):
    shown = [ascii(line.strip()[:60].decode("latin-1")) for line in lines[:3]]
    return " and ".join(shown) or "none"


def _axes(axis_order):
    if axis_order not in _AXES:
        raise InputError(
            f"Expected axis_order {' or '.join(map(repr, _AXES))}, received {axis_order!r}. Say "
            "how the file lists its cells, slowest axis first."
        )
    return _AXES[axis_order]


def _triples(values, what):
    """float64 `(..., 3)`."""
    array = np.asarray(values, np.float64)
    if array.ndim == 0 or array.shape[-1] != 3:
        raise InputError(
            f"Expected {what} of shape (..., 3), received shape {array.shape}. Give x, y, z along "
            "the last axis."
        )
    return array
