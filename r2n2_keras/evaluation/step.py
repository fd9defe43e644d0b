"""What one evaluation step computes."""

import tensorflow as tf

from r2n2_keras.model.losses import bce
from r2n2_keras.model.metrics import voxel_iou


def make_eval_step(model, threshold, num_views=None, loss_of=bce):
    """A function of (images, voxels) that gives losses `(B,)`, IoU `(B,)` and the occupancy.

    One graph for any batch size, whichever comes first, see `make_train_step`; a `num_views` of
    None may change from batch to batch.
    """
    images = tf.TensorSpec((None, num_views, *model.input_shape[2:]), tf.float32)
    voxels = tf.TensorSpec(model.output_shape, tf.float32)

    @tf.function(input_signature=[images, voxels])
    def eval_step(images, voxels):
        occupancy = model(images, training=False)
        iou = voxel_iou(voxels, occupancy, threshold)
        return loss_of(voxels, occupancy), iou, occupancy

    return eval_step
