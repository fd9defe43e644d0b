"""The folder of a run: what is in it, when it may be used again, and its `metrics.csv`."""

import csv
import fcntl
import os
import re
import shutil

from r2n2_keras import config as config_lib
from r2n2_keras.atomic import replacing
from r2n2_keras.errors import InputError

FLAGS, SPLIT, METRICS, MODEL = "flags.cfg", "split.json", "metrics.csv", "model.keras"
CURVES, CHECKPOINTS, TENSORBOARD = "curves.png", "checkpoints", "tensorboard"
EVALUATION, REPORT, EXAMPLES = "evaluation.json", "evaluation.md", "examples.png"
_OF_TRAINING = (FLAGS, SPLIT, METRICS, MODEL, CURVES)
_OF_ONE_RUN = (*_OF_TRAINING, CHECKPOINTS, TENSORBOARD, EVALUATION, REPORT, EXAMPLES)

COLUMNS = (
    "step",
    "epoch",
    "samples",
    "seconds",
    "loss",
    "iou",
    "val_loss",
    "val_iou",
    "learning_rate",
)


def check_workdir(config) -> None:
    """Tells whether `config.workdir` may be trained in, before anything is made.

    Raises:
        InputError: no workdir is given, or it holds a run with other settings.
    """
    if config.dry_run and not config.workdir:
        return
    if not config.workdir:
        raise InputError(
            "Expected --workdir=DIR, the folder of the run, received none. Give one, or "
            "--flagfile=configs/quickstart.cfg."
        )
    if os.path.exists(config.workdir) and not os.path.isdir(config.workdir):
        raise InputError(
            f"Expected --workdir to be a folder, received the file {config.workdir}. Give another."
        )
    flags = os.path.join(config.workdir, FLAGS)
    if not os.path.isfile(flags) and has_checkpoint(config.workdir) and not config.overwrite:
        raise InputError(
            f"Expected {flags} beside the checkpoints of a run, received none, so that its "
            "settings are not known. Put it back, give another --workdir, or --overwrite to remove "
            "the run."
        )
    if os.path.isfile(flags) and not config.overwrite:
        try:
            saved = config_lib.parse([f"--flagfile={flags}"], from_run=False)
        except InputError as error:
            raise InputError(f"Reading the run's settings, {flags}: {error}") from None
        if expected := saved.changed(config):
            received = config.changed(saved)
            raise InputError(
                f"Expected the settings of the run in {config.workdir}, "
                f"{_as_flags(expected)}, received {_as_flags(received)}. Give the former to go on "
                "with it, another --workdir, or --overwrite to remove it."
            )


def has_checkpoint(workdir: str) -> bool:
    """Whether there is a checkpoint, sound or not, to go on from."""
    folder = os.path.join(workdir, CHECKPOINTS)
    return os.path.isdir(folder) and any(name.startswith("step-") for name in os.listdir(folder))


def _as_flags(values):
    return " ".join(f"--{name}={value}" for name, value in values.items())


def open_workdir(config) -> None:
    """Makes the folder of a run and saves its settings; says in a line what it removes.

    Raises:
        InputError: another process trains in it.
    """
    os.makedirs(config.workdir, exist_ok=True)
    _lock(config.workdir)
    _clear_partial(config.workdir)
    if config.overwrite:
        _remove(config.workdir)
    text, path = config.to_flagfile(), os.path.join(config.workdir, FLAGS)
    write_text(path, text)


def _lock(folder):
    """Keeps other processes from training in a folder for as long as this process lives."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise InputError(
            f"Expected a --workdir in which nothing trains, received {folder}, where another "
            "process does. Stop it, or give another --workdir."
        ) from None
    except OSError:  # a file system without locks
        os.close(handle)


def model_file(config) -> str:
    """The trained model that the settings name.

    Raises:
        InputError: they name neither a file nor a run.
    """
    if not (config.model_file or config.workdir):
        raise InputError(
            "Expected --workdir=DIR of a run or --model_file=FILE.keras, received neither. Give "
            "one."
        )
    return config.model_file or os.path.join(config.workdir, MODEL)


def output_dir(config, flag: str, name: str) -> str:
    """The folder that a flag names; else the folder `name` of the run.

    Raises:
        InputError: there is neither flag nor run, or it is a URL.
    """
    folder = getattr(config, flag)
    if not (folder or config.workdir):
        raise InputError(f"Expected --{flag}=DIR to write to, received none. Give one.")
    if "://" in folder:
        raise InputError(
            f"Expected a local or mounted folder, received --{flag}={folder}. Give one, and copy "
            "from there."
        )
    return folder or os.path.join(config.workdir, name)


def _clear_partial(workdir):
    """Removes what a training process that was killed left half written."""
    for name in os.listdir(workdir):
        if re.fullmatch(rf"partial-\d+\.({'|'.join(map(re.escape, _OF_TRAINING))})", name):
            os.remove(os.path.join(workdir, name))


def _remove(workdir):
    # Interrupted in between, what is left is refused to other settings: these go last.
    order = [
        CHECKPOINTS,
        *(name for name in _OF_ONE_RUN if name not in (CHECKPOINTS, FLAGS)),
        FLAGS,
    ]
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
    try:
        with open(path, newline="") as file:
            return [
                {
                    name: int(row[name]) if name in ("step", "samples") else float(row[name])
                    for name in COLUMNS
                }
                for row in csv.DictReader(file)
            ]
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise InputError(
            f"Expected the metrics of a run, received {path}, which cannot be read "
            f"({type(error).__name__}: {error}). Remove it to go on without that history."
        ) from None


def write_metrics(workdir: str, rows: list[dict]) -> None:
    """Writes `metrics.csv`: one line per evaluation."""
    lines = [",".join(COLUMNS)]
    for row in rows:
        lines.append(",".join(f"{row[name]:.9g}" for name in COLUMNS))
    write_text(os.path.join(workdir, METRICS), "\n".join(lines) + "\n")


def best_row(rows: list[dict]) -> dict | None:
    """The evaluation whose weights are in `model.keras`: the first of the best."""
    return max(rows, key=lambda row: row["val_iou"], default=None)
