"""What is known of one model: which versions answer, in what state all are, and the labels."""

import dataclasses
import threading

from r2n2_keras.serving.rest.status import StatusError, invalid

# Versions that have ended and are still told of.
_ENDED_KEPT = 64


@dataclasses.dataclass
class _State:
    state: str
    code: str
    message: str


class ModelState:
    """The versions of a model; one thread changes them, any may ask.

    Attributes:
        name: the model's.
        config: its `model_config.ModelConfig`, None where it is to be served no more.
        available: the versions that answer.
        failed: what the versions looked like that could not be loaded.
        unreadable: whether its folder could not be read when last looked at.
    """

    def __init__(self, name: str):
        self.name = name
        self.config = None
        self.available = {}
        self.failed = {}
        self.unreadable = False
        self._lock = threading.Lock()
        self._states = {}
        self._labels = {}
        self._labels_missed = set()

    def enter(self, version: int | None, label: str | None):
        """Begins a request: gives the version it is for, which is closed only after it.

        Args:
            version: its number; None: the newest.
            label: its label, in place of the number.

        Raises:
            StatusError: there is no such version that answers.
        """
        with self._lock:
            if label is not None:
                if label not in self._labels:
                    raise unknown_label(label)
                version = self._labels[label]
            if version is None:
                version = max(self.available, default=None)
            if version not in self.available:
                raise not_found(self.name, version)
            return self.available[version].__enter__()

    def status(self, version: int | None) -> list[dict]:
        """The states of the versions, newest first, as a status answer lists them.

        Args:
            version: the only one to tell of; None: all.

        Raises:
            StatusError: there is none.
        """
        with self._lock:
            states = dict(self._states)
        if not states:
            raise no_versions(self.name)
        if version is not None:
            if version not in states:
                message = f"Could not find version {version} of model {self.name}"
                raise StatusError("NOT_FOUND", message)
            states = {version: states[version]}
        return [
            {
                "version": str(number),
                "state": state.state,
                "status": {"error_code": state.code, "error_message": state.message},
            }
            for number, state in sorted(states.items(), reverse=True)
        ]

    def problem(self) -> str:
        """Why the newest version does not answer."""
        number = max(self._states)
        return f"version {number}: {self._states[number].message}"

    def set_state(self, number: int, state: str, code="OK", message="") -> None:
        """Notes what a version is doing."""
        with self._lock:
            self._states[number] = _State(state, code, message)
            ended = sorted(n for n, known in self._states.items() if known.state == "END")
            for old in ended[:-_ENDED_KEPT]:
                del self._states[old]

    def put(self, number: int, servable):
        """Has a version answer; gives the one that did so under its number, or None."""
        with self._lock:
            old = self.available.get(number)
            self.available = {**self.available, number: servable}
            self._states[number] = _State("AVAILABLE", "OK", "")
        self.failed.pop(number, None)
        return old

    def take(self, number: int):
        """Has a version answer no more, and gives it."""
        with self._lock:
            servable = self.available[number]
            self.available = {n: held for n, held in self.available.items() if n != number}
            self._states[number] = _State("UNLOADING", "OK", "")
        return servable

    def ended(self, number: int) -> None:
        """Notes that a version is closed, unless it has come back meanwhile."""
        if self._states[number].state == "UNLOADING":
            self.set_state(number, "END")

    def set_labels(self) -> list[tuple[str, int]]:
        """Sets the labels of the config whose versions answer; others stay where they are.

        Returns:
            The labels and versions that had to wait, where that is news.
        """
        wanted = self.config.labels if self.config else {}
        missed = {item for item in wanted.items() if item[1] not in self.available}
        with self._lock:
            self._labels = {
                label: number if number in self.available else self._labels[label]
                for label, number in wanted.items()
                if number in self.available or label in self._labels
            }
        news = sorted(missed - self._labels_missed)
        self._labels_missed = missed
        return news


def not_found(name: str, version: int | None) -> StatusError:
    """The error of a request to a version that does not answer; None: to the newest."""
    which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
    return StatusError("NOT_FOUND", f"Servable not found for request: {which}")


def unknown_label(label: str) -> StatusError:
    """The error of a request to a label that is not set."""
    return invalid(f"Unrecognized servable version label: {label}")


def no_versions(name: str) -> StatusError:
    """The error of a status request for a model that is not known."""
    return StatusError("NOT_FOUND", f"Could not find any versions of model {name}")
