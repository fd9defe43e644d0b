"""Which versions of which models answer: finds, loads and unloads them.

Threads look at the folders and at models.config again and again. A new version answers before an
old one is let go, and that is closed only when its last request has ended. A version that cannot be
loaded leaves the old ones answering; it is tried again when its files change.
"""

import contextlib
import gc
import threading

import tensorflow as tf

from r2n2_keras.errors import InputError
from r2n2_keras.standin import folders, status
from r2n2_keras.standin.servable import Servable


class _Model:
    def __init__(self):
        self.config = None  # where it is to be served no more
        self.labels = {}  # version of each
        self.available = {}  # the `Servable` of each version that answers
        self.states = {}  # (state, error code, error message) of each version
        self.failed = {}  # fingerprint of each version that could not be loaded
        self.unreadable = ""  # why the folder could not be read when last looked at


class Models:
    """The models of `configs`; safe to ask from any thread.

    `settings` is a `process.Settings`; `say` is told, in a line, of what happens to versions.
    """

    def __init__(self, configs, settings, monitor, say):
        self._settings = settings
        self._monitor = monitor
        self._say = say
        self._started = False
        self._config_problem = ""
        self._models = {}
        self._retired = []  # (model, number, servable) of what waits for its last request to end
        self._lock = threading.Lock()  # of what requests read
        self._changing = threading.Lock()  # held while versions change
        self._stopped = threading.Event()
        self._set_configs(configs)

    def start(self, read_configs) -> dict[str, list[int]]:
        """Loads what there is and looks for more from then on; `read_configs` gives configs anew.

        Gives the versions of each model; InputError where one has none, or a broken one.
        """
        self._look()
        for name, model in self._models.items():
            broken = [f"version {n}: {_one_line(model.states[n][2])}" for n in model.failed]
            if broken or not model.available:
                problem = model.unreadable or "; ".join(broken) or "none that is to be served"
                raise InputError(
                    f"Expected versions of {name} that can be served as folders (1, 2, ...) in "
                    f"{model.config.base_path}, received {problem}. Export one, take a broken one "
                    "away, or give another folder."
                )
        self._started = True
        self._every(self._settings.file_system_poll_wait_seconds, self._look)
        if seconds := self._settings.model_config_file_poll_wait_seconds:
            self._every(seconds, lambda: self._read(read_configs))
        return {name: sorted(model.available) for name, model in self._models.items()}

    def stop(self) -> None:
        self._stopped.set()

    @contextlib.contextmanager
    def use(self, name: str, version: int | None, label: str | None):
        """Lends the `Servable` of a version, of a label or the newest one; OpError for none."""
        with self._lock:
            servable = self._find(name, version, label)
            servable.users += 1
        try:
            yield servable
        finally:
            with self._lock:
                servable.users -= 1

    def _find(self, name, version, label):
        model = self._models.get(name, _Model())
        if label is not None:
            if label not in model.labels:
                raise status.invalid(f"Unrecognized servable version label: {label}")
            version = model.labels[label]
        number = max(model.available, default=None) if version is None else version
        if number not in model.available:
            which = f"Latest({name})" if version is None else f"Specific({name}, {version})"
            raise status.error("NOT_FOUND", f"Servable not found for request: {which}")
        return model.available[number]

    def knows(self, name: str) -> bool:
        """Whether a model of this name is, or was, served."""
        return name in self._models

    def status(self, name: str, version: int | None) -> list[dict]:
        """The states of a model's versions, or of one, for a status answer; OpError for none."""
        with self._lock:
            states = dict(self._models.get(name, _Model()).states)
        if not states or version not in (None, *states):
            which = "any versions" if version is None else f"version {version}"
            raise status.error("NOT_FOUND", f"Could not find {which} of model {name}")
        return [
            {
                "version": str(number),
                "state": state,
                "status": {"error_code": code, "error_message": message},
            }
            for number, (state, code, message) in sorted(states.items(), reverse=True)
            if version in (None, number)
        ]

    def _every(self, seconds, step):
        def work():
            while not self._stopped.wait(seconds):
                try:
                    step()
                except Exception as error:  # whatever it is, what answers goes on doing so
                    self._say(f"Looking for versions failed: {type(error).__name__}: {error}")

        threading.Thread(target=work, name="versions", daemon=True).start()

    def _read(self, read_configs):
        problem = ""
        try:
            self._set_configs(read_configs())
        except InputError as error:
            problem = f"The models stay as they are: {error}"
        if problem not in ("", self._config_problem):
            self._say(problem)
        self._config_problem = problem
        self._look()

    def _set_configs(self, configs):
        """Takes all configs or, where a label cannot be moved, none."""
        with self._changing, self._lock:
            for config in configs:
                model = self._models.get(config.name, _Model())
                for label, number in config.labels.items():
                    moved = model.labels.get(label, number) != number
                    if moved and number not in model.available:
                        raise InputError(
                            f"Expected the label {label} of {config.name}, which is in use, to be "
                            f"moved to a version that is loaded, received {number}. Have that "
                            "loaded first, by a change of its own."
                        )
            wanted = {config.name: config for config in configs}
            self._models = {name: _Model() for name in wanted} | self._models
            for name, model in self._models.items():
                model.config = wanted.get(name)
                model.labels = model.config.labels if model.config else {}

    def _look(self):
        with self._changing:
            self._close_retired()
            for name, model in self._models.items():
                self._update(name, model)

    def _update(self, name, model):
        wanted = {}
        if model.config:
            try:
                wanted = folders.find(model.config)
            except OSError as error:  # as while a disk is away: what answers goes on doing so
                problem = f"{error.strerror}: {model.config.base_path}"
                if not model.unreadable and self._started:
                    self._say(f"{name}: {problem}")
                model.unreadable = problem
                return
            model.unreadable = ""
        for number in sorted(wanted.keys() - model.available.keys()):
            self._load(name, model, number, wanted[number])
        if not wanted or wanted.keys() & model.available.keys():
            for number in model.available.keys() - wanted.keys():
                self._retire(name, model, number)
        model.failed = {n: mark for n, mark in model.failed.items() if n in wanted}

    def _load(self, name, model, number, folder):
        mark = folders.fingerprint(folder)
        if model.failed.pop(number, None) == mark:
            model.failed[number] = mark
            return
        self._set_state(model, number, "LOADING")
        timeout = self._settings.rest_api_timeout_in_ms
        try:
            servable = Servable(name, number, folder, timeout, lambda s: self._monitor.ran(name, s))
        except tf.errors.OpError as error:
            model.failed[number] = mark
            self._set_state(model, number, "END", status.name(error), error.message)
            news = f"cannot be served: {_one_line(error.message)}"
        else:
            with self._lock:
                model.available = {**model.available, number: servable}
            self._set_state(model, number, "AVAILABLE")
            news = "is available."
        if self._started:  # else the start tells of all
            self._say(f"{name} version {number} {news}")

    def _retire(self, name, model, number):
        self._set_state(model, number, "UNLOADING")
        with self._lock:
            self._retired.append((model, number, model.available[number]))
            model.available = {n: one for n, one in model.available.items() if n != number}
        self._say(f"{name} version {number} is let go.")

    def _close_retired(self):
        idle = [item for item in self._retired if not item[2].users]
        self._retired = [item for item in self._retired if item not in idle]
        for model, number, servable in idle:
            servable.close()
            if number not in model.available:  # unless it has come back meanwhile
                self._set_state(model, number, "END")
        if idle:
            idle = servable = None
            gc.collect()  # graphs are full of cycles

    def _set_state(self, model, number, state, code="OK", message=""):
        with self._lock:
            model.states[number] = (state, code, message)


def _one_line(text):
    return " ".join(text.split()).rstrip(".")
