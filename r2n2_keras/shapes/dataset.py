"""A data set of procedural furniture in the official tree layout of 3D-R2N2.

    <out>/ShapeNetRendering/<synset_id>/<model_id>/rendering/00.png ... rendering_metadata.txt
                                                             renderings.txt
    <out>/ShapeNetVox32/<synset_id>/<model_id>/model.binvox

A model is a function of (seed, category, index) alone: the same call writes the same bytes,
whatever the number of processes, and a larger data set begins with the models of a smaller one.
"""

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from r2n2_keras.data import binvox
from r2n2_keras.data.categories import SYNSET_IDS, category_of
from r2n2_keras.errors import InputError
from r2n2_keras.files import replacing
from r2n2_keras.shapes import furniture
from r2n2_keras.shapes.camera import random_camera
from r2n2_keras.shapes.render import render_views
from r2n2_keras.shapes.voxelize import voxelize

FORMAT_VERSION = 1  # raise it when the same (seed, category, index) gives other files
MAX_VIEWS = 99  # NN.png has two digits
CATEGORIES = tuple(furniture.CATEGORIES)
CACHE_VARIABLE = "R2N2_CACHE"

Progress = Callable[[int, int], None]
WORKER = "from r2n2_keras.shapes import dataset; dataset._work()"


def synthesize(
    out_dir: str | os.PathLike,
    categories: Sequence[str] = CATEGORIES,
    models_per_category: int = 100,
    num_views: int = 24,
    seed: int = 0,
    processes: int | None = None,
    progress: Progress | None = None,
) -> Path:
    """Writes a data set; `out_dir`, which must not be there yet, appears only when it is whole.

    There are `num_views`, 1 to 99, renderings per model; `seed` is not negative, other seeds give
    other models. Unless `processes` says how many, one works for each processor. `progress` is
    called with (models done, models in all) after each model. Returns `out_dir`. Raises an
    InputError where it is there already, a category is unknown or a number out of range.
    """
    out_dir = Path(out_dir)
    categories = _checked(categories, models_per_category, num_views, seed, processes)
    if os.path.lexists(out_dir):
        raise InputError(
            f"Expected a folder that is not there yet, received {out_dir}. "
            "Remove it or name another one."
        )
    try:
        with replacing(out_dir) as partial:
            os.makedirs(partial)
            made = categories, models_per_category, num_views, seed
            _write_all(partial, *made, processes, progress)
    except OSError as error:
        raise InputError(
            f"Expected to write a data set to {out_dir}, received: {error.strerror or error}. "
            "Check the path, its permissions and the space left."
        ) from error
    return out_dir


def default_dataset(
    categories: Sequence[str] = CATEGORIES,
    models_per_category: int = 100,
    progress: Progress | None = None,
) -> Path:
    """The folder of the cached data set of these settings; made on the first call.

    It lies under the folder that `R2N2_CACHE` names, else `$XDG_CACHE_HOME/r2n2_keras`, else
    `~/.cache/r2n2_keras`.
    """
    out_dir = default_dir(categories, models_per_category)
    if out_dir.is_dir():
        return out_dir
    try:
        return synthesize(out_dir, categories, models_per_category, progress=progress)
    except InputError:
        if out_dir.is_dir():  # another process was faster; its files are the same
            return out_dir
        raise


def default_dir(categories: Sequence[str], models_per_category: int) -> Path:
    """Where `default_dataset` puts, or has put, the data set of these settings."""
    categories = _checked(categories, models_per_category, 24, 0, None)
    name = f"furniture-v{FORMAT_VERSION}-{models_per_category}-{'-'.join(categories)}"
    return _cache_dir() / name


def write_model(
    root: str | os.PathLike, category: str, index: int, num_views: int = 24, seed: int = 0
) -> None:
    """Writes one model's renderings and voxels into the tree at `root`."""
    # The category's synset id is a stable number for it; an order of categories is not.
    synset_id = SYNSET_IDS[category]
    rng = np.random.default_rng([seed, int(synset_id), index])
    parts = furniture.make(category, rng)
    cameras = [random_camera(rng) for _ in range(num_views)]

    model_id = f"{category}_{index:04d}"
    renderings = Path(root) / "ShapeNetRendering" / synset_id / model_id / "rendering"
    renderings.mkdir(parents=True)
    names = [f"{view:02d}.png" for view in range(num_views)]
    for name, picture in zip(names, render_views(parts, cameras), strict=True):
        Image.fromarray(picture).save(renderings / name, compress_level=6)
    metadata = [
        f"{camera.azimuth!r} {camera.elevation!r} 0 {camera.distance!r} 25\n" for camera in cameras
    ]
    (renderings / "rendering_metadata.txt").write_text("".join(metadata), newline="\n")
    (renderings / "renderings.txt").write_text("".join(f"{n}\n" for n in names), newline="\n")

    folder = Path(root) / "ShapeNetVox32" / synset_id / model_id
    folder.mkdir(parents=True)
    binvox.write(folder / "model.binvox", voxelize(parts))


def _checked(categories, models_per_category, num_views, seed, processes) -> tuple[str, ...]:
    """The categories as a tuple, each once; InputError for what cannot be synthesised."""
    categories = (categories,) if isinstance(categories, str) else tuple(categories)
    categories = tuple(category_of(name) for name in categories)  # synset ids are welcome, too
    unknown = [name for name in categories if name not in furniture.CATEGORIES]
    if unknown or not categories:
        raise InputError(
            f"Expected categories out of {', '.join(CATEGORIES)}, "
            f"received {', '.join(map(repr, unknown)) or 'none'}. Name at least one of those."
        )
    for name, value, low, high in (
        ("models_per_category", models_per_category, 1, None),
        ("views", num_views, 1, MAX_VIEWS),
        ("seed", seed, 0, None),
        ("processes", 1 if processes is None else processes, 1, None),
    ):
        if value < low or (high is not None and value > high):
            wanted = f"of at least {low}" if high is None else f"from {low} to {high}"
            raise InputError(f"Expected {name} {wanted}, received {value}. Choose another number.")
    return tuple(dict.fromkeys(categories))


def _cache_dir() -> Path:
    if chosen := os.environ.get(CACHE_VARIABLE):
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "r2n2_keras"


# Worker processes. They are started as plain interpreters rather than by `multiprocessing`, whose
# children import the program's main module again: for a command of this package that is
# TensorFlow, and for a script without an `if __name__ == "__main__"` an endless loop.


def _write_all(root, categories, models_per_category, num_views, seed, processes, progress):
    """Writes all models, over `processes` processes; says after each how many are there."""
    total = len(categories) * models_per_category
    shares = min(processes or os.cpu_count() or 1, total)
    jobs = [
        (root, categories, models_per_category, num_views, seed, share, shares)
        for share in range(shares)
    ]
    with contextlib.ExitStack() as stack:
        models = _write_share(*jobs[0]) if shares == 1 else _in_processes(jobs, stack)
        for done, _ in enumerate(models, 1):
            if progress:
                progress(done, total)


def _in_processes(jobs, stack: contextlib.ExitStack) -> Iterator[str]:
    """A process for each job; yields a line for each model that is there. `stack` ends them."""
    reading, writing = os.pipe()
    lines = stack.enter_context(open(reading))  # of all of them
    with open(writing, "wb", buffering=0) as output:
        workers = []
        for job in jobs:
            workers.append(stack.enter_context(_start(job, output)))
            stack.callback(workers[-1].terminate)  # nothing to those that are done
    yield from lines
    for worker in workers:
        problem = worker.stderr.read().strip()
        if worker.wait() != 0:
            last = problem.splitlines()[-1] if problem else f"exit status {worker.returncode}"
            raise OSError(f"a worker process failed: {last}")


def _start(job: tuple, output) -> subprocess.Popen:
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, json.dumps(job)],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def _work() -> None:
    """What a worker process does: writes its share, and a line for each model that is there."""
    try:
        for model in _write_share(*json.loads(sys.argv[1])):
            print(*model, flush=True)
    except KeyboardInterrupt:
        sys.exit(130)  # the parent, which the same key interrupted, tells the user


def _write_share(
    root, categories, models_per_category, num_views, seed, share, shares
) -> Iterator[tuple[str, int]]:
    """Writes every `shares`-th model from number `share`; yields each one when it is there."""
    models = [(name, index) for name in categories for index in range(models_per_category)]
    for category, index in models[share::shares]:
        write_model(root, category, index, num_views, seed)
        yield category, index
