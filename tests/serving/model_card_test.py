"""What the model card says, and where it has it from."""

import json

import pytest

from r2n2_keras import workdir
from r2n2_keras.config import Config
from r2n2_keras.errors import InputError
from r2n2_keras.model.r2n2 import R2N2
from r2n2_keras.serving import model_card

METRICS = dict.fromkeys(workdir.COLUMNS, 0.0)


def _evaluation(step=20):
    summary = [
        {
            "views": views,
            "threshold": threshold,
            "iou_mean_over_samples": views / 10 + threshold / 100,
            "iou_mean_over_categories": 0.5,
            "average_precision": 0.75,
            "loss": 0.1,
            "mean_shape_iou": None,
        }
        for views in (1, 3)
        for threshold in (0.2, 0.4)
    ]
    return {"model": "tiny", "step": step, "split": "test", "samples": 12, "summary": summary}


@pytest.fixture(scope="module")
def model():
    return R2N2.from_preset("tiny", background=0, alpha="threshold")


@pytest.fixture
def run(tmp_path):
    rows = [{**METRICS, "step": 10, "val_iou": 0.1}, {**METRICS, "step": 20, "val_iou": 0.2}]
    workdir.write_metrics(str(tmp_path), rows)
    (tmp_path / workdir.EVALUATION).write_text(json.dumps(_evaluation()))
    return tmp_path


def test_a_run_on_synthesised_data(model, run):
    text = model_card.card(model, Config(workdir=str(run), models_per_category=7))
    assert "| network | preset `tiny`, 2,074,001 parameters |" in text
    assert "| views | any number, scaled to 64x64, RGB |" in text
    assert "| background | grey 0, alpha: threshold |" in text
    assert "| threshold | 0.4: a voxel" in text
    assert "| data | procedural furniture, 7 models per category |" in text
    assert "| licence of the data | Free: drawn by code of this project. |" in text
    assert "12 test models, voxel IoU at threshold 0.4." in text
    assert "| 1 | 0.104 | 0.500 | 0.750 | - |\n| 3 | 0.304 | 0.500 | 0.750 | - |\n" in text
    assert str(run) not in text


def test_the_scores_are_those_of_the_nearest_threshold(model, run):
    text = model_card.card(model, Config(workdir=str(run), threshold=0.25))
    assert "| threshold | 0.25: a voxel" in text
    assert "voxel IoU at threshold 0.2." in text
    assert "| 3 | 0.302 |" in text


def test_other_data_need_a_licence(model, run):
    text = model_card.card(model, Config(workdir=str(run), data_dir="/secret/shapenet/"))
    assert "| data | `shapenet` |" in text
    assert "Not stated" in text
    assert "secret" not in text
    config = Config(workdir=str(run), data_dir="shapenet", data_licence="CC BY 4.0")
    assert "| licence of the data | CC BY 4.0 |" in model_card.card(model, config)
    config = Config(workdir=str(run), data_dir="shapenet", data_licence="a | b\n\n# Mine")
    assert "| licence of the data | a \\| b # Mine |\n" in model_card.card(model, config)


def test_scores_of_other_weights_are_not_shown(model, run):
    (run / workdir.EVALUATION).write_text(json.dumps(_evaluation(step=10)))
    text = model_card.card(model, Config(workdir=str(run)))
    assert "scores are of step 10, this model is of step 20" in text
    assert "0.304" not in text


def test_a_file_says_nothing_of_its_run(model, run):
    text = model_card.card(model, Config(workdir=str(run), model_file="some.keras"))
    assert "not known: exported from a file" in text
    assert "Not scored" in text


@pytest.mark.parametrize("text", ["{", "[]", '{"step": 20, "summary": [{}]}', '{"step": 20}'])
def test_damaged_scores_are_told(model, run, text):
    (run / workdir.EVALUATION).write_text(text)
    with pytest.raises(InputError, match=r"evaluation\.json, which cannot be read"):
        model_card.card(model, Config(workdir=str(run)))
