"""R2N2's camera: where a rendering was seen from, as a projection and as rays.

Object space is x (front), y (up), z (width), centred on the origin. The camera circles the origin
and looks at it; a growing azimuth turns it clockwise seen from above, azimuth 0 looks at the front.
Pixels are (u, v) from the upper left corner of the picture, so the first pixel's centre is
(0.5, 0.5). N is a number of points.

Source: 3D-R2N2 `lib/blender_renderer.py` and `tools/render_models.py`, checked by projecting the
voxels of ShapeNetVox32 onto the renderings of ShapeNetRendering.
"""

import dataclasses

import numpy as np

IMAGE_SIZE = 137  # pixels along an edge of a rendering
MAX_DISTANCE = 1.75  # what a distance ratio of 1 stands for (MAX_CAMERA_DIST)
FOCAL_LENGTH = 35 / 32  # Blender's default lens over its sensor: in edges of the picture


@dataclasses.dataclass(frozen=True)
class Camera:
    """A camera that looks at the origin; one line of `rendering_metadata.txt`."""

    azimuth: float  # degrees around the y axis; 0 is in front of the object
    elevation: float  # degrees above the ground plane
    distance: float  # ratio of the largest distance, 1.75

    @property
    def centre(self) -> np.ndarray:
        """Where the camera stands, (3,) in object space."""
        return -self._axes()[2] * self.distance * MAX_DISTANCE

    def project(self, points: np.ndarray, size: int = IMAGE_SIZE) -> np.ndarray:
        """Pixels (N, 2), u right and v down, of points (N, 3) in front of the camera."""
        right, down, depth = self._axes() @ (np.asarray(points, float) - self.centre).T
        return size / 2 + size * FOCAL_LENGTH * np.stack([right, down], axis=1) / depth[:, None]

    def rays(self, size: int = IMAGE_SIZE) -> tuple[np.ndarray, np.ndarray]:
        """One ray through each pixel's centre, row by row, as `rays_through` gives them.

        The field of view does not depend on `size`: a size twice as large gives 2x2 rays for each
        pixel of the smaller one.
        """
        v, u = np.mgrid[:size, :size] + 0.5
        return self.rays_through(np.stack([u.ravel(), v.ravel()], axis=1), size)

    def rays_through(
        self, pixels: np.ndarray, size: int = IMAGE_SIZE
    ) -> tuple[np.ndarray, np.ndarray]:
        """The (N, 3) origins and unit directions of rays that `project` to (N, 2) pixels."""
        pixels = np.asarray(pixels, float)
        slopes = (pixels - size / 2) / (size * FOCAL_LENGTH)
        right, down, forward = self._axes()
        directions = slopes[:, :1] * right + slopes[:, 1:] * down + forward
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        return np.broadcast_to(self.centre, directions.shape), directions

    def _axes(self) -> np.ndarray:
        """Unit vectors to the right, downwards and forward in the picture: (3, 3) rows."""
        azimuth, elevation = np.deg2rad([self.azimuth, self.elevation])
        sin_a, cos_a = np.sin(azimuth), np.cos(azimuth)
        sin_e, cos_e = np.sin(elevation), np.cos(elevation)
        return np.array(
            [
                [sin_a, 0.0, -cos_a],
                [sin_e * cos_a, -cos_e, sin_e * sin_a],
                [-cos_e * cos_a, -sin_e, -cos_e * sin_a],
            ]
        )


def random_camera(rng: np.random.Generator) -> Camera:
    """A camera as R2N2 draws them: azimuth U[0, 360], elevation U[25, 30], distance U[.65, .95].

    To six digits, so that `rendering_metadata.txt` says exactly what was rendered.
    """
    ranges = (0, 360), (25, 30), (0.65, 0.95)
    return Camera(*(round(rng.uniform(*limits), 6) for limits in ranges))
