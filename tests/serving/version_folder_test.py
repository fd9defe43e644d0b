"""The version folder: what is in it, how it comes to be there, and what the check finds in it."""

import base64
import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from r2n2_keras import export, files
from r2n2_keras.config import Config
from r2n2_keras.errors import InputError
from r2n2_keras.serving import export_check, golden, signatures, version_folder, warmup


class _Archive:
    """Stands for a model whose graph does not matter, as tracing it takes many seconds."""

    def write_out(self, folder, verbose):
        Path(folder).mkdir()
        Path(folder, "saved_model.pb").write_bytes(b"graph")


@pytest.fixture
def export_to(exported, monkeypatch):
    """A function that exports to a folder: the model with its files, but without a graph."""

    def export_to(folder, check=lambda version: []):
        monkeypatch.setattr(signatures, "make_archive", lambda described: _Archive())
        monkeypatch.setattr(export_check, "check", check)
        model = exported.model
        return version_folder.export_version(model, str(folder), threshold=0.4, card="card")

    return export_to


def test_versions_are_numbered_next_to_what_is_there(export_to, tmp_path):
    for name in ("7", "notes", "٩", "0012x", "007"):
        (tmp_path / name).mkdir()
    assert export_to(tmp_path) == str(tmp_path / "8")
    (tmp_path / "0000000000000000000000000000011").mkdir()  # a server reads leading zeros, too
    assert export_to(tmp_path) == str(tmp_path / "12")
    assert len(list(tmp_path.iterdir())) == 8


def test_the_last_number_is_taken(export_to, tmp_path):
    (tmp_path / "99999999999999999999").mkdir()  # no version: out of a server's range
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(InputError, match="no number is left"):
        export_to(tmp_path)


def test_a_failed_export_leaves_nothing(export_to, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        export_to(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_appears_meanwhile_is_not_replaced(export_to, tmp_path):
    def appear(version):
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "theirs").write_text("")
        return []

    with pytest.raises(InputError, match="taken by another export"):
        export_to(tmp_path, appear)
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "theirs"]


def test_an_export_that_does_not_pass_the_check_does_not_appear(export_to, tmp_path):
    checked = []

    def find(version):
        checked.append(sorted(os.listdir(Path(version, "assets.extra"))))
        return ["serving_default is off the golden answer by 0.5", "more"]

    with pytest.raises(InputError, match=r"answer by 0.5; more\. Nothing was written"):
        export_to(tmp_path, find)
    files = ["golden_checks", "golden_request", "golden_response", "golden_voxels"]
    files = [f"{name}.json" for name in files]
    assert checked == [[*files, "model_card.md", "tf_serving_warmup_requests"]]
    assert list(tmp_path.iterdir()) == []


def test_an_export_loads_neither_a_ray_caster_nor_a_server():
    code = """
import sys
from r2n2_keras import export, runs
from r2n2_keras.serving import export_check, formats, model_card, version_folder
drawing = {"trimesh", "embreex", "aiohttp", "r2n2_keras.shapes", "r2n2_keras.outputs.pictures"}
sys.exit(" ".join(drawing & sys.modules.keys()) or 0)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_the_command_finds_a_sound_version_sound(exported, capsys):
    export.main(Config(check=exported.version))
    assert "is sound" in capsys.readouterr().out


def test_the_check_names_the_version_where_it_is_given_their_folder(exported):
    with pytest.raises(InputError, match=f"Give {exported.version}"):
        export.main(Config(check=exported.folder))


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 99])
def test_what_is_no_version_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(InputError, match="Expected"):
        export_check.check(str(tmp_path))


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the version that may be spoilt."""
    return str(shutil.copytree(exported.version, tmp_path / "1"))


def _edit(copy, statement):
    """Changes a `graph` and writes it back."""
    path = Path(copy, "saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    exec(statement, {"graph": saved.meta_graphs[0], "tf": tf})
    path.write_bytes(saved.SerializeToString())


FUNCTION = "graph.graph_def.library.function[0]"
IMAGES = "graph.signature_def['images']"
VOXELS = "graph.signature_def['voxels'].outputs['voxels_bytes'].tensor_shape"


@pytest.mark.parametrize(
    "statement, problem",
    [
        (f"{FUNCTION}.node_def.add(op='PyFunc')", "op PyFunc is none that a server should run"),
        (
            f"{FUNCTION}.node_def.add(op='WriteFile')",
            "op WriteFile is none that a server should run",
        ),
        (
            "graph.graph_def.node.add(op='TextLineDataset')",
            "op TextLineDataset is none that a server should run",
        ),
        (
            "graph.graph_def.node.add(op='IO>DecodeAvif')",
            "op IO>DecodeAvif is none that a server should run",
        ),
        (
            f"{FUNCTION}.attr['_XlaMustCompile'].b = True",
            "a call is compiled by XLA, which a server refuses",
        ),
        (
            "graph.graph_def.node[0].attr['_XlaMustCompile'].b = True",
            "a call is compiled by XLA, which a server refuses",
        ),
        (
            f"{IMAGES}.inputs['images'].dtype = tf.float16.as_datatype_enum",
            "input images of images is float16, not float32, int32, string",
        ),
        (
            f"{IMAGES}.outputs['occupancy'].dtype = tf.bfloat16.as_datatype_enum",
            "output occupancy of images is bfloat16, not float32, int32, string",
        ),
        (f"{VOXELS}.dim[0].size = 1", "output voxels_bytes of voxels has no batch axis in front"),
        (f"del {VOXELS}.dim[:]", "output voxels_bytes of voxels has no batch axis in front"),
        (
            "del graph.signature_def['serving_default']",
            "there is no signature serving_default",
        ),
    ],
)
def test_graphs_that_a_server_would_stumble_over(copy, statement, problem):
    _edit(copy, statement)
    assert export_check.check(copy) == [problem]


@pytest.fixture(scope="module")
def loaded(exported):
    return tf.saved_model.load(exported.version).signatures


def test_warm_up_requests_ask_every_signature_for_every_number_of_views(exported, loaded):
    requests = warmup.read(exported.version)
    asked = {
        (name, *(v.shape[1] for v in inputs.values() if v.ndim > 1)) for name, inputs in requests
    }
    assert asked == {
        *(
            (name, n)
            for name in ("serving_default", "voxels", "images", "padded")
            for n in (1, 3, 5)
        ),
        ("refine",),
    }
    states = [inputs["state_bytes"][0] for name, inputs in requests if name == "refine"]
    assert sorted(map(bool, states)) == [False, True]  # a fresh start, and one that goes on
    for name, inputs in requests:  # TensorFlow Serving refuses a version of which one fails
        loaded[name](**{name: tf.constant(value) for name, value in inputs.items()})


def test_missing_and_damaged_warm_up_requests_are_found(copy):
    path = Path(copy, "assets.extra", warmup.FILE)
    content = path.read_bytes()
    path.write_bytes(content[:1000])
    assert "the warm-up requests cannot be read" in export_check.check(copy)[0]
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"garbage")
    assert "the warm-up requests cannot be read" in export_check.check(copy)[0]
    warmup.write(copy, [r for r in warmup.read(_restored(path, content)) if r[0] != "refine"][1:])
    assert export_check.check(copy) == [
        "no warm-up request asks refine",
        "no warm-up request of 1 views asks serving_default",
    ]
    path.unlink()
    assert "the warm-up requests cannot be read" in export_check.check(copy)[0]


def _restored(path, content):
    path.write_bytes(content)
    return path.parents[1]


def test_the_golden_files_are_a_request_and_its_response(exported, loaded):
    extra = Path(exported.version, "assets.extra")
    request = json.loads((extra / golden.REQUEST).read_text())
    response = json.loads((extra / golden.RESPONSE).read_text())
    views = [base64.b64decode(view["b64"]) for view in request["instances"][0]["image_bytes"]]
    answer = loaded[request["signature_name"]](image_bytes=tf.constant([views]))
    np.testing.assert_allclose(response["predictions"], answer["occupancy"], atol=1e-5)
    assert (extra / "model_card.md").read_text() == "# A card\n"


def test_a_signature_without_inputs_is_found(copy):
    _edit(copy, "graph.signature_def['voxels'].inputs.clear()")
    assert "no warm-up request asks voxels" in export_check.check(copy)


def _change(copy, name, change):
    """Edits one of the golden files."""
    path = Path(copy, "assets.extra", name)
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))


def _flip_voxels(value):
    (packed,) = value["predictions"]
    voxels = bytearray(base64.b64decode(packed["b64"]))
    voxels[: len(voxels) // 50] = bytes(byte ^ 255 for byte in voxels[: len(voxels) // 50])
    packed["b64"] = base64.b64encode(voxels).decode()


def _raise_occupancy(value):
    value["predictions"][0][0][0][0] += 0.01


def test_other_answers_and_signatures_than_the_golden_ones_are_found(copy):
    _change(copy, golden.RESPONSE, _raise_occupancy)
    _change(copy, golden.VOXELS, _flip_voxels)
    _change(copy, golden.CHECKS, lambda checks: checks.update(absent=checks.pop("padded")))
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
    _change(copy, golden.VOXELS, _flip_voxels)
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
    (problem,) = export_check.check(copy)
    assert problem.startswith("the golden request fails in a fresh process (")


def test_other_weights_are_found(copy):
    path = Path(copy, "variables", "variables.data-00000-of-00001")
    size = path.stat().st_size
    with open(path, "r+b") as file:  # the file is checksummed only where TensorFlow reads it so
        file.seek(size // 2)
        file.write(np.full(1000, 3.0, np.float32).tobytes())
    with contextlib.suppress(tf.errors.DataLossError):
        assert any("golden answer" in problem for problem in golden.problems(copy))


def test_a_version_that_was_copied_in_part_is_found(copy):
    os.truncate(Path(copy, "variables", "variables.data-00000-of-00001"), 1000)
    (problem,) = export_check.check(copy)
    assert problem.startswith("the golden request fails in a fresh process (")
