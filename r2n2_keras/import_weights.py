"""Turns weights of the original or of the PyTorch notebook into a .keras file.

    python -m r2n2_keras.import_weights --source=theano --weights=ResidualGRUNet.npy --out=m.keras
    python -m r2n2_keras.import_weights --source=notebook --weights=notebook.npz --out=m.keras
    python -m r2n2_keras.import_weights --source=theano --weights=GRUNet.npy --alpha=threshold ...

--background and --alpha are what the network was trained to see behind an object. They are saved
with it, and whatever feeds it does as they say: the original's networks take --alpha=threshold.

theano: the .npy file that the original's code saves, read without running the pickle in it. Its
arrays tell the network: 63 are res_gru_3, 33 are gru_3 or gru_1. The original's 3D-LSTM networks
saved 33 arrays of the same shapes in an order that is not known: do not import those, the file
cannot tell. The network answers [x, y, z].

notebook: a .npz file, which this makes of the notebook's three files, where PyTorch is:

    import numpy as np, torch
    files = {"encoder": "encoder_net.h5", "lstm": "lstm_3d_net.h5", "decoder": "decoder_net.h5"}
    np.savez("notebook.npz", **{
        f"{part}.{key}": value.numpy()
        for part, file in files.items()
        for key, value in torch.load(file, map_location="cpu", weights_only=True).items()
    })

The imported network answers what the notebook's does, cell by cell. The notebook trains on voxels
in the order of binvox files, so a network that it has trained answers [x, z, y], which predict and
export would take for [x, y, z]. Add --swap_yz for such a network: it then answers [x, y, z].

Every shape is checked before anything is written, and what does not fit is named; two arrays of
equal shape that changed places cannot be noticed.
"""

import functools
import os
import shlex

from r2n2_keras import command


def main(config):
    from r2n2_keras.files import replacing

    _check_flags(config)
    model = _model(config)
    folder = os.path.dirname(config.out)
    if folder:
        os.makedirs(folder, exist_ok=True)
    with replacing(config.out) as partial:
        model.save(partial)
    print(f"Wrote {config.out}: {model.name}, {model.count_params():,} parameters.")
    if config.source == "notebook" and not config.swap_yz:
        print("It answers as the notebook's does; if that was trained on binvox order, --swap_yz.")
    print(
        f"Next: python -m r2n2_keras.predict --model_file={shlex.quote(config.out)} "
        "--images=FOLDER --out=prediction"
    )


def _check_flags(config):
    from r2n2_keras.errors import InputError
    from r2n2_keras.files import require

    if not config.source:
        raise InputError(
            "Expected --source=theano or --source=notebook, the code that saved the weights, "
            "received none. Give one; --help tells more."
        )
    if not config.weights:
        raise InputError("Expected --weights=FILE to import, received none. Give one.")
    require(config.weights, "weights", "file")
    if not config.out.endswith(".keras"):
        raise InputError(
            f"Expected --out=FILE.keras to write, received {config.out or 'none'}. Give a name "
            "that ends in .keras."
        )
    if os.path.isdir(config.out):
        raise InputError(
            f"Expected --out to be a file, received the folder {config.out}. Give another."
        )
    if config.swap_yz and config.source != "notebook":
        raise InputError(
            "Expected --swap_yz with --source=notebook only, received it with --source=theano, "
            "whose networks answer [x, y, z]. Leave it out."
        )
    if os.path.exists(config.out) and os.path.samefile(config.out, config.weights):
        raise InputError(
            f"Expected --out to be another file than --weights, received {config.out} for both. "
            "Give another name."
        )
    if os.path.exists(config.out) and not config.overwrite:
        raise InputError(
            f"Expected --out to be a new file, received {config.out}, which exists. Give another "
            "name, or --overwrite to replace it."
        )


def _model(config):
    from r2n2_keras.errors import InputError
    from r2n2_keras.model import notebook_weights, theano_files, theano_weights
    from r2n2_keras.model.r2n2 import R2N2

    spec = {"background": config.background, "alpha": config.alpha}
    if config.source == "notebook":
        model = R2N2.from_preset("notebook", **spec)
        weights = notebook_weights.read(config.weights, model)
        assign = functools.partial(notebook_weights.assign, swap_yz=config.swap_yz)
    else:
        weights = theano_files.read(config.weights)
        model = R2N2.from_preset(theano_weights.preset_of(weights), **spec)
        assign = theano_weights.assign
    try:
        assign(model, weights)
    except InputError as error:
        raise InputError(f"{config.weights}: {error}") from None
    return model


if __name__ == "__main__":
    command.run(main, __doc__, "import_weights")
