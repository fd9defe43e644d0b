"""Samples to look at, with what the network makes of them."""

from r2n2_keras.model.metrics import voxel_iou
from r2n2_keras.preparation import bad_files


def examples(model, objects, *, num_views, threshold, view_ids=()):
    """One sample of each category: images, predicted voxels, true voxels and a caption.

    Images are `(T, H, W, C)` for T views, both voxels bool `(N, N, N)`.
    """
    chosen = list({one.synset_id: one for one in reversed(objects)}.values())[::-1]
    batches = bad_files.EvaluationBatches(model, chosen, 1, num_views, view_ids)
    rows = []
    for sample, (images, voxels) in zip(chosen, batches, strict=True):
        occupancy = model.predict(images, verbose=0)
        iou = float(voxel_iou(voxels, occupancy, threshold)[0])
        caption = f"{sample.category}, IoU {iou:.2f}"
        rows.append((images[0].numpy(), occupancy[0] > threshold, voxels[0].numpy() > 0.5, caption))
    return rows
