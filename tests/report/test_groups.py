"""Which runs share a figure, and beside which of them published points may stand."""

import pytest

from respike.errors import InputError
from respike.report import judge, load_runs
from respike.report.groups import chosen_groups, group_figure, groups_by_network, slug


def test_runs_of_one_network_share_a_figure(many_runs):
    made = judge(load_runs([many_runs]))
    found = {group.title: list(group.runs.index) for group in groups_by_network(made)}
    assert found["FC 784-1200-1200-10"] == ["diehl_fc", "diehl_fc_raw"]
    assert found["CNN 28x28-12c5-2s-64c5-2s-10o"] == ["diehl_cnn", "diehl_cnn_quick"]


def test_published_points_stand_only_beside_full_runs(make_run):
    paper = {"curve": [[10, 0.5], [20, 0.98]]}
    full = make_run("full", paper=paper)
    quick = make_run("quick", paper=paper, metrics={"reduced": "1 epoch"})

    def legend(runs):
        figure = group_figure(groups_by_network(judge(load_runs(runs)))[0])
        return " / ".join(text.get_text() for text in figure.legends[0].get_texts())

    assert "published" in legend([full, quick])
    assert "published" not in legend([quick])
    assert "quick, reduced" in legend([quick])


@pytest.mark.parametrize("group", [{"title": "no runs"}, {"runs": ["a"]}, {"title": "t", "runs": "diehl_fc"}])
def test_a_group_that_says_too_little_is_refused(group):
    with pytest.raises(InputError, match="expected title"):
        chosen_groups(judge(load_runs([])), [group])


def test_slugs_are_safe_and_unique():
    taken = []
    for text in ("A/B <c>", "a b c", "..", "ü", "x" * 200):
        taken.append(slug(text, taken))
    assert taken[:4] == ["a-b-c", "a-b-c-2", "unnamed", "unnamed-2"] and len(taken[4]) == 60
