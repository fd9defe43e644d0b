"""Where a command's data comes from: `--data_dir`, or the synthesised set."""

import sys

import keras

from r2n2_keras.data.catalogue import Model, list_models
from r2n2_keras.data.splits import SPLITS


def find_models(config) -> list[Model]:
    """The models that the settings name; synthesises and caches the default set where they do not.

    Raises:
        InputError: there are no such models.
    """
    if config.data_dir:
        return list_models(
            config.data_dir, config.renderings_dir, config.voxels_dir, config.categories
        )
    from r2n2_keras.shapes import dataset

    categories = config.categories or dataset.CATEGORIES
    folder = dataset.default_dir(categories, config.models_per_category)
    print(
        f"No --data_dir: using synthesised furniture, not ShapeNet, cached in {folder}.", flush=True
    )
    dataset.default_dataset(categories, config.models_per_category, synthesis_progress())
    return list_models(str(folder))


def synthesis_progress():
    """A function of (models done, models in all) that shows a progress bar on a terminal."""
    bar = None

    def progress(done, total):
        nonlocal bar
        bar = bar or keras.utils.Progbar(total, verbose=int(sys.stdout.isatty()), unit_name="model")
        bar.update(done)

    return progress


def describe(parts: dict[str, list[Model]]) -> str:
    """One line on who trains, validates and tests."""
    counts = ", ".join(f"{len(parts[split])} {split}" for split in SPLITS)
    categories = {model.category for split in SPLITS for model in parts[split]}
    return f"Models: {counts}; categories: {', '.join(sorted(categories))}."
