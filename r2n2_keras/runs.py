"""A run as the commands see it: whether it may go on, its trained model, where its results go."""

import contextlib
import os
import shlex

from r2n2_keras import config as config_lib
from r2n2_keras import files, workdir
from r2n2_keras.errors import InputError
from r2n2_keras.model.loading import check_model_file


def check_workdir(config) -> None:
    """Raises an InputError, before anything is made, where the workdir may not be trained in."""
    if config.dry_run and not config.workdir:
        return
    if not config.workdir:
        raise InputError(
            "Expected --workdir=DIR, the folder of the run, received none. Give one, or "
            "--flagfile=configs/quickstart.cfg."
        )
    _check_folder(config.workdir, "workdir")
    if config.overwrite:
        return
    saved = config_lib.saved_settings(config.workdir)
    if saved is None and workdir.has_checkpoint(config.workdir):
        raise InputError(
            f"Expected {os.path.join(config.workdir, workdir.FLAGS)} beside the checkpoints of a "
            "run, received none, so that its settings are not known. Put it back, give another "
            "--workdir, or --overwrite to remove the run."
        )
    if saved and (expected := saved.changed(config)):
        received = config.changed(saved)
        raise InputError(
            f"Expected the settings of the run in {config.workdir}, {_as_flags(expected)}, "
            f"received {_as_flags(received)}. Leave them out to go on with it, or give another "
            "--workdir, or --overwrite to remove it."
        )


def _as_flags(values):
    return " ".join(f"--{name}={value and shlex.quote(value)}" for name, value in values.items())


def _check_folder(folder, flag):
    if files.is_url(folder):
        raise InputError(
            f"Expected a local or mounted folder, received --{flag}={folder}. Give one, and copy "
            "from there."
        )
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise InputError(
            f"Expected --{flag} to be a folder, received the file {folder}. Change it."
        )


@contextlib.contextmanager
def opened(config):
    """A context in which the folder of a run is this process's, with its settings saved in it.

    Makes the folder; says in a line what it removes. InputError where another process trains in it.
    """
    os.makedirs(config.workdir, exist_ok=True)
    with workdir.locked(config.workdir):
        workdir.clear_partial(config.workdir)
        if config.overwrite:
            workdir.remove(config.workdir)
        workdir.write_text(os.path.join(config.workdir, workdir.FLAGS), config.to_flagfile())
        yield


def model_file(config) -> str:
    """The trained model that the settings name; InputError where none is there."""
    if not (config.model_file or config.workdir):
        raise InputError(
            "Expected --workdir=DIR of a run or --model_file=FILE.keras, received neither. Give "
            "one."
        )
    path = config.model_file or os.path.join(config.workdir, workdir.MODEL)
    check_model_file(path)
    return path


def output_dir(config, flag: str, name: str = "") -> str:
    """The folder of a flag, else the run's or `name` in it; InputError where it is none."""
    folder = getattr(config, flag)
    if not (folder or config.workdir):
        raise InputError(f"Expected --{flag}=DIR to write to, received none. Give one.")
    if not folder:
        flag, folder = "workdir", os.path.join(config.workdir, name) if name else config.workdir
    _check_folder(folder, flag)
    return folder


def evaluation_dir(config) -> str:
    """The folder for scores: `--out`, else the run's.

    Raises an InputError for a run's where the scores would be of another model or of other data.
    """
    folder = output_dir(config, "out")
    saved = config_lib.saved_settings(folder)
    if saved is None:
        return folder
    model, own_model = model_file(config), os.path.join(folder, workdir.MODEL)
    if os.path.realpath(model) != os.path.realpath(own_model):
        other = f"the model {model}"
    elif _data_of(config) != _data_of(saved):
        other = f"other data than {saved.data_location}"
    else:
        return folder
    raise InputError(
        f"Expected another folder for scores of {other}, received {folder}, which keeps those of "
        "its run on the run's own data. Give --out=DIR."
    )


def _data_of(config):
    """What tells a run's data from other data."""
    if not config.data_dir:
        return config.models_per_category
    is_url = files.is_url(config.data_dir)
    place = config.data_dir if is_url else os.path.realpath(config.data_dir)
    return place, config.renderings_dir, config.voxels_dir
