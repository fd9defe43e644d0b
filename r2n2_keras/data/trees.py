"""The official tree: what a file of it is, and the objects of a data folder that has one.

<data_dir>/ShapeNetRendering/<synset_id>/<model_id>/rendering/NN.png
<data_dir>/ShapeNetRendering/<synset_id>/<model_id>/rendering/rendering_metadata.txt
<data_dir>/ShapeNetVox32/<synset_id>/<model_id>/model.binvox
"""

import dataclasses
import enum
import posixpath
import re
from collections.abc import Iterable, Sequence

from r2n2_keras.data import remote
from r2n2_keras.data.objects import Key, Object, check_categories
from r2n2_keras.errors import InputError

MAX_NAME = 200  # characters of a folder's or file's name; a shard is named after one

_VIEW = re.compile(r"(\d{2,})\.png")
_PACKED = (".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".tbz2", ".txz", ".zip")


class FileType(enum.Enum):
    """What a file of a data set is."""

    VIEW = "rendering"
    CAMERAS = "rendering_metadata.txt"
    VOXELS = "model.binvox"
    LIST = "renderings.txt"  # names the renderings; nothing reads it
    ARCHIVE = "nested archive"
    OTHER = "other file"

    __hash__ = object.__hash__  # Enum's own is slow, and this is asked for at every file


_TEXTS = {"rendering_metadata.txt": FileType.CAMERAS, "renderings.txt": FileType.LIST}


def recognise(path: str) -> tuple[FileType, Key, str]:
    """What the end of a path says that a file is: its type, its object's key, its view's name.

    The last two are empty where there are none.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    name = parts[-1] if parts else ""
    file_type, key, view = FileType.OTHER, (), ""
    if len(parts) >= 4 and parts[-2] == "rendering":
        key = parts[-4], parts[-3]
        if match := _VIEW.fullmatch(name):
            file_type, view = FileType.VIEW, match[1]
        else:
            file_type = _TEXTS.get(name, FileType.OTHER)
    elif len(parts) >= 3 and name == "model.binvox":
        file_type, key = FileType.VOXELS, (parts[-3], parts[-2])
    elif name.endswith(_PACKED):
        file_type = FileType.ARCHIVE
    if file_type is FileType.OTHER or not path.isprintable() or max(map(len, parts)) > MAX_NAME:
        return FileType.OTHER, (), ""
    return file_type, key, view


@dataclasses.dataclass(frozen=True)
class TreeFiles:
    """Where an object of the official tree lies: a folder of renderings, and a binvox file."""

    renderings_path: str
    voxels_path: str

    def view_path(self, view: str) -> str:
        return posixpath.join(self.renderings_path, f"{view}.png")

    def read_view(self, view: str) -> bytes:
        return remote.read(self.view_path(view))

    def read_voxels(self) -> bytes:
        return remote.read(self.voxels_path)

    def table(self, objects: Sequence[Object]):
        from r2n2_keras.data.tables import TreeTable  # TensorFlow is only needed from here on

        return TreeTable(objects)


@dataclasses.dataclass(frozen=True)
class Roots:
    """The two folders of a tree that hold the categories."""

    renderings: str
    voxels: str

    def files(self, synset_id: str, model_id: str) -> TreeFiles:
        """Where an object lies, or would lie."""
        return TreeFiles(
            posixpath.join(self.renderings, synset_id, model_id, "rendering"),
            posixpath.join(self.voxels, synset_id, model_id, "model.binvox"),
        )


def find_roots(data_dir: str, renderings_dir: str, voxels_dir: str) -> Roots:
    """The folders of a tree in a folder or URL; an InputError where one is absent."""
    roots = Roots(posixpath.join(data_dir, renderings_dir), posixpath.join(data_dir, voxels_dir))
    for folder in (data_dir, roots.renderings, roots.voxels):
        if not remote.isdir(folder):
            raise InputError(
                f"Expected a folder that holds {renderings_dir} and {voxels_dir}, or that "
                f"`prepare` wrote, received --data_dir={data_dir}: there is no folder {folder}. "
                "Give another --data_dir, or --renderings_dir and --voxels_dir."
            )
    return roots


def list_objects(
    data_dir: str,
    renderings_dir: str = "ShapeNetRendering",
    voxels_dir: str = "ShapeNetVox32",
    categories: Iterable[str] = (),
) -> tuple[list[Object], list[Key]]:
    """The objects that have both renderings and voxels, and the keys of all that have voxels.

    The latter are what the original's split counts. Both are sorted by synset and model id.
    `categories` are names or synset ids; empty keeps all. Raises an InputError where a folder is
    absent, or no object has both.
    """
    roots = find_roots(data_dir, renderings_dir, voxels_dir)
    synset_ids = _list(roots.voxels)
    wanted = check_categories(categories, synset_ids, roots.voxels)
    objects, keys = [], []
    for synset_id in synset_ids:
        if wanted and synset_id not in wanted:
            continue
        with_renderings = set(_list(posixpath.join(roots.renderings, synset_id)))
        for model_id in _list(posixpath.join(roots.voxels, synset_id)):
            files = roots.files(synset_id, model_id)
            if not remote.isfile(files.voxels_path):
                continue
            keys.append((synset_id, model_id))
            names = _list(files.renderings_path) if model_id in with_renderings else ()
            views = tuple(match[1] for match in map(_VIEW.fullmatch, names) if match)
            if views:
                objects.append(Object(synset_id, model_id, views, files))
    if not objects:
        among = f" of the categories {', '.join(categories)}" if wanted else ""
        raise InputError(
            f"Expected models{among} with NN.png renderings in {roots.renderings} and a "
            f"model.binvox of the same id in {roots.voxels}, received no such pair. Check both "
            "folders."
        )
    return objects, keys


def _list(folder):
    """Sorted names in a folder, without the slash that object stores add; none if it is absent."""
    if not remote.isdir(folder):
        return []
    return sorted(name.rstrip("/") for name in remote.listdir(folder, pipes=False))
