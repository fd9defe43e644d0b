"""What a run starts from: data that suffice, how samples are drawn, weights."""

from r2n2_keras import workdir as workdir_lib
from r2n2_keras.data import pipeline
from r2n2_keras.data.augmentation import Augmentation
from r2n2_keras.errors import InputError
from r2n2_keras.model.r2n2 import R2N2

# Arguments of a network that it may start with other weights than its own in spite of.
_FREE = ("name", "trainable", "background", "alpha")


def check_data(config, parts):
    """Raises an InputError where a split is empty or an object lacks views."""
    for split in ("train", "val"):
        if not parts[split]:
            raise InputError(
                f"Expected at least one {split} model, received none. Give data with at least "
                "three models of a category."
            )
        count, flag = sampling_of(config).required_views, "--num_views"
        pipeline.require_views(parts[split], count, config.view_ids, flag)


def sampling_of(config) -> pipeline.Sampling:
    """How the settings say that training samples are drawn."""
    return pipeline.Sampling(
        batch_size=config.batch_size,
        view_range=config.view_range,
        view_ids=config.view_ids,
        view_sampling=config.view_sampling,
        seed=config.seed,
        augmentation=Augmentation.of(config),
    )


def initial_weights(config):
    """The weights of `--init_from`, None for a fresh or continued run; an InputError if unfit."""
    goes_on = config.workdir and workdir_lib.has_checkpoint(config.workdir)
    if not config.init_from or (goes_on and not config.overwrite):
        return None
    given = R2N2.from_file(workdir_lib.model_file(config.init_from))
    expected = R2N2.from_preset(config.model)
    received = given.get_config()
    different = [
        name
        for name, value in expected.get_config().items()
        if name not in _FREE and value != received[name]
    ]
    if different:
        raise InputError(
            f"Expected --init_from to be a network like --model={config.model}, received "
            f"{config.init_from}, whose {', '.join(different)} differ. Give the --model that it "
            "was made as, or another file."
        )
    return given.get_weights()


def to_agree_on(config, replicas, parts):
    """What has to be the same for all workers, in lines: settings, devices, object names."""
    # Paths may differ from machine to machine; what they lead to is compared by the names below.
    own = ("workdir", "data_dir", "worker_timeout", "exclude", "split_file", "init_from")
    own = tuple(f"--{name}=" for name in own)
    flags = [line for line in config.to_flagfile().splitlines() if not line.startswith(own)]
    names = [f"{part} {one.name}" for part in ("train", "val") for one in parts[part]]
    return "\n".join([*flags, f"{replicas} devices in all", *names])
