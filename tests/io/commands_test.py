"""Commands whose data or pictures are on a server, as a user runs them.

After s3 a command ends its process at once, so that it gets one of its own.
"""

import functools
import json
import tarfile

import numpy as np
import pytest
from commands import fail, process, run, succeed
from PIL import Image

pytest.importorskip("tensorflow_io", reason="the io extra is not installed: make test-io")

TRAIN = ("--model=tiny", "--workdir=run", "--batch_size=4", "--dry_run")
COUNTS = "Models: 12 train, 4 val, 4 test"


@pytest.fixture(scope="module")
def archives(tree, web):
    """The data set as two archives on the HTTP server; the flags that name them."""
    for name, half in (("r.tgz", "ShapeNetRendering"), ("v.tgz", "ShapeNetVox32")):
        with tarfile.open(web.folder / name, "w:gz") as archive:
            archive.add(tree / half, half)
    return f"--renderings={web.url}/r.tgz", f"--voxels={web.url}/v.tgz"


@pytest.fixture(scope="module")
def prepared(archives, web):
    """The folder that `prepare` makes of them, on the same server."""
    succeed("prepare", *archives, "--out=prepared", cwd=web.folder)
    return web.folder / "prepared"


def test_archives_are_prepared_and_read_over_http(prepared, web, tmp_path):
    manifest = json.loads((prepared / "manifest.json").read_text())
    assert len(manifest["shards"]) == 4 * 3  # a shard per category and split
    web.requests.clear()
    output = succeed("train", *TRAIN, f"--data_dir={web.url}/prepared", cwd=tmp_path)
    assert COUNTS in output and "3 steps done" in output
    shards = [request for request in web.requests if "tfrecord" in request]
    assert shards
    assert all("bytes=" in request for request in shards)  # none was downloaded whole


def test_trees_and_prepared_data_over_s3(tree, prepared, s3, tmp_path):
    url = s3.upload(tree, "tree")
    run_there = functools.partial(succeed, cwd=tmp_path, how=process, **s3.env)
    assert COUNTS in run_there("train", *TRAIN, f"--data_dir={url}")
    run_there("prepare", f"--data_dir={url}", "--out=prepared")
    manifests = [folder / "prepared" / "manifest.json" for folder in (tmp_path, prepared.parent)]
    shards, expected = (json.loads(path.read_text())["shards"] for path in manifests)
    assert shards == expected
    url = s3.upload(prepared, "prepared")
    assert COUNTS in run_there("train", *TRAIN, f"--data_dir={url}")


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("s3://bucket/absent", "s3://bucket/absent"),
        ("s3://nowhere/data", "s3://nowhere/data"),
        ("WEB/absent", "/absent"),
        ("http://127.0.0.1:9/data", "Couldn't connect to server"),
        ("PLAIN/prepared", "on a server that answers range requests"),
    ],
)
def test_what_cannot_be_read(place, message, prepared, web, plain_web, s3, tmp_path):
    place = place.replace("WEB", web.url).replace("PLAIN", plain_web.url)
    how = process if place.startswith("s3") else run
    flags = *TRAIN, f"--data_dir={place}"
    assert message in fail("train", *flags, cwd=tmp_path, how=how, **s3.env)


def test_what_cannot_be_prepared(archives, web, tmp_path):
    flags = f"--renderings={web.url}/absent.tgz", archives[1], "--out=out"
    assert "/absent.tgz" in fail("prepare", *flags, cwd=tmp_path)
    line = fail("prepare", *archives, f"--out={web.url}/out", cwd=tmp_path)
    assert "a place that can be written" in line
    assert list(tmp_path.iterdir()) == []


def test_predict_reads_pictures_over_http(web, tree, tmp_path):
    from r2n2_keras.model.r2n2 import R2N2

    R2N2.from_preset("tiny").save(tmp_path / "model.keras")
    with Image.open(next(tree.glob("ShapeNetRendering/*/*/rendering/00.png"))) as picture:
        for suffix in ("png", "tiff"):
            picture.save(web.folder / f"0.{suffix}")
    occupancies = []
    for image in (f"{web.url}/0.tiff", web.folder / "0.png"):
        flags = ("--model_file=model.keras", "--formats=npz", f"--images={image}", "--out=out")
        succeed("predict", *flags, cwd=tmp_path)
        with np.load(tmp_path / "out" / "prediction.npz") as arrays:
            occupancies.append(arrays["occupancy"])
    np.testing.assert_allclose(*occupancies, atol=1e-3)
