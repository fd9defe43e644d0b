"""Turns pictures of one object into voxels.

    python -m r2n2_keras.predict --workdir=runs/quickstart --images=a.png,b.png --out=chair
    python -m r2n2_keras.predict --model_file=model.keras --images=FOLDER --out=chair
    python -m r2n2_keras.predict --workdir=runs/quickstart

The network expects the object centred on a plain background or cut out by alpha. Without --images,
three renderings (or those of --view_ids) of a model that the run held out are used. Pictures are
PNG, JPEG, BMP, GIF, WebP, TIFF or AVIF files. Photos are turned upright as their Exif data say.

Writes to --out: prediction.npz (occupancy and voxels, [x, y, z] with y up), prediction.binvox and
prediction.png, the pictures beside the predicted voxels.
"""

import os

from r2n2_keras import command

_PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".avif")
_HELD_OUT_VIEWS = 3


def main(config):
    import numpy as np

    from r2n2_keras import datasets, runs
    from r2n2_keras.outputs import files

    model_file = runs.model_file(config)
    out = runs.output_dir(config, "out", "prediction")
    paths = _paths(config)
    if not paths:
        datasets.check_paths(config)
    files.check_formats(config.formats)

    from r2n2_keras.data.photos import read_file, read_views
    from r2n2_keras.model.r2n2 import R2N2

    model = R2N2.from_file(model_file)
    if paths:
        views, truth = [(path, read_file(path)) for path in paths], None
    else:
        views, truth = _held_out(config)
    images = read_views(views, model.image_spec)
    occupancy = model.predict(images[None], verbose=0)[0]
    voxels = occupancy > config.threshold
    number = "1 view" if len(views) == 1 else f"{len(views)} views"
    print(f"{number}: {np.mean(voxels):.1%} of {occupancy.size:,} voxels are occupied.")
    prediction = files.Prediction(images, occupancy, voxels, truth)
    for path in files.write_prediction(out, prediction, config.formats):
        print(f"Wrote {path}")


def _paths(config):
    from r2n2_keras.errors import InputError
    from r2n2_keras.files import require

    if len(config.images) != 1 or not os.path.isdir(config.images[0]):
        for path in config.images:
            require(path, "images", "file")
        if not (config.images or config.workdir):
            raise InputError(
                "Expected --images=FILE,FILE,... or a folder of pictures, received none. Give the "
                "views of one object."
            )
        return config.images
    folder = config.images[0]
    names = sorted(n for n in os.listdir(folder) if n.lower().endswith(_PICTURES))
    if not names:
        raise InputError(
            f"Expected pictures ({', '.join(_PICTURES)}) in {folder}, received none. Give another "
            "folder, or the files themselves."
        )
    return [os.path.join(folder, name) for name in names]


def _held_out(config):
    """Three views and the voxels of the first test model of the run."""
    from r2n2_keras import datasets, workdir
    from r2n2_keras.data import binvox, splits
    from r2n2_keras.data.pipeline import require_views, view_name
    from r2n2_keras.errors import InputError

    split_file = os.path.join(config.workdir, workdir.SPLIT)
    held_out = splits.load_split(split_file, datasets.find_objects(config)).parts["test"]
    if not held_out:
        raise InputError(
            f"Expected a held-out model in {config.data_location}, received none. Give --images."
        )
    one = held_out[0]
    require_views([one], 1, config.view_ids, flag="--view_ids")
    names = [view_name(view) for view in config.view_ids] or one.views[:_HELD_OUT_VIEWS]
    print(f"No --images: using {len(names)} renderings of {one.name}, which was held out.")
    views = [(one.files.view_path(name), one.files.read_view(name)) for name in names]
    return views, binvox.decode(one.files.read_voxels(), one.files.voxels_path).data


if __name__ == "__main__":
    command.run(main, __doc__, "predict")
