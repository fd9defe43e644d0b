"""Which devices train: a tf.distribute strategy by its name."""

import tensorflow as tf

from r2n2_keras.errors import InputError


def strategy_for(name: str, cpu_devices: int, batch_size: int) -> tf.distribute.Strategy:
    """Makes the strategy that every training step runs under.

    Args:
        name: "one_device", "mirrored", or "auto": mirrored where there are several devices.
        cpu_devices: logical devices to split the CPU into; must be set before TensorFlow starts.
        batch_size: global batch size, to be shared out evenly.

    Raises:
        InputError: the batch cannot be shared out evenly.
    """
    if cpu_devices > 1:
        parts = [tf.config.LogicalDeviceConfiguration()] * cpu_devices
        tf.config.set_logical_device_configuration(tf.config.list_physical_devices("CPU")[0], parts)
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    names = [device.name for device in devices]
    if name == "one_device" or (name == "auto" and len(names) == 1):
        strategy = tf.distribute.OneDeviceStrategy(names[0])
    else:
        strategy = tf.distribute.MirroredStrategy(names)
    check_batch_size(batch_size, strategy.num_replicas_in_sync)
    return strategy


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raises an InputError where replicas cannot share a global batch evenly."""
    if batch_size % replicas:
        raise InputError(
            f"Expected --batch_size to be a multiple of the {replicas} replicas, received "
            f"{batch_size}. Use {max(1, batch_size // replicas) * replicas}."
        )
