"""The report: what `evaluation.json`, `evaluation.md` and the terminal say."""

import json
import re

import numpy as np
import pytest

from r2n2_keras.data.categories import SYNSET_IDS
from r2n2_keras.data.objects import Object
from r2n2_keras.evaluation import report
from r2n2_keras.evaluation.scores import ViewScores

CHAIR, TABLE = SYNSET_IDS["chair"], SYNSET_IDS["table"]
# Three chairs and one table: the two averages differ.
MODELS = [Object(s, f"id{n}", ("00",), None) for n, s in enumerate([CHAIR, CHAIR, CHAIR, TABLE])]
IOUS = {0.3: [0.1, 0.2, 0.3, 1.0], 0.4: [0.0, 0.1, 0.2, 0.9]}


def view_scores(views, ious=IOUS):
    ious = {threshold: np.array(values) for threshold, values in ious.items()}
    samples = len(next(iter(ious.values())))
    return ViewScores(views, ious, np.linspace(0.5, 0.7, samples), np.linspace(0.2, 0.4, samples))


def build(scores, models=MODELS, step=600):
    settings = {"model_name": "tiny", "split": "test", "split_rule": "r2n2", "loss": "dice"}
    return report.build(scores, models, step=step, mean_shape_iou=0.25, **settings)


@pytest.fixture
def evaluation():
    return build([view_scores(1), view_scores(5)])


def test_layout_is_that_of_evaluation_json(evaluation):
    keys = ["model", "step", "split", "split_rule", "samples", "loss", "rows", "summary"]
    assert list(evaluation) == keys
    assert (evaluation["model"], evaluation["step"]) == ("tiny", 600)
    assert (evaluation["split"], evaluation["samples"]) == ("test", 4)
    for row in evaluation["rows"]:
        assert list(row) == ["category", "synset_id", "views", "threshold", "iou", "samples"]
    names = "iou_mean_over_samples iou_mean_over_categories average_precision loss mean_shape_iou"
    for line in evaluation["summary"]:
        assert list(line) == ["views", "threshold", *names.split()]
    # One row for each number of views, threshold and category; a line for the first two.
    keys = [(row["views"], row["threshold"], row["category"]) for row in evaluation["rows"]]
    pairs = [(views, threshold) for views in (1, 5) for threshold in (0.3, 0.4)]
    assert keys == [(*pair, category) for pair in pairs for category in ("chair", "table")]
    assert [(line["views"], line["threshold"]) for line in evaluation["summary"]] == pairs


def test_numbers_are_the_means(evaluation):
    ious = [row["iou"] for row in evaluation["rows"]]
    assert ious == pytest.approx([0.2, 1, 0.1, 0.9] * 2)  # chair and table at 0.3, at 0.4
    assert [row["samples"] for row in evaluation["rows"]] == [3, 1] * 4
    assert [row["synset_id"] for row in evaluation["rows"]] == [CHAIR, TABLE] * 4
    at_3, at_4 = (0.4, 0.6), (0.3, 0.5)  # (0.1 + 0.2 + 0.3 + 1) / 4 and (0.2 + 1) / 2
    for line, means in zip(evaluation["summary"], [at_3, at_4] * 2, strict=True):
        _, _, *numbers = line.values()
        assert numbers == pytest.approx([*means, 0.6, 0.3, 0.25])


@pytest.mark.parametrize(("step", "at_step"), [(600, " at step 600"), (None, "")])
def test_json_holds_the_report_and_the_title_a_known_step(step, at_step):
    evaluation = build([view_scores(1)], step=step)
    text = report.to_json(evaluation)
    assert text.endswith("}\n")
    assert json.loads(text) == evaluation
    assert report.title(evaluation) == f"tiny{at_step}, 4 test models of the split r2n2"


def test_unknown_category_goes_by_its_synset_id():
    models = [Object("12345678", "id", ("00",), None)]
    (row,) = build([view_scores(1, {0.4: [0.5]})], models)["rows"]
    assert row["category"] == "12345678"


def markdown_tables(text):
    """The tables of a Markdown text: lists of lines, each a list of cells."""
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    return [
        [[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()]
        for block in blocks
    ]


def test_markdown_is_well_formed(evaluation):
    text = report.to_markdown(evaluation)
    assert text.startswith("# tiny at step 600, 4 test models of the split r2n2\n\n")
    assert text.endswith("|\n") and not text.endswith("\n\n")
    titles = ["IoU at threshold 0.3", "IoU at threshold 0.4", "Without a threshold"]
    assert re.findall("^## (.*)$", text, re.MULTILINE) == titles
    tables = markdown_tables(text)
    assert len(tables) == 3
    for header, rule, *lines in tables:
        assert rule == ["---", *["---:"] * (len(header) - 1)]
        assert all(len(line) == len(header) for line in lines)
        assert all(re.fullmatch(r"\d+(\.\d{3})?", cell) for line in lines for cell in line[1:])

    first, _, last = tables
    assert first == [
        ["category", "samples", "1 view", "5 views"],
        ["---", "---:", "---:", "---:"],
        ["chair", "3", "0.200", "0.200"],
        ["table", "1", "1.000", "1.000"],
        ["mean over samples", "4", "0.400", "0.400"],
        ["mean over categories", "4", "0.600", "0.600"],
    ]
    assert last[2:] == [
        ["average precision", "0.600", "0.600"],
        ["loss (dice)", "0.300", "0.300"],
        ["IoU of the mean shape", "0.250", "0.250"],
    ]


def test_terminal_of_80_columns_shows_every_number(capsys, monkeypatch):
    """All 13 categories, five numbers of views, sample counts as large as ShapeNet's."""
    monkeypatch.setenv("COLUMNS", "80")
    models = [Object(s, f"id{n}", ("00",), None) for s in SYNSET_IDS.values() for n in range(1000)]
    ious = {0.4: np.random.default_rng(0).uniform(size=len(models))}
    evaluation = build([view_scores(views, ious) for views in (1, 2, 3, 4, 5)], models)
    report.print_report(evaluation)
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in out
    assert lines[0] == "tiny at step 600, 13000 test models of the split r2n2"

    for _, header, body in report.tables(evaluation):
        for label, *numbers in body:
            # A label may break over two lines; the numbers beside it may not.
            assert any(
                re.findall(r"[\d.]+", line) == numbers and label.split()[0] in line
                for line in lines
            ), (label, numbers)
        assert all(name in out for name in header)
    averages = next(number for number, line in enumerate(lines) if "mean over" in line)
    assert re.fullmatch(r"├[─┼]+┤", lines[averages - 1])


def test_narrow_terminal_cuts_no_number(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    report.print_report(build([view_scores(views) for views in range(1, 25)]))
    out = capsys.readouterr().out
    assert "…" not in out
    chairs = next(line for line in out.splitlines() if "chair" in line)
    assert re.findall(r"[\d.]+", chairs) == ["3", *["0.200"] * 24]
