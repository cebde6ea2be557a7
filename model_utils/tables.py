"""Tables that read well in a terminal, a notebook and a README alike."""


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
