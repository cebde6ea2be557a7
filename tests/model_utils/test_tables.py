"""Tables: Markdown to read, CSV to store."""

import pytest

from model_utils.tables import csv_text, markdown_table, parse_csv, write_csv

pytestmark = pytest.mark.q4


def test_tables_survive_storing(tmp_path):
    rows = [{"name": "a, b", "n": 3, "x": 0.1}, {"name": "c", "n": -1, "x": 1e-9}, {"name": "1e-4", "n": 0, "x": 2.0}]
    write_csv(tmp_path / "new" / "rows.csv", rows)
    text = (tmp_path / "new" / "rows.csv").read_bytes().decode()
    assert text == csv_text(rows)
    assert text.startswith("name,n,x\n")
    assert parse_csv(text, text_columns=["name"]) == rows
    with pytest.raises(ValueError, match="a, b"):
        parse_csv(text)


def test_rows_of_another_length_than_the_header_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        parse_csv("a,b\n1,2\n3\n")


def test_markdown_columns_are_padded_to_their_widest_cell():
    assert markdown_table(["n", "name"], [(1, "a"), (1000, "Ankle boot")]).splitlines() == [
        "| n    | name       |",
        "|------|------------|",
        "| 1    | a          |",
        "| 1000 | Ankle boot |",
    ]
