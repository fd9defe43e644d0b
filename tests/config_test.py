"""Settings and flags, and the flagfiles in configs/."""

import importlib
import os
import re
from pathlib import Path

import pytest
from commands import refusal, succeed

from r2n2_keras import config
from r2n2_keras.errors import InputError

CONFIGS = Path(__file__).parents[1] / "configs"
PAPERS = ["lstm_1", "gru_1", "lstm_3", "gru_3", "res_gru_3"]


def test_a_flagfile_gives_the_settings_back(tmp_path):
    assert config.parse([]) == config.Config()
    settings = config.Config(
        model="tiny", categories=("chair", "table"), num_views="1..5", view_ids=(3, 11, 17),
        learning_rate=2.5e-4, learning_rate_drop_steps=(10, 20), thresholds=(0.25,), seed=7,
    )  # fmt: skip
    (tmp_path / "flags.cfg").write_text(settings.to_flagfile())
    assert config.parse([f"--flagfile={tmp_path / 'flags.cfg'}"]) == settings


def test_the_command_line_wins_over_the_run(tmp_path):
    run = config.Config(workdir=str(tmp_path), model="tiny", seed=7, batch_size=4)
    (tmp_path / "flags.cfg").write_text(run.to_flagfile())
    (tmp_path / "mine.cfg").write_text("--batch_size=6\n--eval_views=2\n")
    flags = [f"--workdir={tmp_path}", f"--flagfile={tmp_path}/mine.cfg"]
    settings = config.parse([*flags, "--steps=8"], "train")
    assert (settings.model, settings.seed, settings.batch_size) == ("tiny", 7, 6)
    assert (settings.steps, settings.eval_views) == (8, (2,))
    assert config.parse(flags[:1], "evaluate").model == "tiny"
    for command, given in (("train", [flags[0], "--overwrite"]), ("synthesize", []), (None, flags)):
        assert config.parse(given, command).model == "notebook"


# Which flags a command reads

_SAVED = "What a network expects to see is saved with it"


@pytest.mark.parametrize(
    ("command", "flag", "readers"),
    [
        ("train", "--views=5", "synthesize, prepare and validate read"),
        ("train", "--weights=m.npy", "import_weights reads"),
        ("train", "--eval_views=2", "evaluate reads"),
        ("evaluate", "--alpha=threshold", f"train and import_weights read. {_SAVED}"),
        ("predict", "--background=3", f"train and import_weights read. {_SAVED}"),
        ("export", "--noswap_yz", "import_weights reads"),
        ("synthesize", "-workdir=run", "train, evaluate, predict, export and serve read"),
        ("validate", "--num_views=3", "train and export read"),
    ],
)
def test_a_typed_flag_of_another_command_is_refused(command, flag, readers, tmp_path):
    name = flag.strip("-").removeprefix("no").partition("=")[0]
    line = f"^Expected flags that {command} reads, received --{name}, which {readers}. Leave it out"
    with pytest.raises(InputError, match=line):
        config.parse([flag], command)
    # In a flagfile it is taken: the one that a run saved works with every command.
    (tmp_path / "flags.cfg").write_text(f"{flag}\n")
    for given in (f"--flagfile={tmp_path}/flags.cfg", f"-flagfile {tmp_path}/flags.cfg"):
        assert config.parse(given.split(), command) == config.parse([flag])
        line = refusal(config.parse, [*given.split(), flag], command)
        assert f"received --{name}, which" in line


def test_choices_are_a_commands_own_where_they_are_typed(tmp_path):
    (tmp_path / "flags.cfg").write_text("--split=r2n2\n")  # as runs have it
    assert config.parse([f"--flagfile={tmp_path}/flags.cfg"], "validate").split == "r2n2"
    for command, wrong, choices in (
        ("train", "val", r"r2n2\|pix2vox\|random"),
        ("validate", "r2n2", "pix2vox"),
    ):
        with pytest.raises(InputError, match=f"--split={choices} of {command}, received {wrong}"):
            config.parse([f"--split={wrong}"], command)


# Paths


def test_a_home_is_meant_by_every_flag_that_is_a_path(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "flags.cfg").write_text("--seed=7\n--init_from=~/m.keras\n")
    settings = config.parse(["--workdir=~/run"], "train")
    assert (settings.seed, settings.init_from) == (7, f"{tmp_path}/m.keras")
    paths = (
        "data_dir exclude split_file renderings voxels fix_list workdir init_from model_file out "
        "images export_dir check model_config_file monitoring_config_file weights"
    ).split()
    for name in paths:
        rule = ["--split=pix2vox"] if name == "split_file" else []
        value = getattr(config.parse([f"--{name}=~/x", *rule]), name)
        assert value == ((f"{tmp_path}/x",) if name == "images" else f"{tmp_path}/x")
        with pytest.raises(InputError, match="the home of ~no-such-user is not known"):
            config.parse([f"--{name}=~no-such-user/x"])


def test_a_run_names_its_files_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = config.Config(data_dir="data", exclude="bad.txt", workdir="run")
    saved = run.to_flagfile().splitlines()
    for line in (f"--data_dir={tmp_path}/data", f"--exclude={tmp_path}/bad.txt", "--workdir=run"):
        assert line in saved
    assert "--split_file=" in saved
    assert config.Config(exclude=f"{tmp_path}/bad.txt").changed(run) == {}
    assert "--data_dir=gs://a/b" in config.Config(data_dir="gs://a/b").to_flagfile()


def test_a_value_is_one_line():
    for name in ("data_dir", "categories", "images"):
        assert f"--{name} on one line" in refusal(config.parse, [f'--{name}="data\n--seed=3"'])


def test_what_is_not_kept_for_the_next_command():
    saved = config.Config(overwrite=True, dry_run=True, model_file="m.keras").to_flagfile()
    assert not re.search("overwrite|dry_run|model_file|deterministic", saved)
    assert config.parse([]).deterministic is None
    assert config.parse(["--deterministic"]).deterministic is True
    assert config.parse(["--nodeterministic"]).deterministic is False


ABOVE_0, FROM_0 = "to be a number above 0", "to be 0 or a number above 0"
BAD = {
    "Did you mean: batch_size": "--batch_sise=3",
    r"<auto\|one_device\|mirrored\|multi_worker>": "--strategy=many",
    r"<theano\|notebook>": "--source=caffe",
    r"<auto\|on\|off>": "--jit_compile=yes",
    r"<stop\|rollback>": "--on_divergence=ignore",
    "to be a preset \\(.*notebook, tiny\\), received 'huge'": "--model=huge",
    ABOVE_0: "--batch_size=0 --steps=-1 --steps=99999999999999999999 --learning_rate=nan "
    "--gradient_accumulation_steps=0 --learning_rate=inf",
    FROM_0: "--l2=-1 --clip_norm=nan --clip_norm=inf --checkpoint_every_seconds=-1",
    "to be 0 to less than 1, received 1.0": "--ema_decay=1",
    "to be 0 to 65535": "--rest_api_port=70000 --rest_api_port=-1",
    "to be 0 to 255": "--background=300",
    r"to be 0 to 2\*\*31 - 1": "--seed=-1 --seed=4294967296",
    "to be a name without / and :": "--model_name=a/b",
    "to be one or two of encoder, recurrence, decoder": "--freeze=head "
    "--freeze=encoder,encoder --freeze=encoder,recurrence,decoder",
    "to be START:STOP": "--profile=20 --profile=20:10",
    "to be module:factory": "--callbacks=keras.callbacks",
    "to be 1 to 9999, or a range as 1..5, received": "--num_views=0 --num_views=5..1 "
    "--num_views=many",
    "to be a rising list": "--learning_rate_drop_steps=-5,10 --learning_rate_drop_steps=20,10",
    "to be a list of ints such as 1,2,3,4,5": "--eval_views=1,x",
    "to be numbers of views above 0, at least one, none twice": "--eval_views=0 --eval_views=1,1 "
    "--eval_views=",
    "to be numbers between 0 and 1, at least one, none twice": "--thresholds=0.4,1.5 "
    "--thresholds=nan --thresholds=0.4,0.4",
    "to be numbers from 0 on": "--view_ids=-1",
    "batch_size=four": "--batch_size=four",
    "Expected flags only, received 'chair.png'": "chair.png",
    "no-such.cfg": "--flagfile=no-such.cfg",
}


@pytest.mark.parametrize(
    ("flag", "message"), [(flag, text) for text, flags in BAD.items() for flag in flags.split()]
)
def test_bad_flags_end_in_one_line(flag, message):
    name = flag.partition("=")[0] + " " if message.startswith("to be") else ""
    assert re.search(name + message, refusal(config.parse, [flag]))


def test_view_range():
    for text, expected in (("12", (12, 12)), ("1..5", (1, 5)), ("2..2", (2, 2))):
        assert config.Config(num_views=text).view_range == expected
    assert config.Config(view_ids=(3, 11, 17)).view_range == (3, 3)


def test_the_whole_help_names_every_flag_once():
    lines = config.help_text("Does a thing.").splitlines()
    assert lines[0] == "Does a thing."
    for name in config.Config.__dataclass_fields__:
        assert sum(line.startswith((f"  --{name}:", f"  --{name}=")) for line in lines) == 1


@pytest.mark.parametrize(
    "command",
    "train evaluate predict export serve prepare validate synthesize import_weights".split(),
)
def test_help_is_short_teaches_and_names_what_the_command_reads(command):
    module = importlib.import_module(f"r2n2_keras.{command}")
    lines = config.help_text(module.__doc__, command).splitlines()
    assert lines[2].startswith(f"    python -m r2n2_keras.{command} --")
    assert max(map(len, lines)) <= 100
    lines = lines[len(module.__doc__.strip().splitlines()) :]
    assert sum(bool(line.strip()) for line in lines) <= 40
    assert sum(line.startswith("  ") for line in lines) <= 30
    words = " ".join(lines).replace(":", " ").replace("=", " ").split()
    fields = config.Config.__dataclass_fields__.values()
    own = {f"--{field.name}" for field in fields if command in field.metadata["help"]}
    assert {word for word in words if word.startswith("--")} >= own
    shown = {line.split()[0].strip(":").partition("=")[0] for line in lines if line[:4] == "  --"}
    assert shown <= own


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.cfg")), ids=lambda path: path.name)
def test_shipped_config_opens_with_what_it_is(path):
    text = " ".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert f"python -m r2n2_keras.train --flagfile=configs/{path.name}" in text
    assert "Time:" in text
    assert "Score:" in text


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """Where the furniture of all dry runs is kept."""
    return tmp_path_factory.mktemp("cache")


_SLOW = (pytest.param(name, marks=pytest.mark.slow) for name in ("notebook", *PAPERS))


@pytest.mark.parametrize("name", ["quickstart", *_SLOW])
def test_shipped_config_dry_runs(name, tmp_path, cache):
    # Few models and a small batch: enough to build everything and make some steps.
    few = ("--dry_run", "--models_per_category=5", "--batch_size=2")
    flags = (f"--flagfile={CONFIGS}/{name}.cfg", *few)
    printed = succeed("train", *flags, cwd=tmp_path, R2N2_CACHE=str(cache))
    assert "synthesised furniture, not ShapeNet" in printed
    assert re.search(r"3 steps done, nothing written. \S+ samples/s, so \d+ steps take", printed)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("preset", PAPERS)
def test_the_papers_recipe(preset):
    settings = config.parse([f"--flagfile={CONFIGS / preset}.cfg"])
    assert settings == config.Config(
        model=preset, workdir=f"runs/{preset}", steps=60_000, batch_size=24, learning_rate=1e-4,
        learning_rate_drop_steps=(20_000, 60_000), learning_rate_drop_factor=0.1, l2=2.5e-5,
        loss_limit=2, num_views="1..5", view_sampling="with_replacement", random_crop=True,
        random_flip=True, random_background=(225, 255), alpha="threshold", background=240,
        threshold=0.4,
    )  # fmt: skip
