"""Where a command's data come from: `--data_dir`, a tree or prepared, or the synthesised set."""

from r2n2_keras import files, terminal
from r2n2_keras.data import splits, trees
from r2n2_keras.data.objects import DataSet, Object
from r2n2_keras.errors import InputError


def check_paths(config) -> None:
    """Raises an InputError, without TensorFlow, where a local file of the settings is missing."""
    files.require(config.data_dir, "data_dir", "folder")
    files.require(config.exclude, "exclude", "file")
    files.require(config.split_file, "split_file", "file")


def find_data(config) -> DataSet:
    """The objects that the settings name, dealt by the rule that they or the prepared data name.

    Synthesises and caches the default set without `--data_dir`; InputError where there are none.
    """
    excluded = splits.read_exclusions(config.exclude)
    if prepared := _prepared(config, excluded):
        check_rule(config, prepared, config.data_dir)
        return prepared
    objects, keys = _find_tree(config)
    _tell_unmatched(config, excluded, keys)
    data = splits.split_objects(_without(objects, excluded, config), keys, **config.split_settings)
    if not data.objects:
        raise InputError(
            f"Expected models of {config.data_location} in the split {data.split_rule}, received "
            "none that it names. Give the data or the --split_file that belong together."
        )
    return data


def find_objects(config) -> list[Object]:
    """The objects that the settings name, for a run whose split is known; InputError for none."""
    excluded = splits.read_exclusions(config.exclude)
    if prepared := _prepared(config, excluded):
        return prepared.objects
    return _without(_find_tree(config)[0], excluded, config)


def _prepared(config, excluded):
    """The objects of prepared data; None where `--data_dir` names none."""
    from r2n2_keras.data import shards  # which imports TensorFlow

    if not (config.data_dir and shards.is_prepared(config.data_dir)):
        return None
    return shards.read_prepared(config.data_dir, config.categories, excluded)


def _without(objects, excluded, config):
    objects = [one for one in objects if one.key not in excluded]
    if not objects:
        raise InputError(
            f"Expected models in {config.data_location} besides those of --exclude, received "
            "none. Exclude fewer."
        )
    return objects


def _tell_unmatched(config, excluded, keys):
    """A typing error in --exclude would leave a bad model in."""
    if unmatched := excluded - set(keys):
        print(
            f"Note: {len(unmatched)} of the {len(excluded)} models in {config.exclude} are not in "
            f"{config.data_location}, such as {'/'.join(min(unmatched))}."
        )


def check_rule(config, data: DataSet, place: str) -> None:
    """Raises an InputError where the settings name another split rule than `data` of `place`."""
    given = config.split_rule and splits.describe(**config.split_settings)
    if given and given != data.split_rule:
        raise InputError(
            f"Expected the split {data.split_rule}, which {place} has, received {given}: models "
            "must not change sides. Leave --split out, or start anew with the other split."
        )


def _find_tree(config):
    if config.data_dir:
        return trees.list_objects(
            config.data_dir, config.renderings_dir, config.voxels_dir, config.categories
        )
    from r2n2_keras.shapes import dataset

    categories = config.categories or dataset.CATEGORIES
    folder = dataset.default_dir(categories, config.models_per_category)
    print(
        f"No --data_dir: using synthesised furniture, not ShapeNet, cached in {folder}.", flush=True
    )
    with terminal.Bar() as bar:
        dataset.default_dataset(categories, config.models_per_category, bar.counting("Making"))
    return trees.list_objects(str(folder))


def describe(data: DataSet) -> str:
    """One line on who trains, validates and tests."""
    counts = ", ".join(f"{len(data.parts[part])} {part}" for part in splits.SPLITS)
    categories = {one.category for one in data.objects}
    return (
        f"Models: {counts}, split {data.split_rule}; categories: {', '.join(sorted(categories))}."
    )
