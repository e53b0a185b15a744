"""The command line: folders and single runs in, a table and a page out, errors in one line."""

import os

import pytest

from respike.report import load_runs
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


def test_runs_of_one_name_are_read_by_names_relative_to_their_folder(make_run, tmp_path, monkeypatch, capsys):
    for name in ("a", "b"):
        make_run(name, config={"name": "net"})
    monkeypatch.chdir(tmp_path / "runs")
    for given in (["a", "b"], ["."]):
        assert main([*given, "--out", str(tmp_path / "out")]) == 0
        assert {"net (a)", "net (b)"} <= set(capsys.readouterr().out.replace("\n", "  ").split("  "))


def test_a_job_that_failed_where_an_earlier_one_left_its_result_has_failed(make_run):
    run = make_run("job")
    (run / "failure.json").write_text('{"overrides": ["ckpt_path=typo.pt"], "reason": "typo.pt: no such file"}')
    assert [list(load_runs([place])["failure"]) for place in (run.parent, run)] == 2 * [["typo.pt: no such file"]]
    later = (run / "failure.json").stat().st_mtime + 1
    os.utime(run / "metrics.json", (later, later))  # the folder's next run, which ended well
    assert [list(load_runs([place])["failure"]) for place in (run.parent, run)] == 2 * [[""]]


@pytest.mark.parametrize("option", ["--sort=snn/test_acc", "--columns=snn/test_acc", "--latency=0.9"])
def test_options_of_a_comparison_are_refused_elsewhere(make_run, option, capsys):
    with pytest.raises(SystemExit):
        main([str(make_run("a")), option])
    assert f"{option.partition('=')[0]} stands with --compare" in capsys.readouterr().err


@pytest.mark.parametrize("given", ["nowhere", "empty", "half", "broken"])
def test_command_line_errors_are_one_line_and_status_2(make_run, tmp_path, capsys, given):
    (tmp_path / "runs/empty").mkdir(parents=True)
    (make_run("half") / "metrics.json").unlink()
    (make_run("broken") / "metrics.json").write_text("{")
    assert main([str(tmp_path / "runs" / given), "--out", str(tmp_path / "out")]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and given in captured.err and captured.out == ""
    assert not (tmp_path / "out").exists()
