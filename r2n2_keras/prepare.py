"""Makes TFRecord shards of the data set's archives, for training; nothing is unpacked.

    python -m r2n2_keras.prepare --renderings=Rendering.tgz --voxels=Vox32.tgz --out=data/shapenet
    python -m r2n2_keras.prepare --renderings=both.tgz --voxels=both.tgz --out=data/shapenet
    python -m r2n2_keras.prepare --data_dir=TREE --out=data/shapenet
    python -m r2n2_keras.prepare ... --categories=chair,table --limit=500 --views=3,11,17

--renderings and --voxels are archives (tar, plain or packed by gzip, bzip2 or xz), folders, or one
of each; local or a URL. A flag that is left out means that folder of --data_dir. Files are known by
the end of their path, such as 03001627/1a7/rendering/00.png and 03001627/1a7/model.binvox, whatever
folder they are in.

Writes --out: shards that hold the PNG and binvox files unchanged, with synset id, model id, split
and cameras; index.csv; and, last, manifest.json. Give that folder as --data_dir to the other
commands. A run that was killed leaves a folder without a manifest; the same command removes what it
left and starts anew.

--split deals the models (r2n2, pix2vox with --split_file, random with --split_seed), the same way
as it deals those of a tree. --on_bad_sample=skip leaves out models with unusable files, which stop
the command otherwise.
"""

import posixpath
import time

from r2n2_keras import command


def main(config):
    _check_flags(config)

    from r2n2_keras import terminal
    from r2n2_keras.preparation import archives, conversion, prepare_summary, shard_writer

    started = time.monotonic()
    choice = _choice(config)
    renderings_path, voxels_path = _paths(config)
    shard_writer.check_folder(config.out, config.overwrite)
    renderings = archives.open_source(renderings_path)
    voxels = archives.open_source(voxels_path)
    with terminal.Bar() as bar:
        shown = prepare_summary.Progress(bar)
        result = conversion.prepare(
            renderings, voxels, config.out, choice, progress=shown, say=bar.say
        )
    prepare_summary.print_summary(result, config.out, time.monotonic() - started)


def _check_flags(config):
    from r2n2_keras import datasets, files
    from r2n2_keras.errors import InputError

    if not config.out:
        raise InputError("Expected --out=DIR to write to, received none. Give one.")
    missing = [flag for flag in ("renderings", "voxels") if not getattr(config, flag)]
    if missing and not config.data_dir:
        raise InputError(
            f"Expected --renderings and --voxels, or --data_dir, received no "
            f"{' and no '.join('--' + flag for flag in missing)}. Give archives or folders."
        )
    datasets.check_paths(config)
    files.require(config.renderings, "renderings")
    files.require(config.voxels, "voxels")


def _choice(config):
    from r2n2_keras.data import splits
    from r2n2_keras.preparation import conversion

    return conversion.Choice(
        split_rule=config.split_settings,
        categories=config.categories,
        excluded=splits.read_exclusions(config.exclude),
        limit=config.limit,
        views=config.views,
        skip_bad=config.on_bad_sample == "skip",
    )


def _paths(config):
    from r2n2_keras.data import remote, shards
    from r2n2_keras.errors import InputError

    remote.require(config.data_dir)
    is_missing = not (config.renderings and config.voxels)
    if is_missing and shards.is_prepared(config.data_dir):
        raise InputError(
            f"Expected a tree to prepare, received --data_dir={config.data_dir}, which is prepared "
            "data. Train on it, or give the tree or the archives that it was made of."
        )
    return (
        config.renderings or posixpath.join(config.data_dir, config.renderings_dir),
        config.voxels or posixpath.join(config.data_dir, config.voxels_dir),
    )


if __name__ == "__main__":
    command.run(main, __doc__, "prepare")
