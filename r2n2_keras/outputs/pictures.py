"""Pictures of voxels, predictions and training curves.

Figures are made with Matplotlib's objects alone, so nothing here touches a program's own plots.
Grids are [x, y, z] with y up. Images are float in [0, 1], RGB or RGBA; transparent ones are shown
on white.

Shape letters: T views, H W pixels, C channels, N grid edge, F faces.
"""

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from r2n2_keras.files import replacing
from r2n2_keras.shapes.camera import FOCAL_LENGTH, MAX_DISTANCE, Camera
from r2n2_keras.shapes.render import RayCaster

AZIMUTH, ELEVATION = 40.0, 27.0  # from the front, a little to the side
SECOND_AZIMUTH = 220.0  # opposite the first
# A grid is drawn as a unit cube, which from this distance fits into the picture from all sides.
DISTANCE = 1.2
PREDICTED = (0.36, 0.58, 0.84)
TRUE = (0.55, 0.66, 0.42)
BEST = "#d9622b"
SAMPLES = 2  # rays along an edge of a pixel
MAX_VIEWS = 8
EXAMPLE_VIEWS = 3
DPI = 100
# At the grid's middle, per pixel of size.
PIXELS_PER_UNIT = FOCAL_LENGTH / (DISTANCE * MAX_DISTANCE)

# The six directions a cube's face can look in, and how much light it gets from them.
DIRECTIONS = np.array(
    [(1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1)], dtype=int
)
LIGHT = np.array([0.86, 0.74, 1.06, 0.5, 0.68, 0.62])


def draw_voxels(
    voxels: np.ndarray,
    size: int = 256,
    azimuth: float = AZIMUTH,
    elevation: float = ELEVATION,
    colour: tuple[float, float, float] = PREDICTED,
) -> np.ndarray:
    """Draws occupied cells as shaded cubes with faint edges, on a transparent ground.

    Takes bool (N, N, N) [x, y, z], whose axes may differ, degrees as `shapes.camera.Camera` has
    them, and an RGB colour in [0, 1]. Gives uint8 (size, size, 4) RGBA.
    """
    voxels = np.asarray(voxels).astype(bool)
    camera = Camera(azimuth, elevation, DISTANCE)
    if not voxels.any():
        return _empty(size)
    cells, sides, shades = _faces(voxels)
    longest = max(voxels.shape)
    shift = np.array(voxels.shape) / 2
    corners = _quads(cells, sides)
    triangles = corners[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 3)
    caster = RayCaster((triangles - shift) / longest)

    origins, directions = camera.rays(size * SAMPLES)
    face, distance = caster.hits(origins, directions)
    hit = np.flatnonzero(face >= 0)
    quad = face[hit] // 2
    points = (origins[hit] + distance[hit, None] * directions[hit]) * longest + shift
    light = shades[quad] * _edge_shade(points, sides[quad], size * PIXELS_PER_UNIT / longest)

    picture = np.zeros((len(face), 4))
    picture[hit, :3] = np.clip(light[:, None] * colour, 0, 1)
    picture[hit, 3] = 1
    picture = picture.reshape(size, SAMPLES, size, SAMPLES, 4).mean(axis=(1, 3))
    picture[..., :3] /= np.maximum(picture[..., 3:], 1e-9)
    return np.rint(picture * 255).astype(np.uint8)


def prediction_picture(
    images: np.ndarray,
    voxels: np.ndarray,
    title: str | None = None,
    truth: np.ndarray | None = None,
) -> Figure:
    """The pictures that went in beside the voxels that came out, from two sides.

    Of images (T, H, W, C) float in [0, 1] the first eight are shown. Voxels and truth, which is
    shown below them when given, are bool (N, N, N).
    """
    images = np.asarray(images)
    shown = images[:MAX_VIEWS]
    columns = min(len(shown), 4) if len(shown) else 1
    lines = max(1, math.ceil(len(shown) / columns))
    rows = 1 if truth is None else 2
    side = 2.6 * rows if truth is not None else 2.9
    tile = min(side / lines, 1.9)
    figure = _figure(tile * columns + 0.3 + 2 * 2.7, side + (0.65 if title else 0.35))
    left, right = figure.subfigures(1, 2, width_ratios=[tile * columns + 0.3, 2 * 2.7])
    axes = left.subplots(lines, columns, squeeze=False).ravel()
    for axis in axes:
        axis.axis("off")
    for number, (axis, image) in enumerate(zip(axes, shown, strict=False)):
        _show(axis, on_white(image), f"view {number}", smooth=True)
    if len(images) > len(shown):
        left.supxlabel(f"{len(shown)} of {len(images)} views", fontsize=8, color="0.4")
    grids = [(voxels, "prediction", PREDICTED)]
    if truth is not None:
        grids.append((truth, "truth", TRUE))
    pairs = right.subplots(rows, 2, squeeze=False)
    for (grid, name, colour), pair in zip(grids, pairs, strict=True):
        sides = (AZIMUTH, "front"), (SECOND_AZIMUTH, "back")
        for axis, (azimuth, seen) in zip(pair, sides, strict=True):
            drawn = draw_voxels(grid, 320, azimuth, colour=colour)
            _show(axis, drawn, f"{name}, {seen} ({int(np.sum(grid)):,} voxels)")
    if title:
        figure.suptitle(title, fontsize=11)
    return figure


def examples_picture(rows: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray, str]]) -> Figure:
    """Several samples, one row each: up to three views, the prediction, the truth.

    A row has images (T, H, W, C) float in [0, 1], predicted and true voxels, both bool (N, N, N),
    and a caption.
    """
    views = max([min(len(row[0]), EXAMPLE_VIEWS) for row in rows], default=1)
    columns = views + 2
    figure = _figure(1.75 * columns, max(1, len(rows)) * 1.95 + 0.3)
    grid = figure.subplots(max(1, len(rows)), columns, squeeze=False)
    for axis in grid.ravel():
        axis.axis("off")
    if not rows:
        grid[0, 0].text(0, 0.5, "no examples", color="0.4")
    for row, (images, predicted, truth, caption) in enumerate(rows):
        axes, first = grid[row], row == 0
        for number, image in enumerate(np.asarray(images)[:EXAMPLE_VIEWS]):
            _show(axes[number], on_white(image), f"view {number}" if first else "", smooth=True)
        _show(axes[-2], draw_voxels(predicted), "prediction" if first else "")
        _show(axes[-1], draw_voxels(truth, colour=TRUE), "truth" if first else "")
        _write(axes[0], 0.0, -0.02, caption, va="top", fontsize=8, color="0.25")
    return figure


def curves_picture(rows: Sequence[Mapping[str, object]], loss: str = "bce") -> Figure:
    """Loss and IoU against the step, for training and validation.

    `rows` are the lines of `metrics.csv`, values as numbers or as text; what is missing or empty
    leaves a gap. There may be none.
    """
    figure = _figure(10, 3.8)
    steps = _column(rows, "step")
    names = ("loss", f"loss ({loss})", "upper right"), ("iou", "IoU", "lower right")
    for axis, (name, label, corner) in zip(figure.subplots(1, 2), names, strict=True):
        drawn = False
        for column, style, who in ((name, "#8a94a6", "train"), (f"val_{name}", "#1f6fb4", "val")):
            values = _column(rows, column)
            known = np.isfinite(steps) & np.isfinite(values)
            if known.any():
                drawn = True
                marker = "o" if known.sum() < 30 else ""
                style = {"color": style, "label": who, "marker": marker, "ms": 3, "lw": 1.6}
                axis.plot(steps[known], values[known], **style)
        axis.set(xlabel="step", ylabel=label, title=label)
        if name == "iou":
            _mark_best(axis, steps, _column(rows, "val_iou"))
            axis.set_ylim(0, 1)
        axis.grid(True, color="0.92")
        axis.spines[["top", "right"]].set_visible(False)
        if drawn:
            axis.legend(frameon=False, fontsize=9, loc=corner)
        else:
            _write(axis, 0.5, 0.5, "no values yet", ha="center", color="0.5")
    return figure


def on_white(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) float in [0, 1] as RGB (H, W, 3), transparent parts white."""
    image = np.clip(np.asarray(image, float), 0, 1)
    if image.shape[-1] == 4:
        alpha = image[..., 3:]
        image = image[..., :3] * alpha + (1 - alpha)
    return image


def save(figure: Figure, path: str | os.PathLike) -> None:
    """Writes a figure as PNG; it appears under its name only when whole. Then clears the figure."""
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=DPI)
    figure.clear()


def to_array(figure: Figure) -> np.ndarray:
    """A figure's pixels, uint8 (H, W, 3)."""
    return _pixels(figure)[..., :3].copy()


def _pixels(figure: Figure) -> np.ndarray:
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba()).copy()


def _figure(width: float, height: float) -> Figure:
    """An empty white figure of a size in inches, drawn by Agg."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _show(axis: Axes, picture: np.ndarray, title: str, smooth: bool = False) -> None:
    axis.imshow(picture, interpolation="antialiased" if smooth else "auto")
    axis.set_title(title, fontsize=8.5, color="0.25", pad=3)
    axis.axis("off")


def _write(axis: Axes, x: float, y: float, text: str, **style) -> None:
    """Writes at a place that is given in widths and heights of the axis."""
    axis.text(x, y, text, transform=axis.transAxes, **style)


def _column(rows: Sequence[Mapping[str, object]], name: str) -> np.ndarray:
    """A column of the metrics as floats, NaN where there is no number."""
    values = []
    for row in rows:
        try:
            values.append(float(row[name]))
        except (KeyError, TypeError, ValueError):
            values.append(math.nan)
    return np.array(values, float)


def _mark_best(axis: Axes, steps: np.ndarray, values: np.ndarray) -> None:
    known = np.flatnonzero(np.isfinite(steps) & np.isfinite(values))
    if not known.size:
        return
    best = known[np.argmax(values[known])]
    axis.plot(steps[best], values[best], "*", color=BEST, ms=12, zorder=5)
    axis.set_title(f"IoU: best val {values[best]:.3f} at step {int(steps[best]):,}", color=BEST)


# Cubes.


def _faces(voxels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The faces between an occupied cell and an empty one.

    Gives (F, 3) the occupied cells, (F,) the index into `DIRECTIONS` of the side that shows, and
    (F,) how light it is: less so in corners, where neighbours take the light away.
    """
    padded = np.pad(voxels, 2)
    inner = np.s_[1:-1, 1:-1, 1:-1]
    crowd = padded.astype(float)
    for axis in range(3):
        crowd = crowd + np.roll(crowd, 1, axis) + np.roll(crowd, -1, axis)
    padded, crowd = padded[inner], crowd[inner]
    cells, sides, shades = [], [], []
    for side, direction in enumerate(DIRECTIONS):
        open_ = voxels & ~_beside(padded, direction)
        cells.append(np.argwhere(open_))
        sides.append(np.full(len(cells[-1]), side))
        # The empty cell in front of a face on a plain has 9 of 27 neighbours, in a corner more.
        closed = np.clip((_beside(crowd, direction)[open_] - 9) / 18, 0, 1)
        shades.append(LIGHT[side] * (1 - 0.55 * closed))
    return np.concatenate(cells), np.concatenate(sides), np.concatenate(shades)


def _beside(padded: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """What a grid, padded by one cell, holds one step away from each cell."""
    ends = zip(direction, padded.shape, strict=True)
    return padded[tuple(slice(1 + step, length - 1 + step) for step, length in ends)]


def _quads(cells: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Corners of the faces in cells, in order around each: (F, 4, 3)."""
    squares = np.zeros((6, 4, 3))
    for side, direction in enumerate(DIRECTIONS):
        normal = int(np.flatnonzero(direction)[0])
        across = [axis for axis in range(3) if axis != normal]
        squares[side, :, normal] = max(direction[normal], 0)
        squares[side][:, across] = [(0, 0), (1, 0), (1, 1), (0, 1)]
    return cells[:, None] + squares[sides]


def _edge_shade(points: np.ndarray, sides: np.ndarray, pixels_per_cell: float) -> np.ndarray:
    """How much darker points (F, 3), in cells, are because of a cube's edge nearby: (F,)."""
    across = np.abs(points - np.rint(points))
    across[np.arange(len(points)), sides // 2] = 1  # the axis that the face looks along
    # About one pixel wide; where cells are smaller than a few pixels the lines fade out.
    width = 0.7 / pixels_per_cell
    return 1 - 0.32 * np.clip((pixels_per_cell - 1.5) / 3, 0, 1) * (across.min(axis=1) < width)


def _empty(size: int) -> np.ndarray:
    figure = Figure(figsize=(1, 1), dpi=size, facecolor="none")
    figure.text(0.5, 0.5, "empty", ha="center", va="center", color="#9aa0a8", fontsize=9)
    return _pixels(figure)
