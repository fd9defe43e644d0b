"""The model card beside an exported model: what it is, what it learnt from, how well it does."""

import json
import os

import keras
import tensorflow as tf

import r2n2_keras
from r2n2_keras import workdir
from r2n2_keras.errors import reading

FILE = "model_card.md"
_NOT_STATED = (
    "Not stated: `--data_licence` of `export` says it. ShapeNet's terms of use allow "
    "non-commercial research and education only, and what is trained on it comes under them."
)


def card(model, config) -> str:
    """The text of an `R2N2`'s model card; InputError where its run's scores cannot be read."""
    size, channels = model.image_size, model.channels
    made = not config.data_dir and config.workdir and not config.model_file
    licence = "Free: drawn by code of this project." if made else _NOT_STATED
    lines = [
        f"# {model.name}",
        "",
        "3D-R2N2 (Choy et al., ECCV 2016): pictures of one object in, the voxels that it occupies "
        "out.",
        "",
        "| | |",
        "|---|---|",
        f"| network | preset `{model.name}`, {model.count_params():,} parameters |",
        f"| views | any number, scaled to {size}x{size}, {'RGB' if channels == 3 else 'RGBA'} |",
        f"| background | grey {model.background}, alpha: {model.alpha} |",
        f"| grid | {' x '.join(map(str, model.output_shape[1:]))}, [x, y, z], y up |",
        f"| threshold | {config.threshold:g}: a voxel is occupied where its occupancy is above |",
        f"| data | {_data(config, made)} |",
        f"| licence of the data | {_cell(config.data_licence) or licence} |",
        f"| exported with | r2n2_keras {r2n2_keras.__version__}, Keras {keras.__version__}, "
        f"TensorFlow {tf.__version__} |",
        "",
        "## Scores",
        "",
        *_scores(config),
        "",
        "## Limits",
        "",
        "The network knows objects like those of its data, centred and on a plain background or "
        "cut out by alpha. Occupancies are not calibrated probabilities.",
    ]
    return "\n".join(lines) + "\n"


def _cell(text):
    """A text as a table takes it: on one line, without an end of the cell."""
    return " ".join(text.split()).replace("|", "\\|")


def _data(config, made):
    if config.model_file or not config.workdir:
        return "not known: exported from a file, not from a run"
    if made:
        return f"procedural furniture, {config.models_per_category} models per category"
    # Its name alone: the path would tell of the machine.
    return f"`{_cell(os.path.basename(config.data_dir.rstrip('/')))}`"


def _scores(config):
    path = os.path.join(config.workdir, workdir.EVALUATION)
    if config.model_file or not config.workdir or not os.path.isfile(path):
        return ["Not scored: `python -m r2n2_keras.evaluate` before the export does it."]
    with reading("the scores of a run", path, "Run evaluate again, or remove it."):
        with open(path) as file:
            evaluation = json.load(file)
        best = workdir.best_row(workdir.read_metrics(config.workdir))
        if best and evaluation["step"] != best["step"]:
            return [
                f"The run's scores are of step {evaluation['step']}, this model is of step "
                f"{best['step']}: run `python -m r2n2_keras.evaluate` and export again."
            ]
        thresholds = {line["threshold"] for line in evaluation["summary"]}
        nearest = min(thresholds, key=lambda one: abs(one - config.threshold))
        lines = [
            f"{evaluation['samples']} {evaluation['split']} models, voxel IoU at threshold "
            f"{nearest:g}. The mean shape is the best constant answer.",
            "",
            "| views | mean over samples | mean over categories | average precision | mean shape |",
            "|---:|---:|---:|---:|---:|",
        ]
        for line in evaluation["summary"]:
            if line["threshold"] == nearest:
                names = ("iou_mean_over_samples", "iou_mean_over_categories")
                names += ("average_precision", "mean_shape_iou")
                cells = ["-" if line[n] is None else f"{line[n]:.3f}" for n in names]
                lines.append(f"| {line['views']} | {' | '.join(cells)} |")
        return lines
