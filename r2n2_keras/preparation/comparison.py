"""Compares all objects of a data set: which are other than most, and which files come twice.

Rules that data sets differ in are told by the majority: the size and the mode of a rendering, the
views of an object. Of what was read, 20 bytes per file are kept, so that all of ShapeNet fits.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from r2n2_keras.data.objects import Object
from r2n2_keras.preparation.checker import Finding, Kind

_NAMED = 5  # views in one message


class Comparison:
    """What is known of all objects; `add` them, then ask for the `findings`."""

    def __init__(self):
        self._objects: list[Object] = []
        self._views: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._looks: dict[str, int] = {}
        # Of each rendering that can be decoded: its digest, object, place among its views, look.
        self._digests, self._owners = array("Q"), array("I")
        self._places, self._look_of = array("I"), array("I")
        # Of each binvox file that can be used: its digest, object.
        self._grids, self._grid_owners = array("Q"), array("I")

    def add(self, one: Object, pictures: Sequence[tuple[str, int, str]], grid: int | None) -> None:
        """Keeps what is compared of an object, which has the names of all its renderings.

        `pictures` are view, digest, and size and mode of those that can be decoded; `grid` is the
        digest of the voxels, None where they are missing or cannot be used.
        """
        number = len(self._objects)
        # One tuple serves all objects that have the same views.
        views = self._views.setdefault(one.views, one.views)
        self._objects.append(Object(*one.key, views, one.files))
        for view, digest, look in pictures:
            self._digests.append(digest)
            self._owners.append(number)
            self._places.append(views.index(view))
            self._look_of.append(self._looks.setdefault(look, len(self._looks)))
        if grid is not None:
            self._grids.append(grid)
            self._grid_owners.append(number)

    def findings(self, num_views: int) -> Iterator[Finding]:
        """What stands out. Each object should have `num_views`; 0: as many as most have."""
        yield from self._other_views(num_views)
        yield from self._other_looks()
        yield from self._duplicates(
            Kind.SAME_PNG, self._digests, self._owners, self._rendering_path
        )
        yield from self._duplicates(
            Kind.SAME_VOXELS,
            self._grids,
            self._grid_owners,
            lambda place: self._objects[self._grid_owners[place]].files.voxels_path,
        )

    def _other_views(self, num_views):
        counts = Counter(one.views for one in self._objects if one.views)
        if not counts:
            return
        # Where as many objects have each, more views are likelier: one got lost.
        expected = max(counts, key=lambda views: (counts[views], len(views)))
        if num_views and len(expected) != num_views:
            expected = tuple(f"{view:02d}" for view in range(num_views))
        for one in self._objects:
            if one.views and one.views != expected:
                kind = Kind.TOO_FEW if len(one.views) < num_views else Kind.VIEWS
                path = one.files.renderings_path
                yield Finding(kind, path, _views_text(expected, one.views), one.key)

    def _other_looks(self):
        if not self._look_of:
            return
        looks = list(self._looks)
        look_of = np.array(self._look_of)
        expected = np.bincount(look_of).argmax()
        for place in np.flatnonzero(look_of != expected):
            text = f"expected {looks[expected]} as most are, received {looks[look_of[place]]}"
            key = self._objects[self._owners[place]].key
            yield Finding(Kind.MODE, self._rendering_path(place), text, key)

    def _duplicates(self, kind, digests, owners, path_of):
        """A note on every file but the first of those that are the same."""
        digests = np.array(digests, np.uint64)
        values, counts = np.unique(digests, return_counts=True)
        groups: dict[int, list[int]] = {}
        for place in np.flatnonzero(np.isin(digests, values[counts > 1])).tolist():
            groups.setdefault(digests[place], []).append(place)
        for places in groups.values():
            first = self._objects[owners[places[0]]].key
            for place in places[1:]:
                key = self._objects[owners[place]].key
                in_another_split = key == first and owners[place] != owners[places[0]]
                if not in_another_split:
                    text = f"expected content of its own, received that of {path_of(places[0])}"
                    yield Finding(kind, path_of(place), text, key)

    def _rendering_path(self, place):
        one = self._objects[self._owners[place]]
        return one.files.view_path(one.views[self._places[place]])


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
