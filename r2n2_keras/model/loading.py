"""Reads a Keras model from a `.keras` file, whatever the file holds."""

import os
import zipfile

import keras

from r2n2_keras.errors import InputError


def read_model(path):
    """The model in a `.keras` file, of whatever class.

    Raises:
        InputError: there is no such file, or it cannot be read.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise InputError(
            f"Expected a trained model, received {path}, which does not exist. Train one, or "
            "check the path."
        )
    if not (path.endswith(".keras") and zipfile.is_zipfile(path)):
        raise InputError(
            f"Expected a .keras file, received {path}, which is none or is damaged. Give one "
            "that `train` or `import_weights` wrote."
        )
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
