"""The objects of a data folder in the official tree.

<data_dir>/ShapeNetRendering/<synset_id>/<model_id>/rendering/NN.png
<data_dir>/ShapeNetVox32/<synset_id>/<model_id>/model.binvox
"""

import dataclasses
import posixpath
import re
from collections.abc import Iterable, Sequence

from r2n2_keras.data import remote
from r2n2_keras.data.objects import Key, Object, check_categories
from r2n2_keras.errors import InputError

_RENDERING = re.compile(r"(\d{2,})\.png")


@dataclasses.dataclass(frozen=True)
class TreeFiles:
    """Where an object of the official tree lies.

    Attributes:
        renderings: folder that holds the renderings.
        voxels: path of the binvox file.
    """

    renderings: str
    voxels: str

    def view_path(self, view: str) -> str:
        """See `objects.Files`."""
        return posixpath.join(self.renderings, f"{view}.png")

    @property
    def voxels_path(self) -> str:
        """See `objects.Files`."""
        return self.voxels

    def read_view(self, view: str) -> bytes:
        """See `objects.Files`."""
        return remote.read(self.view_path(view))

    def read_voxels(self) -> bytes:
        """See `objects.Files`."""
        return remote.read(self.voxels)

    def table(self, objects: Sequence[Object]):
        """See `objects.Files`."""
        from r2n2_keras.data.tables import TreeTable  # TensorFlow is only needed from here on

        return TreeTable(objects)


def list_objects(
    data_dir: str,
    renderings_dir: str = "ShapeNetRendering",
    voxels_dir: str = "ShapeNetVox32",
    categories: Iterable[str] = (),
) -> tuple[list[Object], list[Key]]:
    """The objects of a tree.

    Args:
        data_dir: folder or URL that TensorFlow can list.
        renderings_dir: folder of the renderings inside `data_dir`.
        voxels_dir: folder of the voxels inside `data_dir`.
        categories: names or synset ids to keep; empty keeps all.

    Returns:
        The objects that have both renderings and voxels, sorted by synset and model id, and the
        (synset id, model id) of all that have voxels, which is what the original's split counts.

    Raises:
        InputError: there is no such folder, or no object has both.
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
    objects, keys = [], []
    for synset_id in synset_ids:
        if wanted and synset_id not in wanted:
            continue
        with_renderings = set(_list(posixpath.join(renderings, synset_id)))
        for model_id in _list(posixpath.join(voxels, synset_id)):
            binvox = posixpath.join(voxels, synset_id, model_id, "model.binvox")
            if not remote.exists(binvox):
                continue
            keys.append((synset_id, model_id))
            folder = posixpath.join(renderings, synset_id, model_id, "rendering")
            views = _views(folder) if model_id in with_renderings else ()
            if views:
                objects.append(Object(synset_id, model_id, views, TreeFiles(folder, binvox)))
    if not objects:
        among = f" of the categories {', '.join(categories)}" if wanted else ""
        raise InputError(
            f"Expected models{among} with NN.png renderings in {renderings} and a model.binvox of "
            f"the same id in {voxels}, received no such pair. Check both folders."
        )
    return objects, keys


def _views(folder):
    """Names of the renderings in a folder, without `.png`."""
    matches = [_RENDERING.fullmatch(name) for name in _list(folder)]
    return tuple(match[1] for match in matches if match)


def _list(folder):
    """Sorted names in a folder, without the slash that object stores add; none if it is absent."""
    if not remote.isdir(folder):
        return []
    try:
        return sorted(name.rstrip("/") for name in remote.listdir(folder, pipes=False))
    except UnicodeDecodeError as error:
        raise InputError(
            f"Expected names of files in UTF-8 in {folder}, received {error.object!r}. Rename or "
            "remove that file."
        ) from None
