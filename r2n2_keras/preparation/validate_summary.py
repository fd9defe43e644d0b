"""What `validate` shows: a line per error, the notes in short, a table."""

from rich.console import Console
from rich.table import Table, box
from rich.text import Text

from r2n2_keras.data.categories import category_of
from r2n2_keras.preparation.checker import Kind
from r2n2_keras.preparation.validation import Report

# Heads of the table's columns, a word to a line.
HEADS = {
    Kind.PARTNER: "no pair",
    Kind.UNREADABLE: "not read",
    Kind.PNG: "bad PNG",
    Kind.BINVOX: "bad binvox",
    Kind.DIMS: "bad dims",
    Kind.EMPTY: "empty grid",
    Kind.TOO_FEW: "few views",
    Kind.SPLITS: "two splits",
    Kind.CHECKSUM: "check- sum",
    Kind.VIEWS: "other views",
    Kind.MODE: "size, mode",
    Kind.SAME_PNG: "same PNG",
    Kind.SAME_VOXELS: "same voxels",
}
_ROOMY = 6  # columns of findings that fit into 80 characters with room between them
_NOTES = 10  # of a kind that are told one by one


def print_report(report: Report) -> None:
    """Shows every error, some notes of each kind, the table, and a summary in one line."""
    for error in report.errors:
        print(_line(error))
    _print_notes(report)
    _print_table(report)
    summary = f"{count(sum(report.models.values()), 'model')}, "
    summary += f"{count(sum(report.renderings.values()), 'rendering')}: "
    summary += f"{count(len(report.errors), 'error')}, {count(len(report.notes), 'note')}."
    if report.others:
        summary += f" Passed over {count(len(report.others), 'other file')}, such as "
        summary += f"{_printable(report.others[0])}."
    print(summary, flush=True)


def count(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def _print_notes(report):
    """The first notes of each kind: there may be thousands, which nobody has to mend."""
    if report.notes:
        print("Notes: training can use these files, but they stand out.")
    for kind in Kind:
        notes = [note for note in report.notes if note.kind is kind]
        if notes:
            models = len({note.key for note in notes})
            print(f"  {kind}: {count(len(notes), 'note')} on {count(models, 'model')}")
        for note in notes[:_NOTES]:
            print(f"    {_line(note)}")
        if len(notes) > _NOTES:
            print(f"    and {len(notes) - _NOTES:,} more")


def _line(finding):
    return _printable(f"{finding.path}: {finding.text}")


def _print_table(report):
    kinds = [kind for kind in Kind if any(one.kind is kind for one in report.findings)]
    padding = 1 if len(kinds) <= _ROOMY else 0
    table = Table(box=box.SIMPLE_HEAD, padding=(0, padding, 0, 0), pad_edge=False)
    for number, head in enumerate(
        ["category", "models", "views", *(HEADS[kind] for kind in kinds)]
    ):
        words = head.split()
        table.add_column(
            "\n".join(words),
            justify="left" if number == 0 else "right",
            min_width=max(map(len, words)),
        )
    rows = _rows(report, kinds)
    for number, row in enumerate(rows, start=1):
        # Not as markup: an odd category has the name of its folder.
        table.add_row(*map(Text, row), end_section=number == len(rows) - 1)
    # A table too wide for the terminal runs over its edge; rich would cut its numbers.
    Console(highlight=False).print(table, crop=False)


def _rows(report, kinds):
    """Cells of the table: categories, what is of no category, all."""

    def cells(name, models, renderings, findings):
        counts = [sum(one.kind is kind for one in findings) for kind in kinds]
        numbers = (models, renderings, *counts)
        return [_printable(name), *(f"{number:,}" if number else "-" for number in numbers)]

    by_category = {synset_id: [] for synset_id in report.models}
    whole = []
    for one in report.findings:
        (by_category[one.key[0]] if one.key else whole).append(one)
    rows = [
        cells(category_of(synset_id), report.models[synset_id], report.renderings[synset_id], found)
        for synset_id, found in by_category.items()
    ]
    rows += [cells("the whole set", 0, 0, whole)] if whole else []
    models, renderings = sum(report.models.values()), sum(report.renderings.values())
    return [*rows, cells("all", models, renderings, report.findings)]


def _printable(text):
    """The text in one line: names of files may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
