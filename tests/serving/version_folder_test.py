"""The version folder: what is in it, how it comes to be there, and what the check finds in it."""

import base64
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

from r2n2_keras import files
from r2n2_keras.errors import InputError
from r2n2_keras.serving import export_check, golden, version_folder, warmup


def _export(exported, folder):
    return version_folder.export_version(exported.model, str(folder), threshold=0.4, card="card")


def _without_check(monkeypatch):
    monkeypatch.setattr(export_check, "check", lambda folder: [])


def test_versions_are_numbered_next_to_what_is_there(exported, tmp_path, monkeypatch):
    _without_check(monkeypatch)
    for name in ("7", "notes", "٩", "0012x"):
        (tmp_path / name).mkdir()
    assert _export(exported, tmp_path) == str(tmp_path / "8")
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(["7", "8", "notes", "٩", "0012x"])


def test_a_failed_export_leaves_nothing(exported, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    _without_check(monkeypatch)
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="No space"):
        _export(exported, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_version_that_appears_meanwhile_is_not_replaced(exported, tmp_path, monkeypatch):
    def appear(folder):
        (tmp_path / "1").mkdir()
        (tmp_path / "1" / "theirs").write_text("")
        return []

    monkeypatch.setattr(export_check, "check", appear)
    with pytest.raises(InputError, match="taken by another export"):
        _export(exported, tmp_path)
    assert [path.name for path in tmp_path.rglob("*")] == ["1", "theirs"]


def test_an_export_that_answers_wrongly_does_not_appear(exported, tmp_path, monkeypatch):
    write = golden.write
    monkeypatch.setattr(golden, "write", lambda *args: write(*args[:2], 1 - args[2], args[3]))
    with pytest.raises(InputError, match="serving_default is off the golden answer by"):
        _export(exported, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_command_finds_a_sound_version_sound(exported):
    command = [sys.executable, "-m", "r2n2_keras.export", f"--check={exported.version}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "is sound" in ended.stdout


def test_the_command_names_the_version_where_it_is_given_their_folder(exported):
    command = [sys.executable, "-m", "r2n2_keras.export", f"--check={exported.folder}"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert f"Give {exported.version}" in ended.stderr


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 99])
def test_what_is_no_version_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "saved_model.pb").write_bytes(content)
    with pytest.raises(InputError, match="Expected"):
        export_check.check(str(tmp_path))


@pytest.fixture
def copy(exported, tmp_path):
    """A copy of the version that may be spoilt."""
    return shutil.copytree(exported.version, tmp_path / "1")


def _edit(copy):
    """The graph, written back at the end."""
    path = Path(copy, "saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    yield saved.meta_graphs[0]
    path.write_bytes(saved.SerializeToString())


def _python_op(graph):
    graph.graph_def.library.function[0].node_def.add(name="python", op="PyFunc")


def _file_op(graph):
    graph.graph_def.library.function[0].node_def.add(name="file", op="WriteFile")


def _dataset_op(graph):
    graph.graph_def.node.add(name="file", op="TextLineDataset")


def _no_inputs(graph):
    graph.signature_def["voxels"].inputs.clear()


def _foreign_op(graph):
    graph.graph_def.node.add(name="foreign", op="IO>DecodeAvif")


def _xla(graph):
    graph.graph_def.library.function[0].attr["_XlaMustCompile"].b = True


def _xla_of_a_node(graph):
    graph.graph_def.node[0].attr["_XlaMustCompile"].b = True


def _half(graph):
    graph.signature_def["images"].inputs["images"].dtype = tf.float16.as_datatype_enum


def _bfloat16(graph):
    graph.signature_def["images"].outputs["occupancy"].dtype = tf.bfloat16.as_datatype_enum


def _fixed_batch(graph):
    graph.signature_def["voxels"].outputs["voxels_bytes"].tensor_shape.dim[0].size = 1


def _scalar(graph):
    del graph.signature_def["voxels"].outputs["voxels_bytes"].tensor_shape.dim[:]


def _no_default(graph):
    del graph.signature_def["serving_default"]


@pytest.mark.parametrize(
    "spoil, problem",
    [
        (_python_op, "op PyFunc is none that a server should run"),
        (_file_op, "op WriteFile is none that a server should run"),
        (_dataset_op, "op TextLineDataset is none that a server should run"),
        (_foreign_op, "op IO>DecodeAvif is none that a server should run"),
        (_xla, "a call is compiled by XLA, which a server refuses"),
        (_xla_of_a_node, "a call is compiled by XLA, which a server refuses"),
        (_half, "input images of images is float16, not float32, int32, string"),
        (_bfloat16, "output occupancy of images is bfloat16, not float32, int32, string"),
        (_fixed_batch, "output voxels_bytes of voxels has no batch axis in front"),
        (_scalar, "output voxels_bytes of voxels has no batch axis in front"),
        (_no_default, "there is no signature serving_default"),
    ],
)
def test_graphs_that_a_server_would_stumble_over(copy, spoil, problem):
    for graph in _edit(copy):
        spoil(graph)
    assert export_check.check(copy) == [problem]


def test_warm_up_requests_ask_every_signature_for_every_number_of_views(exported):
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
    signatures = tf.saved_model.load(exported.version).signatures
    for name, inputs in requests:  # TensorFlow Serving refuses a version of which one fails
        signatures[name](**{name: tf.constant(value) for name, value in inputs.items()})


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


def test_the_golden_files_are_a_request_and_its_response(exported):
    extra = Path(exported.version, "assets.extra")
    request = json.loads((extra / golden.REQUEST).read_text())
    response = json.loads((extra / golden.RESPONSE).read_text())
    views = [base64.b64decode(view["b64"]) for view in request["instances"][0]["image_bytes"]]
    answer = tf.saved_model.load(exported.version).signatures[request["signature_name"]](
        image_bytes=tf.constant([views])
    )
    np.testing.assert_allclose(response["predictions"], answer["occupancy"], atol=1e-5)
    assert (extra / "model_card.md").read_text() == "# A card\n"


def test_a_signature_without_inputs_is_found(copy):
    for graph in _edit(copy):
        _no_inputs(graph)
    assert "no warm-up request asks voxels" in export_check.check(copy)


def test_another_threshold_is_found(copy, exported):
    pictures, occupancy, _ = golden.read(copy)
    golden.write(copy, pictures, occupancy, exported.threshold + 0.01)
    found = export_check.check(copy)
    assert found == [
        f"{n} answers other voxels than the golden ones" for n in ("voxels", "padded", "refine")
    ]


def test_the_last_number_is_taken(exported, tmp_path):
    (tmp_path / "99999999999999999999").mkdir()  # no version: out of a server's range
    (tmp_path / str(2**63 - 1)).mkdir()
    with pytest.raises(InputError, match="no number is left"):
        _export(exported, tmp_path)


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
    (problem,) = export_check.check(copy)
    assert "golden" in problem


def test_a_version_that_was_copied_in_part_is_found(copy):
    os.truncate(Path(copy, "variables", "variables.data-00000-of-00001"), 1000)
    (problem,) = export_check.check(copy)
    assert problem.startswith("the golden request fails in a fresh process (")
