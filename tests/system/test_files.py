"""A file is written whole or not at all, and a table that is read back holds the same numbers."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from respike.system.files import read_csv, write_atomically, write_csv, write_json


def test_a_finished_file_replaces_the_earlier_one_and_nothing_else_is_left(tmp_path):
    path = tmp_path / "new" / "a.txt"
    for text in ("one", "two"):
        with write_atomically(path) as temporary:
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "one"
        assert path.read_text() == text
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_keeps_the_earlier_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("earlier")
    with pytest.raises(OSError, match="disk full"), write_atomically(path) as temporary:
        temporary.write_text("half")
        raise OSError("disk full")
    assert path.read_text() == "earlier" and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_whole_and_an_existing_one_is_kept(tmp_path):
    folder = tmp_path / "tree"
    with write_atomically(folder) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("first")
    with pytest.raises(OSError), write_atomically(folder) as temporary:
        temporary.mkdir()
        (temporary / "a").write_text("second")
    assert (folder / "a").read_text() == "first" and list(tmp_path.iterdir()) == [folder]


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_survive_a_table_bit_for_bit(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("table") / "a.csv"
    write_csv(path, {"step": list(range(len(values))), "value": values})
    table = read_csv(path)
    assert table["value"].astype(float).tolist() == values and table["step"].tolist() == list(range(len(values)))


def test_rows_and_columns_make_the_same_table_and_missing_cells_are_empty(tmp_path):
    write_csv(tmp_path / "columns.csv", {"a": [1, None], "b": [math.nan, 0.5], "c": ["x", "y"]})
    write_csv(tmp_path / "rows.csv", [{"a": 1, "b": None, "c": "x"}, {"b": 0.5, "c": "y"}])
    assert (tmp_path / "columns.csv").read_text() == (tmp_path / "rows.csv").read_text() == "a,b,c\n1,,x\n,0.5,y\n"
    write_csv(tmp_path / "again.csv", read_csv(tmp_path / "rows.csv"))
    assert read_csv(tmp_path / "again.csv").equals(read_csv(tmp_path / "rows.csv"))


def test_an_empty_table_keeps_its_header_and_an_empty_file_is_an_empty_table(tmp_path):
    write_csv(tmp_path / "a.csv", {"index": [], "label": []})
    assert list(read_csv(tmp_path / "a.csv").columns) == ["index", "label"] and read_csv(tmp_path / "a.csv").empty
    (tmp_path / "b.csv").touch()
    assert read_csv(tmp_path / "b.csv").empty


def test_json_is_read_back(tmp_path):
    write_json(tmp_path / "a.json", {"accuracy": 0.1 + 0.2, "name": "x"})
    assert json.loads((tmp_path / "a.json").read_text()) == {"accuracy": 0.1 + 0.2, "name": "x"}
