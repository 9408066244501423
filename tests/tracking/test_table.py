import pytest

from snn.tracking.table import format_number, markdown_table, text_table


@pytest.mark.parametrize(
    ("value", "column", "text"),
    [
        (0.79123, "accuracy", "0.7912"),
        (0.5, "spike rate", "0.500"),
        (0.0, "rate", "0.000"),
        (1e-5, "rate", "1.0e-05"),
        (1.23e-7, "max error", "1.2e-07"),
        (0.0, "max error", "0"),
        (5e-5, "learning rate", "5.0e-05"),
        (12.34, "seconds", "12.3"),
        (1234567.0, "spikes", "1,234,567"),
        (24576, "elements", "24,576"),
        (float("nan"), "accuracy", "nan"),
        (None, "accuracy", "–"),
        (False, "passed", "no"),
        (["a", "b"], "parents", "a, b"),
    ],
)
def test_each_kind_of_number_has_one_form(value, column, text):
    assert format_number(value, column) == text


def test_markdown_escapes_bars_and_line_breaks():
    lines = markdown_table(["rule"], [["re:(q|k)\nx"]]).splitlines()
    assert lines[2] == r"| re:(q\|k) x |"
    assert len({len(line) for line in lines}) == 1


def test_text_table_aligns_missing_and_wide_cells():
    lines = text_table(["name", "T"], [["データ", 1], ["b", None], ["c", 128]]).splitlines()
    assert lines == ["name      T", "------  ---", "データ    1", "b         –", "c       128"]


def test_a_row_of_wrong_length_is_refused():
    with pytest.raises(ValueError, match="a row has 1 cells, the table 2 columns"):
        markdown_table(["a", "b"], [[1]])


def test_a_table_without_rows_is_its_heading():
    assert markdown_table(["a"], []).splitlines() == ["| a |", "|:--|"]
