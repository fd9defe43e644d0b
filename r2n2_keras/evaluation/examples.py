"""Samples to look at, with what the network makes of them."""

from r2n2_keras.data import pipeline
from r2n2_keras.model.metrics import voxel_iou
from r2n2_keras.preparation import bad_files


def examples(model, objects, *, num_views, threshold, view_ids=()):
    """One sample of each category: images, predicted voxels, true voxels and a caption.

    Images are `(T, H, W, C)` for T views, both voxels bool `(N, N, N)`.
    """
    chosen = list({one.synset_id: one for one in reversed(objects)}.values())[::-1]
    edge = model.output_shape[-1]
    batches = pipeline.evaluation_batches(
        chosen,
        model.image_spec,
        batch_size=1,
        num_views=num_views,
        view_ids=view_ids,
        grid_edge=edge,
    )
    rows = []
    for sample, (images, voxels) in zip(
        chosen, bad_files.explained(batches, chosen, edge, 1, num_views, view_ids), strict=True
    ):
        occupancy = model.predict(images, verbose=0)
        iou = float(voxel_iou(voxels, occupancy, threshold)[0])
        caption = f"{sample.category}, IoU {iou:.2f}"
        rows.append((images[0].numpy(), occupancy[0] > threshold, voxels[0].numpy() > 0.5, caption))
    return rows
