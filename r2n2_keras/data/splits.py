"""Who is train, val and test: by model, the same on every machine, saved with the run.

Three rules deal the models, and scores on the test models of one say nothing about another's:

* "r2n2", the original's (`lib/data_io.py`): ids are sorted within a category, the first 80 % are
  for training, the last 20 % for testing. The original has no validation models; here they are
  the last tenth of the category's training part, at least one, so that no choice is made on test
  models.
* "pix2vox": as the file `ShapeNet.json` of Pix2Vox names them, which later papers use. Four fifths
  of its test models are training models of the original's split.
* "random": as "r2n2", with the ids of each category shuffled instead of sorted.

A model's part depends on all ids of its category, also on those that are left out or lack a
partner, so that leaving one out moves no other.
"""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence

import numpy as np

from r2n2_keras.data import remote
from r2n2_keras.data.objects import SPLITS, DataSet, Key, Object
from r2n2_keras.errors import InputError, reading
from r2n2_keras.files import replacing


def assign(
    keys: Iterable[Key], rule: str = "r2n2", split_file: str = "", split_seed: int = 0
) -> dict[Key, str]:
    """Deals models to the parts of a split by the rule "r2n2", "pix2vox" or "random".

    `keys` are all models that there are. "pix2vox" reads its `ShapeNet.json`, the `split_file`; the
    models that it does not name have no part. Raises an InputError where it cannot be used.
    """
    keys = sorted(set(keys))
    if rule == "pix2vox":
        named = read_pix2vox(split_file)
        dealt = dict(named)
        for key, part in named:
            if dealt[key] != part:
                raise InputError(
                    f"Expected every model in one part of {split_file}, received {'/'.join(key)} "
                    f"in {part} and {dealt[key]}. Mend the file."
                )
        return {key: dealt[key] for key in keys if key in dealt}
    by_category: dict[str, list[str]] = {}
    for synset_id, model_id in keys:
        by_category.setdefault(synset_id, []).append(model_id)
    parts = {}
    for synset_id, ids in by_category.items():
        if rule == "random":
            # Each category has a stream of its own: others may come and go.
            entropy = [split_seed, *synset_id.encode()]
            ids = [ids[i] for i in np.random.default_rng(entropy).permutation(len(ids))]
        test = int(len(ids) * 0.8)
        train = test - max(1, test // 10) if test > 1 else test
        for number, model_id in enumerate(ids):
            part = "train" if number < train else "val" if number < test else "test"
            parts[synset_id, model_id] = part
    return parts


def describe(rule: str, split_file: str = "", split_seed: int = 0) -> str:
    """A rule in words that tell it from every other; an InputError for an unreadable split file."""
    if rule == "pix2vox":
        checksum = hashlib.sha256(_read(split_file, "--split_file").encode()).hexdigest()
        return f"pix2vox ({split_file.rpartition('/')[2]}, sha256 {checksum[:8]})"
    return f"random (seed {split_seed})" if rule == "random" else rule


def read_pix2vox(path: str) -> list[tuple[Key, str]]:
    """Models and parts in a `ShapeNet.json` of Pix2Vox; an InputError where it cannot be read."""
    names = []
    with reading("--split_file to be the ShapeNet.json of Pix2Vox", path, "Give another file."):
        for category in json.loads(_read(path, "--split_file")):
            for part in SPLITS:
                if not isinstance(category[part], list):
                    raise TypeError(f"{part!r} is no list")
                names += [((category["taxonomy_id"], name), part) for name in category[part]]
        if not names or not all(isinstance(text, str) for key, _ in names for text in key):
            raise TypeError("ids are strings, and there is at least one")
    return names


def _read(path, flag):
    remote.require(path)
    with reading(f"{flag} to be a text file", path, "Give another file."):
        return remote.read(path).decode("utf-8-sig")


def limited(parts: dict[Key, str], limit: int) -> dict[Key, str]:
    """The first models of every category and part, `limit` in all, each its share.

    Every category and part gets one before any gets two (Adams' method); then the largest ones
    get more.
    """
    if not limit or limit >= len(parts):
        return parts
    groups: dict[tuple[int, str], list[Key]] = {}
    for key in sorted(parts):
        groups.setdefault((SPLITS.index(parts[key]), key[0]), []).append(key)
    # Whose group has the least of its share is next.
    ranked = sorted(
        (number / len(keys), group, key)
        for group, keys in groups.items()
        for number, key in enumerate(keys)
    )
    kept = {key for *_, key in ranked[:limit]}
    return {key: parts[key] for key in sorted(kept)}


def read_exclusions(path: str) -> set[Key]:
    """The models in a file of `synset_id/model_id # comment`; bad lines raise an InputError."""
    if not path:
        return set()
    lines = [line.partition("#")[0] for line in _read(path, "--exclude").splitlines()]
    keys = [tuple(word.strip() for word in line.split("/")) for line in lines if line.strip()]
    for key in keys:
        if len(key) != 2 or not all(key):
            raise InputError(
                f"Expected lines `synset_id/model_id` in {path}, received {'/'.join(key)[:100]!r}. "
                "Mend it."
            )
    return set(keys)


def split_objects(
    objects: Sequence[Object], all_keys: Iterable[Key], rule: str = "r2n2", **settings
) -> DataSet:
    """Deals the objects of a tree as `assign` deals `all_keys`, those left out included."""
    parts = assign(all_keys, rule, **settings)
    dealt = {split: [] for split in SPLITS}
    for one in sorted(objects, key=lambda one: one.key):
        if one.key in parts:
            dealt[parts[one.key]].append(one)
    return DataSet(dealt, describe(rule, **settings))


def save_split(path: str, data: DataSet) -> None:
    """Writes the names of the models of each part, and the rule that dealt them."""
    names = {part: [one.name for one in data.parts[part]] for part in SPLITS}
    with replacing(path) as partial, open(partial, "w") as file:
        json.dump({"split_rule": data.split_rule, **names}, file, indent=1)


def load_split(path: str, objects: Collection[Object], complete: bool = False) -> DataSet:
    """The models that a file of `save_split` names, as far as they are among `objects`.

    Raises an InputError where the file is no saved split, or, if it must be `complete`, where one
    of its models is not there.
    """
    advice = "Give the --workdir of a run that `train` made."
    with reading("the split of a run", path, advice), open(path) as file:
        saved = json.load(file)
        keys = {part: set(saved[part]) for part in SPLITS}
        split_rule = saved.get("split_rule", "r2n2")  # what runs of 0.1.0 do not say
    missing = sorted(set().union(*keys.values()) - {one.name for one in objects})
    if complete and missing:
        raise InputError(
            f"Expected every model of {path} in the data, received data without {len(missing)} of "
            f"them, such as {missing[0]}. Give the data that the run was started on, or "
            "--overwrite."
        )
    parts = {part: [one for one in objects if one.name in keys[part]] for part in SPLITS}
    return DataSet(parts, split_rule)
