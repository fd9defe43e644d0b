"""Render meshes as R2N2's data set shows them: an object under soft light, nothing behind it.

Pictures are uint8 RGBA with straight (un-premultiplied) colours; pixels that an edge crosses are
semi-transparent and empty ones are zero in all four channels. Rays are cast by Embree.
F is a number of faces, H = W the picture's edge, N a number of rays.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import trimesh
from embreex import rtcore_scene
from embreex.mesh_construction import TriangleMesh

from r2n2_keras.shapes.camera import IMAGE_SIZE, Camera

# Two hemisphere lights, as in the original's scene: (direction towards the light, strength).
LIGHTS = (((0.55, 0.75, 0.35), 0.92), ((-0.6, 0.25, -0.75), 0.33))
SAMPLES = 3  # along an edge of a pixel that several surfaces share


class RayCaster:
    """Triangles that can be asked which of them a ray meets first."""

    def __init__(self, triangles: np.ndarray):
        """Takes (F, 3, 3) corners in object space."""
        self._scene = rtcore_scene.EmbreeScene()
        self._mesh = TriangleMesh(self._scene, np.ascontiguousarray(triangles, np.float32))

    def faces(self, origins: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Index of the first triangle on each of the (N, 3) rays: (N,) int, -1 for none."""
        return self._scene.run(*_single(origins, directions))

    def hits(self, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As `faces`, and the (N,) distances along the rays."""
        result = self._scene.run(*_single(origins, directions), output=True)
        return result["primID"], result["tfar"]


def render_views(
    parts: trimesh.Trimesh | Sequence[trimesh.Trimesh],
    cameras: Iterable[Camera],
    size: int = IMAGE_SIZE,
) -> np.ndarray:
    """Renders coloured meshes from several cameras: uint8 (len(cameras), size, size, 4).

    They are centred, and the diagonal of their bounding box is 1.
    """
    parts = [parts] if isinstance(parts, trimesh.Trimesh) else parts
    caster = RayCaster(np.concatenate([part.triangles for part in parts]))
    # The lights stand still, so a face has one colour whoever looks at it. A last row, for rays
    # that meet nothing, is transparent.
    colours = np.concatenate([shade(part) for part in parts])
    colours, looks = np.unique(colours, axis=0, return_inverse=True)
    colours = np.concatenate([colours, np.zeros((1, 4))])
    looks = np.append(looks.ravel(), len(colours) - 1)
    corners = trimesh.bounds.corners(bounds(parts))
    return np.stack([_picture(caster, colours, looks, corners, each, size) for each in cameras])


def bounds(parts: Sequence[trimesh.Trimesh]) -> np.ndarray:
    """The lower and the upper corner of the box around all parts, (2, 3)."""
    lower, upper = np.moveaxis([part.bounds for part in parts], 1, 0)
    return np.stack([lower.min(axis=0), upper.max(axis=0)])


def shade(mesh: trimesh.Trimesh) -> np.ndarray:
    """The lit colour of each face: float (F, 4) RGBA in [0, 1]."""
    light = np.zeros(len(mesh.faces))
    for direction, strength in LIGHTS:
        towards = np.array(direction) / np.linalg.norm(direction)
        light += strength * (0.5 + 0.5 * mesh.face_normals @ towards)
    colours = mesh.visual.face_colors / 255.0
    lit = np.clip(colours[:, :3] * light[:, None], 0, 1)
    return np.concatenate([lit, np.ones((len(lit), 1))], axis=1)


def _picture(caster, colours, looks, corners, camera: Camera, size: int) -> np.ndarray:
    """One rendering, (H, W, 4) uint8.

    One ray per pixel shows where the edges are; only there several rays are averaged. `colours`,
    float (L + 1, 4), has the L looks of faces, `looks`, (F + 1,), the look of each face; the last
    one of both is transparent. `corners`, (8, 3), are those of the model's bounding box.
    """
    seen = camera.project(corners, size)
    left, top = np.clip(np.floor(seen.min(axis=0)).astype(int) - 1, 0, size)
    right, bottom = np.clip(np.ceil(seen.max(axis=0)).astype(int) + 1, 0, size)
    if left >= right or top >= bottom:
        return np.zeros((size, size, 4), np.uint8)
    v, u = np.mgrid[top:bottom, left:right]
    pixels = np.stack([u, v], axis=-1).reshape(-1, 2)
    look = looks[caster.faces(*camera.rays_through(pixels + 0.5, size))].reshape(u.shape)
    picture = np.zeros((size, size, 4))
    picture[top:bottom, left:right] = colours[look]

    edges = _edges(look).ravel()
    steps = (np.arange(SAMPLES) + 0.5) / SAMPLES
    within = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    fine = (pixels[edges, None] + within).reshape(-1, 2)
    samples = colours[looks[caster.faces(*camera.rays_through(fine, size))]]
    samples = samples.reshape(-1, SAMPLES**2, 4).mean(axis=1)
    # The sum of the colours that were met, over how many were met: straight alpha.
    samples[:, :3] /= np.maximum(samples[:, 3:], 1e-9)
    picture[pixels[edges, 1], pixels[edges, 0]] = samples
    return np.rint(picture * 255).astype(np.uint8)


def _edges(look: np.ndarray) -> np.ndarray:
    """Pixels of (H, W) whose look differs from one of their four neighbours': bool (H, W)."""
    edges = np.zeros(look.shape, bool)
    for before, after in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        differs = look[before] != look[after]
        edges[before] |= differs
        edges[after] |= differs
    return edges


def _single(origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Embree takes whole rows of single floats."""
    return tuple(np.ascontiguousarray(each, np.float32) for each in (origins, directions))
