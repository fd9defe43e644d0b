"""Where a command's data come from: `--data_dir`, a tree or prepared, or the synthesised set."""

import sys

import keras

from r2n2_keras.data import shards, splits
from r2n2_keras.data.catalogue import DataSet, Model, list_models
from r2n2_keras.errors import InputError


def find_data(config) -> DataSet:
    """The models that the settings name, dealt by the rule that they or the prepared data name.

    Synthesises and caches the default set where there is no `--data_dir`.

    Raises:
        InputError: there are no such models.
    """
    excluded = _exclusions(config)
    if _is_prepared(config):
        data = shards.read_prepared(config.data_dir, config.categories, excluded)
        check_rule(config, data, config.data_dir)
        return data
    models, keys = _find_tree(config)
    _tell_unmatched(config, excluded, keys)
    data = splits.split_models(_without(models, excluded, config), keys, **config.split_settings)
    if not data.models:
        raise InputError(
            f"Expected models of {config.data_location} in the split {data.split_rule}, received "
            "none that it names. Give the data or the --split_file that belong together."
        )
    return data


def find_models(config) -> list[Model]:
    """The models that the settings name, for a run whose split is known.

    Raises:
        InputError: there are no such models.
    """
    excluded = _exclusions(config)
    if _is_prepared(config):
        return shards.read_prepared(config.data_dir, config.categories, excluded).models
    return _without(_find_tree(config)[0], excluded, config)


def _is_prepared(config):
    return config.data_dir and shards.is_prepared(config.data_dir)


def _exclusions(config):
    return splits.read_exclusions(config.exclude)


def _without(models, excluded, config):
    models = [model for model in models if model.id not in excluded]
    if not models:
        raise InputError(
            f"Expected models in {config.data_location} besides those of --exclude, received "
            "none. Exclude fewer."
        )
    return models


def _tell_unmatched(config, excluded, keys):
    """A typing error in --exclude would leave a bad model in."""
    if unmatched := excluded - set(keys):
        print(
            f"Note: {len(unmatched)} of the {len(excluded)} models in {config.exclude} are not in "
            f"{config.data_location}, such as {'/'.join(min(unmatched))}."
        )


def check_rule(config, data: DataSet, place: str) -> None:
    """Raises an InputError where the settings name another split rule than the data have.

    Args:
        config: the settings.
        data: models that were dealt before.
        place: where that is written down.
    """
    given = config.split_rule and splits.describe(**config.split_settings)
    if given and given != data.split_rule:
        raise InputError(
            f"Expected the split {data.split_rule}, which {place} has, received {given}: models "
            "must not change sides. Leave --split out, or start anew with the other split."
        )


def _find_tree(config):
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


def describe(data: DataSet) -> str:
    """One line on who trains, validates and tests."""
    counts = ", ".join(f"{len(data.parts[part])} {part}" for part in splits.SPLITS)
    categories = {model.category for model in data.models}
    return (
        f"Models: {counts}, split {data.split_rule}; categories: {', '.join(sorted(categories))}."
    )
