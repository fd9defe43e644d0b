"""A run as the commands see it: whether it may go on, its trained model, where its results go."""

import os

from r2n2_keras import config as config_lib
from r2n2_keras import workdir
from r2n2_keras.errors import InputError


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
    flags = os.path.join(config.workdir, workdir.FLAGS)
    if (
        not os.path.isfile(flags)
        and workdir.has_checkpoint(config.workdir)
        and not config.overwrite
    ):
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


def _as_flags(values):
    return " ".join(f"--{name}={value}" for name, value in values.items())


def open_workdir(config) -> None:
    """Makes the folder of a run and saves its settings; says in a line what it removes.

    Raises:
        InputError: another process trains in it.
    """
    os.makedirs(config.workdir, exist_ok=True)
    workdir.lock(config.workdir)
    workdir.clear_partial(config.workdir)
    if config.overwrite:
        workdir.remove(config.workdir)
    text, path = config.to_flagfile(), os.path.join(config.workdir, workdir.FLAGS)
    workdir.write_text(path, text)


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
    return config.model_file or os.path.join(config.workdir, workdir.MODEL)


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
