"""Who exists: the models of a data folder, nothing decoded yet.

The official tree:
    <data_dir>/ShapeNetRendering/<synset_id>/<model_id>/rendering/NN.png
    <data_dir>/ShapeNetVox32/<synset_id>/<model_id>/model.binvox

Prepared data are described in `r2n2_keras.data.shards`.
"""

import dataclasses
import posixpath
import re
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import tensorflow as tf

from r2n2_keras.data import remote
from r2n2_keras.data.categories import SYNSET_IDS, category_of
from r2n2_keras.errors import InputError

if TYPE_CHECKING:  # `shards` imports this module
    from r2n2_keras.data.shards import ShardFiles

_RENDERING = re.compile(r"(\d{2,})\.png")


@dataclasses.dataclass(frozen=True)
class TreeFiles:
    """Where a model of the official tree lies.

    Attributes:
        renderings: folder that holds the renderings.
        voxels: path of the binvox file.
    """

    renderings: str
    voxels: str

    def view_name(self, view: str) -> str:
        """Path of one rendering."""
        return posixpath.join(self.renderings, f"{view}.png")

    @property
    def voxels_name(self) -> str:
        """Path of the binvox file."""
        return self.voxels

    def read_view(self, view: str) -> bytes:
        """The bytes of one rendering."""
        return tf.io.read_file(self.view_name(view)).numpy()

    def read_voxels(self) -> bytes:
        """The bytes of the binvox file."""
        return tf.io.read_file(self.voxels).numpy()


@dataclasses.dataclass(frozen=True)
class Model:
    """One object of the data set: its renderings and its voxels.

    Attributes:
        synset_id: WordNet id of the category, such as "03001627".
        model_id: ShapeNet id.
        views: names of the renderings without `.png`, sorted.
        files: where they lie: `TreeFiles`, or `r2n2_keras.data.shards.ShardFiles`. Both read views
            and voxels and say what to call them in a message.
    """

    synset_id: str
    model_id: str
    views: tuple[str, ...]
    files: "TreeFiles | ShardFiles"

    @property
    def category(self) -> str:
        """Name of the category; the synset id where it is not one of the paper's 13."""
        return category_of(self.synset_id)

    @property
    def id(self) -> tuple[str, str]:
        """Synset id and model id."""
        return self.synset_id, self.model_id

    @property
    def key(self) -> str:
        """Name of the model within the data set."""
        return f"{self.synset_id}/{self.model_id}"


class ViewTable:
    """Which renderings each of some models has, so that the graph can look it up."""

    def __init__(self, models: Sequence[Model]):
        # Nearly all models have the same views: a list of names is kept once.
        lists = list(dict.fromkeys(model.views for model in models))
        numbers = {views: number for number, views in enumerate(lists)}
        self._list_of = tf.constant([numbers[model.views] for model in models], tf.int32)
        self._names = tf.ragged.constant(lists, dtype=tf.string).to_tensor()
        self._counts = tf.constant([len(views) for views in lists], tf.int32)
        self.most = max(map(len, lists))  # renderings that any model has

    def __call__(self, indices):
        """Names, string `(B, V)`, and how many of them each model has, int32 `(B,)`."""
        lists = tf.gather(self._list_of, indices)
        return tf.gather(self._names, lists), tf.gather(self._counts, lists)


class TreeTable:
    """The models of a tree as tensors, so that the graph finds a model's files by its number."""

    def __init__(self, models: Sequence[Model]):
        self.views = ViewTable(models)
        self._renderings = tf.constant([model.files.renderings for model in models])
        self._voxels = tf.constant([model.files.voxels for model in models])

    def read(self, index, views):
        """Bytes of the named renderings, string `(T,)`, and of the voxels of a model."""
        paths = tf.strings.join([self._renderings[index], "/", views, ".png"])
        contents = tf.map_fn(tf.io.read_file, paths, parallel_iterations=1)
        return contents, self.read_voxels(index)

    def read_voxels(self, index):
        """Bytes of the voxels of a model."""
        return tf.io.read_file(self._voxels[index])


@dataclasses.dataclass(frozen=True)
class DataSet:
    """Models, dealt to the parts of a split.

    Attributes:
        parts: models of "train", "val" and "test", each sorted by synset and model id.
        split_rule: the rule that dealt them, in words.
    """

    parts: dict[str, list[Model]]
    split_rule: str

    @property
    def models(self) -> list[Model]:
        """All models, sorted by synset and model id."""
        models = [model for part in self.parts.values() for model in part]
        return sorted(models, key=lambda model: model.id)


def check_categories(categories: Iterable[str], present: Collection[str], place: str) -> set[str]:
    """Synset ids of categories given by name or synset id.

    Raises:
        InputError: a category is not among `present`, the synset ids at `place`.
    """
    absent = [c for c in categories if SYNSET_IDS.get(c, c) not in present]
    if absent:
        raise InputError(
            f"Expected --categories out of {', '.join(map(category_of, sorted(present)))} (or "
            f"their synset ids), which {place} holds, received {', '.join(absent)}. Change it."
        )
    return {SYNSET_IDS.get(category, category) for category in categories}


def list_models(
    data_dir: str,
    renderings_dir: str = "ShapeNetRendering",
    voxels_dir: str = "ShapeNetVox32",
    categories: Iterable[str] = (),
) -> tuple[list[Model], list[tuple[str, str]]]:
    """The models of a tree.

    Args:
        data_dir: folder or URL that TensorFlow can list.
        renderings_dir: folder of the renderings inside `data_dir`.
        voxels_dir: folder of the voxels inside `data_dir`.
        categories: names or synset ids to keep; empty keeps all.

    Returns:
        The models that have both renderings and voxels, sorted by synset and model id, and the
        (synset id, model id) of all that have voxels, which is what the original's split counts.

    Raises:
        InputError: there is no such folder, or no model has both.
    """
    renderings = posixpath.join(data_dir, renderings_dir)
    voxels = posixpath.join(data_dir, voxels_dir)
    for folder in (data_dir, renderings, voxels):
        if not remote.isdir(folder):
            raise InputError(
                f"Expected a data folder that holds {renderings_dir} and {voxels_dir}, received "
                f"--data_dir={data_dir}: there is no folder {folder}. Give another --data_dir, or "
                "none to use the synthesised set."
            )
    synset_ids = _list(voxels)
    wanted = check_categories(categories, synset_ids, voxels)
    models, keys = [], []
    for synset_id in synset_ids:
        if wanted and synset_id not in wanted:
            continue
        with_renderings = set(_list(posixpath.join(renderings, synset_id)))
        for model_id in _list(posixpath.join(voxels, synset_id)):
            binvox = posixpath.join(voxels, synset_id, model_id, "model.binvox")
            if not tf.io.gfile.exists(binvox):
                continue
            keys.append((synset_id, model_id))
            folder = posixpath.join(renderings, synset_id, model_id, "rendering")
            views = _views(folder) if model_id in with_renderings else ()
            if views:
                models.append(Model(synset_id, model_id, views, TreeFiles(folder, binvox)))
    if not models:
        among = f" of the categories {', '.join(categories)}" if wanted else ""
        raise InputError(
            f"Expected models{among} with NN.png renderings in {renderings} and a model.binvox of "
            f"the same id in {voxels}, received no such pair. Check both folders."
        )
    return models, keys


def _views(folder):
    """Names of the renderings in a folder, without `.png`."""
    matches = [_RENDERING.fullmatch(name) for name in _list(folder)]
    return tuple(match[1] for match in matches if match)


def _list(folder):
    """Sorted names in a folder, without the slash that object stores add; none if it is absent."""
    if not remote.isdir(folder):
        return []
    try:
        return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected names of files in UTF-8 in {folder}, received {error.object!r}. Rename or "
            "remove that file."
        ) from None
