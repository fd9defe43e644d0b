"""Exports a trained 3D-R2N2 as a SavedModel for TensorFlow Serving.

    python -m r2n2_keras.export --workdir=runs/quickstart
    python -m r2n2_keras.export --model_file=model.keras --export_dir=models/r2n2

Writes the next version folder of --export_dir (<workdir>/exports unless given). Its signatures are
serving_default (encoded pictures, string (B, T)) and images (float32 (B, T, H, W, C)); both answer
occupancy (B, 32, 32, 32). Loading it needs TensorFlow alone.
"""

from r2n2_keras import command


def main(config):
    """Exports as `config` says."""
    from r2n2_keras.data.decode import Frame
    from r2n2_keras.model.r2n2 import R2N2
    from r2n2_keras.serving import signatures
    from r2n2_keras.training import workdir

    model_file = workdir.model_file(config)
    export_dir = workdir.output_dir(config, "export_dir", "exports")
    model = R2N2.from_file(model_file)
    frame = Frame.of(model, config.background, config.alpha)
    version = signatures.export_version(model, export_dir, frame)
    print(f"Wrote {version} (signatures serving_default and images)")


if __name__ == "__main__":
    command.run(main, __doc__)
