"""Tables: Markdown that is readable in a terminal, a notebook and a README, and CSV for storage."""

import csv
import io
import statistics

from model_utils.files import write_text


def markdown_table(header, rows):
    """Return a Markdown table with padded columns.

    Parameters
    ----------
    header : sequence of str
    rows : iterable of sequences
        Cells of any type; format numbers beforehand.

    Returns
    -------
    str
        Without a line break at the end.
    """
    rows = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells):
        return "| " + " | ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)) + " |"

    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([line(header), rule, *map(line, rows)])


def write_csv(path, rows):
    """Write rows, a list of dicts, to a CSV file, with `csv_text`; if interrupted, leave an existing file unchanged."""
    write_text(path, csv_text(rows))


def csv_text(rows):
    """Return rows, a list of dicts, as the text of a CSV file whose columns are the first row's keys.

    Raises
    ------
    ValueError
        If there is no row, or one has a key that the first does not have.
    """
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
        raise ValueError("rows: expected a list of at least one dict")
    if not rows[0] or any(row.keys() - rows[0].keys() for row in rows):
        raise ValueError(f"rows: expected no columns other than the first row's, {', '.join(rows[0]) or 'none'}")
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def parse_csv(text, text_columns=()):
    """Return the rows that `csv_text` was given.

    Parameters
    ----------
    text : str
    text_columns : collection of str
        These stay text; every other column must hold numbers.

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        If a number cannot be read, or a row has more or fewer cells than the header.
    csv.Error
        If the text is not CSV.
    """
    reader = csv.reader(io.StringIO(text, newline=""))
    header = next(reader, [])
    return [
        {key: cell if key in text_columns else _number(cell) for key, cell in zip(header, row, strict=True)}
        for row in reader
    ]


def _number(text):
    try:
        return int(text)
    except ValueError:
        return float(text)


def mean_and_std(values):
    """Return the mean as text and, for more than one value, the standard deviation."""
    text = f"{statistics.mean(values):.4f}"
    return text + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")
