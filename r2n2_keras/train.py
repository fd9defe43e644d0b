"""Trains 3D-R2N2 on renderings and voxels.

    python -m r2n2_keras.train --flagfile=configs/quickstart.cfg
    python -m r2n2_keras.train --model=notebook --data_dir=DIR --workdir=runs/mine

DIR holds ShapeNetRendering/<synset>/<model>/rendering/NN.png and
ShapeNetVox32/<synset>/<model>/model.binvox, or is a folder that `prepare` wrote; it may be a URL.
Without --data_dir a set of procedural furniture is made once and cached.

Writes to --workdir: flags.cfg, split.json, checkpoints/, metrics.csv, curves.png, tensorboard/ and
model.keras, the best model by validation IoU. The same command on the same workdir goes on where it
stopped; --overwrite starts afresh.
"""

import os

from r2n2_keras import command


def main(config):
    """Trains as `config` says."""
    import keras

    from r2n2_keras import source
    from r2n2_keras.data import splits
    from r2n2_keras.errors import InputError
    from r2n2_keras.training import distribution, loop, workdir

    if config.weights:
        raise InputError(
            "Expected --weights with import_weights only, received it with train, which starts "
            "from fresh weights or goes on with the run in --workdir. Leave it out."
        )
    if config.split and not config.split_rule:
        raise InputError(
            f"Expected --split=r2n2, pix2vox or random, how models are dealt, received "
            f"{config.split}. Training takes the train models: change it or leave it out."
        )
    workdir.check_workdir(config)
    strategy = distribution.strategy_for(config.strategy, config.cpu_devices, config.batch_size)
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_dtype_policy(config.precision)
    split = os.path.join(config.workdir, workdir.SPLIT)
    if config.workdir and os.path.isfile(split) and not config.overwrite:
        data = splits.load_split(split, source.find_models(config), complete=True)
        source.check_rule(config, data, split)
    else:
        data = source.find_data(config)
        if config.train_limit:
            data.parts["train"] = data.parts["train"][: config.train_limit]
    parts = data.parts
    print(f"{source.describe(data)} Replicas: {strategy.num_replicas_in_sync}.")
    loop.check_data(config, parts)
    if not config.dry_run:
        workdir.open_workdir(config)
        if not os.path.isfile(split):  # a run keeps its split, whatever joins the data
            splits.save_split(split, data)
    loop.train(config, strategy, parts)
    if not config.dry_run:
        if best := workdir.best_row(workdir.read_metrics(config.workdir)):
            saved = os.path.join(config.workdir, workdir.MODEL)
            print(f"Best: step {best['step']}, val_iou {best['val_iou']:.4f}: {saved}")
        print(f"Next: python -m r2n2_keras.evaluate --workdir={config.workdir}")


if __name__ == "__main__":
    command.run(main, __doc__, from_run=False)
