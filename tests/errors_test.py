"""What is told of TensorFlow's errors: the line that says something."""

import pytest
import tensorflow as tf

from r2n2_keras.errors import reason

ABSENT = "/absent; No such file or directory"


def _reason(function, *args):
    with pytest.raises(tf.errors.OpError) as caught:
        function(*args)
    return reason(caught.value)


def test_with_and_without_a_graph():
    assert _reason(tf.io.read_file, "/absent") == ABSENT
    assert _reason(tf.io.gfile.listdir, "/absent") == "Could not find directory /absent"
    read = tf.function(tf.io.read_file)
    assert _reason(read, "/absent") == ABSENT
    nested = tf.function(lambda paths: tf.map_fn(read, paths))
    assert _reason(nested, tf.constant(["/absent"])) == ABSENT
    paths = tf.data.Dataset.from_tensors("/absent").map(tf.io.read_file)
    assert _reason(list, paths).endswith(ABSENT)


def test_in_a_saved_graph_which_has_no_traces(tmp_path):
    module = tf.Module()
    module.read = tf.function(
        tf.io.read_file, input_signature=[tf.TensorSpec((), tf.string, "filename")]
    )
    tf.saved_model.save(module, str(tmp_path))
    assert _reason(tf.saved_model.load(str(tmp_path)).read, "/absent") == ABSENT
