"""Which runs share a figure, and beside which of them published points may stand."""

import pytest
from omegaconf import OmegaConf

from respike.errors import InputError
from respike.report import judge, load_runs
from respike.report.groups import caption, chosen_groups, group_figure, groups_by_network, slug
from respike.report.summary import provenance
from respike.runs.conf import CONF


def test_runs_of_one_network_share_a_figure(many_runs):
    made = judge(load_runs([many_runs]))
    found = {group.title: list(group.runs.index) for group in groups_by_network(made)}
    assert found["FC 784-1200-1200-10"] == ["diehl_fc", "diehl_fc_raw"]
    assert found["CNN 28x28-12c5-2s-64c5-2s-10o"] == ["diehl_cnn", "diehl_cnn_quick"]


def test_runs_of_a_sweep_without_a_title_have_the_name_of_its_experiment(make_run):
    paths = [make_run(f"q={q}", config={"name": "mine"}, paper={"title": None}) for q in (1, 2)]
    (group,) = groups_by_network(judge(load_runs(paths)))
    assert group.title == "mine"


@pytest.fixture
def legend(make_run):
    """legend(name=facts, ...) -> the legend of one figure of runs with these facts, and its caption."""

    def of(source, **runs):
        paper = {"curve": [[10, 0.5], [20, 0.98]], "curve_source": source}
        paths = [make_run(name, paper=paper, metrics=facts) for name, facts in runs.items()]
        group = groups_by_network(judge(load_runs(paths)))[0]
        return " / ".join(text.get_text() for text in group_figure(group).legends[0].get_texts()), caption(group)

    return of


def test_reference_points_stand_only_beside_runs_that_are_held_against_the_paper(legend):
    reduced = {"reduced": "1 epoch"}
    both, said = legend("Table 2", full={}, quick=reduced)
    assert "Table 2" in both and "open markers, Table 2" in said and "quick, reduced" in both
    for facts in (reduced, {"other_data": "digits"}, {"differs": "convert=no_norm"}):
        found, said = legend("Table 2", **{f"run{len(facts)}{next(iter(facts))}": facts})
        assert "Table 2" not in found + said


def test_points_from_memory_are_drawn_beside_a_run_of_the_protocol_that_no_number_judges(make_run):
    def shown(name, **facts):
        paper = {"curve": [[10, 0.5]], "curve_source": "from memory"}
        unpublished = {"published": {"ann/test_acc": None, "snn/test_acc": None}}
        rows = judge(load_runs([make_run(name, paper=paper | unpublished, metrics=facts)]))
        assert rows["difference"].isna().all()
        return "from memory" in caption(groups_by_network(rows)[0])

    assert shown("full")
    assert not any(shown(key, **{key: "x"}) for key in ("reduced", "other_data", "differs"))


def test_points_are_called_published_only_if_the_experiment_says_so(legend):
    assert "published" not in legend(None, full={})[0]
    source = OmegaConf.load(CONF / "experiment" / "diehl_cnn_published_curve.yaml").paper.curve_source
    assert "run by us" in source and "published" not in legend(source, other={})[0]


def test_steps_without_a_length_are_no_time(make_run):
    def said(path):
        group = groups_by_network(judge(load_runs([path])))[0]
        figure = group_figure(group)
        return {axes.get_xlabel() for axes in figure.axes}, caption(group)

    labels, text = said(make_run("rates"))
    assert labels == {"simulated time (ms)"} and "against simulated time" in text
    direct = make_run("direct", paper={"curve": [[10, 0.5]], "curve_source": "Table 2"})
    (direct / "curves.csv").write_text("step,acc,spikes_per_image\n1,0.5,3\n2,0.9,6\n3,0.9,9\n")
    labels, text = said(direct)
    assert labels == {"simulated steps"} and "against simulated steps" in text and "time" not in text + "".join(labels)
    assert "Table 2" not in text


def test_two_steps_are_no_curve(make_run):
    path = make_run("short")
    (path / "curves.csv").write_text("step,acc,spikes_per_image\n1,0.5,3\n2,0.9,6\n")
    group = groups_by_network(judge(load_runs([path])))[0]
    assert group_figure(group) is None and caption(group).endswith(
        "10,000 test images of MNIST; no curve is drawn for T = 2."
    )


def test_spike_times_are_read_once(make_run):
    path = make_run("times", metrics={"ttfs/latency": 28.4})
    (path / "curves.csv").unlink()
    said = caption(groups_by_network(judge(load_runs([path])))[0])
    assert said.endswith("; there is no curve over time: the class is read once, at the latency given.")


def test_data_sets_of_one_size_are_named_together(make_run):
    sets = {"MNIST": 10000, "CIFAR-10": 10000, "digits": 5000, "Fashion-MNIST": 10000}
    paths = [make_run(data, metrics={"data": data, "test_images": images}) for data, images in sets.items()]
    (group,) = chosen_groups(judge(load_runs(paths)), [{"title": "T", "runs": list(sets)}])
    measured = "on 10,000 test images each of MNIST, CIFAR-10 and Fashion-MNIST, and 5,000 test images of digits;"
    assert measured in caption(group)


def test_a_group_shows_the_pictures_of_the_run_it_names(make_run):
    judged = judge(load_runs([make_run("a"), make_run("b", config={"model": {"width": 3}})]))
    asked = [{"title": "T", "runs": ["a", "b"], "gallery": name} for name in ("b", "none", "")]
    assert [group.gallery for group in chosen_groups(judged, asked)] == ["b", "", ""]
    assert [group.gallery for group in groups_by_network(judged)] == ["a", "b"]


def test_test_images_that_calibrated_are_told(make_run):
    path = make_run("a", config={"callbacks": {"convert": {"calibrate_on": "test", "calibration_size": None}}})
    rows = judge(load_runs([path]))
    assert rows["departs"]["a"] == ("calibrated on the test images",)
    assert "calibrated on the test images: a" in caption(groups_by_network(rows)[0])
    assert ("calibration", "all test images") in provenance(rows.loc["a"])


def test_the_images_that_calibrated_are_those_the_run_names(make_run):
    """A conversion by weights alone measures no image, whatever calibrate_on says."""
    on_test = {"callbacks": {"convert": {"calibrate_on": "test", "calibration_size": None}}}
    told = {"tested": "10,000 test images", "trained": "60,000 training images", "weights": ""}
    paths = [make_run(name, metrics={"calibrated_on": fact}, config=on_test) for name, fact in told.items()]
    rows = judge(load_runs(paths))
    assert rows["calibrated_on"].to_dict() == told
    assert [name for name in told if rows["departs"][name]] == ["tested"]
    for name, fact in told.items():
        assert dict(provenance(rows.loc[name])).get("calibration", "") == fact


@pytest.mark.parametrize("group", [{"title": "no runs"}, {"runs": ["a"]}, {"title": "t", "runs": "diehl_fc"}])
def test_a_group_that_says_too_little_is_refused(group):
    with pytest.raises(InputError, match="expected title"):
        chosen_groups(judge(load_runs([])), [group])


def test_slugs_are_safe_and_unique():
    taken = []
    for text in ("A/B <c>", "a b c", "..", "ü", "x" * 200):
        taken.append(slug(text, taken))
    assert taken[:4] == ["a-b-c", "a-b-c-2", "unnamed", "unnamed-2"] and len(taken[4]) == 60
