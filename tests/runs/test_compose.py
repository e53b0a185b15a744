"""Choices that do not go together, and old names, are refused in one line that says what to type."""

import pkgutil
import re
import sys
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from respike import reproduce
from respike.errors import InputError
from respike.runs import conf
from respike.runs.compose import check_choices, compose_run
from respike.runs.conf import CONF, conf_folder, names
from respike.runs.grid import check_grid
from respike.runs.old_names import CALLABLES, KEYS, MODULES, OPTIONS, check_words, new_key, new_target
from respike.train import main


@pytest.mark.parametrize(
    ("overrides", "given", "typed"),
    [
        ("experiment=stbp_resnet19_narrow method=rate", "model=stbp_resnet19_narrow", "type method=direct"),
        ("experiment=stbp_resnet19_narrow convert=exact_map", "convert=exact_map", "leave convert= out"),
        ("experiment=stbp_resnet19_narrow encode=rate", "encode=rate", "leave encode= out"),
        ("experiment=exact_fc method=direct", "model=exact_fc (ExactFC)", "type method=ttfs"),
        (
            "experiment=exact_fc method=rate",
            "method=rate",
            "data=mnist model=exact_fc recipe=exact_fc_ours method=rate",
        ),
        ("experiment=exact_fc convert=data_norm", "convert=data_norm", "type convert=exact_map"),
        ("experiment=exact_fc encode=rate", "encode=rate", "leave encode= out"),
        ("experiment=diehl_fc convert=exact_map", "convert=exact_map", "type convert=data_norm"),
        ("experiment=diehl_fc method=ttfs", "method=ttfs", "model=diehl_fc recipe=diehl_fc_authors method=ttfs"),
        ("experiment=diehl_fc simulate=ttfs", "simulate=ttfs", "type simulate=rate"),
        ("experiment=diehl_fc callbacks=direct", "callbacks=direct", "type callbacks=rate"),
        ("experiment=diehl_fc lit=direct", "lit=direct", "type lit=relu"),
        ("experiment=diehl_fc model=stbp_resnet19", "model=stbp_resnet19", "type method=direct"),
        ("convert=exact_map", "convert=exact_map", "or type method=ttfs"),
        ("model=diehl_cnn", "model=diehl_cnn", "type recipe=diehl_cnn_authors or recipe=diehl_cnn_ours"),
        ("experiment=exact_fc model=published_keras", "model=published_keras", "type recipe=pretrained"),
        ("experiment=diehl_fc model=custom model._target_=torch.nn.ReLU", "model=custom", "type recipe=custom"),
        ("~encode", "encode=null", "type encode=rate"),
        ("experiment=diehl_fc neuron/surrogate=atan", "neuron/surrogate=atan", "leave neuron/surrogate= out"),
        (
            "experiment=stbp_resnet19_narrow neuron=soft",
            "neuron/surrogate=",
            "neuron=soft takes no surrogate; type neuron=lif",
        ),
        ("experiment=exact_fc neuron=lif", "neuron=lif", "leave neuron= out"),
        ("~neuron", "neuron=null", "type neuron=diehl"),
        ("~method", "~method", "type method=OPTION with one of direct, rate, ttfs"),
        ("model=custom", "model=custom", "model._target_=package.Class"),
        ("model=custom model._target_=nowhere.Net", "model._target_=nowhere.Net", "No module named 'nowhere'"),
    ],
)
def test_a_mixture_is_one_line_with_what_to_type(overrides, given, typed):
    with pytest.raises(InputError) as caught:
        compose_run(["paths.run=x", *overrides.split()])
    line = str(caught.value)
    assert line.startswith(given) and typed in line and "\n" not in line


def test_what_the_line_says_to_type_composes():
    instead = "data=mnist model=exact_fc recipe=exact_fc_ours method=rate"
    assert compose_run(["paths.run=x", *instead.split()]).method.name == "rate"
    assert compose_run(["paths.run=x", "method=ttfs", "model=exact_fc", "recipe=exact_fc_ours"]).method.name == "ttfs"


def test_a_network_is_judged_by_its_class_and_not_built(monkeypatch):
    """A network that spikes by itself and cannot be built, as the class says, goes with method=direct only."""

    class Spiking:
        spiking_layers = None

        def __init__(self):
            raise AssertionError("built")

    monkeypatch.setattr(pkgutil, "resolve_name", lambda target: Spiking)
    choices = dict.fromkeys(("method", "lit", "simulate", "callbacks"), "direct")
    choices |= {"model": "custom", "neuron": "lif", "neuron/surrogate": "atan"}
    for method, refused in (("direct", False), ("rate", True)):
        loaded = OmegaConf.load(CONF / "method" / f"{method}.yaml").method
        cfg = OmegaConf.create(
            {"method": loaded, "model": {"_target_": "a.Spiking"}, "protocol": {"method": None}, "data": {}}
        )
        if refused:
            with pytest.raises(InputError, match="type method=direct"):
                check_choices(cfg, choices)
        else:
            check_choices(cfg, choices)


@pytest.mark.parametrize(
    "command", ["experiment=stbp_resnet19_narrow method=rate", "experiment=exact_fc convert=data_norm"]
)
def test_the_command_line_refuses_a_mixture_before_anything_is_built(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["respike.train", f"hydra.run.dir={tmp_path / 'run'}", *command.split()])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 1 and error.count("\n") == 1 and error.startswith("respike: ")
    assert not (tmp_path / "run" / "config.yaml").exists()


@pytest.mark.parametrize(
    "old", [*(f"{key}=x" if "=" not in key else key for key in OPTIONS), *(f"{k}=1" for k in KEYS)]
)
def test_an_old_name_is_answered_with_the_new_one(monkeypatch, capsys, old):
    key = old.partition("=")[0]
    new = (OPTIONS.get(old) or OPTIONS.get(key) or KEYS[key]).replace("recipe=*", "recipe=exact_fc")
    monkeypatch.setattr(sys, "argv", ["respike.train", "experiment=diehl_fc", old])
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 1 and error.count("\n") == 1 and old in error and new in error
    assert reproduce.main(["quick", old]) == 1
    assert new in capsys.readouterr().err


def test_an_old_name_is_found_in_lists_grids_below_renamed_keys_and_in_targets():
    with pytest.raises(InputError, match="type recipe=custom"):
        check_words(["recipe=diehl_fc_authors,own"])
    with pytest.raises(InputError, match=r"neuron\.surrogate\.a is|type neuron\.surrogate\.a=2"):
        check_words(["model.surrogate.a=2"])
    with pytest.raises(InputError, match=r"neuron\.threshold"):
        check_grid([], {"simulate.threshold": "1,2"})
    with pytest.raises(InputError, match=r"lit\.loss\._target_=respike\.training\.losses\.half_squared_error"):
        check_words(["lit.loss._target_=respike.lit.losses.half_squared_error"])
    check_words(["experiment=diehl_fc", "+model.tau=3", "convert=none", "logger=none", "-m", "--cfg", "job"])


def test_new_names_exist():
    """Every option, key and callable that the table names can be typed now."""
    for answer in OPTIONS.values():
        for group, option in re.findall(r"(?<![\w.])(\w+)=(\w+)", answer):
            assert option in names(group)
    exist = (
        compose_run(["paths.run=x", "experiment=diehl_fc"]),
        compose_run(["paths.run=x", "experiment=stbp_resnet19"]),
    )
    for key in KEYS.values():
        assert any(OmegaConf.select(cfg, key, default="absent") != "absent" for cfg in exist), key
    for name in (*MODULES.values(), *CALLABLES.values()):
        pkgutil.resolve_name(name)


def test_every_target_of_a_committed_run_is_found_under_its_new_name():
    reference = Path(__file__).resolve().parents[2] / "outputs" / "reference"
    texts = [path.read_text(encoding="utf-8") for path in reference.rglob("config.yaml")]
    targets = {target for text in texts for target in re.findall(r"_target_: (respike\.\S+)", text)}
    assert targets
    for target in targets:
        assert callable(pkgutil.resolve_name(new_target(target))), target


def test_settings_of_old_runs_are_translated():
    assert new_key("simulate.threshold") == "neuron.threshold" and new_key("simulate.strict") == "neuron.fire_above"
    assert new_key("model.surrogate.a") == "neuron.surrogate.a" and new_key("model.v_th") == "neuron.v_th"
    assert new_key("encode.max_rate") == "encode.max_rate" and new_key("model.taus") == "model.taus"
    assert new_target("respike.simulate.clock.simulate") == "respike.simulate.rate.layerwise.simulate"
    assert new_target("respike.networks.mlp.MLP") == "respike.networks.mlp.MLP" and new_target("Net") == "Net"


def test_help_lists_every_option_of_every_group(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["respike.train", "--help"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    printed = capsys.readouterr().out
    groups = {path.parent.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml")}
    for group in groups - {".", "paths", "report", "wandb_sweeps", "hydra/help"}:
        assert all(re.search(rf"\b{name}\b", printed) for name in names(group)), group
    assert printed.count("python -m respike.train") == 3 and max(map(len, printed.splitlines())) < 140


def test_conf_lies_in_the_package_or_at_the_top_of_the_repository(tmp_path, monkeypatch):
    assert conf_folder() == Path(conf.__file__).resolve().parents[3] / "conf"
    module = tmp_path / "respike" / "runs" / "compose.py"
    (tmp_path / "respike" / "conf").mkdir(parents=True)
    monkeypatch.setattr(conf, "__file__", str(module))
    assert conf_folder() == tmp_path / "respike" / "conf"
