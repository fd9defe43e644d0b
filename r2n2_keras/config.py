"""Every setting, declared once: a field of `Config` is a flag of every command."""

import dataclasses
import math
import os
import re
import textwrap
import types
from typing import Literal, get_args, get_origin

from absl import flags

from r2n2_keras.errors import InputError
from r2n2_keras.model.losses import LOSSES
from r2n2_keras.model.presets import PRESETS


def _field(default, help, section, saved=True, may_change=False):
    """A setting.

    `saved` says whether a run's `flags.cfg` keeps it, `may_change` whether a run may go on with
    another value: that it says nothing about what is trained on what.
    """
    metadata = {"help": help, "section": section, "saved": saved, "may_change": may_change}
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
        "Folder or URL that holds the renderings and the voxels, or that `prepare` wrote. Empty: a "
        "set of procedural furniture is made once and cached.",
        "Data",
        may_change=True,
    )
    renderings_dir: str = _field(
        "ShapeNetRendering", "Folder of the renderings inside --data_dir.", "Data", may_change=True
    )
    voxels_dir: str = _field(
        "ShapeNetVox32", "Folder of the voxels inside --data_dir.", "Data", may_change=True
    )
    categories: tuple[str, ...] = _field(
        (), "Names or synset ids to keep (or to synthesise). Empty: all.", "Data"
    )
    exclude: str = _field(
        "",
        "File of models to leave out, a line `synset_id/model_id` each, such as --fix_list of "
        "validate.",
        "Data",
    )
    split: Literal["train", "val", "test", "all", "r2n2", "pix2vox", "random", None] = _field(
        None,
        "train, val, test, all: which models evaluate scores (default: test). r2n2, pix2vox, "
        "random: how models are dealt to training, validation and test, where no run and no "
        "prepared data say so yet (default: r2n2, the original's).",
        "Data",
        may_change=True,
    )
    split_file: str = _field(
        "", "For --split=pix2vox: the ShapeNet.json of Pix2Vox.", "Data", may_change=True
    )
    split_seed: int = _field(0, "For --split=random.", "Data", may_change=True)
    train_limit: int = _field(0, "Train on the first N training models only. 0: all.", "Data")
    on_bad_sample: Literal["raise", "skip"] = _field(
        "raise",
        "What train, evaluate and prepare do about an unusable file: stop and name it, or go on "
        "without its model and say so.",
        "Data",
        may_change=True,
    )
    background: int = _field(
        240, "Grey level, 0 to 255, behind transparent pixels; networks on RGBA ignore it.", "Data"
    )
    alpha: Literal["composite", "threshold"] = _field(
        "composite",
        "How the background comes behind pixels: blended by alpha, or only where alpha is 0, as in "
        "the original.",
        "Data",
    )
    models_per_category: int = _field(100, "How many models to synthesise per category.", "Data")
    views: tuple[int, ...] = _field(
        (),
        "synthesize: how many renderings to make per model (default: 24). prepare: which to keep, "
        "such as 3,11,17 (default: all). validate: how many each model should have (default: as "
        "most have).",
        "Data",
        saved=False,
    )

    # Preparation.
    renderings: str = _field(
        "",
        "Archive (.tgz, .tar) or folder of the renderings to prepare. Empty: those of --data_dir.",
        "Preparation",
        saved=False,
    )
    voxels: str = _field(
        "",
        "Archive or folder of the voxels to prepare. Empty: those of --data_dir.",
        "Preparation",
        saved=False,
    )
    limit: int = _field(
        0,
        "Prepare N models only, of every category and split its share. 0: all.",
        "Preparation",
        saved=False,
    )
    fix_list: str = _field(
        "",
        "File that validate writes: the models to leave out, for --exclude.",
        "Preparation",
        saved=False,
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
    view_sampling: Literal["without_replacement", "with_replacement", "first"] = _field(
        "without_replacement",
        "How the views of a training sample are drawn, always in random order: each once at most; "
        "with repetitions, as in the paper; or the first ones in their own order.",
        "Model",
    )
    threshold: float = _field(
        0.4, "A voxel is occupied where the predicted probability is above this.", "Model"
    )

    # Training.
    workdir: str = _field(
        "", "Folder of the run: everything that training writes.", "Training", may_change=True
    )
    steps: int = _field(60_000, "Training steps in all.", "Training", may_change=True)
    batch_size: int = _field(24, "Samples per step, over all replicas.", "Training")
    learning_rate: float = _field(1e-4, "Adam's learning rate at the start.", "Training")
    learning_rate_drop_steps: tuple[int, ...] = _field(
        (), "Steps at which the learning rate is multiplied by the drop factor.", "Training"
    )
    learning_rate_drop_every: int = _field(
        0, "Multiply the learning rate by the drop factor every N steps. 0: never.", "Training"
    )
    learning_rate_drop_factor: float = _field(0.1, "See the two flags above.", "Training")
    loss: Literal[tuple(LOSSES)] = _field(
        "bce",
        "What training minimises, and train and evaluate report: binary cross-entropy (the "
        "original's), soft Dice, the sum of both, or weighted focal loss.",
        "Training",
    )
    l2: float = _field(
        0.0,
        "Training also minimises this times the squared norm of all kernels, biases excepted; the "
        "loss that is shown is without it. The original's: 2.5e-5.",
        "Training",
    )
    clip_norm: float = _field(
        0.0, "Scale gradients whose norm, over all weights, is above this. 0: never.", "Training"
    )
    ema_decay: float = _field(
        0.0,
        "Validate and save an exponential moving average of the weights, such as 0.999. 0: the "
        "weights themselves.",
        "Training",
    )
    gradient_accumulation_steps: int = _field(
        1,
        "Compute a step's batch in N parts, one after the other, to save memory; --batch_size, and "
        "the result, stay what they are.",
        "Training",
        may_change=True,
    )
    init_from: str = _field(
        "",
        "A .keras file of the same network: start from its weights (fine-tuning).",
        "Training",
    )
    freeze: tuple[str, ...] = _field(
        (),
        "Parts of the network that keep their weights: encoder, recurrence, decoder.",
        "Training",
    )
    seed: int = _field(0, "Seed of the weights, the order of samples and the views.", "Training")
    random_crop: bool = _field(
        False,
        "Training crops pictures that are up to 10 pixels larger than the network's frame at "
        "random places, instead of their centre.",
        "Training",
    )
    random_flip: bool = _field(
        False,
        "Training mirrors every other picture, left to right, and not the voxels: the original's.",
        "Training",
    )
    random_background: tuple[int, ...] = _field(
        (),
        "Training draws each picture's background colour from this range of levels, such as the "
        "original's 225,255, instead of --background; networks on RGBA ignore it.",
        "Training",
    )
    color_jitter: float = _field(
        0.0,
        "Training changes brightness, contrast and saturation of each picture by up to this part, "
        "such as 0.2; networks on RGBA ignore it.",
        "Training",
    )
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = _field(
        "auto",
        "tf.distribute strategy. auto: multi_worker where TF_CONFIG names several workers, "
        "mirrored where there are several devices.",
        "Training",
        may_change=True,
    )
    worker_timeout: int = _field(
        300,
        "Seconds that a worker waits for the others to join; 0: for ever.",
        "Training",
        may_change=True,
    )
    cpu_devices: int = _field(
        1,
        "Logical devices to split the CPU into: to try --strategy=mirrored without GPUs.",
        "Training",
        may_change=True,
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = _field(
        "float32", "Keras dtype policy of training; the other commands use float32.", "Training"
    )
    evaluate_every_steps: int = _field(
        2_000, "Steps between evaluations on the validation split.", "Training", may_change=True
    )
    checkpoint_every_steps: int = _field(
        1_000, "Steps between checkpoints.", "Training", may_change=True
    )
    checkpoint_every_seconds: int = _field(
        60,
        "Seconds after which a checkpoint is due, too; rarer where saving would take more than a "
        "twentieth of the time. 0: only every --checkpoint_every_steps.",
        "Training",
        may_change=True,
    )
    early_stopping_evaluations: int = _field(
        0,
        "Stop after N evaluations in a row that were no better than the best. 0: never.",
        "Training",
        may_change=True,
    )
    loss_limit: float = _field(
        0.0,
        "A loss above this is divergence, as is one that is not finite. 0: no limit. The "
        "original's: 2.",
        "Training",
        may_change=True,
    )
    on_divergence: Literal["stop", "rollback"] = _field(
        "stop",
        "stop: end with an error. rollback: go back to the last checkpoint and halve the learning "
        "rate, at most 3 times.",
        "Training",
        may_change=True,
    )
    deterministic: bool | None = _field(
        None,
        "The same weights, bit for bit, however often a run is repeated or interrupted, at some "
        "cost in speed. Default: where there is no GPU.",
        "Training",
        may_change=True,
    )
    jit_compile: Literal["auto", "on", "off"] = _field(
        "auto",
        "Compile training with XLA. auto: on one GPU.",
        "Training",
        may_change=True,
    )
    callbacks: tuple[str, ...] = _field(
        (),
        "Your own Keras callbacks, module:factory: called without arguments, the factory (a class "
        "or a function) gives one or several.",
        "Training",
        may_change=True,
    )
    profile: str = _field(
        "",
        "START:STOP: steps between which TensorBoard's profiler records.",
        "Training",
        saved=False,
    )
    overwrite: bool = _field(
        False,
        "Remove the run that is in --workdir and start afresh; of import_weights and prepare: "
        "replace --out.",
        "Training",
        saved=False,
    )
    dry_run: bool = _field(
        False,
        "Build everything, make three steps, tell how long the run would take, write nothing but "
        "the data cache.",
        "Training",
        saved=False,
    )

    # Evaluation.
    eval_views: tuple[int, ...] = _field(
        (1, 2, 3, 4, 5), "Numbers of views to score with.", "Evaluation", may_change=True
    )
    thresholds: tuple[float, ...] = _field(
        (0.2, 0.3, 0.4, 0.5), "Thresholds to score at.", "Evaluation", may_change=True
    )

    # Prediction.
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
        "Folder that predict, synthesize or prepare writes; .keras file that import_weights "
        "writes. Empty: <workdir>/prediction for predict.",
        "Prediction",
        saved=False,
    )

    # Export and serving.
    export_dir: str = _field(
        "",
        "Folder of the exported versions. Empty: <workdir>/exports.",
        "Export and serving",
        saved=False,
    )
    format: Literal["tf_saved_model", "onnx", "litert"] = _field(
        "tf_saved_model",
        "What export writes. onnx and litert are single files; onnx takes the extra `export`.",
        "Export and serving",
        saved=False,
    )
    check: str = _field(
        "",
        "export: check this version folder instead of writing one.",
        "Export and serving",
        saved=False,
    )
    data_licence: str = _field(
        "",
        "export: the licence of the training data, for the model card. Empty: told where the data "
        "were synthesised.",
        "Export and serving",
        saved=False,
    )
    model_name: str = _field(
        "r2n2", "serve: the model's name in URLs.", "Export and serving", saved=False
    )
    rest_api_port: int = _field(
        8501, "serve: port; 0 picks a free one and tells it.", "Export and serving", saved=False
    )
    rest_api_host: str = _field(
        "127.0.0.1",
        "serve: address to listen on; 0.0.0.0 is every one.",
        "Export and serving",
        saved=False,
    )
    model_config_file: str = _field(
        "",
        "serve: TensorFlow Serving's models.config, in place of --model_name and --export_dir.",
        "Export and serving",
        saved=False,
    )
    model_config_file_poll_wait_seconds: int = _field(
        0,
        "serve: read --model_config_file again every N seconds. 0: only at start.",
        "Export and serving",
        saved=False,
    )
    monitoring_config_file: str = _field(
        "",
        "serve: TensorFlow Serving's monitoring.config, which switches the Prometheus page on.",
        "Export and serving",
        saved=False,
    )
    rest_api_enable_cors_support: bool = _field(
        False, "serve: let pages of other origins ask.", "Export and serving", saved=False
    )
    rest_api_timeout_in_ms: int = _field(
        30_000,
        "serve: how long a request may take, its arrival included.",
        "Export and serving",
        saved=False,
    )
    rest_api_max_body_mib: int = _field(
        64, "serve: largest body of a request, in MiB.", "Export and serving", saved=False
    )
    rest_api_max_requests: int = _field(
        64,
        "serve: how many requests may be in work or wait; what comes beyond is answered 429.",
        "Export and serving",
        saved=False,
    )
    file_system_poll_wait_seconds: int = _field(
        1,
        "serve: look for new versions every N seconds.",
        "Export and serving",
        saved=False,
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
            "gradient_accumulation_steps",
            "learning_rate",
            "learning_rate_drop_factor",
            "models_per_category",
            "rest_api_timeout_in_ms",
            "rest_api_max_body_mib",
            "rest_api_max_requests",
            "file_system_poll_wait_seconds",
        ):
            value = getattr(self, name)
            _check(name, value, 0 < value < math.inf, "a number above 0")
        _check("steps", self.steps, self.steps < 2**31, "less than 2**31")
        for name in (
            "train_limit",
            "learning_rate_drop_every",
            "limit",
            "split_seed",
            "worker_timeout",
            "l2",
            "clip_norm",
            "checkpoint_every_seconds",
            "early_stopping_evaluations",
            "loss_limit",
            "model_config_file_poll_wait_seconds",
        ):
            value = getattr(self, name)
            _check(name, value, 0 <= value < math.inf, "0 or a number above 0")
        _check("model", self.model, self.model in PRESETS, f"a preset ({', '.join(PRESETS)})")
        _check("seed", self.seed, 0 <= self.seed < 2**31, "0 to 2**31 - 1")
        _check("rest_api_port", self.rest_api_port, 0 <= self.rest_api_port < 2**16, "0 to 65535")
        name_fits = re.fullmatch(r"[^/:]+", self.model_name)
        _check("model_name", self.model_name, name_fits, "a name without / and :")
        _check("background", self.background, 0 <= self.background <= 255, "0 to 255")
        _check("threshold", self.threshold, 0 < self.threshold < 1, "a number between 0 and 1")
        for name, values, most, expected in (
            ("thresholds", self.thresholds, 1, "numbers between 0 and 1"),
            ("eval_views", self.eval_views, 2**31, "numbers of views above 0"),
        ):
            in_range = all(0 < value < most for value in values)
            distinct = len(set(values)) == len(values) > 0
            _check(name, values, in_range and distinct, f"{expected}, at least one, none twice")
        for name in ("view_ids", "views"):
            ids = getattr(self, name)
            _check(name, ids, min(ids, default=0) >= 0, "numbers from 0 on")
        _check("views", self.views, len(set(self.views)) == len(self.views), "each number once")
        levels = self.random_background
        rising = len(levels) == 2 and 0 <= levels[0] <= levels[1] <= 255
        expected = "two levels from 0 to 255, the lower one first"
        _check("random_background", levels, not levels or rising, expected)
        _check("color_jitter", self.color_jitter, 0 <= self.color_jitter < 1, "0 to less than 1")
        is_pix2vox = self.split == "pix2vox"
        given_or_not = is_pix2vox == bool(self.split_file) or self.split_rule is None
        _check("split_file", self.split_file, given_or_not, "given with --split=pix2vox alone")
        is_random = self.split_rule == "random"
        is_part = self.split is not None and self.split_rule is None
        seed_counts = is_random or is_part or not self.split_seed
        _check("split_seed", self.split_seed, seed_counts, "given with --split=random alone")
        drops = self.learning_rate_drop_steps
        rising = list(drops) == sorted(set(drops)) and min(drops, default=1) > 0
        _check("learning_rate_drop_steps", drops, rising, "a rising list of steps above 0")
        _check(
            "learning_rate_drop_every",
            self.learning_rate_drop_every,
            not (drops and self.learning_rate_drop_every),
            "0 where --learning_rate_drop_steps is given",
        )
        _check("ema_decay", self.ema_decay, 0 <= self.ema_decay < 1, "0 to less than 1")
        all_parts = {"encoder", "recurrence", "decoder"}
        some = set(self.freeze) < all_parts and len(set(self.freeze)) == len(self.freeze)
        _check("freeze", self.freeze, some, "one or two of encoder, recurrence, decoder")
        for name in self.callbacks:
            _check("callbacks", name, re.fullmatch(r"[\w.]+:[\w.]+", name), "module:factory")
        _ = self.view_range, self.profile_range

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
    def profile_range(self) -> tuple[int, int] | None:
        """The first step that is profiled, and the first that is no more; None: none is."""
        if not self.profile:
            return None
        match = re.fullmatch(r"(\d{1,9}):(\d{1,9})", self.profile)
        first, stop = (int(match[1]), int(match[2])) if match else (0, 0)
        _check("profile", self.profile, first < stop, "START:STOP, two steps such as 10:20")
        return first, stop

    @property
    def split_rule(self) -> str | None:
        """How `--split` says that models are dealt; None where it does not."""
        return None if self.split in (None, "train", "val", "test", "all") else self.split

    @property
    def split_settings(self) -> dict:
        """How models are dealt, as arguments of `splits.assign`."""
        return {
            "rule": self.split_rule or ("pix2vox" if self.split_file else "r2n2"),
            "split_file": self.split_file,
            "split_seed": self.split_seed,
        }

    @property
    def split_part(self) -> str:
        """Which models `--split` says to score."""
        return "test" if self.split is None or self.split_rule else self.split

    @property
    def data_location(self) -> str:
        """`--data_dir`, said in words where it is empty."""
        return self.data_dir or "the synthesised set"

    def to_flagfile(self) -> str:
        """A flagfile that gives these settings back."""
        lines = ["# Settings of this run. Repeat it, or read it, with --flagfile."]
        for field in dataclasses.fields(self):
            if field.metadata["saved"] and getattr(self, field.name) is not None:
                lines.append(f"--{field.name}={_to_text(getattr(self, field.name))}")
        return "\n".join(lines) + "\n"

    def changed(self, other: "Config") -> dict[str, str]:
        """The flags that a run may not change and that have another value in `other`.

        Returns:
            {flag: its value here, as one would type it}.
        """
        return {
            field.name: _to_text(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata["saved"]
            and not field.metadata["may_change"]
            and getattr(self, field.name) != getattr(other, field.name)
        }


def _to_text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


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
                bool | None: flags.DEFINE_bool,
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
