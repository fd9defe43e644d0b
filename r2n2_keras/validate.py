"""Reads a whole data set once and tells every broken, missing or mismatched file.

    python -m r2n2_keras.validate --data_dir=DIR
    python -m r2n2_keras.validate --data_dir=DIR --fix_list=bad.txt
    python -m r2n2_keras.train --data_dir=DIR --exclude=bad.txt ...

--data_dir is a tree or what `prepare` wrote. Found are: renderings without voxels and voxels
without renderings; a wrong number of views; PNGs that cannot be decoded, or have another size or
mode than most; binvox files with a bad header or run lengths, other dims than most, or no voxel;
the same bytes twice; models in two splits (with --split=pix2vox: of --split_file); in prepared
data also wrong checksums and records that cannot be read.

Prints `path: what was expected, what was received` for each, on a terminal in two lines, and a
table by category. Exit code 1 says that something was found. --fix_list=FILE gets the models to
leave out, with the reasons: give it to validate, train or prepare as --exclude.
"""

import os
import shlex

from r2n2_keras import command


def main(config):
    """Validates as `config` says."""
    _check_flags(config)

    from rich.console import Console

    from r2n2_keras import progress
    from r2n2_keras.data import splits
    from r2n2_keras.errors import InputError
    from r2n2_keras.preparation import validate_summary as shown
    from r2n2_keras.preparation import validation

    excluded = splits.read_exclusions(config.exclude)
    with progress.Bar(Console(stderr=True)) as bar:  # the report may go to a file
        report = validation.validate(
            config.data_dir,
            config.renderings_dir,
            config.voxels_dir,
            categories=config.categories,
            excluded=excluded,
            num_views=config.views[0] if config.views else 0,
            split_file=config.split_file if config.split_rule == "pix2vox" else "",
            progress=bar.counting("Reading"),
        )
    shown.print_report(report)
    if config.fix_list:
        validation.write_fix_list(config.fix_list, report, excluded)
        print(f"Wrote {config.fix_list}", flush=True)
    if report.problems:
        raise InputError(_conclusion(config, report))


def _check_flags(config):
    from r2n2_keras import datasets
    from r2n2_keras.errors import InputError

    if not config.data_dir:
        raise InputError("Expected --data_dir=DIR to look at, received none. Give one.")
    if len(config.views) > 1 or 0 in config.views:
        raise InputError(
            "Expected --views=N, how many views each model should have, received "
            f"{','.join(map(str, config.views))}. Give one number, or none: as most have."
        )
    datasets.check_paths(config)
    folder = os.path.dirname(os.path.abspath(config.fix_list))
    if config.fix_list and (os.path.isdir(config.fix_list) or not os.path.isdir(folder)):
        raise InputError(
            f"Expected --fix_list to be a file in a folder that is there, received "
            f"{config.fix_list}. Change it."
        )


def _conclusion(config, report):
    from r2n2_keras.preparation.validate_summary import count

    bad = len(report.by_model())
    whole = sum(problem.key is None for problem in report.problems)
    parts = [count(bad, "model") + " with problems"] if bad else []
    parts += [count(whole, "problem") + " of no single model"] if whole else []
    advice = "Mend what is listed above"
    if bad and config.fix_list:
        advice += f", or leave the models out by --exclude={shlex.quote(config.fix_list)}"
    elif bad:
        advice += ", or have the models to leave out written by --fix_list=FILE"
    return f"Expected sound data in {config.data_dir}, received {' and '.join(parts)}. {advice}."


if __name__ == "__main__":
    command.run(main, __doc__, "validate")
