"""What `validate` shows: a line per problem and a table."""

import sys
import textwrap

from rich.console import Console
from rich.table import Table, box
from rich.text import Text

from r2n2_keras.data.categories import category_of
from r2n2_keras.preparation.validation import Kind, Report

# Heads of the table's columns, a word to a line.
HEADS = {
    Kind.PARTNER: "no pair",
    Kind.VIEWS: "bad views",
    Kind.UNREADABLE: "not read",
    Kind.PNG: "bad PNG",
    Kind.MODE: "size, mode",
    Kind.BINVOX: "bad binvox",
    Kind.DIMS: "bad dims",
    Kind.EMPTY: "empty grid",
    Kind.SPLITS: "two splits",
    Kind.RENDERING: "same PNG",
    Kind.VOXELS: "same voxels",
    Kind.CHECKSUM: "check- sum",
}
_ROOMY = 6  # columns of problems that fit into 80 characters with room between them
_INDENTED = {
    "initial_indent": "    ",
    "subsequent_indent": "    ",
    "break_long_words": False,  # paths
    "break_on_hyphens": False,
}


def print_report(report: Report) -> None:
    """Shows every problem, the table, and a summary in one line."""
    _print_problems(report)
    _print_table(report)
    summary = f"{count(sum(report.models.values()), 'model')}, "
    summary += f"{count(sum(report.renderings.values()), 'rendering')}: "
    summary += f"{count(len(report.problems), 'problem')}."
    if report.strays:
        summary += f" Passed over {count(len(report.strays), 'stray file')}, such as "
        summary += f"{_printable(report.strays[0])}."
    print(summary, flush=True)


def count(number: int, noun: str) -> str:
    """A number of things, in words."""
    return f"{number:,} {noun}" + "s" * (number != 1)


def _print_problems(report):
    """A line for each; on a terminal the path stands on one of its own, so that it stays whole."""
    console = Console(highlight=False)
    for problem in report.problems:
        path, text = _printable(problem.path), _printable(problem.text)
        if sys.stdout.isatty():
            console.print(Text(path, "bold"), soft_wrap=True)
            print(textwrap.fill(text, console.width, **_INDENTED))
        else:
            print(f"{path}: {text}")


def _print_table(report):
    """The numbers of models, renderings and problems by category."""
    kinds = [kind for kind in Kind if any(p.kind is kind for p in report.problems)]
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

    def cells(name, models, renderings, problems):
        counts = [sum(problem.kind is kind for problem in problems) for kind in kinds]
        numbers = (models, renderings, *counts)
        return [_printable(name), *(f"{number:,}" if number else "-" for number in numbers)]

    by_category = {synset_id: [] for synset_id in report.models}
    whole = []
    for problem in report.problems:
        (by_category[problem.key[0]] if problem.key else whole).append(problem)
    rows = [
        cells(category_of(synset_id), report.models[synset_id], report.renderings[synset_id], found)
        for synset_id, found in by_category.items()
    ]
    rows += [cells("the whole set", 0, 0, whole)] if whole else []
    models, renderings = sum(report.models.values()), sum(report.renderings.values())
    return [*rows, cells("all", models, renderings, report.problems)]


def _printable(text):
    """The text in one line: names of files may hold anything."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
