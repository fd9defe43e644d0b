"""From files on disk to batches of views and voxels."""
