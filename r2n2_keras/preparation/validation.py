"""Finds what is broken, missing or mismatched in a data set, a tree or a prepared one.

`validation_sources` says who may be a model, `model_checks` looks at one at a time,
`model_comparison` at all of them together, `split_checks` at who is in which part; here is what
goes through them and sums up.
"""

import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import ThreadPoolExecutor

from r2n2_keras.data import remote, shards
from r2n2_keras.data.objects import Key
from r2n2_keras.errors import InputError
from r2n2_keras.files import replacing
from r2n2_keras.preparation.comparison import Comparison
from r2n2_keras.preparation.model_checks import inspect
from r2n2_keras.preparation.problems import Kind, Problem
from r2n2_keras.preparation.sources import Prepared, Tree, check_shard
from r2n2_keras.preparation.split_checks import check_split_file

__all__ = ["Kind", "Problem", "Report", "validate", "write_fix_list"]

_REMOTE_THREADS = 32  # they wait for answers, not for processors


@dataclasses.dataclass(frozen=True)
class Report:
    """What a validation found.

    Attributes:
        models: number of models by synset id, also of those that lack a half.
        renderings: number of renderings by synset id.
        problems: sorted by model and path; those of no single model come first.
        strays: paths of files that are no part of a data set.
    """

    models: dict[str, int]
    renderings: dict[str, int]
    problems: list[Problem]
    strays: list[str]

    def by_model(self) -> dict[Key, list[Problem]]:
        """The problems of each model that has some, sorted."""
        found: dict[Key, list[Problem]] = {}
        for problem in self.problems:
            if problem.key:
                found.setdefault(problem.key, []).append(problem)
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
    in_two_parts = check_split_file(split_file) if split_file else []
    if shards.is_prepared(data_dir):
        source = Prepared(data_dir, categories, excluded)
    else:
        source = Tree(data_dir, renderings_dir, voxels_dir, categories, excluded)
    problems, strays = [*source.problems], [*source.strays]
    models, renderings = Counter(), Counter()
    comparison = Comparison()
    steps = len(source.candidates) + len(source.shards)
    pool = ThreadPoolExecutor(_REMOTE_THREADS if "://" in data_dir else os.cpu_count())
    try:
        inspections = pool.map(functools.partial(inspect, source), source.candidates)
        of_shards = pool.map(lambda shard: check_shard(*shard), source.shards)
        for done, inspection in enumerate(inspections, start=1):
            synset_id, _ = inspection.candidate.key
            models[synset_id] += 1
            renderings[synset_id] += len(inspection.views)
            problems += inspection.problems
            strays += inspection.strays
            comparison.add(inspection)
            progress(done, steps)
        for done, found in enumerate(of_shards, start=len(source.candidates) + 1):
            problems += found
            progress(done, steps)
    finally:
        pool.shutdown(cancel_futures=True)
    if not models and not problems:
        raise InputError(
            f"Expected models in {data_dir}, received none that --categories and --exclude leave. "
            "Change them, or give another --data_dir."
        )
    bad = {problem.key for problem in problems if problem.key}
    problems += comparison.problems(num_views, bad) + in_two_parts
    problems.sort(key=lambda problem: (problem.key or (), problem.path, problem.kind, problem.text))
    return Report(dict(models), dict(renderings), problems, strays)


def write_fix_list(path: str, report: Report, excluded: Collection[Key] = ()) -> None:
    """Writes the models to leave out as `splits.read_exclusions` reads them, sorted, each once.

    Args:
        path: the file, which appears when it is whole.
        report: what was found.
        excluded: models that were passed over and stay left out.
    """
    reasons = {key: "excluded before" for key in excluded}
    for key, problems in report.by_model().items():
        counts = Counter(problem.kind for problem in problems)
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
