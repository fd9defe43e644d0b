"""Who is train, val and test: by model, the same on every machine, saved with the run.

The rule is the original's (`lib/data_io.py`): ids are sorted within a category, the first 80 % are
for training, the last 20 % for testing. The original has no validation models; here they are the
last tenth of the category's training part, at least one, so that no choice is made on test models.
"""

import json
from collections.abc import Sequence
from itertools import groupby

from r2n2_keras.atomic import replacing
from r2n2_keras.data.catalogue import Model
from r2n2_keras.errors import InputError

SPLITS = ("train", "val", "test")


def split_models(models: Sequence[Model]) -> dict[str, list[Model]]:
    """Deals the models of each category into train (72 %), val (8 %) and test (20 %)."""
    parts = {split: [] for split in SPLITS}
    ordered = sorted(models, key=lambda model: (model.synset_id, model.model_id))
    for _, group in groupby(ordered, key=lambda model: model.synset_id):
        group = list(group)
        test = int(len(group) * 0.8)
        train = test - max(1, test // 10) if test > 1 else test
        parts["train"] += group[:train]
        parts["val"] += group[train:test]
        parts["test"] += group[test:]
    return parts


def save_split(path: str, parts: dict[str, list[Model]]) -> None:
    """Writes the names of the models of each split."""
    names = {split: [model.key for model in parts[split]] for split in SPLITS}
    with replacing(path) as partial, open(partial, "w") as file:
        json.dump(names, file, indent=1)


def load_split(
    path: str, models: Sequence[Model], complete: bool = False
) -> dict[str, list[Model]]:
    """The models that a saved split names, as far as they are among `models`.

    Args:
        path: the file that `save_split` wrote.
        models: the models of the data.
        complete: every model that the split names must be there.

    Raises:
        InputError: the file is missing or is not a saved split, or the data are not complete.
    """
    try:
        with open(path) as file:
            names = json.load(file)
        keys = {split: set(names[split]) for split in SPLITS}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"Expected the split of a run, received {path}, which cannot be read "
            f"({type(error).__name__}: {error}). Give the --workdir of a run that `train` made."
        ) from None
    missing = sorted(set().union(*keys.values()) - {model.key for model in models})
    if complete and missing:
        raise InputError(
            f"Expected every model of {path} in the data, received data without {len(missing)} of "
            f"them, such as {missing[0]}. Give the data that the run was started on, or "
            "--overwrite."
        )
    return {split: [model for model in models if model.key in keys[split]] for split in SPLITS}
