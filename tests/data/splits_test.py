"""Splits: no model twice, the original's proportions, the same everywhere, saved and loaded."""

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

CHAIR, TABLE = "03001627", "04379243"
SIZES = st.dictionaries(st.integers(0, 99999999).map("{:08d}".format), st.integers(1, 60))


def _object(synset_id, model_id):
    return Object(synset_id, model_id, ("00",), TreeFiles(f"/views/{model_id}", "/voxels"))


def _split(objects, **settings):
    return splits.split_objects(objects, [one.key for one in objects], **settings)


def _objects(sizes):
    return [_object(synset_id, f"{n:x}") for synset_id, size in sizes.items() for n in range(size)]


def _assert_told(function, path, content, words):
    """A file of that content, or with None of none, is told in a line."""
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        function(str(path))
    message = str(caught.value)
    assert "\n" not in message and str(path) in message and len(message) < 500


def _counts(parts):
    return tuple(len(parts[split]) for split in splits.SPLITS)


@given(SIZES, st.randoms(use_true_random=False))
def test_every_object_is_in_one_part_of_the_right_size(sizes, rng):
    objects = _objects(sizes)
    parts = _split(objects).parts
    assert tuple(parts) == splits.SPLITS
    dealt = [one.name for part in parts.values() for one in part]
    assert len(dealt) == len(set(dealt)) and set(dealt) == {one.name for one in objects}
    for synset_id, size in sizes.items():
        train, val, test = (
            sum(one.synset_id == synset_id for one in parts[split]) for split in splits.SPLITS
        )
        assert train + val == size * 4 // 5 and test > 0
        assert val == (max(1, (train + val) // 10) if train + val > 1 else 0)
    # Their order does not matter.
    assert _split(rng.sample(objects, len(objects))).parts == parts


@pytest.mark.parametrize(
    ("size", "counts"),
    [(0, (0, 0, 0)), (1, (0, 0, 1)), (2, (1, 0, 1)), (10, (7, 1, 2)), (1000, (720, 80, 200))],
)
def test_the_originals_rule(size, counts):
    """Sorted by id, the first four fifths train (the last of them validate), the rest test."""
    parts = _split(_objects({CHAIR: size})).parts
    assert _counts(parts) == counts
    ids = sorted(f"{index:x}" for index in range(size))
    assert [one.model_id for split in splits.SPLITS for one in parts[split]] == ids


@pytest.mark.parametrize("rule", ["r2n2", "random"])
def test_a_category_is_split_the_same_with_and_without_others(rule):
    both = _split(_objects({CHAIR: 23, TABLE: 17}), rule=rule).parts
    alone = _split(_objects({TABLE: 17}), rule=rule).parts
    for split in splits.SPLITS:
        assert [one for one in both[split] if one.synset_id == TABLE] == alone[split]


@pytest.mark.parametrize("rule", ["r2n2", "random"])
@given(st.sets(st.integers(0, 39)))
def test_leaving_objects_out_moves_no_other(rule, left_out):
    objects = _objects({CHAIR: 40})
    keys = [one.key for one in objects]
    kept = [one for number, one in enumerate(objects) if number not in left_out]
    whole, part = (splits.split_objects(some, keys, rule) for some in (objects, kept))
    for name in splits.SPLITS:
        assert part.parts[name] == [one for one in whole.parts[name] if one in kept]


def test_random_is_the_originals_with_other_ids():
    objects = _objects({CHAIR: 50, TABLE: 50})
    one, two = (_split(objects, rule="random", split_seed=seed) for seed in (1, 2))
    assert one == _split(objects[::-1], rule="random", split_seed=1)
    assert one.parts != two.parts and one.split_rule == "random (seed 1)"
    assert _counts(one.parts) == _counts(two.parts) == (72, 8, 20)
    tests = {each.key for each in one.parts["test"]}
    chairs, tables = ({m for s, m in tests if s == synset_id} for synset_id in (CHAIR, TABLE))
    assert chairs != tables, "each category is shuffled on its own"


CHAIRS = {"taxonomy_id": CHAIR, "taxonomy_name": "chair", "baseline": {"1-view": 0.466}}
PIX2VOX = [
    {**CHAIRS, "train": ["2", "7"], "val": ["0"], "test": ["4", "absent"]},
    {"taxonomy_id": TABLE, "train": ["1"], "val": [], "test": ["2"]},
]


@pytest.fixture
def pix2vox(tmp_path):
    path = tmp_path / "folder" / "ShapeNet.json"
    path.parent.mkdir()
    path.write_text(json.dumps(PIX2VOX))
    return {"rule": "pix2vox", "split_file": str(path)}


def test_pix2vox_names_its_models(pix2vox):
    data = _split(_objects({CHAIR: 9, TABLE: 3, "02691156": 2}), **pix2vox)
    assert {part: [one.name for one in data.parts[part]] for part in splits.SPLITS} == {
        "train": [f"{CHAIR}/2", f"{CHAIR}/7", f"{TABLE}/1"],
        "val": [f"{CHAIR}/0"],
        "test": [f"{CHAIR}/4", f"{TABLE}/2"],
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
        ('[{"taxonomy_id": "1", "train": []}]', "it has no 'val'"),
        (
            '[{"taxonomy_id": "1", "train": ["a"], "val": [], "test": ["a"]}]',
            "every model in one part of .*, received 1/a in train and test",
        ),
    ],
)
def test_a_broken_pix2vox_file_is_told(tmp_path, content, words):
    path = tmp_path / "split.json"
    _assert_told(lambda name: splits.assign([], "pix2vox", name), path, content.encode(), words)


# Saved splits.


def test_saved_and_loaded(tmp_path, tree, pix2vox):
    objects = list_objects(str(tree))[0]
    path = tmp_path / "split.json"
    for data in (_split(objects), _split(_objects({CHAIR: 9}), **pix2vox)):
        splits.save_split(str(path), data)
        assert splits.load_split(str(path), data.objects) == data
        saved = json.loads(path.read_text())
        assert saved["test"] == [one.name for one in data.parts["test"]]
    assert _counts(_split(objects).parts) == (12, 4, 4)
    assert not list(tmp_path.glob("partial*"))


def test_a_loaded_split_wins_over_the_rule(tmp_path):
    """Objects that came or went since do not move the others from part to part."""
    objects = _objects({CHAIR: 20})
    path = str(tmp_path / "split.json")
    before = _split(objects)
    splits.save_split(path, before)
    now = objects[3:] + [_object(CHAIR, f"{letter}_new") for letter in "0123456789"]
    random.Random(0).shuffle(now)
    loaded = splits.load_split(path, now)
    for split in splits.SPLITS:
        assert set(loaded.parts[split]) == set(before.parts[split]) & set(now)
    with pytest.raises(InputError, match=f"without 3 of them, such as {CHAIR}/0. Give"):
        splits.load_split(path, now, complete=True)
    assert splits.load_split(path, before.objects, complete=True) == before


@pytest.mark.parametrize(
    "content",
    [
        *[None, b"", b"[]", b"null", b"\xff\xfe\x00binary" * 1000],
        b'{"train": [], "val": []}',
        b'{"train": 1, "val": [], "test": []}',
        b'{"train": [["a"]], "val": [], "test": []}',
    ],
)
def test_a_broken_or_missing_split_is_told(tmp_path, content):
    words = "Expected the split of a run, received .* Give the --workdir of a run"
    _assert_told(lambda name: splits.load_split(name, []), tmp_path / "split.json", content, words)


# A few models only.


@given(SIZES, st.integers(1, 200))
def test_limited_shares(sizes, limit):
    parts = splits.assign([one.key for one in _objects(sizes)])
    kept = splits.limited(parts, limit)
    assert len(kept) == min(limit, len(parts)) and kept.items() <= parts.items()
    groups = {}
    for key in sorted(parts):
        groups.setdefault((key[0], parts[key]), []).append(key)
    for keys in groups.values() if limit >= len(groups) else ():
        count = sum(key in kept for key in keys)
        assert count >= 1
        assert all(key in kept for key in keys[:count]), "the first by id"
        assert abs(count - len(kept) * len(keys) / len(parts)) <= len(groups)


def test_limited_by_hand():
    parts = splits.assign([("a", f"{n:03}") for n in range(100)])
    kept = list(splits.limited(parts, 10).values())
    assert [kept.count(split) for split in splits.SPLITS] == [7, 1, 2]
    assert splits.limited(parts, 0) == parts


# Exclusions.


def test_exclusions_are_read(tmp_path):
    path = tmp_path / "exclude.txt"
    path.write_text("\ufeff# bad models\n03001627/a1  # broken PNG\n\n 04379243 / b \n")
    assert splits.read_exclusions(str(path)) == {(CHAIR, "a1"), (TABLE, "b")}
    assert splits.read_exclusions("") == set()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        *[(text, "lines `synset_id/model_id`") for text in (b"03001627\n", b"a/b/c\n", b"a/\n")],
        (b"\xff\xfe/a", "no UTF-8 text"),
        (None, "No such file"),
    ],
)
def test_broken_or_missing_exclusions_are_told(tmp_path, content, words):
    _assert_told(splits.read_exclusions, tmp_path / "exclude.txt", content, words)
