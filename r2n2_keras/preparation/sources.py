"""Where the files to validate come from: a tree, or prepared data; nothing is decoded yet.

`Tree` and `Prepared` both say who may be a model, and open one at a time.
"""

import dataclasses
import hashlib
import json
import posixpath
from collections.abc import Callable

import tensorflow as tf

from r2n2_keras.data import remote, shards
from r2n2_keras.data.objects import Key, check_categories
from r2n2_keras.data.shards import ShardFiles
from r2n2_keras.data.trees import TreeFiles
from r2n2_keras.errors import InputError, reason
from r2n2_keras.preparation import archives
from r2n2_keras.preparation.problems import Fault, Kind, Problem, without_advice
from r2n2_keras.preparation.split_checks import in_two_parts

_ANY_MODEL = "synset/model"  # what a file is depends on its place below the model's folder only
_CHUNK = 2**20


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """Who may be a model.

    Attributes:
        key: synset id and model id.
        files: where it lies.
        views_path: what to call all its renderings, or that it has none.
        voxels_path: what to call its voxels, or that it has none.
        prefix: what to put before the name that `files` has for a rendering.
    """

    key: Key
    files: TreeFiles | ShardFiles
    views_path: str
    voxels_path: str
    prefix: str = ""

    def view_path(self, view: str) -> str:
        """What to call a rendering."""
        return f"{self.prefix}{self.files.view_path(view)}"


@dataclasses.dataclass(slots=True)
class Opened:
    """What a candidate holds.

    Attributes:
        views: names of all its renderings, sorted.
        has_voxels: whether it has a binvox file.
        read_view: gives the bytes of a view, or raises `Fault`; None where `problems` has it.
        read_voxels: the same for the voxels.
        problems: what was found so far.
        strays: paths of files that are neither.
    """

    views: tuple[str, ...]
    has_voxels: bool
    read_view: Callable[[str], bytes | None]
    read_voxels: Callable[[], bytes | None]
    problems: list[Problem] = dataclasses.field(default_factory=list)
    strays: list[str] = dataclasses.field(default_factory=list)


class Tree:
    """The official tree.

    Attributes:
        candidates: who may be a model, sorted by synset and model id.
        shards: path and entry in the manifest of the shards to check; none.
        problems: those found so far.
        strays: paths of files that are of no model.
    """

    shards = ()

    def __init__(self, data_dir, renderings_dir, voxels_dir, categories, excluded):
        self.problems: list[Problem] = []
        self.strays: list[str] = []
        renderings, voxels = (posixpath.join(data_dir, d) for d in (renderings_dir, voxels_dir))
        for folder in (data_dir, renderings, voxels):
            if not remote.isdir(folder):
                raise InputError(
                    f"Expected a folder that holds {renderings_dir} and {voxels_dir}, or that "
                    f"`prepare` wrote, received --data_dir={data_dir}: there is no folder "
                    f"{folder}. Give another --data_dir, or --renderings_dir and --voxels_dir."
                )
        synset_ids = self._folders(renderings, voxels)
        wanted = check_categories(categories, synset_ids, data_dir)
        self.candidates = []
        for synset_id in synset_ids:
            if wanted and synset_id not in wanted:
                continue
            pair = (posixpath.join(renderings, synset_id), posixpath.join(voxels, synset_id))
            for model_id in self._folders(*pair):
                if (synset_id, model_id) not in excluded:
                    folder = posixpath.join(pair[0], model_id, "rendering")
                    file = posixpath.join(pair[1], model_id, "model.binvox")
                    files = TreeFiles(folder, file)
                    self.candidates.append(Candidate((synset_id, model_id), files, folder, file))

    def _folders(self, *parents):
        """Sorted names of the folders in either parent; what else is there is stray."""
        folders = set()
        for parent in parents:
            try:
                names = _list(parent)
            except Fault as fault:
                self.problems.append(fault.at(parent))
                continue
            for name in names:
                path = posixpath.join(parent, name)
                # Object stores say by the slash what is a folder, and are slow to be asked.
                if name.endswith("/") or tf.io.gfile.isdir(path):
                    folders.add(name.rstrip("/"))
                elif archives.recognise(name)[0] is archives.Kind.STRAY:
                    self.strays.append(path)
        return sorted(folders)

    @staticmethod
    def open(candidate: Candidate) -> Opened:
        """Lists a model's folders."""
        files = candidate.files
        folders = {
            posixpath.dirname(files.renderings): _ANY_MODEL,
            files.renderings: f"{_ANY_MODEL}/rendering",
            posixpath.dirname(files.voxels): _ANY_MODEL,
        }
        found = {
            posixpath.join(folder, name.rstrip("/")): archives.recognise(f"{place}/{name}")
            for folder, place in folders.items()
            for name in _list(folder)
        }
        return Opened(
            tuple(view for _, _, view in found.values() if view),
            files.voxels in found,
            lambda view: _read(files.view_path(view)),
            lambda: _read(files.voxels),
            strays=[
                path
                for path, (kind, _, _) in found.items()
                if kind is archives.Kind.STRAY and path != files.renderings
            ],
        )


class Prepared:
    """Prepared data; see `Tree` for the attributes."""

    def __init__(self, data_dir, categories, excluded):
        self.problems: list[Problem] = []
        manifest = _manifest(data_dir)
        index = posixpath.join(data_dir, shards.INDEX)
        rows = self._rows(data_dir, manifest, index, categories, excluded)
        self.problems += in_two_parts(((key, split) for split, key in rows), index)
        self.candidates = [
            _of_records(key, parts, index)
            for (_, key), parts in sorted(rows.items(), key=lambda row: row[0][::-1])
        ]
        paths = [posixpath.join(data_dir, shard["name"]) for shard in manifest["shards"]]
        used = {part.shard for parts in rows.values() for part in parts}
        self.shards = [
            (path, shard)
            for path, shard in zip(paths, manifest["shards"], strict=True)
            if path in used or not categories
        ]
        try:
            present = {posixpath.join(data_dir, name) for name in _list(data_dir)}
        except Fault as fault:
            present = set()
            self.problems.append(fault.at(data_dir))
        known = {posixpath.join(data_dir, shards.MANIFEST), index, *paths}
        self.strays = sorted(present - known)

    def _rows(self, data_dir, manifest, index, categories, excluded):
        """The rows of the index that are wanted."""
        try:
            rows = shards.read_index(data_dir, manifest)
        except InputError as error:
            # Without it the models are not known, but the shards can still be looked at.
            self.problems.append(Problem(Kind.CHECKSUM, index, without_advice(error)))
            return {}
        wanted = check_categories(categories, {synset_id for _, (synset_id, _) in rows}, data_dir)
        return {
            (split, key): parts
            for (split, key), parts in rows.items()
            if key not in excluded and (not wanted or key[0] in wanted)
        }

    @staticmethod
    def open(candidate: Candidate) -> Opened:
        """Reads a model's records."""
        records = candidate.files.records
        pictures, voxels, problems = {}, None, []
        for record in records:
            try:
                renderings, grid = _read_record(record)
            except Fault as fault:
                place = f"record at byte {record.offset} of {record.shard}"
                path = f"{'/'.join(candidate.key)} in the {place}"
                problems.append(fault.at(path, candidate.key))
                continue
            pictures.update(zip(record.views, renderings, strict=True))
            voxels = grid if record.has_voxels else voxels
        return Opened(
            tuple(sorted({view for record in records for view in record.views})),
            any(record.has_voxels for record in records),
            pictures.get,
            lambda: voxels,
            problems,
        )


def check_shard(path: str, entry: dict) -> list[Problem]:
    """The problem of a shard as a whole, if it has one.

    Args:
        path: where it lies.
        entry: what the manifest says of it.
    """
    size, digest = 0, hashlib.sha256()
    try:
        with tf.io.gfile.GFile(path, "rb") as file:
            while size <= entry["bytes"] and (chunk := file.read(_CHUNK)):
                size += len(chunk)
                digest.update(chunk)
    except tf.errors.OpError as error:
        return [_unreadable(error).at(path)]
    if size != entry["bytes"]:
        more = " or more" * (size > entry["bytes"])
        text = f"expected {entry['bytes']} bytes, received {size}{more}"
    elif digest.hexdigest() != entry.get("sha256"):
        text = f"expected the sha256 {entry.get('sha256')}, received {digest.hexdigest()}"
    else:
        return []
    return [Problem(Kind.CHECKSUM, path, text)]


def _manifest(data_dir):
    """The manifest, also where shards have other sizes than it says: `check_shard` tells."""
    try:
        return shards.read_manifest(data_dir)
    except InputError as error:
        refused = error
    try:
        manifest = json.loads(_read(posixpath.join(data_dir, shards.MANIFEST)))
        usable = manifest["format_version"] == shards.FORMAT_VERSION
        usable &= "sha256" in manifest["index"]
        usable &= all(isinstance(shard["bytes"], int) for shard in manifest["shards"])
    except (Fault, ValueError, KeyError, TypeError):
        usable = False
    if not usable:
        raise refused
    return manifest


def _of_records(key, parts, index):
    """The candidate of a model's records."""
    name = "/".join(key)
    files = ShardFiles(tuple(parts))
    place = f"{name} in {index}"
    has_voxels = any(part.has_voxels for part in parts)
    voxels_path = f"{name}/{files.voxels_path}" if has_voxels else place
    return Candidate(key, files, place, voxels_path, prefix=f"{name}/")


_record_in_graph = tf.function(
    shards.read_record,
    input_signature=[
        tf.TensorSpec((), tf.string),
        tf.TensorSpec((), tf.int64),
        tf.TensorSpec((None,), tf.string),
    ],
)


def _read_record(part):
    """Bytes of the renderings of a record, in the order of its views, and of its voxels."""
    try:
        views = tf.constant(part.views, tf.string)
        renderings, voxels = _record_in_graph(part.shard, part.offset, views)
    except tf.errors.OpError as error:
        received = reason(error)[:200]
    except UnicodeDecodeError:  # out of TensorFlow, whose message quotes the record
        received = "its bytes are no Example"
    else:
        return renderings.numpy(), voxels.numpy()
    raise Fault(Kind.UNREADABLE, f"expected a whole record, received none ({received})")


def _list(folder):
    """Sorted names in a folder, on object stores those of folders with a slash; none if absent."""
    try:
        return sorted(tf.io.gfile.listdir(folder)) if remote.isdir(folder) else []
    except tf.errors.OpError as error:
        raise _unreadable(error) from None
    except UnicodeDecodeError as error:
        raise Fault(
            Kind.UNREADABLE, f"expected names of files in UTF-8, received {error.object!r}"
        ) from None


def _read(path):
    """The bytes of a file, at most `archives.MAX_MEMBER`."""
    try:
        size = tf.io.gfile.stat(path).length
        if size > archives.MAX_MEMBER:
            raise Fault(
                Kind.UNREADABLE,
                f"expected a file of at most {archives.MAX_MEMBER} bytes, received {size}",
            )
        if not size:  # what is no plain file has no size, and reading it may never end
            return b""
        with tf.io.gfile.GFile(path, "rb") as file:
            return file.read()
    except tf.errors.OpError as error:
        raise _unreadable(error) from None


def _unreadable(error):
    received = reason(error).rpartition("; ")[2]  # without the path
    return Fault(Kind.UNREADABLE, f"expected to read it, received: {received}")
