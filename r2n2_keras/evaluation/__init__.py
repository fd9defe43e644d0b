"""How good a network is: voxel IoU and the report."""
