"""Solid voxels of closed meshes.

A cell is occupied where its centre lies inside a mesh. Grids are [x, y, z] with y up; the mesh's
bounding box is centred in the grid and its longest extent fills it, as in ShapeNetVox32.
T is a number of triangles, N the cells along an edge of the grid.
"""

from collections.abc import Sequence

import numpy as np
import trimesh

from r2n2_keras.data.binvox import Voxels

GRID_SIZE = 32
# Columns pass this far beside the cells' centres (in cells): mesh edges that run exactly through
# centres, which are common in furniture, are then never met head-on.
NUDGE = np.array([1.9e-6, 1.3e-6])


def voxelize(parts: trimesh.Trimesh | Sequence[trimesh.Trimesh], size: int = GRID_SIZE) -> Voxels:
    """The cells whose centres lie inside at least one part.

    Parts are closed meshes whose faces look outwards; they may overlap. Gives bool (size,) * 3
    [x, y, z], `translate` the minimum of the bounding box and `scale` its longest extent.
    """
    parts = [parts] if isinstance(parts, trimesh.Trimesh) else parts
    triangles = np.concatenate([part.triangles for part in parts])
    lower, upper = triangles.min(axis=(0, 1)), triangles.max(axis=(0, 1))
    scale = float((upper - lower).max())
    cells = (triangles - (lower + upper) / 2) / scale * size + (size - 1) / 2
    return Voxels(_winding(cells, size) != 0, tuple(map(float, lower)), scale)


def _winding(triangles: np.ndarray, size: int) -> np.ndarray:
    """How many closed surfaces enclose each cell, (N, N, N) int.

    A vertical line through a column of cells enters a solid where it meets a face that looks down
    and leaves it where it meets one that looks up; counting from the bottom gives the answer for
    the whole column, and for overlapping solids at once. Corners, (T, 3, 3), are in cells: the
    centre of cell (i, j, k) is at (i, j, k).
    """
    ground = triangles[:, :, [0, 2]]
    first, second = ground[:, 1] - ground[:, 0], ground[:, 2] - ground[:, 0]
    areas = first[:, 0] * second[:, 1] - first[:, 1] * second[:, 0]
    flat = np.abs(areas) > 1e-12  # vertical faces are met by no vertical line
    triangles, ground, areas = triangles[flat], ground[flat], areas[flat]

    triangle, x, z = _columns(ground, size)
    points = np.stack([x, z], axis=1) + NUDGE
    weights = np.empty((3, len(triangle)))
    for corner in range(3):
        start, end = (ground[triangle, (corner + turn) % 3] for turn in (1, 2))
        edge, reach = end - start, points - start
        weights[corner] = edge[:, 0] * reach[:, 1] - edge[:, 1] * reach[:, 0]
    weights /= areas[triangle]
    met = (weights > 0).all(axis=0)
    triangle, x, z = triangle[met], x[met], z[met]
    heights = np.einsum("ch,hc->h", weights[:, met], triangles[triangle, :, 1])

    # In the (x, z) plane seen from above a face of positive area looks down.
    crossings = np.zeros((size, size + 1, size), int)
    y = np.clip(np.ceil(heights), 0, size).astype(int)
    np.add.at(crossings, (x, y, z), np.sign(areas[triangle]).astype(int))
    return np.cumsum(crossings, axis=1)[:, :size]


def _columns(ground: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The columns that each triangle may cover: those in its bounding rectangle.

    Of corners (T, 3, 2) in the (x, z) plane, in cells, gives three equally long arrays: number of
    the triangle, x and z of the column.
    """
    first = np.clip(np.floor(ground.min(axis=1)), 0, size - 1).astype(int)
    counts = np.clip(np.ceil(ground.max(axis=1)), 0, size - 1).astype(int) - first + 1
    cells = counts.prod(axis=1)
    triangle = np.repeat(np.arange(len(ground)), cells)
    place = np.arange(cells.sum()) - np.repeat(np.cumsum(cells) - cells, cells)
    along_x, along_z = np.divmod(place, counts[triangle, 1])
    return triangle, first[triangle, 0] + along_x, first[triangle, 1] + along_z
