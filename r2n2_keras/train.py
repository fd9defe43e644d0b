"""Trains 3D-R2N2 on renderings and voxels.

    python -m r2n2_keras.train --flagfile=configs/quickstart.cfg
    python -m r2n2_keras.train --model=res_gru_3 --data_dir=DIR --workdir=runs/mine
    python -m r2n2_keras.train --workdir=runs/mine
    python -m r2n2_keras.train --workdir=runs/mine --steps=90000

DIR holds ShapeNetRendering/<synset>/<model>/rendering/NN.png and
ShapeNetVox32/<synset>/<model>/model.binvox, or is a folder that `prepare` wrote; it may be a URL.
Without --data_dir a set of procedural furniture is made once and cached.

Writes to --workdir: flags.cfg, split.json, checkpoints/, metrics.csv, curves.png, tensorboard/ and
model.keras, the best model by validation IoU. SIGTERM and SIGINT (Ctrl-C) save and stop. --workdir
alone, the third line above, goes on with a run, whatever stopped it, under the settings that it
saved; a flag that would change what is trained on what is refused. --overwrite starts afresh.

The default --model is `notebook`, the PyTorch notebook's network; the paper's best is `res_gru_3`.

Several machines: the same command on each, with TF_CONFIG in the environment; export/README.md.
"""

import contextlib
import os
import sys

from r2n2_keras import command


def main(config):
    _check_flags(config)

    import keras
    import tensorflow as tf

    from r2n2_keras import datasets, runs, workdir
    from r2n2_keras.data import splits
    from r2n2_keras.training import callbacks as callbacks_lib
    from r2n2_keras.training import distribution, loop, setup
    from r2n2_keras.training.cluster import read_cluster

    cluster = read_cluster()
    strategy = distribution.strategy_for(
        config.strategy, config.cpu_devices, cluster, config.worker_timeout
    )
    replicas = strategy.num_replicas_in_sync
    distribution.check_batch_size(config.batch_size, replicas, config.gradient_accumulation_steps)
    on_gpu = tf.config.list_logical_devices("GPU")
    if config.deterministic or (config.deterministic is None and not on_gpu):
        tf.config.experimental.enable_op_determinism()
    keras.utils.set_random_seed(config.seed)
    keras.mixed_precision.set_dtype_policy(config.precision)
    callbacks = callbacks_lib.load(config.callbacks)
    weights = setup.initial_weights(config)
    split_file = os.path.join(config.workdir, workdir.SPLIT)
    if config.workdir and os.path.isfile(split_file) and not config.overwrite:
        data = splits.load_split(split_file, datasets.find_objects(config), complete=True)
        datasets.check_rule(config, data, split_file)
    else:
        data = datasets.find_data(config)
        if config.train_limit:
            data.parts["train"] = data.parts["train"][: config.train_limit]
    parts = data.parts
    if cluster.is_chief:
        print(f"{datasets.describe(data)} Replicas: {replicas}.", flush=True)
    setup.check_data(config, parts)
    # Before a run is touched or a network made, which workers do together.
    with distribution.explaining_lost_workers(cluster):
        agreement = setup.to_agree_on(config, replicas, parts)
        distribution.check_agreement(strategy, cluster, agreement)
    writes = cluster.is_chief and not config.dry_run
    with runs.opened(config) if writes else contextlib.nullcontext():
        summarise = None
        if writes:
            from r2n2_keras.outputs.summaries import Summaries

            if not os.path.isfile(split_file):  # a run keeps its split, whatever joins the data
                splits.save_split(split_file, data)
            summarise = Summaries(config.workdir, config.threshold, config.loss).write
        stopped_by = loop.train(config, strategy, cluster, parts, callbacks, weights, summarise)
    if stopped_by:
        sys.exit(128 + stopped_by)


def _check_flags(config):
    from r2n2_keras import datasets, runs, workdir
    from r2n2_keras.model.loading import check_model_file

    runs.check_workdir(config)
    datasets.check_paths(config)
    if config.init_from and (config.overwrite or not workdir.has_checkpoint(config.workdir)):
        check_model_file(workdir.model_file(config.init_from))


if __name__ == "__main__":
    command.run(main, __doc__, "train")
