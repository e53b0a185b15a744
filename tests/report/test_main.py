"""The command line: folders and single runs in, a table and a page out, errors in one line."""

import pytest

from respike.report.__main__ import main


def test_command_line_reports_finished_runs_once_and_lists_unfinished_ones(make_run, tmp_path, capsys):
    finished, half = make_run("diehl_fc"), make_run("half")
    (half / "metrics.json").unlink()
    out = tmp_path / "out"
    assert main([str(tmp_path / "runs"), str(finished), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "runs/half was skipped: unfinished" in printed and str(out / "index.html") in printed
    assert (out / "results.csv").read_text().count("\ndiehl_fc,") == 1
    assert "reproduced" in (out / "index.html").read_text()


@pytest.mark.parametrize("given", ["nowhere", "empty", "half", "broken"])
def test_command_line_errors_are_one_line_and_status_2(make_run, tmp_path, capsys, given):
    (tmp_path / "runs/empty").mkdir(parents=True)
    (make_run("half") / "metrics.json").unlink()
    (make_run("broken") / "metrics.json").write_text("{")
    assert main([str(tmp_path / "runs" / given), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and given in captured.err and captured.out == ""
    assert not (tmp_path / "out").exists()
