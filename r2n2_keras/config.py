"""Every setting, declared once: a field of `Config` is a flag of every command."""

import dataclasses
import os
import re
import textwrap
import types
from typing import Literal, get_args, get_origin

from absl import flags

from r2n2_keras.errors import InputError
from r2n2_keras.model.presets import PRESETS


def _field(default, help, section, saved=True):
    """A setting; `saved` says whether a run's `flags.cfg` keeps it."""
    metadata = {"help": help, "section": section, "saved": saved}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Config:
    """The settings of a command.

    Raises:
        InputError: a value is out of its range.
    """

    # Data.
    data_dir: str = _field(
        "",
        "Folder that holds the renderings and the voxels. Empty: a set of procedural furniture is "
        "made once and cached.",
        "Data",
    )
    renderings_dir: str = _field(
        "ShapeNetRendering", "Folder of the renderings inside --data_dir.", "Data"
    )
    voxels_dir: str = _field("ShapeNetVox32", "Folder of the voxels inside --data_dir.", "Data")
    categories: tuple[str, ...] = _field(
        (), "Names or synset ids to keep (or to synthesise). Empty: all.", "Data"
    )
    train_limit: int = _field(0, "Train on the first N training models only. 0: all.", "Data")
    background: int = _field(
        240, "Grey level, 0 to 255, behind transparent pixels; networks on RGBA ignore it.", "Data"
    )
    models_per_category: int = _field(100, "How many models to synthesise per category.", "Data")
    views: int = _field(
        24, "How many renderings synthesize makes per model; the cached default set has 24.", "Data"
    )

    # Model.
    model: str = _field("notebook", f"Preset of the network: {' or '.join(PRESETS)}.", "Model")
    num_views: str = _field(
        "3",
        "Views of a training sample: a number, or a range such as 1..5, drawn anew each step.",
        "Model",
    )
    view_ids: tuple[int, ...] = _field(
        (), "Always use these renderings, in this order, instead of drawing --num_views.", "Model"
    )
    threshold: float = _field(
        0.4, "A voxel is occupied where the predicted probability is above this.", "Model"
    )

    # Training.
    workdir: str = _field("", "Folder of the run: everything that training writes.", "Training")
    steps: int = _field(60_000, "Training steps in all.", "Training")
    batch_size: int = _field(24, "Samples per step, over all replicas.", "Training")
    learning_rate: float = _field(1e-4, "Adam's learning rate at the start.", "Training")
    learning_rate_drop_steps: tuple[int, ...] = _field(
        (), "Steps at which the learning rate is multiplied by the drop factor.", "Training"
    )
    learning_rate_drop_every: int = _field(
        0, "Multiply the learning rate by the drop factor every N steps. 0: never.", "Training"
    )
    learning_rate_drop_factor: float = _field(0.1, "See the two flags above.", "Training")
    seed: int = _field(0, "Seed of the weights, the order of samples and the views.", "Training")
    strategy: Literal["auto", "one_device", "mirrored"] = _field(
        "auto", "tf.distribute strategy; auto mirrors where there are several devices.", "Training"
    )
    cpu_devices: int = _field(
        1,
        "Logical devices to split the CPU into: to try --strategy=mirrored without GPUs.",
        "Training",
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = _field(
        "float32", "Keras dtype policy of training; the other commands use float32.", "Training"
    )
    evaluate_every_steps: int = _field(
        2_000, "Steps between evaluations on the validation split.", "Training"
    )
    checkpoint_every_steps: int = _field(1_000, "Steps between checkpoints.", "Training")
    overwrite: bool = _field(
        False,
        "Remove the run that is in --workdir and start afresh; of import_weights: replace --out.",
        "Training",
        saved=False,
    )
    dry_run: bool = _field(
        False,
        "Build everything, run two steps, write nothing but the data cache.",
        "Training",
        saved=False,
    )

    # Evaluation.
    split: Literal["train", "val", "test", "all"] = _field(
        "test", "Which models to score.", "Evaluation"
    )
    eval_views: tuple[int, ...] = _field(
        (1, 2, 3, 4, 5), "Numbers of views to score with.", "Evaluation"
    )
    thresholds: tuple[float, ...] = _field(
        (0.2, 0.3, 0.4, 0.5), "Thresholds to score at.", "Evaluation"
    )

    # Prediction and export.
    model_file: str = _field(
        "",
        "A .keras file to use instead of the best model of --workdir.",
        "Prediction",
        saved=False,
    )
    images: tuple[str, ...] = _field(
        (),
        "Pictures of one object, or a folder of them. Empty: renderings of a held-out "
        "model of --workdir's data.",
        "Prediction",
        saved=False,
    )
    formats: tuple[str, ...] = _field(
        ("npz", "binvox", "png"),
        "What predict writes: npz, binvox, png.",
        "Prediction",
        saved=False,
    )
    out: str = _field(
        "",
        "Folder that predict or synthesize writes, .keras file that import_weights writes. Empty: "
        "<workdir>/prediction for predict.",
        "Prediction",
        saved=False,
    )
    export_dir: str = _field(
        "", "Folder of the exported versions. Empty: <workdir>/exports.", "Prediction", saved=False
    )

    # Import.
    source: Literal["theano", "notebook", None] = _field(
        None, "Which code saved the --weights: see import_weights --help.", "Import", saved=False
    )
    weights: str = _field(
        "",
        "File to import: the original's .npy, or a .npz of the notebook's state dicts.",
        "Import",
        saved=False,
    )
    swap_yz: bool = _field(
        False,
        "Turn a network that the notebook trained, so that it answers [x, y, z].",
        "Import",
        saved=False,
    )

    def __post_init__(self):
        for name in (
            "steps",
            "batch_size",
            "cpu_devices",
            "evaluate_every_steps",
            "checkpoint_every_steps",
            "learning_rate",
            "learning_rate_drop_factor",
            "models_per_category",
            "views",
        ):
            _check(name, getattr(self, name), getattr(self, name) > 0, "a number above 0")
        _check("steps", self.steps, self.steps < 2**31, "less than 2**31")
        for name in ("train_limit", "learning_rate_drop_every"):
            _check(name, getattr(self, name), getattr(self, name) >= 0, "0 or a number above 0")
        _check("model", self.model, self.model in PRESETS, f"a preset ({', '.join(PRESETS)})")
        _check("seed", self.seed, 0 <= self.seed < 2**31, "0 to 2**31 - 1")
        _check("background", self.background, 0 <= self.background <= 255, "0 to 255")
        _check("threshold", self.threshold, 0 < self.threshold < 1, "a number between 0 and 1")
        for name, values, most, expected in (
            ("thresholds", self.thresholds, 1, "numbers between 0 and 1"),
            ("eval_views", self.eval_views, 2**31, "numbers of views above 0"),
        ):
            in_range = all(0 < value < most for value in values)
            distinct = len(set(values)) == len(values) > 0
            _check(name, values, in_range and distinct, f"{expected}, at least one, none twice")
        _check("view_ids", self.view_ids, min(self.view_ids, default=0) >= 0, "ids from 0 on")
        drops = self.learning_rate_drop_steps
        rising = list(drops) == sorted(set(drops)) and min(drops, default=1) > 0
        _check("learning_rate_drop_steps", drops, rising, "a rising list of steps above 0")
        _check(
            "learning_rate_drop_every",
            self.learning_rate_drop_every,
            not (drops and self.learning_rate_drop_every),
            "0 where --learning_rate_drop_steps is given",
        )
        _ = self.view_range

    @property
    def view_range(self) -> tuple[int, int]:
        """Fewest and most views of a training sample."""
        if self.view_ids:
            return len(self.view_ids), len(self.view_ids)
        match = re.fullmatch(r"(\d{1,4})(?:\.\.(\d{1,4}))?", self.num_views)
        fewest, most = (int(n) for n in (match[1], match[2] or match[1])) if match else (0, 0)
        _check("num_views", self.num_views, 0 < fewest <= most, "1 to 9999, or a range as 1..5")
        return fewest, most

    @property
    def data_location(self) -> str:
        """`--data_dir`, said in words where it is empty."""
        return self.data_dir or "the synthesised set"

    def to_flagfile(self) -> str:
        """A flagfile that gives these settings back."""
        lines = ["# Settings of this run. Repeat it, or read it, with --flagfile."]
        for field in dataclasses.fields(self):
            if field.metadata["saved"]:
                value = getattr(self, field.name)
                text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
                lines.append(f"--{field.name}={text}")
        return "\n".join(lines) + "\n"


def _check(name, value, holds, expected):
    if not holds:
        raise InputError(f"Expected --{name} to be {expected}, received {value!r}. Change it.")


def parse(argv: list[str], from_run: bool = True) -> Config:
    """Settings from a command line; what comes later on it wins.

    Args:
        argv: the command line without the program's name.
        from_run: start from the settings that the run in `--workdir` saved, if there is one.

    Raises:
        InputError: a flag is unknown or its value is of no use.
    """
    values = _flag_values(argv)
    if from_run and values["workdir"]:
        saved = os.path.join(values["workdir"], "flags.cfg")
        if os.path.isfile(saved):
            try:
                values = _flag_values([f"--flagfile={saved}", *argv])
            except InputError as error:
                raise InputError(f"Reading the run's settings, {saved}: {error}") from None
    return Config(**values)


def _flag_values(argv: list[str]) -> dict:
    values = define_flags()
    try:
        rest = values(["command", *argv])[1:]
    except (flags.Error, UnicodeDecodeError) as error:
        message = " ".join(str(error).split()).removeprefix("ERROR:: ")
        raise InputError(f"{message.rstrip('.')}. --help lists the flags.") from None
    if rest:
        raise InputError(
            f"Expected flags only, received {' '.join(rest)!r}. Write --name=value; --help lists "
            "the flags."
        )
    return {
        field.name: _convert(field, values[field.name].value)
        for field in dataclasses.fields(Config)
    }


def define_flags() -> flags.FlagValues:
    """One flag per field of `Config`, in a registry of their own."""
    values = flags.FlagValues()
    for field in dataclasses.fields(Config):
        args = (field.name, field.default, field.metadata["help"])
        if choices := _choices(field):
            name, default, help_ = args
            flags.DEFINE_enum(name, default, choices, help_, flag_values=values)
        elif isinstance(field.type, types.GenericAlias):
            name, default, help_ = args
            flags.DEFINE_list(name, [str(x) for x in default], help_, flag_values=values)
        else:
            define = {
                bool: flags.DEFINE_bool,
                int: flags.DEFINE_integer,
                float: flags.DEFINE_float,
                str: flags.DEFINE_string,
            }[field.type]
            define(*args, flag_values=values)
    return values


def _choices(field):
    """The values that a `Literal` can be given; None among them is that it may be left out."""
    values = get_args(field.type) if get_origin(field.type) is Literal else ()
    return tuple(value for value in values if value is not None)


def _convert(field, value):
    if not isinstance(field.type, types.GenericAlias):
        return value
    kind = get_args(field.type)[0]
    try:
        return tuple(kind(item.strip()) for item in value if item.strip())
    except ValueError:
        raise InputError(
            f"Expected --{field.name} to be a list of {kind.__name__}s such as "
            f"{','.join(map(str, field.default)) or '1,2,3'}, received {','.join(value)!r}. "
            "Change it."
        ) from None


def help_text(doc: str) -> str:
    """A command's docstring, then every flag by section."""
    lines = [doc.strip(), "", "--flagfile=FILE: read flags from a file; later flags win."]
    section = None
    for field in dataclasses.fields(Config):
        if field.metadata["section"] != section:
            section = field.metadata["section"]
            lines += ["", f"{section} flags:"]
        value = field.default
        default = ",".join(map(str, value)) if isinstance(value, tuple) else value
        choices = _choices(field)
        shown = f"={'|'.join(choices)}" if choices else ""
        ending = "" if default in ("", None) else f" (default: {default})"
        text = f"--{field.name}{shown}: {field.metadata['help']}{ending}"
        lines += textwrap.wrap(text, 88, initial_indent="  ", subsequent_indent="      ")
    return "\n".join(lines)
