"""Exports a trained 3D-R2N2 as a SavedModel for TensorFlow Serving.

    python -m r2n2_keras.export --workdir=runs/quickstart
    python -m r2n2_keras.export --model_file=model.keras --export_dir=models/r2n2
    python -m r2n2_keras.export --check=runs/quickstart/exports/1
    python -m r2n2_keras.export --workdir=runs/quickstart --format=onnx

Writes the next version folder of --export_dir (<workdir>/exports unless given): the SavedModel,
warm-up requests, a golden request with its answer, and a model card. It appears under its number
only when a fresh process has given the golden answer; --check tries that, and more, of a folder
that is there. Loading it needs TensorFlow alone.

Signatures, for B objects of T views each:
    serving_default  image_bytes (B, T), encoded pictures -> occupancy (B, 32, 32, 32)
    voxels           the same -> voxels_bytes (B,): a bit per voxel, cut at --threshold
    images           images float32 (B, T, H, W, C) -> occupancy
    refine           image_bytes (B,), state_bytes (B,) -> state_bytes, voxels_bytes: a view more
    padded           image_bytes (B, T), num_views int32 (B,) -> voxels_bytes

--format=onnx and --format=litert write <export_dir>/model.onnx or model.tflite, which take images
as `images` does; LiteRT's of --num_views views, no more and no fewer.
"""

import os

from r2n2_keras import command


def main(config):
    from r2n2_keras import files, runs
    from r2n2_keras.errors import InputError

    if config.check:
        files.require(config.check, "check", "folder")
        _check(config.check)
        return
    model_file = runs.model_file(config)
    export_dir = runs.output_dir(config, "export_dir", "exports")
    fewest, most = config.view_range
    if config.format == "litert" and fewest != most:
        raise InputError(
            "Expected one number of views, which is all that a LiteRT file takes, received "
            f"--num_views={config.num_views}. Give --num_views=N."
        )

    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.serving import model_card, version_folder

    model = R2N2.from_file(model_file)
    if config.format != "tf_saved_model":
        _export_file(model, export_dir, config)
        return
    version = version_folder.export_version(
        model,
        export_dir,
        threshold=config.threshold,
        card=model_card.card(model, config),
    )
    print(f"Wrote {version}; a fresh process gave the golden answer.")


def _check(folder):
    from r2n2_keras.errors import InputError
    from r2n2_keras.serving import export_check

    if problems := export_check.check(folder):
        raise InputError(
            f"Expected an export that TensorFlow Serving answers rightly with, received {folder}: "
            f"{'; '.join(problems)}. Export again."
        )
    print(
        f"{folder} is sound: stock ops only, a batch axis on all that goes in and comes out, "
        "warm-up requests for every signature, and a fresh process gave the golden answer."
    )


def _export_file(model, export_dir, config):
    from r2n2_keras.serving import formats

    is_onnx = config.format == "onnx"
    path = os.path.join(export_dir, "model.onnx" if is_onnx else "model.tflite")
    if is_onnx:
        checked = formats.export_onnx(model, path)
    else:
        checked = formats.export_litert(model, path, views=config.view_range[1])
    print(f"Wrote {path}; {checked}.")


if __name__ == "__main__":
    command.run(main, __doc__, "export")
