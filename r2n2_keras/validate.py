"""Reads a whole data set once and tells what training cannot use, and what stands out.

    python -m r2n2_keras.validate --data_dir=DIR
    python -m r2n2_keras.validate --data_dir=DIR --fix_list=bad.txt
    python -m r2n2_keras.train --data_dir=DIR --exclude=bad.txt ...

--data_dir is a tree or what `prepare` wrote. Each finding is an error or a note.

Errors, a line `path: what was expected, what was received` each: renderings without voxels and
voxels without renderings; files that cannot be read; broken PNGs, and PNGs of more than 4096 pixels
along an edge; broken binvox files, grids of other than 32x32x32 cells or without an occupied voxel;
models with fewer views than --views=N, where that is given; models in two splits (with
--split=pix2vox: of --split_file); in prepared data also wrong checksums.

Notes, of each kind the first ten: other views than most models have; another size or mode than
most PNGs have; renderings or voxels whose bytes come twice.

A table by category follows, and a line that counts the errors of each kind. Exit code 1 says that
there are errors; notes alone end with 0.
--fix_list=FILE gets the models that have errors, with the reasons: give it to validate, train or
prepare as --exclude.
"""

import os
import shlex

from r2n2_keras import command


def main(config):
    _check_flags(config)

    from rich.console import Console

    from r2n2_keras import terminal
    from r2n2_keras.data import splits
    from r2n2_keras.errors import InputError
    from r2n2_keras.preparation import validate_summary as shown
    from r2n2_keras.preparation import validation

    excluded = splits.read_exclusions(config.exclude)
    with terminal.Bar(Console(stderr=True)) as bar:  # the report may go to a file
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
    if report.errors:
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
    from r2n2_keras.terminal import count

    bad = len(report.bad_models())
    whole = sum(error.key is None for error in report.errors)
    parts = [count(bad, "model") + " with errors"] if bad else []
    parts += [count(whole, "error") + " of no single model"] if whole else []
    advice = "Mend what is listed above"
    if bad and config.fix_list:
        advice += f", or leave the models out by --exclude={shlex.quote(config.fix_list)}"
    elif bad:
        advice += ", or have the models to leave out written by --fix_list=FILE"
    return f"Expected sound data in {config.data_dir}, received {' and '.join(parts)}. {advice}."


if __name__ == "__main__":
    command.run(main, __doc__, "validate")
