"""Compares all models of a data set: which are other than most, and which files come twice.

Rules that data sets differ in are told by the majority: the size and the mode of a rendering, the
views of a model, the dims of a grid are wrong where most are otherwise. Of what was read, 20 bytes
per file are kept, so that all of ShapeNet fits.
"""

from array import array
from collections import Counter
from collections.abc import Collection, Iterator

import numpy as np

from r2n2_keras.data.objects import Key
from r2n2_keras.preparation.model_checks import Dims, Inspection
from r2n2_keras.preparation.problems import Kind, Problem
from r2n2_keras.preparation.sources import Candidate

_NAMED = 5  # views in one message


class Comparison:
    """What is known of all models; `add` them, then ask for the `problems`."""

    def __init__(self):
        self._candidates: list[Candidate] = []
        self._views: list[tuple[str, ...]] = []
        self._view_names: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._looks: dict[str, int] = {}
        # Of each rendering that can be decoded: its digest, model, place among its views, look.
        self._digests, self._owners = array("Q"), array("I")
        self._places, self._look_of = array("I"), array("I")
        # Of each binvox file that can be used: its digest, model, dims.
        self._grids: list[tuple[int, int, Dims]] = []
        self._problems: list[Problem] = []
        self._left_out: set[Key] = set()

    def add(self, inspection: Inspection) -> None:
        """Keeps what is compared of a model."""
        number = len(self._candidates)
        self._candidates.append(inspection.candidate)
        # One tuple serves all models that have the same views.
        views = self._view_names.setdefault(inspection.views, inspection.views)
        self._views.append(views)
        for view, digest, look in inspection.pictures:
            self._digests.append(digest)
            self._owners.append(number)
            self._places.append(views.index(view))
            self._look_of.append(self._looks.setdefault(look, len(self._looks)))
        if inspection.grid:
            digest, dims = inspection.grid
            self._grids.append((digest, number, dims))

    def problems(self, num_views: int, left_out: Collection[Key]) -> list[Problem]:
        """What is wrong with the models beside each other.

        Args:
            num_views: how many views each model should have; 0: as most have.
            left_out: models that have problems anyway: of duplicates the other one stays.
        """
        self._problems, self._left_out = [], set(left_out)
        self._check_views(num_views)
        self._check_looks()
        self._check_dims()
        self._check_duplicates()
        return self._problems

    def _note(self, kind, number, path, text):
        key = self._candidates[number].key
        self._problems.append(Problem(kind, path, text, key))
        self._left_out.add(key)

    def _check_views(self, num_views):
        counts = Counter(views for views in self._views if views)
        if not counts:
            return
        # Where as many models have each, more views are likelier: one got lost.
        expected = max(counts, key=lambda views: (counts[views], len(views)))
        if num_views and len(expected) != num_views:
            expected = tuple(f"{view:02d}" for view in range(num_views))
        for number, views in enumerate(self._views):
            if views and views != expected:
                path = self._candidates[number].views_path
                self._note(Kind.VIEWS, number, path, _views_text(expected, views))

    def _check_looks(self):
        if not self._look_of:
            return
        looks = list(self._looks)
        look_of = np.array(self._look_of)
        expected = np.bincount(look_of).argmax()
        for place in np.flatnonzero(look_of != expected):
            text = f"expected {looks[expected]}, received {looks[look_of[place]]}"
            self._note(Kind.MODE, self._owners[place], self._rendering_path(place), text)

    def _check_dims(self):
        cubes = Counter(dims for _, _, dims in self._grids if len(set(dims)) == 1)
        expected = cubes.most_common(1)[0][0] if cubes else (32, 32, 32)
        for _, number, dims in self._grids:
            if dims != expected:
                shown, received = ("x".join(map(str, edges)) for edges in (expected, dims))
                text = f"expected {shown} cells, received {received}"
                self._note(Kind.DIMS, number, self._candidates[number].voxels_path, text)

    def _check_duplicates(self):
        self._check_same(Kind.RENDERING, self._digests, self._owners, self._rendering_path)
        digests = [digest for digest, _, _ in self._grids]
        owners = [number for _, number, _ in self._grids]
        self._check_same(
            Kind.VOXELS, digests, owners, lambda place: self._candidates[owners[place]].voxels_path
        )

    def _check_same(self, kind, digests, owners, path_of):
        """Keeps one file of those that are the same, and notes the others.

        The first one of a model that is not left out anyway is kept.

        Args:
            kind: of the problems.
            digests: of the files.
            owners: numbers of their models.
            path_of: function of the number of a file.
        """
        for places in same(digests):
            keys = {place: self._candidates[owners[place]].key for place in places}
            self._left_out |= {key for key, count in Counter(keys.values()).items() if count > 1}
            kept = min(places, key=lambda place: (keys[place] in self._left_out, place))
            for place in places:
                in_another_split = keys[place] == keys[kept] and owners[place] != owners[kept]
                if place != kept and not in_another_split:
                    text = f"expected content of its own, received that of {path_of(kept)}"
                    self._note(kind, owners[place], path_of(place), text)

    def _rendering_path(self, place):
        number = self._owners[place]
        return self._candidates[number].view_path(self._views[number][self._places[place]])


def same(digests: Collection[int]) -> Iterator[list[int]]:
    """Ascending places of digests that are the same, for each that comes more than once."""
    digests = np.array(digests, np.uint64)
    values, counts = np.unique(digests, return_counts=True)
    groups: dict[int, list[int]] = {}
    for place in np.flatnonzero(np.isin(digests, values[counts > 1])):
        groups.setdefault(int(digests[place]), []).append(int(place))
    yield from groups.values()


def _views_text(expected, views):
    text = f"expected {len(expected)} views, received {len(views)}"
    missing = [view for view in expected if view not in views]
    extra = [view for view in views if view not in expected]
    parts = [
        f"{word} {', '.join(names[:_NAMED])}{' ...' * (len(names) > _NAMED)}"
        for word, names in (("without", missing), ("with", extra))
        if names
    ]
    return f"{text}, {' and '.join(parts)}"
