"""Keeps what C libraries print off the terminal: one line of ours tells what is wrong."""

import contextlib
import importlib.machinery
import os
import sys


@contextlib.contextmanager
def quiet_libraries():
    """Nothing written to standard error appears; errors that are raised are raised."""
    kept = os.dup(2)
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def quiet_tensorflow():
    """Lets TensorFlow greet nobody, whoever imports it and whenever.

    Its C++ side tells of CPU features and absent GPUs. From 2.21 on some of these lines are written
    while the libraries load, before TF_CPP_MIN_LOG_LEVEL is read.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.meta_path.insert(0, _QuietImport)


class _QuietImport:
    """Finds TensorFlow as Python does, and silences what is written while it is imported."""

    @staticmethod
    def find_spec(name, path=None, target=None):
        if name != "tensorflow":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and spec.loader:
            execute = spec.loader.exec_module

            def quietly(module):
                with quiet_libraries():
                    execute(module)

            spec.loader.exec_module = quietly
        return spec
