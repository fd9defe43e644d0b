"""What there is to validate, in a tree or in prepared data; nothing is decoded yet.

`Tree` and `Prepared` both list the objects, also those that lack a half, and open one at a time.
"""

import dataclasses
import hashlib
import posixpath
from collections.abc import Callable, Iterable

from r2n2_keras.data import remote, shards, trees
from r2n2_keras.data.objects import Key, Object, check_categories
from r2n2_keras.errors import InputError
from r2n2_keras.preparation.checker import BadFile, Finding, Kind, read, unreadable, without_advice

_ANY = "synset_id/model_id"  # what a file is depends on its place below its model's folder only
_CHUNK = 2**20


@dataclasses.dataclass(slots=True)
class Contents:
    """The files of an object."""

    views: tuple[str, ...]  # names of all its renderings, sorted
    has_voxels: bool
    # By name of a view, or "" for the voxels: gives the bytes, or raises `BadFile`.
    read: dict[str, Callable[[], bytes]]
    # What is wrong so far. What is named there is not among `read`.
    findings: list[Finding] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)  # files that are no part of it


class Tree:
    """The official tree: `objects` are all that have a folder, sorted, without their views.

    `shards` are path and entry in the manifest of the shards to check, here none; `findings` say
    what is wrong so far; `others` are paths of files that are no part of the data set.
    """

    shards = ()

    def __init__(self, data_dir, renderings_dir, voxels_dir, categories, excluded):
        self.findings: list[Finding] = []
        self.others: list[str] = []
        roots = trees.find_roots(data_dir, renderings_dir, voxels_dir)
        synset_ids = self._folders(roots.renderings, roots.voxels)
        wanted = check_categories(categories, synset_ids, data_dir) or synset_ids
        self.objects = [
            Object(synset_id, model_id, (), roots.files(synset_id, model_id))
            for synset_id in synset_ids
            if synset_id in wanted
            for model_id in self._folders(
                posixpath.join(roots.renderings, synset_id), posixpath.join(roots.voxels, synset_id)
            )
            if (synset_id, model_id) not in excluded
        ]

    def _folders(self, *parents):
        folders = set()
        for parent in parents:
            try:
                names = _names(parent)
            except BadFile as error:
                self.findings.append(error.finding())
                continue
            for name in names:
                path = posixpath.join(parent, name)
                # Object stores say by the slash what is a folder, and are slow to be asked.
                if name.endswith("/") or remote.isdir(path):
                    folders.add(name.rstrip("/"))
                elif trees.recognise(name)[0] is trees.FileType.OTHER:
                    self.others.append(path)
        return sorted(folders)

    @staticmethod
    def open(one: Object) -> Contents:
        files = one.files
        found = {
            posixpath.join(folder, name.rstrip("/")): trees.recognise(f"{place}/{name}")
            for folder, place in (
                (posixpath.dirname(files.renderings_path), _ANY),
                (files.renderings_path, f"{_ANY}/rendering"),
                (posixpath.dirname(files.voxels_path), _ANY),
            )
            for name in _names(folder)
        }
        paths = {view: path for path, (_, _, view) in found.items() if view}
        views = tuple(paths)
        if files.voxels_path in found:
            paths[""] = files.voxels_path
        others = [path for path, found in found.items() if found[0] is trees.FileType.OTHER]
        return Contents(
            views,
            "" in paths,
            {name: lambda path=path: read(path) for name, path in paths.items()},
            others=[path for path in others if path != files.renderings_path],
        )


class Prepared:
    """Prepared data; see `Tree` for the attributes."""

    def __init__(self, data_dir, categories, excluded):
        self.findings: list[Finding] = []
        index = posixpath.join(data_dir, shards.INDEX)
        manifest = shards.read_manifest(data_dir)
        rows = self._rows(data_dir, manifest, index, categories, excluded)
        self.findings += in_two_parts(((key, split) for split, key in rows), index)
        self.objects = [
            Object(*key, (), shards.ShardFiles("/".join(key), tuple(records)))
            for (_, key), records in sorted(rows.items(), key=lambda row: row[0][::-1])
        ]
        paths = [posixpath.join(data_dir, shard["name"]) for shard in manifest["shards"]]
        used = {record.shard for records in rows.values() for record in records}
        self.shards = [
            (path, shard)
            for path, shard in zip(paths, manifest["shards"], strict=True)
            if path in used or not categories
        ]
        try:
            present = {posixpath.join(data_dir, name) for name in _names(data_dir)}
        except BadFile as error:
            present = set()
            self.findings.append(error.finding())
        known = {posixpath.join(data_dir, shards.MANIFEST), index, *paths}
        self.others = sorted(present - known)

    def _rows(self, data_dir, manifest, index, categories, excluded):
        try:
            rows = shards.read_index(data_dir, manifest)
        except InputError as error:
            # Without it the models are not known, but the shards can still be looked at.
            self.findings.append(Finding(Kind.CHECKSUM, index, without_advice(error)))
            return {}
        wanted = check_categories(categories, {synset_id for _, (synset_id, _) in rows}, data_dir)
        return {
            (split, key): records
            for (split, key), records in rows.items()
            if key not in excluded and (not wanted or key[0] in wanted)
        }

    @staticmethod
    def open(one: Object) -> Contents:
        contents, findings = {}, []
        records = one.files.records
        for record in records:
            try:
                renderings, voxels = record.read(record.views)
            except OSError as error:
                findings.append(unreadable(f"{one.name} in {record.place}", error).finding(one.key))
                continue
            contents.update(zip(record.views, renderings, strict=True))
            if record.has_voxels:
                contents[""] = voxels
        return Contents(
            tuple(sorted({view for record in records for view in record.views})),
            any(record.has_voxels for record in records),
            {name: lambda content=content: content for name, content in contents.items()},
            findings,
        )


def in_two_parts(named: Iterable[tuple[Key, str]], path: str) -> list[Finding]:
    """The objects that a file names in two parts of the split, so that a test is no test."""
    parts: dict[Key, set[str]] = {}
    for key, part in named:
        parts.setdefault(key, set()).add(part)
    return [
        Finding(
            Kind.SPLITS,
            f"{'/'.join(key)} in {path}",
            f"expected a model in one split, received it in {' and '.join(sorted(found))}",
            key,
        )
        for key, found in parts.items()
        if len(found) > 1
    ]


def check_shard(path: str, entry: dict) -> list[Finding]:
    """What is wrong with a shard as a whole, by its entry in the manifest: one finding or none."""
    size, digest = 0, hashlib.sha256()
    try:
        with remote.os_errors(path), remote.open_file(path) as file:
            while size <= entry["bytes"] and (chunk := file.read(_CHUNK)):
                size += len(chunk)
                digest.update(chunk)
    except OSError as error:
        return [unreadable(path, error).finding()]
    if size != entry["bytes"]:
        more = " or more" * (size > entry["bytes"])
        text = f"expected {entry['bytes']} bytes, received {size}{more}"
    elif digest.hexdigest() != entry.get("sha256"):
        text = f"expected the sha256 {entry.get('sha256')}, received {digest.hexdigest()}"
    else:
        return []
    return [Finding(Kind.CHECKSUM, path, text)]


def _names(folder):
    """Sorted names in a folder, on object stores those of folders with a slash; none if absent."""
    try:
        return remote.listdir(folder) if remote.isdir(folder) else []
    except OSError as error:
        raise unreadable(folder, error) from None
    except InputError as error:
        raise BadFile(Kind.UNREADABLE, folder, without_advice(error)) from None
