"""Who exists: the models of a data folder, nothing decoded yet.

The official tree:
    <data_dir>/ShapeNetRendering/<synset_id>/<model_id>/rendering/NN.png
    <data_dir>/ShapeNetVox32/<synset_id>/<model_id>/model.binvox
"""

import dataclasses
import posixpath
import re
from collections.abc import Iterable

import tensorflow as tf

from r2n2_keras.data.categories import SYNSET_IDS, category_of
from r2n2_keras.errors import InputError

_RENDERING = re.compile(r"(\d{2,})\.png")


@dataclasses.dataclass(frozen=True)
class Model:
    """One object of the data set: its renderings and its voxels.

    Attributes:
        synset_id: WordNet id of the category, such as "03001627".
        model_id: ShapeNet id.
        renderings: folder that holds the renderings.
        views: names of the renderings without `.png`, sorted.
        voxels: path of the binvox file.
    """

    synset_id: str
    model_id: str
    renderings: str
    views: tuple[str, ...]
    voxels: str

    @property
    def category(self) -> str:
        """Name of the category; the synset id where it is not one of the paper's 13."""
        return category_of(self.synset_id)

    @property
    def key(self) -> str:
        """Name of the model within the data set."""
        return f"{self.synset_id}/{self.model_id}"

    def view_path(self, view: str) -> str:
        """Path of one rendering."""
        return posixpath.join(self.renderings, f"{view}.png")


def list_models(
    data_dir: str,
    renderings_dir: str = "ShapeNetRendering",
    voxels_dir: str = "ShapeNetVox32",
    categories: Iterable[str] = (),
) -> list[Model]:
    """The models that have both renderings and voxels, sorted by synset and model id.

    Args:
        data_dir: folder or URL that TensorFlow can list.
        renderings_dir: folder of the renderings inside `data_dir`.
        voxels_dir: folder of the voxels inside `data_dir`.
        categories: names or synset ids to keep; empty keeps all.

    Raises:
        InputError: there is no such folder, or no model has both.
    """
    renderings = posixpath.join(data_dir, renderings_dir)
    voxels = posixpath.join(data_dir, voxels_dir)
    for folder in (data_dir, renderings, voxels):
        if not tf.io.gfile.isdir(folder):
            raise InputError(
                f"Expected a data folder that holds {renderings_dir} and {voxels_dir}, received "
                f"--data_dir={data_dir}: there is no folder {folder}. Give another --data_dir, or "
                "none to use the synthesised set."
            )
    wanted = {SYNSET_IDS.get(category, category) for category in categories}
    models = []
    present = _list(voxels)
    absent = [c for c in categories if SYNSET_IDS.get(c, c) not in present]
    if absent:
        raise InputError(
            f"Expected --categories out of {', '.join(map(category_of, present))} (or their synset "
            f"ids), which {voxels} holds, received {', '.join(absent)}. Change it."
        )
    for synset_id in (s for s in present if not wanted or s in wanted):
        with_renderings = set(_list(posixpath.join(renderings, synset_id)))
        for model_id in _list(posixpath.join(voxels, synset_id)):
            if model_id in with_renderings:
                models.append(_model(renderings, voxels, synset_id, model_id))
    models = [model for model in models if model]
    if not models:
        among = f" of the categories {', '.join(categories)}" if wanted else ""
        raise InputError(
            f"Expected models{among} with NN.png renderings in {renderings} and a model.binvox of "
            f"the same id in {voxels}, received no such pair. Check both folders."
        )
    return models


def _model(renderings, voxels, synset_id, model_id):
    """The model, or None where a half is missing."""
    folder = posixpath.join(renderings, synset_id, model_id, "rendering")
    binvox = posixpath.join(voxels, synset_id, model_id, "model.binvox")
    matches = [_RENDERING.fullmatch(name) for name in _list(folder)]
    views = tuple(match[1] for match in matches if match)
    if not views or not tf.io.gfile.exists(binvox):
        return None
    return Model(synset_id, model_id, folder, views, binvox)


def _list(folder):
    """Sorted names in a folder, without the slash that object stores add; none if it is absent."""
    if not tf.io.gfile.isdir(folder):
        return []
    return sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
