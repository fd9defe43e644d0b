"""The objects of a data set: who exists, who is train, val and test; nothing is decoded yet."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from r2n2_keras.data.categories import SYNSET_IDS, category_of
from r2n2_keras.errors import InputError

SPLITS = ("train", "val", "test")
GRID_EDGE = 32  # cells along an edge of the paper's grids, which all presets predict

Key = tuple[str, str]  # synset id, model id


class Files(Protocol):
    """Where the renderings and the voxels of an object lie: in a tree or in shards.

    What reads them raises an OSError where it cannot.
    """

    @property
    def renderings_path(self) -> str:
        """What to call all renderings in a message; like the others it names the object."""

    def view_path(self, view: str) -> str:
        """What to call a rendering in a message."""

    @property
    def voxels_path(self) -> str:
        """What to call the binvox file in a message."""

    def read_view(self, view: str) -> bytes:
        """The bytes of a rendering."""

    def read_voxels(self) -> bytes:
        """The bytes of the binvox file."""

    def table(self, objects: "Sequence[Object]"):
        """A table from which the graph reads the files of objects; see `data.tables`."""


@dataclasses.dataclass(frozen=True)
class Object:
    """One object of the data set: its renderings and its voxels."""

    synset_id: str  # WordNet id of the category, such as "03001627"
    model_id: str  # ShapeNet id
    views: tuple[str, ...]  # names of the renderings without `.png`, sorted
    files: Files

    @property
    def category(self) -> str:
        """Name of the category; the synset id where it is not one of the paper's 13."""
        return category_of(self.synset_id)

    @property
    def key(self) -> Key:
        return self.synset_id, self.model_id

    @property
    def name(self) -> str:
        """Synset id and model id as messages and files have them."""
        return f"{self.synset_id}/{self.model_id}"


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Objects, dealt to the parts of a split."""

    parts: dict[str, list[Object]]  # "train", "val", "test", each sorted by synset and model id
    split_rule: str  # the rule that dealt them, in words

    @property
    def objects(self) -> list[Object]:
        """All objects, sorted by synset and model id."""
        objects = [one for part in self.parts.values() for one in part]
        return sorted(objects, key=lambda one: one.key)


def check_categories(categories: Iterable[str], present: Collection[str], place: str) -> set[str]:
    """Synset ids of categories given by name or synset id.

    Raises an InputError where one is not among `present`, the synset ids at `place`.
    """
    absent = [c for c in categories if SYNSET_IDS.get(c, c) not in present]
    if absent:
        raise InputError(
            f"Expected --categories out of {', '.join(map(category_of, sorted(present)))} (or "
            f"their synset ids), which {place} holds, received {', '.join(absent)}. Change it."
        )
    return {SYNSET_IDS.get(category, category) for category in categories}
