"""Renderings and voxels, each streamed once and checked, become shards.

The voxels come first and stay in memory (80 MB for the whole set), so that it is known who is
train, val and test before the first rendering comes; `packing` brings the renderings together.
"""

import dataclasses
import os
import struct
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from r2n2_keras.data import splits
from r2n2_keras.data.categories import SYNSET_IDS
from r2n2_keras.data.objects import Key, check_categories
from r2n2_keras.data.trees import FileType
from r2n2_keras.errors import InputError
from r2n2_keras.preparation import packing, shard_writer
from r2n2_keras.preparation.archives import Member, Source
from r2n2_keras.preparation.checker import BadFile, check_png, check_voxels

MAX_VOXELS = 400 << 20  # bytes of all voxels together
MAX_UNPAIRED = 1_000_000  # models without voxels that are counted
MAX_TOLD = 20  # bad files that are told one by one

_MODEL_COST = 400  # bytes that Python takes to remember a model, about
_AHEAD, _AHEAD_BYTES = 256, 16 << 20  # files that are checked while others are written

# Called at every file with the name of the stage, the source, the models so far and about how many
# there will be; 0 where that is not known.
Progress = Callable[[str, Source, int, int], None]


@dataclasses.dataclass(frozen=True)
class Choice:
    """Which models and views to prepare, and how to deal them."""

    split_rule: dict  # the arguments of `splits.assign`
    categories: tuple[str, ...] = ()  # names or synset ids; empty keeps all
    excluded: Collection[Key] = ()
    limit: int = 0  # how many models; 0 keeps all
    views: tuple[int, ...] = ()  # numbers of the views to keep; empty keeps all
    skip_bad: bool = False  # leave models with files that cannot be used out, instead of raising

    def keeps_category(self, synset_id: str) -> bool:
        """Whether `categories` keep one."""
        wanted = {SYNSET_IDS.get(category, category) for category in self.categories}
        return not wanted or synset_id in wanted

    def keeps_view(self, view: str) -> bool:
        """Whether `views` keep one, given by name."""
        return not self.views or int(view) in self.views


@dataclasses.dataclass(frozen=True)
class Result:
    """What was prepared."""

    manifest: dict
    renderings: int  # how many
    volume: int  # bytes read from the sources, after decompression
    bad_files: list[str]  # what is wrong with the first of the models that were left out for it
    absent_views: list[int]  # numbers of `Choice.views` that no model has


def prepare(
    renderings: Source,
    voxels: Source,
    out: str,
    choice: Choice,
    progress: Progress = lambda *_: None,
    say: Callable[[str], None] = lambda _: None,
    shard_bytes: int = shard_writer.SHARD_BYTES,
    max_waiting: int = packing.MAX_WAITING,
) -> Result:
    """Writes shards of the models that have both renderings and voxels to a folder or URL.

    Both may come from the same archive. What `prepare` has left in `out` before is removed. `say`
    gets lines for the user; for the rest see `Progress`, `ShardWriter` and `Packer`. Where a source
    cannot be used, or no model is left, it raises an InputError and leaves nothing in `out`.
    """
    tally = _Tally(choice.skip_bad)
    same = voxels.path == renderings.path
    models = _read_voxels(voxels, choice, tally, progress, count_others=not same)
    volume = voxels.volume
    _clear(out, say)
    with shard_writer.ShardWriter(out, shard_bytes) as writer:
        packer = packing.Packer(writer, models.parts, models.voxels, max_waiting)
        _pack(renderings, choice, models, packer, tally, progress)
        num_views = packer.num_views
        without = models.parts.keys() - num_views.keys() - tally.bad
        tally.left_out["models without renderings"] = len(without)
        if not num_views:
            raise _no_pairs(renderings, voxels, choice, tally)
        image_size = struct.unpack(">II", _most_frequent(packer.image_sizes))
        entries = {
            "split_rule": splits.describe(**choice.split_rule),
            "image_size": list(image_size),
            "num_views": _most_frequent(Counter(num_views.values())),
            "views": sorted(choice.views) or None,
            "sources": {"renderings": renderings.name, "voxels": voxels.name},
            "left_out": {what: count for what, count in tally.left_out.items() if count},
        }
        manifest = writer.finish({key: models.parts[key] for key in num_views}, entries)
    return Result(
        manifest,
        renderings=sum(num_views.values()),
        volume=volume + renderings.volume,
        bad_files=tally.told,
        absent_views=sorted(set(choice.views) - {int(view) for view in packer.view_names}),
    )


def _clear(out, say):
    removed = shard_writer.clear_folder(out)
    if shard_writer.MANIFEST in removed:
        say(f"Removed the prepared data that were in {out} ({len(removed)} files).")
    elif removed:
        say(f"Removed what an unfinished run had left in {out} ({len(removed)} files).")


class _Tally:
    """Counts what is left out, and decides about files that cannot be used."""

    def __init__(self, skip_bad):
        self.left_out = Counter()  # how many, by what it is in words
        self.bad: set[Key] = set()  # models with a file that cannot be used
        self.told: list[str] = []  # what is wrong with the first of them
        self._skip_bad = skip_bad

    def count_other(self, member: Member) -> None:
        if member.file_type in (FileType.OTHER, FileType.ARCHIVE):
            self.left_out[f"{member.file_type.value}s"] += 1

    def checked(self, members: Iterable[Member]) -> Iterator[tuple[Member, bytes | None]]:
        """Members and their bytes, in order; None for bytes of a model with a bad file.

        All cores check files ahead of the one that is given, as many as memory should hold. Raises
        an InputError where a file cannot be used, and `skip_bad` does not say to go on.
        """
        waiting, size = deque(), 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for member in members:
                try:
                    content = member.read()
                    checking = pool.submit(_check, member, content)
                except BadFile as error:
                    content, checking = b"", Future()
                    checking.set_exception(error)
                waiting.append((member, checking, len(content)))
                size += len(content)
                while size > _AHEAD_BYTES or len(waiting) > _AHEAD:
                    first, checking, length = waiting.popleft()
                    size -= length
                    yield first, self._usable(first, checking)
            for first, checking, _ in waiting:
                yield first, self._usable(first, checking)

    def _usable(self, member, checking):
        if member.key in self.bad:
            return None
        try:
            return checking.result()
        except BadFile as error:
            if not self._skip_bad:
                raise InputError(
                    f"{error} Get it again, leave the model out by --exclude, or give "
                    "--on_bad_sample=skip."
                ) from None
            self.bad.add(member.key)
            self.left_out["models with unusable files"] += 1
            self.told += [str(error)] * (len(self.told) < MAX_TOLD)
            return None


def _check(member, content):
    """The content; raises `BadFile` where it cannot be used."""
    if member.file_type is FileType.VIEW:
        check_png(content, member.place)
    elif member.file_type is FileType.VOXELS:
        check_voxels(content, member.place)
    return content


@dataclasses.dataclass(frozen=True)
class _Models:
    """The models that have voxels."""

    ids: Collection[Key]  # of all of them
    parts: dict[Key, str]  # parts of the split of the wanted ones
    voxels: dict[Key, bytes]  # their binvox files


def _read_voxels(source, choice, tally, progress, count_others) -> _Models:
    """Reads the binvox files that may be wanted, and deals the models."""
    ids: dict[Key, None] = {}
    voxels: dict[Key, bytes] = {}
    size = 0
    seen = Counter()

    def wanted():
        for member in source.members():
            progress("voxels", source, len(ids), 0)
            seen[member.file_type] += 1
            if member.file_type is FileType.VOXELS:
                ids[member.key] = None
                if size + len(ids) * _MODEL_COST > MAX_VOXELS:
                    raise InputError(
                        f"Expected at most {MAX_VOXELS >> 20} MB of voxels, received more in "
                        f"{source.path} ({len(ids)} models so far). Prepare some --categories at "
                        "a time."
                    )
                if member.key not in choice.excluded and choice.keeps_category(member.key[0]):
                    yield member
            elif count_others:
                tally.count_other(member)

    for member, content in tally.checked(wanted()):
        size -= len(voxels.pop(member.key, b""))
        if content is not None:
            voxels[member.key] = content
            size += len(content)
    if not ids:
        raise _no_files("voxels", "<synset_id>/<model_id>/model.binvox", source, seen)
    check_categories(choice.categories, {synset_id for synset_id, _ in ids}, source.path)
    return _deal(ids, voxels, choice, tally, source)


def _deal(ids, voxels, choice, tally, source):
    """Deals all models, so that leaving some out moves no other, and keeps the wanted ones."""
    dealt = splits.assign(ids, **choice.split_rule)
    tally.left_out["excluded models"] = sum(key in choice.excluded for key in ids)
    tally.left_out["models that the split does not name"] = len(voxels.keys() - dealt.keys())
    sound = {key: dealt[key] for key in voxels if key in dealt}
    if not sound:
        raise InputError(
            f"Expected voxels of models to prepare in {source.path}, received {len(ids)}, of which "
            f"none is left ({_counts(tally)}). Change --categories, --exclude or --split."
        )
    parts = splits.limited(sound, choice.limit)
    return _Models(ids, parts, {key: voxels[key] for key in parts})


def _pack(source, choice, models, packer, tally, progress):
    wanted = _wanted_renderings(source, choice, models, packer, tally, progress)
    for member, content in tally.checked(wanted):
        if content is None:
            packer.forget(member.key)
        elif member.file_type is FileType.VIEW:
            packer.add_view(member.key, member.view, content)
        else:
            packer.add_cameras(member.key, content)
    packer.flush()


def _wanted_renderings(source, choice, models, packer, tally, progress) -> Iterator[Member]:
    """The renderings and camera files of the wanted models; counts the others."""
    seen = Counter()
    unpaired: set[Key] = set()
    for member in source.members():
        progress("renderings", source, packer.num_models, len(models.parts))
        seen[member.file_type] += 1
        key = member.key
        if member.file_type not in (FileType.VIEW, FileType.CAMERAS):
            tally.count_other(member)
        elif key in models.parts:
            kept = member.file_type is FileType.CAMERAS or choice.keeps_view(member.view)
            if kept and key not in tally.bad:
                yield member
        elif key not in models.ids and choice.keeps_category(key[0]):
            if len(unpaired) < MAX_UNPAIRED:
                unpaired.add(key)
    if not seen[FileType.VIEW]:
        raise _no_files("renderings", "<synset_id>/<model_id>/rendering/NN.png", source, seen)
    tally.left_out["models without voxels"] = len(unpaired)


def _most_frequent(counts: Counter):
    return counts.most_common(1)[0][0]


def _counts(tally):
    return ", ".join(f"{count} {what}" for what, count in tally.left_out.items() if count)


def _no_files(flag, pattern, source, seen):
    other = "renderings" if flag == "voxels" else "voxels"
    swapped = seen[FileType.VIEW if flag == "voxels" else FileType.VOXELS]
    advice = f"Are --{flag} and --{other} swapped?" if swapped else "Give other --" + flag + "."
    return InputError(
        f"Expected --{flag} with files .../{pattern}, received {source.path}, which has none among "
        f"its {seen.total()} files. {advice}"
    )


def _no_pairs(renderings, voxels, choice, tally):
    views = " " + ",".join(map(str, choice.views)) if choice.views else ""
    return InputError(
        f"Expected models with renderings{views} in {renderings.path} and voxels of the same id in "
        f"{voxels.path}, received no such pair ({_counts(tally)}). Check both."
    )
