"""Every setting, declared once: a field of `Config` is a flag of the commands that read it."""

import dataclasses
import functools
import os
import re
import textwrap
from typing import Annotated, Literal, get_args, get_origin

from absl import flags

from r2n2_keras import files, kinds, workdir
from r2n2_keras.data.augmentation import AugmentationSettings
from r2n2_keras.errors import InputError
from r2n2_keras.model.losses import LOSSES
from r2n2_keras.model.presets import PRESETS
from r2n2_keras.outputs.files import FORMATS

_HELP_WIDTH = 98
_MOST_SHOWN = 25  # of a command with more flags `--help` only names the rare ones

Preset = Annotated[
    str, kinds.Range(lambda name: name in PRESETS, f"a preset ({', '.join(PRESETS)})")
]

_RULES = ("r2n2", "pix2vox", "random")  # of `--split`, beside the parts
_SECTIONS = ("Files", "Data", "Network and views", "Training", "Augmentation")
_SECTIONS += ("Evaluations, checkpoints, devices", "Scores", "Serving")

# === The settings ===


_file = functools.partial(kinds.setting, section="Files", saved=False)
_data = functools.partial(kinds.setting, section="Data")
_place = functools.partial(_data, may_change=True)
_network = functools.partial(kinds.setting, section="Network and views")
_training = functools.partial(kinds.setting, commands="train", section="Training")
_control = functools.partial(
    kinds.setting, commands="train", section="Evaluations, checkpoints, devices", may_change=True
)
_score = functools.partial(kinds.setting, commands="evaluate", section="Scores", may_change=True)
_serving = functools.partial(kinds.setting, commands="serve", section="Serving", saved=False)

_OF_DATA = "train evaluate predict prepare validate"


@dataclasses.dataclass(frozen=True)
class Config(AugmentationSettings):
    """The settings of a command; those of the augmentation stand in `data/augmentation.py`.

    Raises:
        InputError: a value is out of its range.
    """

    workdir: kinds.Path = _file(
        "",
        "Folder of the run. What is not given comes from the settings that the run saved.",
        "train evaluate predict export serve",
        saved=True,
        may_change=True,
    )
    model_file: kinds.Path = _file(
        "", "A .keras file in place of the run's best model.", "evaluate predict export"
    )
    images: kinds.Paths = _file(
        (), "Pictures of one object, or a folder. Empty: a held-out model's.", "predict"
    )
    formats: kinds.Names = _file(
        ("npz", "binvox", "png"), f"What to write: {', '.join(FORMATS)}.", "predict"
    )
    source: Literal["theano", "notebook", None] = _file(
        None, "Which code saved the --weights: see above.", "import_weights"
    )
    weights: kinds.Path = _file(
        "", "The original's .npy, or a .npz of the notebook's state dicts.", "import_weights"
    )
    swap_yz: bool = _file(
        False, "Turn a network that the notebook trained to [x, y, z].", "import_weights"
    )
    out: kinds.Path = _file(
        "",
        {
            "evaluate": "Folder for the scores. Empty: --workdir, for scores of its own data.",
            "predict": "Folder to write. Empty: <workdir>/prediction.",
            "prepare": "Folder to write.",
            "synthesize": "Folder to write.",
            "import_weights": "The .keras file to write.",
        },
    )
    export_dir: kinds.Path = _file(
        "", "Folder of the exported versions. Empty: <workdir>/exports.", "export serve"
    )
    format: Literal["tf_saved_model", "onnx", "litert"] = _file(
        "tf_saved_model", "What to write. onnx takes the extra `export`.", "export"
    )
    check: kinds.Path = _file("", "Check this version folder instead of writing one.", "export")
    data_licence: str = _file("", "Licence of the training data, for the model card.", "export")
    fix_list: kinds.Path = _file("", "File to write: models to --exclude.", "validate")
    overwrite: bool = _file(
        False,
        {
            "train": "Remove the run that is in --workdir and start afresh, from these flags.",
            "prepare": "Replace the prepared data in --out.",
            "import_weights": "Replace --out.",
        },
    )
    dry_run: bool = _file(
        False, "Make three steps, tell how long the run would take, write no run.", "train"
    )

    data_dir: kinds.Path = _place(
        "",
        "Folder or URL: a tree, or what `prepare` wrote. train, evaluate and predict make a set of "
        "furniture where none is given.",
        _OF_DATA,
    )
    renderings: kinds.Path = _data(
        "", "Archive or folder of the renderings. Empty: of --data_dir.", "prepare", saved=False
    )
    voxels: kinds.Path = _data(
        "", "Archive or folder of the voxels. Empty: of --data_dir.", "prepare", saved=False
    )
    renderings_dir: str = _place(
        "ShapeNetRendering", "Folder of the renderings in --data_dir.", _OF_DATA, rare=True
    )
    voxels_dir: str = _place(
        "ShapeNetVox32", "Folder of the voxels in --data_dir.", _OF_DATA, rare=True
    )
    categories: kinds.Names = _data(
        (), "Names or synset ids to take. Empty: all.", f"{_OF_DATA} synthesize"
    )
    exclude: kinds.Path = _data(
        "", "File of models to leave out, lines `synset_id/model_id`.", _OF_DATA, rare=True
    )
    split: Literal["train", "val", "test", "all", *_RULES, None] = _place(
        None,
        {
            "train": "How models are dealt. r2n2 is the default.",
            "evaluate": "train, val, test (the default), all: which models to score. For a "
            "--model_file without a run also r2n2, pix2vox, random: how models are dealt.",
            "prepare": "How models are dealt. r2n2 is the default.",
            "validate": "Look for models in two parts of --split_file.",
        },
        choices={"train": _RULES, "prepare": _RULES, "validate": ("pix2vox",)},
    )
    split_file: kinds.Path = _place(
        "", "ShapeNet.json, for --split=pix2vox.", "train evaluate prepare validate", rare=True
    )
    split_seed: kinds.Limit = _place(0, "For --split=random.", "train evaluate prepare", rare=True)
    limit: kinds.Limit = _data(
        0, "Prepare N models only, of each category and split its share.", "prepare", saved=False
    )
    train_limit: kinds.Limit = _data(0, "Train on the first N models. 0: all.", "train", rare=True)
    on_bad_sample: Literal["raise", "skip"] = _place(
        "raise",
        "At an unusable file: stop, or leave its model out.",
        "train evaluate prepare",
        rare=True,
    )
    models_per_category: kinds.Count = _data(
        100, "Size of the furniture set.", "train evaluate predict synthesize", rare=True
    )
    views: kinds.Views = _data(
        (),
        {
            "synthesize": "Renderings to make of each model. Empty: 24.",
            "prepare": "Renderings to keep, such as 3,11,17. Empty: all.",
            "validate": "How many renderings each model should have. Empty: as most have.",
        },
        saved=False,
    )

    model: Preset = _network(
        "notebook", f"Preset: {', '.join(PRESETS)}. (`R2N2()` in Python: res_gru_3.)", "train"
    )
    background: kinds.Grey = _network(
        240,
        "Grey level, 0 to 255, behind transparent pixels. Saved with the network; networks on RGBA "
        "ignore it.",
        "train import_weights",
    )
    alpha: Literal["composite", "threshold"] = _network(
        "composite",
        "How the background comes behind pixels. Blended by alpha, or only where alpha is 0, as in "
        "the original. Saved with the network.",
        "train import_weights",
    )
    num_views: str = _network(
        "3",
        {
            "train": "Views of a sample: a number, or a range such as 1..5, drawn each step.",
            "export": "How many views a LiteRT file takes.",
        },
    )
    view_ids: kinds.Views = _network(
        (), "Always use these renderings, in this order.", "train evaluate predict", rare=True
    )
    view_sampling: Literal["without_replacement", "with_replacement", "first"] = _network(
        "without_replacement",
        "How the views of a training sample are drawn. In random order, each once at most; with "
        "repetitions, as in the paper; or the first ones in their own order.",
        "train",
        rare=True,
    )
    threshold: kinds.Probability = _network(
        0.4, "A voxel is occupied above this probability.", "train evaluate predict export"
    )

    steps: kinds.Steps = _training(60_000, "Training steps in all.", may_change=True)
    batch_size: kinds.Count = _training(
        24, "Samples per step, over all replicas.", commands="train evaluate"
    )
    learning_rate: kinds.Rate = _training(1e-4, "Adam's learning rate at the start.")
    learning_rate_drop_steps: kinds.Rising = _training(
        (), "Steps at which the learning rate is multiplied by the drop factor.", rare=True
    )
    learning_rate_drop_every: kinds.Limit = _training(
        0, "Multiply the learning rate by the drop factor every N steps. 0: never.", rare=True
    )
    learning_rate_drop_factor: kinds.Rate = _training(0.1, "See the two flags above.", rare=True)
    loss: Literal[tuple(LOSSES)] = _training(
        "bce",
        {
            "train": "What to minimise. bce: binary cross-entropy, the original; dice: soft Dice; "
            "bce_dice: their sum; focal: weighted focal loss.",
            "evaluate": "The loss to report. Default: that of the run.",
        },
    )
    l2: kinds.Weight = _training(
        0.0,
        "Minimise the kernels' squared norm times this, too; the original's: 2.5e-5. The loss "
        "that is shown is without it.",
        rare=True,
    )
    clip_norm: kinds.Weight = _training(
        0.0, "Scale gradients whose norm, over all weights, is above this. 0: never.", rare=True
    )
    ema_decay: kinds.Part = _training(
        0.0, "Validate and save averaged weights, with a decay such as 0.999. 0: not.", rare=True
    )
    gradient_accumulation_steps: kinds.Count = _training(
        1, "Compute a batch in N parts, to save memory.", may_change=True, rare=True
    )
    init_from: kinds.Path = _training("", "A run or .keras file of the same network to start from.")
    freeze: kinds.Parts = _training(
        (), "What keeps its weights: encoder, recurrence, decoder.", rare=True
    )
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = _training(
        "float32", "Keras' dtype policy."
    )
    seed: kinds.Seed = _training(0, "Seed of all that is drawn.", commands="train synthesize")

    evaluate_every_steps: kinds.Count = _control(2_000, "Steps between evaluations.")
    checkpoint_every_steps: kinds.Count = _control(1_000, "Steps between checkpoints.")
    checkpoint_every_seconds: kinds.Limit = _control(
        60,
        "Seconds after which a checkpoint is due, too. Rarer where saving would take more than a "
        "twentieth of the time. 0: only every --checkpoint_every_steps.",
        rare=True,
    )
    early_stopping_evaluations: kinds.Limit = _control(
        0, "Stop after N evaluations no better than the best. 0: never.", rare=True
    )
    loss_limit: kinds.Weight = _control(
        0.0, "A loss above this is divergence. 0: no limit. The original's: 2.", rare=True
    )
    on_divergence: Literal["stop", "rollback"] = _control(
        "stop", "rollback: to the last checkpoint, with half the learning rate.", rare=True
    )
    strategy: Literal["auto", "one_device", "mirrored", "multi_worker"] = _control(
        "auto",
        "The tf.distribute strategy. auto is multi_worker where TF_CONFIG names several workers, "
        "mirrored where there are several devices.",
    )
    worker_timeout: kinds.Limit = _control(
        300, "Seconds that a worker waits for the others to join. 0: for ever.", rare=True
    )
    cpu_devices: kinds.Count = _control(
        1, "Parts of the CPU, to try --strategy=mirrored without GPUs.", rare=True
    )
    deterministic: bool | None = _control(
        None,
        "The same weights, bit for bit, however often a run is repeated or interrupted. Costs some "
        "speed. Default: where there is no GPU.",
        rare=True,
    )
    jit_compile: Literal["auto", "on", "off"] = _control(
        "auto", "Compile training with XLA. auto: on one GPU.", rare=True
    )
    callbacks: kinds.Factories = _control(
        (),
        "Your own Keras callbacks, module:factory. The factory is called without arguments and "
        "gives one or several.",
        rare=True,
    )
    profile: str = _control(
        "", "START:STOP, steps that TensorBoard's profiler records.", saved=False, rare=True
    )

    eval_views: kinds.Counts = _score((1, 2, 3, 4, 5), "Numbers of views to score with.")
    thresholds: kinds.Probabilities = _score((0.2, 0.3, 0.4, 0.5), "Thresholds to score at.")

    model_name: kinds.UrlName = _serving("r2n2", "The model's name in URLs.")
    rest_api_port: kinds.Port = _serving(8501, "Port; 0 picks a free one and tells it.")
    rest_api_host: str = _serving("127.0.0.1", "Address to listen on; 0.0.0.0 is every one.")
    model_config_file: kinds.Path = _serving(
        "", "TensorFlow Serving's models.config, in place of --model_name and --export_dir."
    )
    model_config_file_poll_wait_seconds: kinds.Limit = _serving(
        0, "Read --model_config_file again every N seconds. 0: only at start."
    )
    monitoring_config_file: kinds.Path = _serving(
        "", "TensorFlow Serving's monitoring.config: switches the Prometheus page on."
    )
    rest_api_enable_cors_support: bool = _serving(False, "Let pages of other origins ask.")
    rest_api_timeout_in_ms: kinds.Count = _serving(30_000, "How long a request may take.")
    rest_api_max_body_mib: kinds.Count = _serving(64, "Largest body of a request, in MiB.")
    rest_api_max_requests: kinds.Count = _serving(64, "In work or waiting; more are told 429.")
    file_system_poll_wait_seconds: kinds.Count = _serving(1, "Seconds between looks for versions.")

    def __post_init__(self):
        for field in dataclasses.fields(self):
            for must in getattr(field.type, "__metadata__", ()):
                value = getattr(self, field.name)
                _check(field.name, value, must.holds(value), must.expected)
        is_part = self.split is not None and self.split_rule is None
        with_file = is_part or bool(self.split_file) == (self.split == "pix2vox")
        expected = "given with --split=pix2vox alone"
        _check("split_file", self.split_file, with_file, expected)
        with_seed = is_part or self.split == "random" or not self.split_seed
        _check("split_seed", self.split_seed, with_seed, "given with --split=random alone")
        _check(
            "learning_rate_drop_every",
            self.learning_rate_drop_every,
            not (self.learning_rate_drop_steps and self.learning_rate_drop_every),
            "0 where --learning_rate_drop_steps is given",
        )
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
        return self.split if self.split in _RULES else None

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
        """A flagfile that gives these settings back, from any folder."""
        lines = ["# Settings of this run. Repeat it, or read it, with --flagfile."]
        for field in dataclasses.fields(self):
            if field.metadata["saved"] and getattr(self, field.name) is not None:
                lines.append(f"--{field.name}={_to_text(self._as_saved(field))}")
        return "\n".join(lines) + "\n"

    def changed(self, other: "Config") -> dict[str, str]:
        """The flags that a run may not change and that differ in `other`: {flag: its text}."""
        return {
            field.name: _to_text(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata["saved"]
            and not field.metadata["may_change"]
            and self._as_saved(field) != other._as_saved(field)
        }

    def _as_saved(self, field):
        value = getattr(self, field.name)
        # A run that is moved keeps its own name; the rest stays where it is.
        is_fixed = _is_path(field) and field.name != "workdir"
        return files.absolute(value) if is_fixed else value


def _to_text(value):
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _check(name, value, holds, expected):
    if not holds:
        raise InputError(f"Expected --{name} to be {expected}, received {value!r}. Change it.")


# === From flags ===


def parse(argv: list[str], command: str | None = None) -> Config:
    """Settings from a command line without the program's name; what comes later on it wins.

    Flags that are typed have to be ones that `command` reads, those in flagfiles need not; and what
    is not given comes from the run in `--workdir`, if it reads runs. None: any flag, no run.

    Raises:
        InputError: a flag is unknown, is another command's, or its value is of no use.
    """
    values = _values(argv)
    if command:
        _check_typed(argv, command)
        own = {field.name for field in dataclasses.fields(Config) if _is_of(field, command)}
        anew = "overwrite" in own and values["overwrite"]
        if "workdir" in own and not anew and _has_settings(values["workdir"]):
            given, values = values, _values(argv, values["workdir"])
            if given["split"] in _RULES:
                # Another rule than the run's comes without the settings of the run's.
                for name in ("split_file", "split_seed"):
                    values[name] = given[name]
    return Config(**values)


def saved_settings(folder: str) -> Config | None:
    """The settings of the run in a folder, None without a run; InputError if unreadable."""
    return Config(**_values([], folder)) if _has_settings(folder) else None


def _has_settings(folder):
    return bool(folder) and os.path.isfile(os.path.join(folder, workdir.FLAGS))


def _values(argv, run=None):
    """The value of every setting: given, else that of the run in a folder, else the default."""
    if run is None:
        return _converted(_parsed(argv))
    path = os.path.join(run, workdir.FLAGS)
    try:
        return _converted(_parsed([f"--flagfile={path}", *argv]))
    except InputError as error:
        raise InputError(f"Reading the run's settings, {path}: {error}") from None


def _parsed(argv):
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
    return values


def _check_typed(argv, command):
    words, rest = [], iter(argv)
    for word in rest:
        if word in ("--flagfile", "-flagfile"):
            next(rest, None)
        elif not word.startswith(("--flagfile=", "-flagfile=")):
            words.append(word)
    typed = _parsed(words)
    for field in dataclasses.fields(Config):
        if not typed[field.name].present:
            continue
        value, choices = typed[field.name].value, field.metadata["choices"].get(command)
        if choices and value not in choices:
            raise InputError(
                f"Expected --{field.name}={'|'.join(choices)} of {command}, received {value}. "
                "Change it, or leave it out."
            )
        if not _is_of(field, command):
            *most, last = field.metadata["help"]
            readers = f"{', '.join(most)} and {last} read" if most else f"{last} reads"
            why = ""
            if field.name in ("background", "alpha"):
                why = "What a network expects to see is saved with it. "
            raise InputError(
                f"Expected flags that {command} reads, received --{field.name}, which {readers}. "
                f"{why}Leave it out; --help lists the flags of {command}."
            )


def _is_of(field, command):
    return command in field.metadata["help"]


def define_flags() -> flags.FlagValues:
    """One flag per field of `Config`, in a registry of their own."""
    define = {
        bool: flags.DEFINE_bool,
        int: flags.DEFINE_integer,
        bool | None: flags.DEFINE_bool,
        float: flags.DEFINE_float,
        str: flags.DEFINE_string,
        kinds.Names: flags.DEFINE_list,
    }
    values = flags.FlagValues()
    for field in dataclasses.fields(Config):
        name, default = field.name, field.default
        if choices := _choices(field):
            flags.DEFINE_enum(name, default, choices, "", flag_values=values)
        elif not _is_list(field):
            define[_kind(field)](name, default, "", flag_values=values)
        else:  # paths may hold commas themselves
            kind = str if _is_path(field) else kinds.Names
            define[kind](name, _to_text(default), "", flag_values=values)
    return values


def _kind(field):
    return get_args(field.type)[0] if get_origin(field.type) is Annotated else field.type


def _is_list(field):
    return get_origin(_kind(field)) is tuple


def _is_path(field):
    return kinds.PATH in getattr(field.type, "__metadata__", ())


def _choices(field):
    """The values that a `Literal` can be given; None among them is that it may be left out."""
    values = get_args(field.type) if get_origin(field.type) is Literal else ()
    return tuple(value for value in values if value is not None)


def _converted(values):
    return {
        field.name: _convert(field, values[field.name].value)
        for field in dataclasses.fields(Config)
    }


def _convert(field, value):
    texts = value if isinstance(value, list) else [value]
    # A run's flags.cfg has a line for each.
    if any(isinstance(text, str) and len(text.splitlines()) > 1 for text in texts):
        raise InputError(f"Expected --{field.name} on one line, received {value!r}. Change it.")
    if _is_path(field):
        return files.split_paths(value) if _is_list(field) else files.expand(value)
    if not _is_list(field):
        return value
    kind = get_args(_kind(field))[0]
    try:
        return tuple(kind(item.strip()) for item in value if item.strip())
    except ValueError:
        raise InputError(
            f"Expected --{field.name} to be a list of {kind.__name__}s such as "
            f"{_to_text(field.default) or '1,2,3'}, received {','.join(value)!r}. Change it."
        ) from None


# === Help ===


def help_text(doc: str, command: str | None = None) -> str:
    """A command's docstring, then its flags by section; without a command all flags, in full."""
    fields = [f for f in dataclasses.fields(Config) if command is None or _is_of(f, command)]
    is_long = command is not None and len(fields) > _MOST_SHOWN
    lines = [doc.strip(), "", "--flagfile=FILE: read flags from a file; later flags win."]
    if command:
        lines.append("--helpfull: the flags of all commands, and more about each.")
    for section in _SECTIONS:
        if not any(field.metadata["section"] == section for field in fields):
            continue
        lines += ["", f"{section}:"]
        named = []
        for field in fields:
            if field.metadata["section"] != section:
                continue
            if is_long and field.metadata["rare"]:
                named.append(f"--{field.name}")
            else:
                lines += _wrapped(_flag_text(field, command, is_long), "      ")
        lines += _wrapped(" ".join(named), "  ")
    return "\n".join(lines)


def _wrapped(text, later):
    return textwrap.wrap(text, _HELP_WIDTH, initial_indent="  ", subsequent_indent=later)


def _flag_text(field, command, is_short):
    texts = field.metadata["help"]
    if command:
        text = texts[command]
    elif len(set(texts.values())) > 1:
        text = " ".join(f"{name}: {one}" for name, one in texts.items())
    else:
        text = f"{next(iter(texts.values()))} ({', '.join(texts)})"
    if is_short:
        text = re.split(r"(?<=\.) ", text)[0]
    choices = field.metadata["choices"].get(command, _choices(field))
    shown = f"={'|'.join(choices)}" if choices else ""
    default = "" if field.default in (None, "") or field.default is False else field.default
    ending = f" (default: {_to_text(default)})" if default not in ("", ()) else ""
    return f"--{field.name}{shown}: {text}{ending}"
