"""The folder of a run: what is in it, and its `metrics.csv`."""

import contextlib
import csv
import fcntl
import os
import re
import shutil

from r2n2_keras.errors import InputError, reading
from r2n2_keras.files import replacing

FLAGS, SPLIT, METRICS, MODEL = "flags.cfg", "split.json", "metrics.csv", "model.keras"
CURVES, CHECKPOINTS, TENSORBOARD = "curves.png", "checkpoints", "tensorboard"
EVALUATION, REPORT, EXAMPLES = "evaluation.json", "evaluation.md", "examples.png"
_OF_TRAINING = (FLAGS, SPLIT, METRICS, MODEL, CURVES)
_OF_ONE_RUN = (*_OF_TRAINING, CHECKPOINTS, TENSORBOARD, EVALUATION, REPORT, EXAMPLES)

COLUMNS = ("step", "epoch", "samples", "seconds", "loss", "iou")
COLUMNS += ("val_loss", "val_iou", "learning_rate")


def model_file(path: str) -> str:
    """The model that a path names: that of a run in a folder, else the file itself."""
    return os.path.join(path, MODEL) if os.path.isdir(path) else path


def has_checkpoint(workdir: str) -> bool:
    """Whether there is a checkpoint, sound or not, to go on from."""
    folder = os.path.join(workdir, CHECKPOINTS)
    return os.path.isdir(folder) and any(name.startswith("step-") for name in os.listdir(folder))


@contextlib.contextmanager
def locked(folder):
    """A context in which nothing else trains in a folder; InputError where something does."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        # Some file systems have no locks.
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(
                    f"Expected a --workdir in which nothing trains, received {folder}, where "
                    "another process does. Stop it, or give another --workdir."
                ) from None
        yield
    finally:
        os.close(handle)


def clear_partial(workdir):
    """Removes what a training process that was killed left half written."""
    for name in os.listdir(workdir):
        if re.fullmatch(rf"partial-\d+\.({'|'.join(map(re.escape, _OF_TRAINING))})", name):
            os.remove(os.path.join(workdir, name))


def remove(workdir):
    """Removes a run, and says so."""
    # Interrupted in between, what is left is refused to other settings: these go last.
    order = sorted(_OF_ONE_RUN, key=lambda name: (name == FLAGS, name != CHECKPOINTS))
    names = [name for name in order if os.path.lexists(os.path.join(workdir, name))]
    for name in names:
        path = os.path.join(workdir, name)
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    if names:
        print(f"Removed from {workdir}: {', '.join(names)}.")


def write_text(path: str, text: str) -> None:
    """Writes a file that appears under its name only when it is whole."""
    with replacing(path) as partial, open(partial, "w") as file:
        file.write(text)


def read_metrics(workdir: str) -> list[dict]:
    """The lines of `metrics.csv` as numbers; none where there is no such file."""
    path = os.path.join(workdir, METRICS)
    if not os.path.isfile(path):
        return []
    advice = "Remove it to go on without that history."
    with reading("the metrics of a run", path, advice), open(path, newline="") as file:
        return [
            {
                name: int(row[name]) if name in ("step", "samples") else float(row[name])
                for name in COLUMNS
            }
            for row in csv.DictReader(file)
        ]


def write_metrics(workdir: str, rows: list[dict]) -> None:
    lines = [",".join(COLUMNS)]
    for row in rows:
        lines.append(",".join(f"{row[name]:.9g}" for name in COLUMNS))
    write_text(os.path.join(workdir, METRICS), "\n".join(lines) + "\n")


def best_row(rows: list[dict]) -> dict | None:
    """The evaluation whose weights are in `model.keras`: the first of the best."""
    return max(rows, key=lambda row: row["val_iou"], default=None)
