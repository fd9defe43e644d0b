"""Read and write `.binvox` files: run-length encoded voxel grids.

Axis order: a binvox file lists its cells with x slowest, then z, then y fastest. Arrays here are
[x, y, z] with y up, as in the original's `lib/binvox_rw.py` after its transpose.

Format: https://www.patrickmin.com/binvox/binvox.html. In the files of ShapeNetVox32 the header's
`translate` is the mesh's bounding-box minimum and `scale` its longest extent.
"""

import dataclasses
import math
import os

import numpy as np

from r2n2_keras.atomic import replacing
from r2n2_keras.errors import InputError

MAGIC = b"#binvox 1"
MAX_RUN = 255  # a run's length is one byte
MAX_CELLS = 1024**3  # larger headers are taken for damage: no solid model here needs them


@dataclasses.dataclass(frozen=True)
class Voxels:
    """A voxel grid and where it stands.

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
        """Number of cells along x, y, z."""
        return self.data.shape


def read(path: str | os.PathLike) -> Voxels:
    """Reads a binvox file.

    Raises:
        InputError: the file is missing or not a whole binvox file.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InputError(f"Expected a binvox file, received {path}: {error.strerror}.") from None
    return decode(content, name=str(path))


def decode(content: bytes, name: str = "binvox") -> Voxels:
    """Decodes the bytes of a binvox file; `name` is what an error calls them."""
    header, body = _split_header(content, name)
    dims = _dims(header, name)
    translate = _numbers(header, "translate", 3, name) or (0.0, 0.0, 0.0)
    (scale,) = _numbers(header, "scale", 1, name) or (1.0,)

    runs = np.frombuffer(body, np.uint8)
    values, counts = runs[0::2], runs[1::2]
    total = int(counts.sum(dtype=np.int64))
    if runs.size % 2 or total != math.prod(dims):
        raise InputError(
            f"{name}: expected run lengths that fill {'x'.join(map(str, dims))} cells, "
            f"received {runs.size} bytes for {total} cells. The file is damaged: get it again."
        )
    cells = np.repeat(values, counts).astype(bool).reshape(dims)  # [x, z, y]
    return Voxels(np.ascontiguousarray(cells.transpose(0, 2, 1)), translate, scale)


def encode(voxels: Voxels) -> bytes:
    """The bytes of a binvox file that holds `voxels`."""
    if voxels.data.ndim != 3 or not voxels.data.size:
        raise InputError(
            f"Expected a grid of 3 axes [x, y, z], none of them empty, received shape "
            f"{voxels.data.shape}. Give the cells of one object."
        )
    cells = np.asarray(voxels.data, bool).transpose(0, 2, 1)
    changes = np.flatnonzero(np.diff(cells.ravel())) + 1
    starts = np.concatenate([[0], changes])
    lengths = np.diff(np.concatenate([starts, [cells.size]]))
    # A run of n cells becomes n // 255 full runs and one that holds the rest.
    pieces = -(-lengths // MAX_RUN)
    counts = np.full(pieces.sum(), MAX_RUN, np.uint8)
    counts[np.cumsum(pieces) - 1] = lengths - (pieces - 1) * MAX_RUN
    values = np.repeat(cells.ravel()[starts], pieces)
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


def write(path: str | os.PathLike, voxels: Voxels) -> None:
    """Writes a binvox file; it appears under its name only when it is whole."""
    content = encode(voxels)
    with replacing(path) as partial, open(partial, "wb") as file:
        file.write(content)


def _split_header(content: bytes, name: str) -> tuple[dict[str, list[str]], bytes]:
    """Header lines as {keyword: values} and the bytes after the line `data`."""
    if content.split(b"\n", 1)[0] != MAGIC:
        raise InputError(
            f"{name}: expected a binvox file that begins with {MAGIC.decode()!r}, received "
            f"{content[:10]!r} ({len(content)} bytes). Give a binvox file."
        )
    head, end, body = content.partition(b"\ndata\n")
    if not end:
        raise InputError(
            f"{name}: expected a line 'data' after the header, received none. The file is damaged: "
            "get it again."
        )
    # Split as bytes: only ASCII blanks part words, as in the graph.
    lines = [line.split(b"#")[0].split() for line in head.split(b"\n")]
    lines = [[word.decode("latin-1") for word in line] for line in lines]
    return {words[0]: words[1:] for words in lines if words}, body


def _dims(header: dict[str, list[str]], name: str) -> tuple[int, int, int]:
    words = header.get("dim", [])
    if len(words) == 3 and all(word.isdecimal() and len(word) < 6 for word in words):
        dims = tuple(int(word) for word in words)
        if 0 < math.prod(dims) <= MAX_CELLS:
            return dims
    raise InputError(
        f"{name}: expected a header line 'dim X Z Y' of at most {MAX_CELLS} cells, received "
        f"'dim {' '.join(words)}'. The file is damaged: get it again."
    )


def _numbers(header: dict[str, list[str]], key: str, count: int, name: str):
    """The numbers after `key`, or None where the header has no such line."""
    words = header.get(key)
    if words is None:
        return None
    try:
        numbers = tuple(float(word) for word in words)
    except ValueError:
        numbers = ()
    if len(numbers) != count or not np.all(np.isfinite(numbers)):
        raise InputError(
            f"{name}: expected {count} numbers after '{key}', received {' '.join(words)!r}. "
            "The file is damaged: get it again."
        )
    return numbers
