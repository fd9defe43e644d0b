"""What tests of training share: processes that train, and what a run's folder holds."""

import contextlib
import json
import os
import socket
import subprocess
import sys

import numpy as np
import tensorflow as tf

from r2n2_keras import workdir
from r2n2_keras.model.r2n2 import R2N2


def start(*flags, cwd, **popen):
    """Starts `train` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "r2n2_keras.train", *flags],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **popen,
    )  # fmt: skip


def tf_config(cluster, index=0, task_type="worker"):
    """The environment variable that makes a process a task of a cluster."""
    task = {"type": task_type, "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})}


def addresses_of(count):
    """host:port of `count` ports of this machine where nobody listens yet."""
    with contextlib.ExitStack() as stack:
        servers = [
            stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)
        ]
        return [f"127.0.0.1:{server.getsockname()[1]}" for server in servers]


def checkpoint_steps(folder):
    """The steps of which a run has checkpoints, in their order."""
    folder = folder / "checkpoints"
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(name[5:]) for name in names if name.startswith("step-"))


def variables_of(folder, step=None):
    """All variables of a checkpoint, of the newest by default, by name."""
    step = checkpoint_steps(folder)[-1] if step is None else step
    reader = tf.train.load_checkpoint(str(folder / "checkpoints" / f"step-{step:09d}" / "state"))
    names = reader.get_variable_to_shape_map()
    return {name: reader.get_tensor(name) for name in names if name.endswith("VARIABLE_VALUE")}


def rows_of(folder):
    """The lines of `metrics.csv`, without the seconds, which are never the same."""
    rows = workdir.read_metrics(str(folder))
    return [{name: row[name] for name in row if name != "seconds"} for row in rows]


def assert_same_model(one, other):
    """Two runs left the same model, bit for bit; gives its number of weights."""
    weights, expected = (R2N2.from_preset(run).get_weights() for run in (one, other))
    assert [weight.tobytes() for weight in weights] == [weight.tobytes() for weight in expected]
    return len(weights)


def assert_same_run(one, other):
    """Two runs, with averages, left the same bits and the same metrics."""
    values, expected = variables_of(one), variables_of(other)
    assert values.keys() == expected.keys()
    assert len(values) == 2 + 4 * assert_same_model(one, other)  # weights, moments, averages
    for name, value in values.items():
        assert np.asarray(value).tobytes() == np.asarray(expected[name]).tobytes(), name
    assert rows_of(one) == rows_of(other)
