"""What can be wrong with the files of a data set, and the checks that find it.

`validate`, `prepare`, `train` and `evaluate` use the same ones. A finding is an error where
training cannot use a file or its model, else a note: something that stands out.
"""

import dataclasses
import enum

from r2n2_keras.data import binvox, png, remote
from r2n2_keras.data.objects import GRID_EDGE, Key
from r2n2_keras.errors import InputError, reason

MAX_FILE = 16 << 20  # bytes; a rendering of the original has 6 thousand


class Kind(enum.StrEnum):
    """What can be wrong, in the words of the list of models to leave out."""

    # Errors.
    PARTNER = "missing partner"  # renderings without voxels, or voxels without renderings
    UNREADABLE = "unreadable file"
    PNG = "broken PNG"  # or one of too many pixels
    BINVOX = "broken binvox"
    DIMS = "wrong dims"  # other than those of the grid that the network predicts
    EMPTY = "empty grid"
    TOO_FEW = "too few views"  # fewer than were asked for
    SPLITS = "two splits"
    CHECKSUM = "wrong checksum"
    # Notes.
    VIEWS = "other views"  # than most models have
    MODE = "other size or mode"  # than most renderings have
    SAME_PNG = "duplicate rendering"
    SAME_VOXELS = "duplicate voxels"

    @property
    def is_error(self) -> bool:
        """Whether training cannot use what has it."""
        return self not in (Kind.VIEWS, Kind.MODE, Kind.SAME_PNG, Kind.SAME_VOXELS)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """An error or a note."""

    kind: Kind
    # The file or folder, in an archive or a shard "FILE in ARCHIVE": names synset, model and view.
    path: str
    text: str  # what was expected and what was received
    key: Key | None = None  # the model to leave out for it; None where that mends nothing


class BadFile(InputError):
    """A file that cannot be used; `Finding` describes the attributes."""

    def __init__(self, kind: Kind, path: str, text: str, advice: str = ""):
        self.kind, self.path, self.text = kind, path, text
        self.reason = f"{path}: {text}."  # the message without what to do
        super().__init__(f"{self.reason} {advice}".rstrip())

    def finding(self, key: Key | None = None) -> Finding:
        return Finding(self.kind, self.path, self.text, key)

    def advised(self, advice: str) -> "BadFile":
        return BadFile(self.kind, self.path, self.text, advice)


def unreadable(path: str, error: Exception) -> BadFile:
    """What to raise where a file cannot be read, for an OSError or one of TensorFlow's errors."""
    received = reason(error).rpartition("; ")[2][:200]  # TensorFlow's begin with the path
    return BadFile(Kind.UNREADABLE, path, f"expected to read it, received: {received}")


def read(path: str) -> bytes:
    """The bytes of a file; `BadFile` where it cannot be read, or has more than `MAX_FILE` bytes."""
    try:
        check_size(remote.size(path), path)
        return remote.read(path)
    except OSError as error:
        raise unreadable(path, error) from None


def check_size(size: int, path: str) -> None:
    """Raises `BadFile` where a file has more than `MAX_FILE` bytes."""
    if size > MAX_FILE:
        text = f"expected a file of at most {MAX_FILE} bytes, received one of {size}"
        raise BadFile(Kind.UNREADABLE, path, text)


def check_png(content: bytes, path: str) -> png.Header:
    """Raises `BadFile` where training cannot use a rendering."""
    try:
        return png.check(content)
    except ValueError as error:
        raise BadFile(Kind.PNG, path, str(error)) from None


def check_voxels(content: bytes, path: str, grid_edge: int = GRID_EDGE) -> None:
    """Raises `BadFile` where voxels cannot be used to train a network of that grid edge."""
    try:
        dims, occupied = binvox.check(content, "")
    except InputError as error:
        raise BadFile(Kind.BINVOX, path, without_advice(error)) from None
    if dims != (grid_edge,) * 3:
        expected, received = ("x".join(map(str, edges)) for edges in ((grid_edge,) * 3, dims))
        text = f"expected {expected} cells, which the networks predict, received {received}"
        raise BadFile(Kind.DIMS, path, text)
    if not occupied:
        text = "expected an occupied voxel, received an empty grid"
        raise BadFile(Kind.EMPTY, path, text)


def without_advice(error: InputError) -> str:
    """What was expected and received; what to do, the last sentence, depends on the command."""
    text = str(error).removeprefix(": ").rpartition(". ")[0]
    return text[:1].lower() + text[1:]
