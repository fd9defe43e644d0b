"""What `evaluate` tells: `evaluation.json`, `evaluation.md` and a table on the terminal."""

import json

import numpy as np

from r2n2_keras.terminal import print_table

AVERAGES = {
    "iou_mean_over_samples": "mean over samples",
    "iou_mean_over_categories": "mean over categories",
}


def build(
    scores, objects, *, model_name, step, split, split_rule, mean_shape_iou, loss="bce"
) -> dict:
    """The report as plain data, laid out as `evaluation.json`.

    `scores` are `ViewScores` over the same `objects`, in their order. `split_rule` tells in words
    how models were dealt. `step` of the weights and `mean_shape_iou` are None where not known.
    """
    synset_ids = np.array([one.synset_id for one in objects])
    categories = {one.synset_id: one.category for one in objects}
    rows, summary = [], []
    for score in scores:
        for threshold, iou in score.iou.items():
            by_category = {
                synset_id: float(iou[synset_ids == synset_id].mean()) for synset_id in categories
            }
            rows += [
                {
                    "category": categories[synset_id],
                    "synset_id": synset_id,
                    "views": score.views,
                    "threshold": threshold,
                    "iou": mean,
                    "samples": int((synset_ids == synset_id).sum()),
                }
                for synset_id, mean in by_category.items()
            ]
            summary.append(
                {
                    "views": score.views,
                    "threshold": threshold,
                    "iou_mean_over_samples": float(iou.mean()),
                    "iou_mean_over_categories": float(np.mean(list(by_category.values()))),
                    "average_precision": float(score.average_precision.mean()),
                    "loss": float(score.loss.mean()),
                    "mean_shape_iou": mean_shape_iou,
                }
            )
    return {
        "model": model_name,
        "step": step,
        "split": split,
        "split_rule": split_rule,
        "samples": len(objects),
        "loss": loss,
        "rows": rows,
        "summary": summary,
    }


def to_json(report: dict) -> str:
    return json.dumps(report, indent=1) + "\n"


def tables(report: dict) -> list[tuple[str, list[str], list[list[str]]]]:
    """(title, header, lines) of a table of IoU by category per threshold, then of the averages."""
    views = sorted({line["views"] for line in report["summary"]})
    thresholds = sorted({line["threshold"] for line in report["summary"]})
    names = {row["synset_id"]: (row["category"], row["samples"]) for row in report["rows"]}
    cell = {(r["synset_id"], r["views"], r["threshold"]): r["iou"] for r in report["rows"]}
    total = {(s["views"], s["threshold"]): s for s in report["summary"]}
    result = []
    for threshold in thresholds:
        lines = [
            [category, str(samples), *(f"{cell[synset_id, n, threshold]:.3f}" for n in views)]
            for synset_id, (category, samples) in names.items()
        ]
        for key, label in AVERAGES.items():
            averages = (f"{total[n, threshold][key]:.3f}" for n in views)
            lines.append([label, str(report["samples"]), *averages])
        header = ["category", "samples", *(_views(n) for n in views)]
        result.append((f"IoU at threshold {threshold:g}", header, lines))

    any_threshold = thresholds[0]
    lines = []
    loss = f"loss ({report['loss']})"
    for key, label in (("average_precision", "average precision"), ("loss", loss)):
        lines.append([label, *(f"{total[n, any_threshold][key]:.3f}" for n in views)])
    mean_shape_iou = report["summary"][0]["mean_shape_iou"]
    shown = "-" if mean_shape_iou is None else f"{mean_shape_iou:.3f}"
    lines.append(["IoU of the mean shape", *[shown] * len(views)])
    result.append(("Without a threshold", ["", *(_views(n) for n in views)], lines))
    return result


def title(report: dict) -> str:
    step = "" if report["step"] is None else f" at step {report['step']}"
    if report["split"] == "all":
        scored = f"models, whatever their part of the split {report['split_rule']}"
    else:
        scored = f"{report['split']} models of the split {report['split_rule']}"
    return f"{report['model']}{step}, {report['samples']} {scored}"


def to_markdown(report: dict) -> str:
    text = [f"# {title(report)}", "", _EXPLANATION]
    for name, header, lines in tables(report):
        text += ["", f"## {name}", ""]
        text.append("| " + " | ".join(header) + " |")
        text.append("|---|" + "---:|" * (len(header) - 1))
        text += ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join(text) + "\n"


_EXPLANATION = (
    "IoU is the mean of the per-sample voxel IoU. The mean shape is the best constant answer: the\n"
    "training models' mean grid, cut where it suits the validation models best."
)


def print_report(report: dict) -> None:
    """Shows the tables on the terminal."""
    print(title(report))
    for name, header, lines in tables(report):
        print_table(header, lines, name, totals=len(AVERAGES) if "category" in header else 0)


def _views(count):
    return f"{count} view" if count == 1 else f"{count} views"
