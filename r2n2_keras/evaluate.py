"""Scores a trained 3D-R2N2 on models it never saw.

    python -m r2n2_keras.evaluate --workdir=runs/quickstart
    python -m r2n2_keras.evaluate --workdir=runs/quickstart --eval_views=1,3 --thresholds=0.4
    python -m r2n2_keras.evaluate --workdir=runs/mine --data_dir=OTHER --split=all --out=scores
    python -m r2n2_keras.evaluate --model_file=m.keras --data_dir=DIR --out=scores

Settings come from the run's flags.cfg; flags given here win. The split is the run's own, from
split.json; --split=all scores every model of --data_dir, which may be other data. A --model_file
without a run, an imported one say, is scored on the split that a run on --data_dir would have:
--split_file=ShapeNet.json makes it Pix2Vox's, also beside --split=val. Scores from different splits
must not be compared: the report names the one that was used.

Prints the tables and writes evaluation.json, evaluation.md and examples.png (a sample of each
category) to --out or, without it, to the run's folder. That keeps the scores of the run's own model
on the data that it was trained on (its --data_dir): scores of others are refused there.
"""

import os

from r2n2_keras import command


def main(config):
    out = _check_flags(config)

    from r2n2_keras import datasets, runs, workdir
    from r2n2_keras.data import splits
    from r2n2_keras.errors import InputError
    from r2n2_keras.evaluation import baselines, examples, report, scores
    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.outputs import pictures
    from r2n2_keras.preparation import bad_files

    model = R2N2.from_file(runs.model_file(config))
    edge = model.output_shape[-1]
    split_file = os.path.join(config.workdir, workdir.SPLIT)
    if config.model_file and not os.path.exists(split_file):
        data = datasets.find_data(config)
        objects = data.objects
    else:
        objects = datasets.find_objects(config)
        data = splits.load_split(split_file, objects)
    part, parts = config.split_part, data.parts
    evaluated = objects if part == "all" else parts[part]
    if not evaluated:
        raise InputError(
            f"Expected the run's {part} models in {config.data_location}, received none of "
            "them. Give the --data_dir that the run was trained on, or --split=all."
        )

    skip = config.on_bad_sample == "skip"
    by_views, evaluated, bad = bad_files.on_sound_models(
        evaluated,
        edge,
        lambda some: scores.score(
            model,
            some,
            eval_views=config.eval_views,
            thresholds=config.thresholds,
            batch_size=config.batch_size,
            view_ids=config.view_ids,
            loss=config.loss,
        ),
        skip=skip,
        num_views=max(config.eval_views),
        view_ids=config.view_ids,
    )
    mean_shape_iou = None
    if parts["train"]:
        chosen = set(parts["val"])
        mean_shape_iou, _, more_bad = bad_files.on_sound_models(
            [*parts["train"], *parts["val"]],
            edge,
            lambda some: baselines.mean_shape_iou(
                [one for one in some if one not in chosen],
                [one for one in some if one in chosen],
                evaluated,
                batch_size=config.batch_size,
                grid_edge=edge,
            ),
            skip=skip,
        )
        bad += more_bad
    else:
        print("The training models are not in this data: the mean shape is not scored.")
    best = None if config.model_file else workdir.best_row(workdir.read_metrics(config.workdir))
    evaluation = report.build(
        by_views,
        evaluated,
        model_name=model.name,
        step=best and best["step"],
        split=part,
        split_rule=data.split_rule,
        mean_shape_iou=mean_shape_iou,
        loss=config.loss,
    )
    report.print_report(evaluation)
    if bad:
        print(f"Left out for unusable files: {len(bad)}", *bad, sep="\n")
    os.makedirs(out, exist_ok=True)
    for name, text in (
        (workdir.EVALUATION, report.to_json(evaluation)),
        (workdir.REPORT, report.to_markdown(evaluation)),
    ):
        path = os.path.join(out, name)
        workdir.write_text(path, text)
        print(f"Wrote {path}")
    rows = examples.examples(
        model,
        evaluated,
        num_views=min(max(config.eval_views), pictures.EXAMPLE_VIEWS),
        threshold=config.threshold,
        view_ids=config.view_ids,
    )
    path = os.path.join(out, workdir.EXAMPLES)
    pictures.save(pictures.examples_picture(rows), path)
    print(f"Wrote {path}")


def _check_flags(config):
    """Refuses, before TensorFlow is there, what is wrong; gives the folder for the scores."""
    from r2n2_keras import datasets, runs
    from r2n2_keras.errors import InputError

    runs.model_file(config)
    out = runs.evaluation_dir(config)
    datasets.check_paths(config)
    if config.view_ids and max(config.eval_views) > len(config.view_ids):
        raise InputError(
            f"Expected --eval_views up to {len(config.view_ids)}, the number of --view_ids, "
            f"received {max(config.eval_views)}. Lower it, or give more --view_ids."
        )
    return out


if __name__ == "__main__":
    command.run(main, __doc__, "evaluate")
