"""Splits: no model twice, the original's proportions, the same everywhere, saved and loaded."""

import itertools
import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2n2_keras.data import splits
from r2n2_keras.data.catalogue import Model, list_models
from r2n2_keras.errors import InputError

SIZES = st.dictionaries(st.integers(0, 99999999).map("{:08d}".format), st.integers(1, 60))


def _models(sizes):
    return [
        Model(synset_id, f"{index:x}", f"/views/{index}", ("00",), f"/voxels/{index}")
        for synset_id, size in sizes.items()
        for index in range(size)
    ]


@given(SIZES)
def test_every_model_is_in_one_split(sizes):
    models = _models(sizes)
    parts = splits.split_models(models)
    assert tuple(parts) == splits.SPLITS
    dealt = [model.key for part in parts.values() for model in part]
    assert len(dealt) == len(set(dealt)) == len(models)
    assert set(dealt) == {model.key for model in models}


@given(SIZES)
def test_proportions_within_each_category(sizes):
    parts = splits.split_models(_models(sizes))
    for synset_id, size in sizes.items():
        train, val, test = (
            sum(model.synset_id == synset_id for model in parts[split]) for split in splits.SPLITS
        )
        assert train + val == size * 4 // 5
        assert train > 0 or size < 2
        assert test > 0
        assert val == max(1, (train + val) // 10) or train + val < 2


@pytest.mark.parametrize(
    ("size", "counts"),
    [
        (1, (0, 0, 1)),
        (2, (1, 0, 1)),
        (3, (1, 1, 1)),
        (5, (3, 1, 1)),
        (10, (7, 1, 2)),
        (100, (72, 8, 20)),
        (1000, (720, 80, 200)),
    ],
)
def test_counts(size, counts):
    parts = splits.split_models(_models({"03001627": size}))
    assert tuple(len(part) for part in parts.values()) == counts


def test_the_originals_rule():
    """Sorted by id, the first four fifths train (the last of them validate), the rest test."""
    parts = splits.split_models(_models({"03001627": 50}))
    ids = sorted(f"{index:x}" for index in range(50))
    assert [model.model_id for model in parts["train"] + parts["val"]] == ids[:40]
    assert [model.model_id for model in parts["test"]] == ids[40:]


@given(SIZES, st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(sizes, rng):
    models = _models(sizes)
    shuffled = rng.sample(models, len(models))
    assert splits.split_models(shuffled) == splits.split_models(models)


def test_a_category_is_split_the_same_with_and_without_others():
    both = splits.split_models(_models({"03001627": 23, "04379243": 17}))
    alone = splits.split_models(_models({"04379243": 17}))
    for split in splits.SPLITS:
        assert [m for m in both[split] if m.synset_id == "04379243"] == alone[split]


def test_no_models_give_empty_splits():
    assert splits.split_models([]) == {"train": [], "val": [], "test": []}


def test_saved_and_loaded(tmp_path, tree):
    models = list_models(str(tree))
    parts = splits.split_models(models)
    assert [len(part) for part in parts.values()] == [12, 4, 4]
    path = str(tmp_path / "split.json")
    splits.save_split(path, parts)
    assert [each.name for each in tmp_path.iterdir()] == ["split.json"]
    assert splits.load_split(path, models) == parts
    saved = json.loads((tmp_path / "split.json").read_text())
    assert saved["test"] == [model.key for model in parts["test"]]


def test_a_loaded_split_wins_over_the_rule(tmp_path):
    """Models that came or went since do not move the others from split to split."""
    models = _models({"03001627": 20})
    path = str(tmp_path / "split.json")
    splits.save_split(path, splits.split_models(models))
    added = [
        Model("03001627", f"{letter}_new", "/views", ("00",), "/voxels") for letter in "0123456789"
    ]
    now = models[3:] + added
    random.Random(0).shuffle(now)
    loaded = splits.load_split(path, now)
    before = splits.split_models(models)
    for split in splits.SPLITS:
        expected = {model.key for model in before[split]} & {model.key for model in now}
        assert {model.key for model in loaded[split]} == expected
    for one, other in itertools.combinations(loaded.values(), 2):
        assert not set(one) & set(other)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"7",
        b"null",
        b"\xff\xfe\x00binary" * 1000,
        b'{"train": [], "val": []}',
        b'{"train": 1, "val": [], "test": []}',
        b'{"train": [["a"]], "val": [], "test": []}',
    ],
)
def test_a_broken_file_is_told(tmp_path, content):
    path = tmp_path / "split.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match="Expected the split of a run, received") as caught:
        splits.load_split(str(path), [])
    message = str(caught.value)
    assert str(path) in message and "--workdir" in message
    assert "\n" not in message and len(message) < 500


@pytest.mark.parametrize("name", ["absent.json", "."])
def test_a_missing_file_is_told(tmp_path, name):
    with pytest.raises(InputError, match="Give the --workdir of a run") as caught:
        splits.load_split(str(tmp_path / name), [])
    assert "\n" not in str(caught.value)
