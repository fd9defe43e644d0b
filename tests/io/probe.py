"""Says what TensorFlow finds at a URL; a command, run by `remote_test.py` in a process of its own.

Reads JSON: the `url` of a TFRecord file, its `size` and the `offsets` of records. Writes JSON, and
ends with an error where `fail` is true.
"""

import json
import sys

from r2n2_keras import command


def main(_):
    import tensorflow as tf

    from r2n2_keras.data import remote
    from r2n2_keras.errors import InputError

    asked = json.load(sys.stdin)
    url, size = asked["url"], asked["size"]
    folder, name = url.rsplit("/", 1)
    remote.require(url)
    found = {
        "exists": [tf.io.gfile.exists(url), tf.io.gfile.exists(f"{folder}/absent")],
        "size": [remote.has_size(url, size + more) for more in (-1, 0, 1, 10**9)],
        "isdir": [remote.isdir(url), remote.isdir(f"{folder}/absent")],
        "whole": len(tf.io.read_file(url).numpy()),
        "file": len(tf.io.gfile.GFile(url, "rb").read()),
        "records": [len(record) for record in records(url, asked["offsets"])],
    }
    if url.startswith("s3"):
        found["listed"] = name in tf.io.gfile.listdir(folder), remote.isdir(folder)
    print(json.dumps(found))
    if asked["fail"]:
        raise InputError("Expected nothing more, received the wish to fail.")


def records(url, offsets):
    """Records by where they begin, as the pipeline reads them."""
    import tensorflow as tf

    def read(offset):
        record = tf.raw_ops.TFRecordDatasetV2(
            filenames=[url], compression_type="", buffer_size=tf.constant(0, tf.int64),
            byte_offsets=offset[None],
        )  # fmt: skip
        record = tf.data.experimental.from_variant(record, tf.TensorSpec((), tf.string))
        return record.take(1).get_single_element()

    dataset = tf.data.Dataset.from_tensor_slices(tf.constant(offsets, tf.int64)).map(read)
    return dataset.as_numpy_iterator()


if __name__ == "__main__":
    command.run(main, __doc__)
