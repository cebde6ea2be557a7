"""Tables: Markdown that reads well in a terminal, a notebook and a README alike, and CSV to store."""

import csv
import statistics

from model_utils.files import replacing


def markdown_table(header, rows):
    """Lay out a Markdown table with padded columns.

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
    """Write rows, a list of dicts with the same keys, to a CSV file; a stop in the middle leaves the old file."""
    with replacing(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path, text_columns=()):
    """Read what `write_csv` wrote.

    Parameters
    ----------
    path : path
    text_columns : collection of str
        Stay text; every other column must hold numbers.

    Returns
    -------
    list of dict

    Raises
    ------
    ValueError
        If a number cannot be read, or a row has more or fewer cells than the header.
    """
    with open(path, newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
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
    """Write the mean, and with more than one value the standard deviation."""
    text = f"{statistics.mean(values):.4f}"
    return text + (f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else "")
