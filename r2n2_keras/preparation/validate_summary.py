"""What `validate` shows: a line per error, the notes in short, a table."""

from collections import Counter

from r2n2_keras.data.categories import category_of
from r2n2_keras.preparation.checker import Kind
from r2n2_keras.preparation.validation import Report
from r2n2_keras.terminal import count, print_table

_NOTES = 10  # of a kind that are told one by one


def print_report(report: Report) -> None:
    """Shows every error, some notes of each kind, the table, and a summary in one line."""
    for error in report.errors:
        print(_line(error))
    _print_notes(report)
    print_table(["category", "models", "views", "errors", "notes"], _rows(report))
    kinds = Counter(error.kind for error in report.errors).most_common()
    summary = f"{count(sum(report.models.values()), 'model')}, "
    summary += f"{count(sum(report.renderings.values()), 'rendering')}: "
    summary += count(len(report.errors), "error")
    summary += f" ({', '.join(f'{number:,} {kind}' for kind, number in kinds)})" if kinds else ""
    summary += f", {count(len(report.notes), 'note')}."
    if report.others:
        summary += f" Passed over {count(len(report.others), 'other file')}, such as "
        summary += f"{_printable(report.others[0])}."
    print(summary, flush=True)


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


def _rows(report):
    """Cells of the table: categories, what is of no category, all."""

    def cells(name, models, renderings, findings):
        errors = sum(one.kind.is_error for one in findings)
        numbers = (models, renderings, errors, len(findings) - errors)
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
