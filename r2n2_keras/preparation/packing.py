"""Files of models that come in any order, brought together into records in bounded memory.

Files wait, by model, until a certain amount of them is there; then the model that has waited
longest without a new one is written. In an archive in its usual order a model has then come whole
and becomes one record; in another order it becomes several.
"""

import dataclasses
from collections import Counter, OrderedDict

from r2n2_keras.data.objects import Key
from r2n2_keras.errors import InputError
from r2n2_keras.preparation.shard_writer import ShardWriter

MAX_WAITING = 48 << 20  # bytes
MAX_VIEW_NAMES = 10_000
_MAX_IMAGE_SIZES = 1_000  # that are told apart

# What Python takes beside the bytes of the files, about.
_FILE_COST = 150
_MODEL_COST = 1_000


@dataclasses.dataclass
class _Waiting:
    """What has come of a model and is not written."""

    views: dict[str, bytes] = dataclasses.field(default_factory=dict)
    cameras: bytes | None = None
    bytes: int = _MODEL_COST


class Packer:
    """Takes the files of models and hands records to a writer; up to `max_waiting` bytes wait.

    `parts` has the part of the split of every model that may come. A binvox file is removed from
    `voxels` when it is written, which is with the model's first record. `image_sizes` counts the
    renderings by their size, as the eight bytes of their PNG header.
    """

    def __init__(
        self,
        writer: ShardWriter,
        parts: dict[Key, str],
        voxels: dict[Key, bytes],
        max_waiting: int = MAX_WAITING,
    ):
        self.image_sizes: Counter[bytes] = Counter()
        self._writer = writer
        self._parts = parts
        self._voxels = voxels
        self._max_waiting = max_waiting
        self._waiting: OrderedDict[Key, _Waiting] = OrderedDict()
        self._bytes = 0
        self._bits: dict[str, int] = {}
        self._views: dict[Key, int] = {}

    def add_view(self, key: Key, view: str, png: bytes) -> None:
        """Takes a rendering; of a view that comes again the last counts."""
        size = png[16:24]
        if size in self.image_sizes or len(self.image_sizes) < _MAX_IMAGE_SIZES:
            self.image_sizes[size] += 1
        self._views[key] = self._views.get(key, 0) | self._bit(view)
        waiting = self._waiting_of(key)
        replaced = waiting.views.pop(view, None)
        waiting.views[view] = png
        self._grow(waiting, len(png) - len(replaced) if replaced else len(png) + _FILE_COST)

    def add_cameras(self, key: Key, text: bytes) -> None:
        waiting = self._waiting_of(key)
        growth = len(text) - len(waiting.cameras or b"")
        waiting.cameras = text
        self._grow(waiting, growth)

    def forget(self, key: Key) -> None:
        """Drops what has not been written of a model."""
        waiting = self._waiting.pop(key, None)
        self._bytes -= waiting.bytes if waiting else 0
        self._voxels.pop(key, None)
        self._views.pop(key, None)

    def flush(self) -> None:
        while self._waiting:
            self._write_oldest()

    @property
    def num_views(self) -> dict[Key, int]:
        """How many different views have come of each model that has any."""
        return {key: bits.bit_count() for key, bits in self._views.items()}

    @property
    def num_models(self) -> int:
        return len(self._views)

    @property
    def view_names(self) -> list[str]:
        return list(self._bits)

    def _bit(self, view):
        """A bit for a view: a model's views are remembered in one integer."""
        if view not in self._bits:
            if len(self._bits) == MAX_VIEW_NAMES:
                raise InputError(
                    f"Expected renderings of at most {MAX_VIEW_NAMES} different names, received "
                    f"more, such as {view}.png. Name the --views to keep."
                )
            self._bits[view] = 1 << len(self._bits)
        return self._bits[view]

    def _waiting_of(self, key):
        if key not in self._waiting:
            self._waiting[key] = _Waiting()
            self._bytes += _MODEL_COST
        self._waiting.move_to_end(key)
        return self._waiting[key]

    def _grow(self, waiting, growth):
        waiting.bytes += growth
        self._bytes += growth
        while self._bytes > self._max_waiting:
            self._write_oldest()

    def _write_oldest(self):
        key, waiting = self._waiting.popitem(last=False)
        self._bytes -= waiting.bytes
        voxels = self._voxels.pop(key, None)
        self._writer.write(self._parts[key], key, waiting.views, waiting.cameras, voxels)
