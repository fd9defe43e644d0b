"""A small data set as the files of an archive, and what must come out of it however it is prepared.

Renderings are transparent PNG files with a text that says who they are.
"""

import functools
import io
import tarfile
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
from pictures import PNG_END, png_header, png_of

from r2n2_keras.data import binvox, shards, splits, trees
from r2n2_keras.data.binvox import Voxels
from r2n2_keras.data.objects import GRID_EDGE
from r2n2_keras.preparation import archives, conversion

CHAIR, TABLE = "03001627", "04379243"
R2N2 = {"rule": "r2n2"}


def png(text="", width=137, height=137, pixels=None):
    """A PNG file with a text in it; one that claims to be larger than any may be has no pixels."""
    note = b"tEXt", b"Comment\0" + text.encode()
    data = b"IDAT", pixels or transparent(width, height)
    return png_of(png_header(width, height), note, data, PNG_END)


@functools.cache
def transparent(width, height):
    """The packed pixels of a PNG file."""
    return zlib.compress(bytes(height * (1 + 4 * width)) if width * height <= 4096**2 else b"")


@functools.cache
def voxels(number):
    """A binvox file in which one voxel is occupied."""
    grid = np.zeros(GRID_EDGE**3, bool)
    grid[number] = True
    return binvox.encode(Voxels(grid.reshape([GRID_EDGE] * 3)))


def content(folder):
    """The files in a folder by name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def files(chairs=6, tables=3, views=3):
    """Files of a data set by their paths in the official tree."""
    content = {}
    for synset_id, count in ((CHAIR, chairs), (TABLE, tables)):
        for number in range(count):
            key = f"{synset_id}/m{number}"
            folder = f"ShapeNetRendering/{key}/rendering"
            for view in range(views):
                content[f"{folder}/{view:02d}.png"] = png(f"{key} {view}")
            content[f"{folder}/rendering_metadata.txt"] = f"cameras of {key}".encode()
            content[f"{folder}/renderings.txt"] = b"00.png\n"
            content[f"ShapeNetVox32/{key}/model.binvox"] = voxels(number)
    return content


def half(content, name):
    """The files of `ShapeNetRendering` or `ShapeNetVox32`."""
    return {path: data for path, data in content.items() if path.startswith(name)}


def write_tree(folder, content) -> Path:
    """Writes files to a folder."""
    for path, data in content.items():
        path = Path(folder, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return Path(folder)


def write_tar(path, members, mode="w:gz") -> str:
    """Writes an archive of (name, bytes) pairs, or of ready headers."""
    with tarfile.open(path, mode) as tar:
        for member in members:
            info, data = member if isinstance(member, tuple) else (member, b"")
            if isinstance(info, str):
                info = tarfile.TarInfo(info)
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return str(path)


def prepare(renderings, voxels_, out, **settings):
    """Prepares sources given by path; some settings are those of `Choice`.

    Does not wait until the files are on the disk, which takes most of the time.
    """
    fields = set(conversion.Choice.__dataclass_fields__) & set(settings)
    choice = {"split_rule": R2N2, **{name: settings.pop(name) for name in fields}}
    with mock.patch("os.fsync"):
        return conversion.prepare(
            archives.open_source(str(renderings)),
            archives.open_source(str(voxels_)),
            str(out),
            conversion.Choice(**choice),
            **settings,
        )


def of_tree(folder):
    """What a tree holds: see `of_data`."""
    models, keys = trees.list_objects(str(folder))
    return of_data(splits.split_objects(models, keys))


def of_shards(folder, categories=()):
    """What prepared data hold: see `of_data`."""
    return of_data(shards.read_prepared(str(folder), categories))


def of_data(data):
    """{(part of the split, model): (voxels, {view: rendering})}."""
    return {
        (part, model.name): (
            model.files.read_voxels(),
            {view: model.files.read_view(view) for view in model.views},
        )
        for part, models in data.parts.items()
        for model in models
    }
