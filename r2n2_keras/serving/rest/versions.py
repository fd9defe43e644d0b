"""Which versions of which models answer: finds, loads, warms up, labels and unloads them.

A thread looks at the folders again and again. A new version answers before an old one is let go,
and that is closed only when its last request has ended. A version that cannot be loaded leaves the
old ones answering; it is tried again when its files change. A label that names a version which does
not answer stays where it was until it does.
"""

import contextlib
import gc
import threading
import time

from r2n2_keras.errors import InputError
from r2n2_keras.serving.rest import folders, model_state, warmup_replay
from r2n2_keras.serving.rest.model_config import ModelConfig
from r2n2_keras.serving.rest.model_state import ModelState
from r2n2_keras.serving.rest.servable import Servable
from r2n2_keras.serving.rest.status import StatusError

_STOP_SECONDS = 10


class Models:
    """The models that are served; safe to ask from any thread.

    Args:
        configs: what to serve.
        timeout_in_ms: longest time of a run.
        poll_seconds: how often to look for new versions.
        monitor: a `monitoring.Monitor`.
        say: told, in a line, of what happens to versions.
        read_configs: gives the configs anew, or None where they stay.
        config_poll_seconds: how often to do that; 0: never.
    """

    def __init__(
        self,
        configs: list[ModelConfig],
        *,
        timeout_in_ms,
        poll_seconds,
        monitor,
        say=lambda line: None,
        read_configs=None,
        config_poll_seconds=0,
    ):
        self._timeout_in_ms = timeout_in_ms
        self._poll_seconds = poll_seconds
        self._monitor = monitor
        self._say = say
        self._read_configs = read_configs if config_poll_seconds else None
        self._config_poll_seconds = config_poll_seconds
        self._config_problem = ""
        self._models: dict[str, ModelState] = {}
        self._retired = []
        self._wake = threading.Event()
        self._stopping = False
        self._thread = None
        self._set_configs(configs)

    def start(self) -> dict[str, list[int]]:
        """Loads what there is, and begins to look for more.

        Returns:
            The versions of each model that answer.

        Raises:
            InputError: a model has none.
        """
        for name, model in self._models.items():
            base_path = model.config.base_path
            try:
                found = folders.find(base_path)
            except OSError as error:
                raise InputError(
                    f"Expected a folder of versions, received {base_path}: {error.strerror}. "
                    "Export a model to it, or give another."
                ) from None
            if not folders.choose(found, model.config):
                raise InputError(
                    f"Expected versions of {name} as folders (1, 2, ...) in {base_path}, received "
                    "none that is to be served. Export one, or give another folder."
                )
            self._reconcile(model)
            if not model.available:
                raise InputError(
                    f"Expected a version of {name} that can be served in {base_path}, received "
                    f"{model.problem().rstrip('.')}. Export it again."
                )
        self._thread = threading.Thread(target=self._watch, name="versions", daemon=True)
        self._thread.start()
        return {name: sorted(model.available) for name, model in self._models.items()}

    def stop(self) -> None:
        """Ends the thread and closes all versions; to be called when no request is left."""
        self._stopping = True
        self._wake.set()
        if self._thread:
            self._thread.join(_STOP_SECONDS)  # it may be loading
        for model in self._models.values():
            for number in list(model.available):
                model.take(number).close()
        for servable, *_ in self._retired:
            servable.close()
        self._retired = []

    @contextlib.contextmanager
    def use(self, name: str, version: int | None, label: str | None):
        """Holds a version for the length of a request.

        Args:
            name: the model's.
            version: its number; None: the newest.
            label: its label, in place of the number.

        Raises:
            StatusError: there is no such version that answers.
        """
        model = self._models.get(name)
        if model is None:
            raise (
                model_state.not_found(name, version)
                if label is None
                else model_state.unknown_label(label)
            )
        servable = model.enter(version, label)
        try:
            yield servable
        finally:
            servable.__exit__()

    def knows(self, name: str) -> bool:
        """Whether a model of this name is, or was, served."""
        return name in self._models

    def status(self, name: str, version: int | None) -> list[dict]:
        """The states of a model's versions; see `ModelState.status`."""
        if name not in self._models:
            raise model_state.no_versions(name)
        return self._models[name].status(version)

    def _watch(self):
        next_look = time.monotonic()
        next_read = next_look + self._config_poll_seconds
        while not self._stopping:
            next_step = min(next_look, next_read) if self._read_configs else next_look
            self._wake.wait(max(0.01, next_step - time.monotonic()))
            self._wake.clear()
            if self._stopping:
                return
            try:
                self._close_retired()
                if self._read_configs and time.monotonic() >= next_read:
                    next_read = time.monotonic() + self._config_poll_seconds
                    self._reload()
                    next_look = 0
                if time.monotonic() >= next_look:
                    next_look = time.monotonic() + self._poll_seconds
                    for model in self._models.values():
                        self._reconcile(model)
            except Exception as error:  # whatever it is, what answers goes on doing so
                self._say(f"Looking for versions failed: {type(error).__name__}: {error}")

    def _reload(self):
        problem = ""
        try:
            self._set_configs(self._read_configs())
        except InputError as error:
            problem = f"The models stay as they are: {error}"
        if problem and problem != self._config_problem:
            self._say(problem)
        self._config_problem = problem

    def _set_configs(self, configs):
        wanted = {config.name: config for config in configs}
        models = dict(self._models)
        for name in wanted:
            models.setdefault(name, ModelState(name))
        for name, model in models.items():
            model.config = wanted.get(name)
        self._models = models

    def _reconcile(self, model):
        wanted = {}
        if model.config:
            try:
                wanted = folders.choose(folders.find(model.config.base_path), model.config)
            except OSError as error:  # as while a disk is away: what answers goes on doing so
                if not model.unreadable:
                    self._say(f"{model.name}: {model.config.base_path}: {error.strerror}")
                model.unreadable = True
                return
            model.unreadable = False
        for number, folder in sorted(wanted.items()):
            held = model.available.get(number)
            if self._stopping:
                return
            if not held or held.folder != folder:
                self._load(model, number, folder)
        for label, number in model.set_labels():
            self._say(
                f"{model.name} version {number} does not answer, so {label} is not set to it yet."
            )
        if not wanted or wanted.keys() & model.available.keys():
            for number in model.available.keys() - wanted.keys():
                self._retire(model.take(number), model, number)
                self._say(f"{model.name} version {number} is let go.")
        model.failed = {n: mark for n, mark in model.failed.items() if n in wanted}

    def _load(self, model, number, folder):
        mark = (folder, folders.fingerprint(folder))
        if model.failed.get(number) == mark:
            return
        answers = number in model.available  # from another folder, until this one is loaded
        if not answers:
            model.set_state(number, "LOADING")
        try:
            servable = self._loaded(model.name, number, folder)
        except StatusError as error:
            model.failed[number] = mark
            if not answers:
                model.set_state(number, "END", error.code, error.message)
            reason = " ".join(str(error).split())
            self._say(f"{model.name} version {number} cannot be served: {reason}")
            return
        if old := model.put(number, servable):
            self._retire(old, None, number)
        if self._thread:  # what answers from the start is told at once
            self._say(f"{model.name} version {number} is available.")

    def _loaded(self, name, number, folder):
        def observe(seconds):
            self._monitor.run_took(name, seconds)

        servable = Servable(name, number, folder, self._timeout_in_ms, observe)
        started = time.perf_counter()
        try:
            count = warmup_replay.replay(servable)
        except Exception as error:
            servable.close()
            problem = error
            if not isinstance(error, StatusError):
                problem = StatusError("UNKNOWN", f"Warm-up failed: {error}")
            self._monitor.warmup_took(folder, problem.code, time.perf_counter() - started)
            raise problem from None
        if count:
            self._monitor.warmup_took(folder, "OK", time.perf_counter() - started)
        return servable

    def _retire(self, servable, model, number):
        self._retired.append((servable, model, number))
        servable.retire(self._wake)

    def _close_retired(self):
        idle = [item for item in self._retired if not item[0].in_use]
        if not idle:
            return
        self._retired = [item for item in self._retired if item not in idle]
        for servable, model, number in idle:
            servable.close()
            if model:
                model.ended(number)
        del idle, servable
        gc.collect()  # graphs are full of cycles
