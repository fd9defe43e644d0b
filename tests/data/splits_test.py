"""Splits: no model twice, the original's proportions, the same everywhere, saved and loaded."""

import itertools
import json
import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from r2n2_keras.data import splits
from r2n2_keras.data.objects import Object
from r2n2_keras.data.trees import TreeFiles, list_objects
from r2n2_keras.errors import InputError

SIZES = st.dictionaries(st.integers(0, 99999999).map("{:08d}".format), st.integers(1, 60))


def _model(synset_id, model_id):
    return Object(synset_id, model_id, ("00",), TreeFiles(f"/views/{model_id}", "/voxels"))


def _split(models, **settings):
    return splits.split_objects(models, [model.key for model in models], **settings)


def _models(sizes):
    return [
        _model(synset_id, f"{index:x}")
        for synset_id, size in sizes.items()
        for index in range(size)
    ]


@given(SIZES)
def test_every_model_is_in_one_split(sizes):
    models = _models(sizes)
    parts = _split(models).parts
    assert tuple(parts) == splits.SPLITS
    dealt = [model.name for part in parts.values() for model in part]
    assert len(dealt) == len(set(dealt)) == len(models)
    assert set(dealt) == {model.name for model in models}


@given(SIZES)
def test_proportions_within_each_category(sizes):
    parts = _split(_models(sizes)).parts
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
    parts = _split(_models({"03001627": size})).parts
    assert tuple(len(part) for part in parts.values()) == counts


def test_the_originals_rule():
    """Sorted by id, the first four fifths train (the last of them validate), the rest test."""
    parts = _split(_models({"03001627": 50})).parts
    ids = sorted(f"{index:x}" for index in range(50))
    assert [model.model_id for model in parts["train"] + parts["val"]] == ids[:40]
    assert [model.model_id for model in parts["test"]] == ids[40:]


@given(SIZES, st.randoms(use_true_random=False))
def test_the_order_of_the_models_does_not_matter(sizes, rng):
    models = _models(sizes)
    shuffled = rng.sample(models, len(models))
    assert _split(shuffled) == _split(models)


def test_a_category_is_split_the_same_with_and_without_others():
    both = _split(_models({"03001627": 23, "04379243": 17})).parts
    alone = _split(_models({"04379243": 17})).parts
    for split in splits.SPLITS:
        assert [m for m in both[split] if m.synset_id == "04379243"] == alone[split]


def test_no_models_give_empty_splits():
    assert _split([]).parts == {"train": [], "val": [], "test": []}


def test_saved_and_loaded(tmp_path, tree):
    models = list_objects(str(tree))[0]
    data = _split(models)
    parts = data.parts
    assert [len(part) for part in parts.values()] == [12, 4, 4]
    path = str(tmp_path / "split.json")
    splits.save_split(path, data)
    assert [each.name for each in tmp_path.iterdir()] == ["split.json"]
    assert splits.load_split(path, models) == data
    saved = json.loads((tmp_path / "split.json").read_text())
    assert saved["test"] == [model.name for model in parts["test"]]


def test_a_loaded_split_wins_over_the_rule(tmp_path):
    """Models that came or went since do not move the others from split to split."""
    models = _models({"03001627": 20})
    path = str(tmp_path / "split.json")
    splits.save_split(path, _split(models))
    added = [_model("03001627", f"{letter}_new") for letter in "0123456789"]
    now = models[3:] + added
    random.Random(0).shuffle(now)
    loaded = splits.load_split(path, now).parts
    before = _split(models).parts
    for split in splits.SPLITS:
        expected = {model.name for model in before[split]} & {model.name for model in now}
        assert {model.name for model in loaded[split]} == expected
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


# The other rules.


PIX2VOX = [
    {
        "taxonomy_id": "03001627",
        "taxonomy_name": "chair",
        "baseline": {"1-view": 0.466},
        "train": ["2", "7"],
        "val": ["0"],
        "test": ["4", "absent"],
    },
    {"taxonomy_id": "04379243", "train": ["1"], "val": [], "test": ["2"]},
]


@pytest.fixture
def pix2vox(tmp_path):
    path = tmp_path / "folder" / "ShapeNet.json"
    path.parent.mkdir()
    path.write_text(json.dumps(PIX2VOX))
    return str(path)


def test_pix2vox_names_its_models(pix2vox):
    models = _models({"03001627": 9, "04379243": 3, "02691156": 2})
    data = _split(models, rule="pix2vox", split_file=pix2vox)
    keys = {part: [model.name for model in data.parts[part]] for part in splits.SPLITS}
    assert keys == {
        "train": ["03001627/2", "03001627/7", "04379243/1"],
        "val": ["03001627/0"],
        "test": ["03001627/4", "04379243/2"],
    }
    assert re.fullmatch(r"pix2vox \(ShapeNet\.json, sha256 [0-9a-f]{8}\)", data.split_rule)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "JSONDecodeError"),
        ("[" * 100_000, "RecursionError"),
        ("[]", "at least one"),
        ("[1]", "TypeError"),
        ('[{"taxonomy_id": "1", "train": [1], "val": [], "test": []}]', "ids are strings"),
        ('[{"taxonomy_id": 1, "train": ["a"], "val": [], "test": []}]', "ids are strings"),
        ('[{"taxonomy_id": "1", "train": "abc", "val": [], "test": []}]', "is no list"),
        ('[{"taxonomy_id": "1", "train": []}]', "KeyError"),
        (
            '[{"taxonomy_id": "1", "train": ["a"], "val": [], "test": ["a"]}]',
            "every model in one part of .*, received 1/a in train and test",
        ),
    ],
)
def test_a_broken_pix2vox_file_is_told(tmp_path, content, words):
    path = tmp_path / "split.json"
    path.write_text(content)
    with pytest.raises(InputError, match=words) as caught:
        splits.assign([], "pix2vox", str(path))
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)


def test_random_is_the_originals_with_other_ids():
    models = _models({"03001627": 50, "04379243": 50})
    one, two = (_split(models, rule="random", split_seed=seed) for seed in (1, 2))
    assert one == _split(models[::-1], rule="random", split_seed=1)
    assert one.parts != two.parts and one.split_rule == "random (seed 1)"
    for data in (one, two):
        assert [len(data.parts[part]) for part in splits.SPLITS] == [72, 8, 20]
    chairs, tables = (
        {model.model_id for model in one.parts["test"] if model.synset_id == synset_id}
        for synset_id in ("03001627", "04379243")
    )
    assert chairs != tables, "each category is shuffled on its own"
    alone = _split(models[:50], rule="random", split_seed=1)
    assert {model.model_id for model in alone.parts["test"]} == chairs


@pytest.mark.parametrize("rule", ["r2n2", "random"])
@given(st.sets(st.integers(0, 39)))
def test_leaving_models_out_moves_no_other(rule, left_out):
    models = _models({"03001627": 40})
    keys = [model.key for model in models]
    kept = [model for number, model in enumerate(models) if number not in left_out]
    whole, part = (splits.split_objects(some, keys, rule) for some in (models, kept))
    for name in splits.SPLITS:
        assert part.parts[name] == [model for model in whole.parts[name] if model in kept]


def test_a_saved_split_says_its_rule(tmp_path, pix2vox):
    models = _models({"03001627": 9})
    data = _split(models, rule="pix2vox", split_file=pix2vox)
    splits.save_split(str(tmp_path / "split.json"), data)
    assert splits.load_split(str(tmp_path / "split.json"), models) == data


# A few models only.


@given(SIZES, st.integers(1, 200))
def test_limited_shares(sizes, limit):
    parts = splits.assign([model.key for model in _models(sizes)])
    kept = splits.limited(parts, limit)
    assert len(kept) == min(limit, len(parts))
    assert all(parts[key] == part for key, part in kept.items())
    groups = {}
    for key in sorted(parts):
        groups.setdefault((key[0], parts[key]), []).append(key)
    if limit >= len(groups):
        for keys in groups.values():
            count = sum(key in kept for key in keys)
            assert count >= 1
            assert [key in kept for key in keys[:count]] == [True] * count, "the first by id"
            assert abs(count - len(kept) * len(keys) / len(parts)) <= len(groups)


def test_limited_by_hand():
    parts = splits.assign([("a", f"{n:03}") for n in range(100)])
    kept = splits.limited(parts, 10)
    assert sorted(kept.values()).count("train") == 7
    assert sorted(kept.values()).count("val") == 1
    assert splits.limited(parts, 0) == parts


# Exclusions.


def test_exclusions_are_read(tmp_path):
    path = tmp_path / "exclude.txt"
    path.write_text("\ufeff# bad models\n03001627/a1  # broken PNG\n\n 04379243 / b \n")
    assert splits.read_exclusions(str(path)) == {("03001627", "a1"), ("04379243", "b")}
    assert splits.read_exclusions("") == set()


@pytest.mark.parametrize("content", [b"03001627\n", b"a/b/c\n", b"a/\n", b"\xff\xfe/a"])
def test_broken_exclusions_are_told(tmp_path, content):
    path = tmp_path / "exclude.txt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"lines `synset_id/model_id`|no UTF-8 text") as caught:
        splits.read_exclusions(str(path))
    assert "\n" not in str(caught.value)


def test_missing_exclusions_are_told(tmp_path):
    with pytest.raises(InputError, match="No such file"):
        splits.read_exclusions(str(tmp_path / "absent"))
