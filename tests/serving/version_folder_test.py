"""The version folder: what is in it, how it comes to be there, and what the check finds in it."""

import base64
import contextlib
import errno
import itertools
import json
import operator
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import tensorflow as tf
from commands import refusal
from tensorflow.core.protobuf import saved_model_pb2

from r2n2_keras import export, workdir
from r2n2_keras.config import Config
from r2n2_keras.errors import InputError
from r2n2_keras.serving import export_check, golden, model_card, signatures, version_folder, warmup


@pytest.fixture
def export_to(exported, monkeypatch):
    """A function that exports to a folder all but the graph, which takes long to trace."""

    def export_to(folder, check=lambda version: []):
        archive = SimpleNamespace(write_out=lambda folder, verbose: os.mkdir(folder))
        monkeypatch.setattr(signatures, "make_archive", lambda described: archive)
        monkeypatch.setattr(export_check, "check", check)
        model = exported.model
        return version_folder.export_version(model, str(folder), threshold=0.4, card="card")

    return export_to


def test_versions_are_numbered_next_to_what_is_there(export_to, tmp_path):
    for name in ("7", "notes", "٩", "0012x", "007"):
        (tmp_path / name).mkdir()
    assert export_to(tmp_path) == str(tmp_path / "8")
    (tmp_path / "0000000000000000000000000000011").mkdir()  # a server reads leading zeros, too
    (tmp_path / "99999999999999999999").mkdir()  # no version: out of a server's range
    assert export_to(tmp_path) == str(tmp_path / "12")
    (tmp_path / str(2**63 - 1)).mkdir()
    assert "no number is left" in refusal(export_to, tmp_path)
    assert len(list(tmp_path.iterdir())) == 10


def test_a_failed_export_leaves_nothing(export_to, tmp_path):
    def fail(version):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        export_to(tmp_path, fail)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_appears_meanwhile_is_not_replaced(export_to, tmp_path):
    def appear(version):
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "theirs").write_text("")
        return []

    assert "taken by another export" in refusal(export_to, tmp_path, appear)
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "theirs"]


def test_an_export_that_does_not_pass_the_check_does_not_appear(export_to, tmp_path):
    checked = []

    def find(version):
        checked.extend(os.listdir(Path(version, "assets.extra")))
        return ["serving_default is off the golden answer by 0.5", "more"]

    with pytest.raises(InputError, match=r"answer by 0.5; more\. Nothing was written"):
        export_to(tmp_path, find)
    assert sorted(checked) == [
        "golden_checks.json", "golden_request.json", "golden_response.json", "golden_voxels.json",
        "model_card.md", "tf_serving_warmup_requests",
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_command_finds_a_sound_version_sound(exported, capsys):
    export.main(Config(check=exported.version))
    assert "is sound" in capsys.readouterr().out
    assert f"Give {exported.version}" in refusal(export.main, Config(check=exported.folder))


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 99])
def test_what_is_no_version_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    assert "Expected" in refusal(export_check.check, str(tmp_path))


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the version that may be spoilt."""
    return str(shutil.copytree(exported.version, tmp_path / "1"))


@contextlib.contextmanager
def _edited(copy):
    """Gives the graph of a version to change, and writes it back."""
    path = Path(copy, "saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    yield saved.meta_graphs[0]
    path.write_bytes(saved.SerializeToString())


def test_ops_that_no_server_should_run_are_found(copy):
    with _edited(copy) as graph:
        for op in ("PyFunc", "WriteFile"):
            graph.graph_def.library.function[0].node_def.add(op=op)
        for op in ("TextLineDataset", "IO>DecodeAvif"):
            graph.graph_def.node.add(op=op)
    assert export_check.check(copy) == [
        f"op {op} is none that a server should run"
        for op in ("IO>DecodeAvif", "PyFunc", "TextLineDataset", "WriteFile")
    ]


@pytest.mark.parametrize("place", ["library.function", "node"])
def test_calls_that_xla_compiles_are_found(copy, place):
    with _edited(copy) as graph:
        operator.attrgetter(place)(graph.graph_def)[0].attr["_XlaMustCompile"].b = True
    assert export_check.check(copy) == ["a call is compiled by XLA, which a server refuses"]


def test_signatures_that_a_server_would_stumble_over_are_found(copy):
    with _edited(copy) as graph:
        signature = graph.signature_def
        del signature["serving_default"]
        signature["images"].inputs["images"].dtype = tf.float16.as_datatype_enum
        signature["images"].outputs["occupancy"].dtype = tf.bfloat16.as_datatype_enum
        signature["padded"].outputs["voxels_bytes"].tensor_shape.dim[0].size = 1
        del signature["refine"].outputs["voxels_bytes"].tensor_shape.dim[:]
        signature["voxels"].inputs.clear()
    assert export_check.check(copy) == [
        "there is no signature serving_default",
        "input images of images is float16, not float32, int32, string",
        "output occupancy of images is bfloat16, not float32, int32, string",
        "output voxels_bytes of padded has no batch axis in front",
        "output voxels_bytes of refine has no batch axis in front",
        "no warm-up request asks voxels",
    ]


def test_warm_up_requests_ask_every_signature_for_every_number_of_views(exported):
    # Whether they can be answered shows where the stand-in loads the version.
    requests = warmup.read(exported.version)
    asked = {
        (name, *(v.shape[1] for v in inputs.values() if v.ndim > 1)) for name, inputs in requests
    }
    names = ("serving_default", "voxels", "images", "padded")
    assert asked == {*itertools.product(names, (1, 3, 5)), ("refine",)}
    states = [inputs["state_bytes"][0] for name, inputs in requests if name == "refine"]
    assert sorted(map(bool, states)) == [False, True]  # a fresh start, and one that goes on


def test_missing_and_damaged_warm_up_requests_are_found(copy):
    requests = warmup.read(copy)
    path = Path(copy, "assets.extra", warmup.FILE)
    damaged = path.read_bytes()[:1000]
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"garbage")
    assert "the warm-up requests cannot be read" in export_check.check(copy)[0]
    path.write_bytes(damaged)
    assert "the warm-up requests cannot be read" in export_check.check(copy)[0]
    path.unlink()
    assert "the warm-up requests cannot be read" in export_check.check(copy)[0]
    warmup.write(copy, [request for request in requests if request[0] != "refine"][1:])
    assert export_check.check(copy) == [
        "no warm-up request asks refine",
        "no warm-up request of 1 views asks serving_default",
    ]


@contextlib.contextmanager
def _changed(copy, name):
    """Gives what is in one of the golden files to change, and writes it back."""
    path = Path(copy, "assets.extra", name)
    value = json.loads(path.read_text())
    yield value
    path.write_text(json.dumps(value))


def _flip_voxels(copy):
    with _changed(copy, golden.VOXELS) as value:
        voxels = base64.b64decode(value["predictions"][0]["b64"])
        flipped = bytes(byte ^ 255 for byte in voxels[:80]) + voxels[80:]
        value["predictions"][0]["b64"] = base64.b64encode(flipped).decode()


def test_other_answers_and_signatures_than_the_golden_ones_are_found(copy):
    _flip_voxels(copy)
    with _changed(copy, golden.RESPONSE) as value:
        value["predictions"][0][0][0][0] += 0.01
    with _changed(copy, golden.CHECKS) as checks:
        checks["absent"] = checks.pop("padded")
    assert golden.problems(copy) == [
        "padded has no golden request",
        "there is no signature absent",
        "serving_default is off the golden answer by 0.01",
        "voxels answers other voxels than the golden ones",
        "images is off the golden answer by 0.01",
        "refine answers other voxels than the golden ones",
    ]


def test_exports_of_before_there_was_a_file_of_checks_are_checked(copy):
    Path(copy, "assets.extra", golden.CHECKS).unlink()
    _flip_voxels(copy)
    assert golden.problems(copy) == [
        f"{name} answers other voxels than the golden ones"
        for name in ("voxels", "padded", "refine")
    ]


@pytest.mark.parametrize(
    "name, text",
    [(golden.RESPONSE, "{}"), (golden.REQUEST, '{"instances": [[]]}'), (golden.REQUEST, "{")],
)
def test_damaged_golden_files_are_found(copy, name, text):
    Path(copy, "assets.extra", name).write_text(text)
    with pytest.raises((LookupError, ValueError, AttributeError)):
        golden.problems(copy)


def test_a_version_that_was_copied_in_part_is_found(copy):
    os.truncate(Path(copy, "variables", "variables.data-00000-of-00001"), 1000)
    message = r"the golden request fails in a fresh process .*Export again\."
    with pytest.raises(InputError, match=message):
        export.main(Config(check=copy))


def _evaluation(step=20):
    summary = [
        {
            "views": views, "threshold": threshold, "mean_shape_iou": None,
            "iou_mean_over_samples": views / 10 + threshold / 100,
            "iou_mean_over_categories": 0.5, "average_precision": 0.75,
        }
        for views in (1, 3)
        for threshold in (0.2, 0.4)
    ]  # fmt: skip
    return json.dumps({"step": step, "split": "test", "samples": 12, "summary": summary})


@pytest.fixture
def card(exported, tmp_path):
    """Gives the card of a run that was trained for 20 steps and scored; flags are the export's."""
    metrics = dict.fromkeys(workdir.COLUMNS, 0.0)
    rows = [{**metrics, "step": 10 * n, "val_iou": n / 10} for n in (1, 2)]
    workdir.write_metrics(str(tmp_path), rows)

    def card(scores=None, **flags):
        (tmp_path / workdir.EVALUATION).write_text(scores or _evaluation())
        return model_card.card(exported.model, Config(workdir=str(tmp_path), **flags))

    return card


def test_the_card_of_a_run_on_synthesised_data(card, tmp_path):
    text = card(models_per_category=7)
    assert "| network | preset `tiny`, 2,074,001 parameters |" in text
    assert "| views | any number, scaled to 64x64, RGB |" in text
    assert "| background | grey 0, alpha: threshold |" in text
    assert "| threshold | 0.4: a voxel" in text
    assert "| data | procedural furniture, 7 models per category |" in text
    assert "| licence of the data | Free: drawn by code of this project. |" in text
    assert "12 test models, voxel IoU at threshold 0.4." in text
    assert "| 1 | 0.104 | 0.500 | 0.750 | - |\n| 3 | 0.304 | 0.500 | 0.750 | - |\n" in text
    assert str(tmp_path) not in text


@pytest.mark.parametrize(
    "flags, shown",
    [
        ({"threshold": 0.25}, ["| threshold | 0.25:", "at threshold 0.2.", "| 3 | 0.302 |"]),
        ({"data_dir": "/secret/shapenet/"}, ["| data | `shapenet` |", "Not stated"]),
        ({"data_dir": "d", "data_licence": "CC BY 4.0"}, ["| licence of the data | CC BY 4.0 |\n"]),
        ({"data_dir": "d", "data_licence": "a | b\n\n# C"}, [r"of the data | a \| b # C |"]),
        ({"scores": _evaluation(step=10)}, ["are of step 10, this model is of step 20"]),
        ({"model_file": "a.keras"}, ["not known: exported from a file", "Not scored"]),
    ],
    ids=["nearest threshold", "no licence", "licence", "cell", "other weights", "file"],
)
def test_the_cards_of_other_runs(card, flags, shown):
    text = card(**flags)
    assert all(part in text for part in shown)
    assert "secret" not in text
    assert ("0.304" in text) == ("data_dir" in flags)


@pytest.mark.parametrize("text", ["{", "[]", '{"step": 20, "summary": [{}]}', '{"step": 20}'])
def test_damaged_scores_are_told(card, text):
    assert "evaluation.json, which cannot be read" in refusal(card, scores=text)
