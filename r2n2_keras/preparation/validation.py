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
    """What a validation found.

    Attributes:
        models: number of models by synset id, also of those that lack a half.
        renderings: number of renderings by synset id.
        findings: sorted by model and path; those of no single model come first.
        others: paths of files that are no part of a data set.
    """

    models: dict[str, int]
    renderings: dict[str, int]
    findings: list[Finding]
    others: list[str]

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

    Args:
        data_dir: folder or URL of a tree or of prepared data.
        renderings_dir: folder of the renderings inside a tree.
        voxels_dir: folder of the voxels inside a tree.
        categories: names or synset ids to look at; empty: all.
        excluded: models to pass over.
        num_views: how many views each model should have; 0: as most have.
        split_file: a Pix2Vox split to look for models of two parts in; empty: none.
        progress: called with (steps done, steps in all) after each step.

    Raises:
        InputError: there are no data, or the split file cannot be read.
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
    """What is kept of an object.

    Attributes:
        one: the object, with the names of all its renderings.
        pictures: view, digest, and size and mode of those that can be decoded.
        grid: digest of the voxels; None where they are missing or cannot be used.
        findings: what is wrong.
        others: paths of files that are no part of it.
    """

    one: Object
    pictures: list[tuple[str, int, str]] = dataclasses.field(default_factory=list)
    grid: int | None = None
    findings: list[Finding] = dataclasses.field(default_factory=list)
    others: list[str] = dataclasses.field(default_factory=list)


def _inspect(source: Tree | Prepared, one: Object) -> _Inspection:
    """Reads and checks all files of an object, one after the other."""
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

    Args:
        path: the file, which appears when it is whole.
        report: what was found; notes leave no model out.
        excluded: models that were passed over and stay left out.
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
        plain = name.isprintable() and "#" not in name and name == name.strip()
        lines.append(f"{name}  # {text}" if plain else f"# Rename {name!a}: {text}")
    with replacing(path) as partial, open(partial, "w") as file:
        file.write("\n".join(lines) + "\n")
