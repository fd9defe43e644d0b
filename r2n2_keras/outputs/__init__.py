"""What users look at: pictures of voxels, predictions and training curves."""
