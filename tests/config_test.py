"""Settings and flags, and the flagfiles in configs/."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from r2n2_keras import config
from r2n2_keras.errors import InputError

ROOT = Path(__file__).parents[1]
_FAST = ("quickstart", "notebook")  # the others build larger networks
CONFIGS = sorted((ROOT / "configs").glob("*.cfg"))


def test_defaults_are_those_of_the_dataclass():
    assert config.parse([]) == config.Config()


def test_a_flagfile_gives_the_settings_back(tmp_path):
    settings = config.Config(
        model="tiny", categories=("chair", "table"), num_views="1..5", view_ids=(3, 11, 17),
        learning_rate=2.5e-4, learning_rate_drop_steps=(10, 20), thresholds=(0.25,), seed=7,
    )  # fmt: skip
    (tmp_path / "flags.cfg").write_text(settings.to_flagfile())
    assert config.parse([f"--flagfile={tmp_path / 'flags.cfg'}"]) == settings


def test_the_command_line_wins_over_the_run(tmp_path):
    run = config.Config(workdir=str(tmp_path), model="tiny", seed=7, batch_size=4)
    (tmp_path / "flags.cfg").write_text(run.to_flagfile())
    settings = config.parse([f"--workdir={tmp_path}", "--seed=8"])
    assert (settings.model, settings.batch_size, settings.seed) == ("tiny", 4, 8)
    fresh = config.parse([f"--workdir={tmp_path}", "--seed=8"], from_run=False)
    assert fresh.model == config.Config().model


def test_what_a_run_may_not_change():
    saved = config.Config(model="tiny", seed=7, steps=10, strategy="mirrored", freeze=("encoder",))
    same = config.Config(model="tiny", seed=7, steps=20, freeze=("encoder",), dry_run=True)
    assert saved.changed(same) == {}
    other = config.Config(model="tiny", seed=8, learning_rate=1e-3)
    assert saved.changed(other) == {"learning_rate": "0.0001", "freeze": "encoder", "seed": "7"}
    assert other.changed(saved) == {"learning_rate": "0.001", "freeze": "", "seed": "8"}


def test_a_switch_that_may_be_left_out():
    assert config.parse([]).deterministic is None
    assert config.parse(["--deterministic"]).deterministic is True
    assert config.parse(["--nodeterministic"]).deterministic is False
    assert "deterministic" not in config.Config().to_flagfile()


def test_orders_are_not_kept_for_the_next_command():
    saved = config.Config(overwrite=True, dry_run=True, model_file="m.keras").to_flagfile()
    assert "overwrite" not in saved
    assert "dry_run" not in saved
    assert "model_file" not in saved


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--batch_sise=3", "Did you mean: batch_size"),
        ("--strategy=many", r"<auto\|one_device\|mirrored\|multi_worker>"),
        ("--source=caffe", r"<theano\|notebook>"),
        ("--jit_compile=yes", r"<auto\|on\|off>"),
        ("--on_divergence=ignore", r"<stop\|rollback>"),
        ("--ema_decay=1", "--ema_decay to be 0 to less than 1, received 1.0"),
        ("--l2=-1", "--l2 to be 0 or a number above 0"),
        ("--clip_norm=inf", "--clip_norm to be 0 or a number above 0"),
        ("--rest_api_port=70000", "--rest_api_port to be 0 to 65535"),
        ("--model_name=a/b", "--model_name to be a name without / and :"),
        ("--clip_norm=nan", "--clip_norm to be 0 or a number above 0"),
        ("--gradient_accumulation_steps=0", "--gradient_accumulation_steps to be a number above 0"),
        ("--checkpoint_every_seconds=-1", "--checkpoint_every_seconds to be 0 or"),
        ("--freeze=head", "--freeze to be one or two of encoder, recurrence, decoder"),
        ("--freeze=encoder,recurrence,decoder", "--freeze to be one or two"),
        ("--freeze=encoder,encoder", "--freeze to be one or two"),
        ("--profile=20", "--profile to be START:STOP"),
        ("--profile=20:10", "--profile to be START:STOP"),
        ("--callbacks=keras.callbacks", "--callbacks to be module:factory"),
        ("--batch_size=four", "batch_size=four"),
        ("--batch_size=0", "--batch_size to be a number above 0, received 0"),
        ("--model=huge", r"--model to be a preset \(.*notebook, tiny\), received 'huge'"),
        ("--seed=-1", "--seed"),
        ("--seed=4294967296", "--seed"),
        ("--steps=-1", "--steps to be a number above 0"),
        ("--num_views=0", "--num_views to be 1 to 9999.*received '0'"),
        ("--thresholds=0.4,0.4", "none twice"),
        ("--eval_views=1,1", "none twice"),
        ("--steps=99999999999999999999", "--steps"),
        ("--learning_rate_drop_steps=-5,10", "a rising list"),
        ("--num_views=5..1", "--num_views"),
        ("--num_views=many", "--num_views"),
        ("--eval_views=1,x", "--eval_views to be a list of ints"),
        ("--eval_views=0", "--eval_views to be numbers of views above 0"),
        ("--eval_views=", "at least one"),
        ("--thresholds=0.4,1.5", "--thresholds to be numbers between 0 and 1"),
        ("--thresholds=nan", "between 0 and 1"),
        ("--background=300", "0 to 255"),
        ("--learning_rate=nan", "--learning_rate"),
        ("--learning_rate_drop_steps=20,10", "a rising list"),
        ("--view_ids=-1", "--view_ids"),
        ("chair.png", "Expected flags only, received 'chair.png'"),
        ("--flagfile=no-such.cfg", "no-such.cfg"),
    ],
)
def test_bad_flags_end_in_one_line(flag, message):
    with pytest.raises(InputError, match=message) as error:
        config.parse([flag])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"), [("3", (3, 3)), ("1..5", (1, 5)), ("12", (12, 12)), ("2..2", (2, 2))]
)
def test_view_range(text, expected):
    assert config.Config(num_views=text).view_range == expected


def test_fixed_views_set_the_range():
    assert config.Config(view_ids=(3, 11, 17)).view_range == (3, 3)


def test_help_names_every_flag_once():
    lines = config.help_text("Does a thing.").splitlines()
    assert lines[0] == "Does a thing."
    for name in config.Config.__dataclass_fields__:
        assert sum(line.startswith((f"  --{name}:", f"  --{name}=")) for line in lines) == 1


def test_the_configs_of_the_issue_are_there():
    assert {"quickstart.cfg", "notebook.cfg"} <= {path.name for path in CONFIGS}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_shipped_config_opens_with_what_it_is(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    text = " ".join(header)
    assert f"python -m r2n2_keras.train --flagfile=configs/{path.name}" in text
    assert "Time:" in text
    assert "Score:" in text


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, marks=[] if path.stem in _FAST else [pytest.mark.slow])
        for path in CONFIGS
    ],
    ids=lambda path: path.name,
)
def test_shipped_config_dry_runs(path, tmp_path):
    # Few models and a small batch: enough to build everything and make some steps.
    command = [sys.executable, "-m", "r2n2_keras.train", f"--flagfile={path}", "--dry_run"]
    command += ["--models_per_category=12", "--batch_size=2"]
    env = {**os.environ, "R2N2_CACHE": str(tmp_path / "cache")}
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, cwd=tmp_path, env=env
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert "Dry run: 3 steps done" in result.stdout
    assert [entry.name for entry in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("preset", ["lstm_1", "gru_1", "lstm_3", "gru_3", "res_gru_3"])
def test_the_papers_recipe(preset):
    settings = config.parse([f"--flagfile={ROOT / 'configs' / preset}.cfg"])
    assert settings == config.Config(
        model=preset, workdir=f"runs/{preset}", steps=60_000, batch_size=24, learning_rate=1e-4,
        learning_rate_drop_steps=(20_000, 60_000), learning_rate_drop_factor=0.1, l2=2.5e-5,
        loss_limit=2, num_views="1..5", view_sampling="with_replacement", random_crop=True,
        random_flip=True, random_background=(225, 255), alpha="threshold", background=240,
        threshold=0.4,
    )  # fmt: skip
