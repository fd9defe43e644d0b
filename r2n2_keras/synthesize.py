"""Makes a data set of procedural furniture, rendered and voxelised, in the official tree.

    python -m r2n2_keras.synthesize --out=data/furniture --models_per_category=100 --seed=7

Writes --out/ShapeNetRendering/<synset>/<model>/rendering/NN.png (RGBA, 137x137, with the cameras in
rendering_metadata.txt) and --out/ShapeNetVox32/<synset>/<model>/model.binvox.
"""

from r2n2_keras import command


def main(config):
    from r2n2_keras import terminal
    from r2n2_keras.errors import InputError
    from r2n2_keras.shapes import dataset

    if not config.out:
        raise InputError("Expected --out=DIR to write to, received none. Give one.")
    if len(config.views) > 1:
        raise InputError(
            f"Expected --views to be one number, of renderings per model, received "
            f"{','.join(map(str, config.views))}. Change it."
        )
    categories = config.categories or tuple(dataset.CATEGORIES)
    with terminal.Bar() as bar:
        dataset.synthesize(
            config.out,
            categories,
            config.models_per_category,
            *(config.views or (24,)),
            config.seed,
            progress=bar.counting("Making"),
        )
    print(f"Wrote {config.models_per_category} models of each category to {config.out}")


if __name__ == "__main__":
    command.run(main, __doc__, "synthesize")
