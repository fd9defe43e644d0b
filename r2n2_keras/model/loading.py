"""Reads a Keras model from a `.keras` file, whatever the file holds."""

import os
import zipfile

from r2n2_keras.errors import InputError


def check_model_file(path):
    """Raises an InputError, without Keras, where a path does not look like a `.keras` file."""
    if not os.path.exists(path):
        found = "does not exist"
    elif os.path.isdir(path):
        found = "is a folder"
    elif not (path.endswith(".keras") and zipfile.is_zipfile(path)):
        found = "is no .keras file or is damaged"
    else:
        return
    raise InputError(
        f"Expected a .keras file, received {path}, which {found}. Give one that `train` or "
        "`import_weights` wrote."
    )


def read_model(path):
    """The model in a `.keras` file, of whatever class; an InputError if it cannot be read."""
    import keras

    path = os.fspath(path)
    check_model_file(path)
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # zip, json, HDF5 and Keras each raise their own kinds
        # Keras advises to switch its safe mode off where a file holds code: not for us.
        reason = str(error).strip().split("\n")[0]
        reason = "it holds code" if "safe_mode" in str(error) else reason
        raise InputError(
            f"Expected a .keras file, received {path}, which cannot be read ({reason}). Give "
            "one that `train` or `import_weights` wrote."
        ) from error
