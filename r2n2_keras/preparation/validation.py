"""Finds what is broken, missing or stands out in a data set, a tree or a prepared one.

`listing` says what there is, `checker` looks at one file at a time, `comparison` at all of them
together; here is what goes through them and sums up.
"""

import dataclasses
import functools
import hashlib
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

from r2n2_keras.data import remote, shards, splits
from r2n2_keras.data.objects import Key, Object
from r2n2_keras.errors import InputError
from r2n2_keras.files import replacing
from r2n2_keras.preparation.checker import BadFile, Finding, Kind, check_png, check_voxels
from r2n2_keras.preparation.comparison import Comparison
from r2n2_keras.preparation.listing import Prepared, Tree, check_shard, in_two_parts

_REMOTE_THREADS = 32  # they wait for answers, not for processors


@dataclasses.dataclass(frozen=True)
class Report:
    """What a validation found."""

    models: dict[str, int]  # how many by synset id, also of those that lack a half
    renderings: dict[str, int]  # how many by synset id
    findings: list[Finding]  # sorted by model and path; those of no single model come first
    others: list[str]  # paths of files that are no part of a data set

    @property
    def errors(self) -> list[Finding]:
        """What training cannot use."""
        return [finding for finding in self.findings if finding.kind.is_error]

    @property
    def notes(self) -> list[Finding]:
        """What stands out."""
        return [finding for finding in self.findings if not finding.kind.is_error]

    def bad_models(self) -> dict[Key, list[Finding]]:
        """The errors of each model that has some, sorted."""
        found: dict[Key, list[Finding]] = {}
        for error in self.errors:
            if error.key:
                found.setdefault(error.key, []).append(error)
        return found


def validate(
    data_dir: str,
    renderings_dir: str = "ShapeNetRendering",
    voxels_dir: str = "ShapeNetVox32",
    *,
    categories: Iterable[str] = (),
    excluded: Collection[Key] = (),
    num_views: int = 0,
    split_file: str = "",
    progress: Callable[[int, int], None] = lambda *_: None,
) -> Report:
    """Reads a data set once; prepared data twice, for their checksums and for their records.

    Each model should have `num_views`; 0: as many as most have. Models of two parts are looked for
    in `split_file`, a Pix2Vox split. `progress` is called with (steps done, steps in all). Raises
    an InputError where there are no data, or the split file cannot be read.
    """
    remote.require(data_dir)
    findings = _in_two_parts(split_file) if split_file else []
    if shards.is_prepared(data_dir):
        source = Prepared(data_dir, categories, excluded)
    else:
        source = Tree(data_dir, renderings_dir, voxels_dir, categories, excluded)
    findings += source.findings
    others = [*source.others]
    models, renderings = Counter(), Counter()
    comparison = Comparison()
    steps = len(source.objects) + len(source.shards)
    pool = ThreadPoolExecutor(_REMOTE_THREADS if "://" in data_dir else os.cpu_count())
    try:
        inspections = pool.map(functools.partial(_inspect, source), source.objects)
        of_shards = pool.map(lambda shard: check_shard(*shard), source.shards)
        for done, inspection in enumerate(inspections, start=1):
            one = inspection.one
            models[one.synset_id] += 1
            renderings[one.synset_id] += len(one.views)
            findings += inspection.findings
            others += inspection.others
            comparison.add(one, inspection.pictures, inspection.grid)
            progress(done, steps)
        for done, found in enumerate(of_shards, start=len(source.objects) + 1):
            findings += found
            progress(done, steps)
    finally:
        pool.shutdown(cancel_futures=True)
    if not models and not findings:
        raise InputError(
            f"Expected models in {data_dir}, received none that --categories and --exclude leave. "
            "Change them, or give another --data_dir."
        )
    findings += comparison.findings(num_views)
    findings.sort(key=lambda one: (one.key or (), one.path, one.kind, one.text))
    return Report(dict(models), dict(renderings), findings, others)


def _in_two_parts(split_file):
    """Errors of a Pix2Vox file; leaving a model out does not mend it."""
    found = in_two_parts(splits.read_pix2vox(split_file), split_file)
    return [dataclasses.replace(finding, key=None) for finding in found]


@dataclasses.dataclass(slots=True)
class _Inspection:
    """What is kept of an object; see `Comparison.add`."""

    one: Object
    pictures: list[tuple[str, int, str]] = dataclasses.field(default_factory=list)
    grid: int | None = None
    findings: list[Finding] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)


def _inspect(source: Tree | Prepared, one: Object) -> _Inspection:
    files, key = one.files, one.key
    try:
        contents = source.open(one)
    except BadFile as error:
        return _Inspection(one, findings=[error.finding(key)])
    one = dataclasses.replace(one, views=contents.views)
    result = _Inspection(one, findings=contents.findings, others=contents.others)
    for name, read in contents.read.items():
        try:
            content = read()
            if name:
                look = str(check_png(content, files.view_path(name)))
                result.pictures.append((name, _digest(content), look))
            else:
                check_voxels(content, files.voxels_path)
                result.grid = _digest(content)
        except BadFile as error:
            result.findings.append(error.finding(key))
    if not contents.views:
        text = "expected renderings NN.png" + " for the voxels" * contents.has_voxels
        path = files.renderings_path
        result.findings.append(Finding(Kind.PARTNER, path, f"{text}, received none", key))
    if not contents.has_voxels:
        text = "expected voxels" + " for the renderings" * bool(contents.views)
        path = files.voxels_path
        result.findings.append(Finding(Kind.PARTNER, path, f"{text}, received none", key))
    return result


def _digest(content):
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def write_fix_list(path: str, report: Report, excluded: Collection[Key] = ()) -> None:
    """Writes the models to leave out as `splits.read_exclusions` reads them, sorted, each once.

    Those in `excluded` were passed over and stay left out; notes leave no model out.
    """
    reasons = {key: "excluded before" for key in excluded}
    for key, errors in report.bad_models().items():
        counts = Counter(error.kind for error in errors)
        reasons[key] = ", ".join(
            f"{kind} ({count})" if count > 1 else kind for kind, count in counts.items()
        )
    lines = ["# Models to leave out: give this file as --exclude."]
    for key, text in sorted(reasons.items()):
        name = "/".join(key)
        # What could not be read back: the names of folders are anyone's.
        plain = name.isprintable() and "#" not in name and key == tuple(map(str.strip, key))
        lines.append(f"{name}  # {text}" if plain else f"# Rename {name!a}: {text}")
    with replacing(path) as partial, open(partial, "w") as file:
        file.write("\n".join(lines) + "\n")
