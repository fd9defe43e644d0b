"""Procedural furniture, the R2N2 camera, rendering, voxelising, and a data set made of them."""
