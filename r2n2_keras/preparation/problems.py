"""What can be wrong with a data set: the kinds of problems, and how one is told."""

import dataclasses
import enum

from r2n2_keras.data.objects import Key
from r2n2_keras.errors import InputError


class Kind(enum.StrEnum):
    """What can be wrong, in the words of the list of models to leave out."""

    PARTNER = "missing partner"
    VIEWS = "wrong number of views"
    UNREADABLE = "unreadable file"
    PNG = "undecodable PNG"
    MODE = "wrong size or mode"
    BINVOX = "broken binvox"
    DIMS = "wrong dims"
    EMPTY = "empty grid"
    SPLITS = "two splits"
    RENDERING = "duplicate rendering"
    VOXELS = "duplicate voxels"
    CHECKSUM = "wrong checksum"


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong.

    Attributes:
        kind: what sort of thing.
        path: the file or folder; in prepared data the model's file and its record.
        text: what was expected and what was received.
        key: the model that has the problem, which goes away with it; None where leaving out a model
            mends nothing.
    """

    kind: Kind
    path: str
    text: str
    key: Key | None = None


class Fault(Exception):
    """A file cannot be used.

    Attributes:
        kind: of problem.
        text: what was expected and what was received.
    """

    def __init__(self, kind: Kind, text: str):
        super().__init__(text)
        self.kind = kind
        self.text = text

    def at(self, path: str, key: Key | None = None) -> Problem:
        """The problem that it is to a file, and to a model."""
        return Problem(self.kind, path, self.text, key)


def without_advice(error: InputError) -> str:
    """What was expected and received; what to do, the last sentence, is for the whole report."""
    text = str(error).removeprefix(": ").rpartition(". ")[0]
    return text[:1].lower() + text[1:]
