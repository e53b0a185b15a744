"""Every config composes, and what it names can be made."""

from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from respike.errors import InputError, explain
from respike.runs.compose import CONF, compose_run, names
from respike.runs.folder import reductions
from respike.runs.preset import load_preset, row_config, run_rows
from respike.training.fit import make_network

EXPERIMENTS = names("experiment")
RECIPES = names("recipe")
FREE = [(group, option) for group in ("logger", "trainer", "data") for option in names(group)]
PARTS = [
    (method, group, option)
    for method in names("method")
    for group, allowed in OmegaConf.load(CONF / "method" / f"{method}.yaml").method.options.items()
    for option in (names(group) if allowed == "all" else allowed)
]
SPIKING = ("method=direct", "model=stbp_resnet19_narrow", "recipe=resnet19_narrow_ours")
NARROW = {"width": 0.03, "width_mult": 0.0625}  # of networks that take seconds to build


@cache
def unresolved(*overrides):
    return compose_run(["paths.run=run", *overrides])


def composed(*overrides):
    """The composed and resolved config."""
    cfg = unresolved(*overrides).copy()
    OmegaConf.resolve(cfg)
    return cfg


def make(cfg):
    """Everything `train` makes of a config but the loggers (which would start W&B) and the trainer."""
    instantiate(cfg.data)
    instantiate(cfg.lit, net=make_network(cfg.model))
    instantiate(cfg.get("encode"))
    return [instantiate(callback) for callback in cfg.callbacks.values()]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_instantiates(name):
    cfg = composed(f"experiment={name}")
    assert cfg.name == name
    path = cfg.model.get("path", "")
    if (path is None and not cfg.random_weights) or (path and not Path(path).is_file()):  # the weights are a file
        with pytest.raises(Exception) as caught:
            make(cfg)
        assert "model.path=" in explain(caught.value)
    else:
        assert len(make(cfg)) == len(cfg.callbacks)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_published_numbers_are_fractions_with_a_source_and_a_budget(name):
    cfg = composed(f"experiment={name}")
    assert all(value is None or 0.5 < value <= 1 for value in cfg.paper.published.values())
    assert cfg.paper.headline is None or cfg.paper.headline in cfg.paper.published
    assert cfg.paper.source
    assert cfg.budget_min > 0


@pytest.mark.parametrize(("group", "option"), FREE)
def test_every_option_names_something_that_exists(group, option):
    check_callable(composed(f"{group}={option}", "name=x"), group)


@pytest.mark.parametrize(("method", "group", "option"), PARTS)
def test_every_option_of_a_method_composes_and_names_something_that_exists(method, group, option):
    network = SPIKING if method == "direct" else (f"method={method}",)
    network += ("neuron=lif",) if group == "neuron/surrogate" else ()
    network += ("~neuron/surrogate",) if method == "direct" and group == "neuron" else ()
    cfg = composed(*network, f"{group}={option}", "name=x")
    if group != "callbacks":
        check_callable(cfg, group)


def check_callable(cfg, group):
    OmegaConf.set_struct(cfg, False)
    if chosen := OmegaConf.select(cfg, group.replace("/", ".")):
        chosen["_partial_"] = True
        assert callable(instantiate(chosen))


@pytest.mark.parametrize("group", ["lit", "neuron", "neuron/surrogate", "convert", "encode", "simulate", "callbacks"])
def test_every_option_of_a_part_goes_with_some_method(group):
    assert {option for _, part, option in PARTS if part == group} == set(names(group))


@pytest.mark.parametrize("model", [name for name in names("model") if name != "custom"])
def test_every_network_goes_with_every_recipe(model):
    method = "method=direct" if model.startswith("stbp") else "method=rate"
    neuron = ["neuron=nir"] if model == "nir" else []
    cfg = unresolved(f"model={model}", "recipe=custom", method, *neuron, "name=x").copy()
    OmegaConf.set_struct(cfg, False)
    for key, width in NARROW.items():
        if key in cfg.model:
            cfg.model[key] = width
    for recipe in RECIPES:
        cfg.recipe = unresolved(f"recipe={recipe}", "name=x").recipe
        instantiate(cfg.data)
        network = cfg.model.get("net", cfg.model)
        if "path" in network:  # read from a file, without a recipe
            continue
        module = instantiate(cfg.lit, net=make_network(network))
        optimizer = module.make_optimizer(module.net.parameters())
        if module.make_scheduler is not None:
            assert module.make_scheduler(optimizer, 100).optimizer is optimizer


def test_every_recipe_holds_the_same_keys():
    recipes = {recipe: set(unresolved(f"recipe={recipe}", "name=x").recipe) for recipe in RECIPES}
    assert len({frozenset(keys) for keys in recipes.values()}) == 1, recipes


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_has_its_schedule_from_the_group_alone_so_that_any_other_can_be_chosen(recipe):
    content = OmegaConf.load(CONF / "recipe" / f"{recipe}.yaml")
    chosen, own = content.defaults
    assert chosen.scheduler in names("recipe/scheduler") and own == "_self_" and "scheduler" not in content


@pytest.mark.parametrize("scheduler", names("recipe/scheduler"))
def test_every_schedule_replaces_that_of_a_recipe(scheduler):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    kinds = {
        "constant": "NoneType",
        "cosine": "CosineAnnealingLR",
        "cosine_by_epoch": "LambdaLR",
        "exponential": "ExponentialLR",
        "halving": "StepLR",
        "one_cycle": "OneCycleLR",
        "staircase": "StepLR",
    }
    for recipe in ("custom", "diehl_cnn_authors", "exact_vgg_cifar_authors"):
        cfg = composed(f"recipe={recipe}", f"recipe/scheduler={scheduler}", "trainer.max_epochs=10", "name=x")
        made = cfg.recipe.scheduler and instantiate(cfg.recipe.scheduler)(optimizer, 100)
        assert type(made).__name__ == kinds[scheduler]


def parents(name):
    """The experiments that an experiment names in its defaults list."""
    defaults = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").get("defaults", [])
    return [entry for entry in defaults if isinstance(entry, str) and entry != "_self_"]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_extends_at_most_one_which_extends_none(name):
    assert len(parents(name)) <= 1 and not any(parents(parent) for parent in parents(name))


def chosen_recipe(name):
    """The recipe that an experiment, or the one it extends, chooses."""
    for entry in OmegaConf.load(CONF / "experiment" / f"{name}.yaml").defaults:
        if "override /recipe" in entry:
            return entry["override /recipe"]
    return chosen_recipe(parents(name)[0])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_names_its_method_and_its_recipes(name):
    cfg = unresolved(f"experiment={name}")
    assert cfg.protocol.method == cfg.method.name
    assert chosen_recipe(name) in cfg.protocol.recipes and set(cfg.protocol.recipes) <= set(RECIPES)


@pytest.mark.parametrize("preset", names("report"))
def test_every_row_of_a_preset_composes(tmp_path, preset):
    loaded = load_preset(preset)
    names = [row.name for row in loaded.rows]
    assert len(set(names)) == len(names)
    for row in loaded.rows:
        for short in (False, True):
            cfg = row_config(loaded, row, [], tmp_path / row.name, short)
            assert cfg.name == row.name
            assert cfg.budget_min > 0
    assert {name for group in loaded.groups for name in group.runs} == set(names)


def test_the_paper_preset_takes_two_and_a_half_hours_without_its_long_rows(tmp_path):
    preset = load_preset("paper")
    rows = [row_config(preset, row, [], tmp_path, short=True) for row in preset.rows if not row.get("long")]
    assert sum(row.budget_min for row in rows) <= 150


@pytest.mark.parametrize("convert", ["mmse", "calibrate_bias", "calibrate_potential", "calibrate_weights"])
def test_a_conversion_for_t_steps_takes_those_of_the_simulation(convert):
    for typed, steps in (([], 8), (["simulate.start_at_zero=true"], 9)):
        cfg = composed("experiment=diehl_fc", f"convert={convert}", "simulate.duration=0.008", *typed)
        assert cfg.convert.steps == steps


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(InputError, match="paper, quick"):
        load_preset("nope")


@pytest.mark.parametrize(
    "convert",
    [
        "none",
        "data_norm",
        "model_norm",
        "percentile",
        "mmse",
        "local_threshold",
        "calibrate_bias",
        "calibrate_potential",
        "calibrate_weights",
    ],
)
@pytest.mark.parametrize("encode", ["rate", "threshold", "current"])
def test_any_conversion_and_any_input_coding_fit_any_protocol(convert, encode):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False), torch.nn.ReLU())
    torch.nn.init.constant_(net[1].weight, 0.5)
    for name in ("diehl_fc", "diehl_cnn", "digits_cnn", "exact_fc_data_norm"):
        cfg = composed(f"experiment={name}", f"convert={convert}", f"encode={encode}")
        snn = instantiate(cfg.convert)(net, torch.rand(3, 1, 2, 2))
        assert instantiate(cfg.simulate)(snn, torch.rand(3, 1, 2, 2)).images == 3


def test_the_diehl_protocols_are_pinned():
    fc = composed("experiment=diehl_fc")
    cnn = composed("experiment=diehl_cnn", "recipe=diehl_cnn_authors")
    assert (fc.convert.convention, fc.convert.output_layer, fc.encode.max_rate) == ("authors_code", True, 1000)
    assert (cnn.convert.convention, cnn.convert.output_layer, cnn.encode.max_rate) == ("authors_code", False, 1000)
    assert not fc.simulate.start_at_zero and cnn.simulate.start_at_zero and cnn.simulate.drop_first_output
    assert (fc.trainer.max_epochs, fc.data.batch_size, fc.lit.optimizer.momentum, fc.model.dropout) == (
        15,
        100,
        0.5,
        0.5,
    )
    assert (cnn.trainer.max_epochs, cnn.data.batch_size, cnn.lit.optimizer.momentum) == (5, 50, 0.0)
    assert composed("experiment=diehl_fc_raw").encode.max_rate == 200
    assert composed("experiment=diehl_cnn_raw").encode.max_rate == 400


def test_the_mathworks_protocol_is_pinned():
    cfg = composed("experiment=digits_cnn")
    assert cfg.convert._target_.endswith("no_norm") and cfg.encode.spike_threshold == 2.5
    assert (cfg.model.channels, cfg.model.pool_stride, cfg.model.bias, cfg.model.output_relu) == (
        [12, 64],
        1,
        False,
        "none",
    )
    assert (cfg.trainer.max_epochs, cfg.data.batch_size, cfg.lit.optimizer.lr, cfg.lit.optimizer.momentum) == (
        15,
        40,
        0.05,
        0.5,
    )
    assert cfg.lit.loss._target_.endswith("cross_entropy")
    assert (cfg.simulate.duration / cfg.simulate.dt, cfg.neuron.threshold, cfg.neuron.reset) == (40, 1, "zero")


def test_the_quick_preset_runs_the_digits_in_full(tmp_path):
    preset = load_preset("quick")
    row = next(row for row in preset.rows if row.name == "digits_cnn")
    cfg = row_config(preset, row, [], tmp_path)
    assert cfg.data.train_size is None and cfg.data.test_size is None and cfg.data.dataset.train_count == 5000


def test_the_exact_protocols_are_pinned():
    fc = composed("experiment=exact_fc", "recipe=exact_fc_authors")
    assert (fc.model.sizes, fc.model.dropout, fc.data.batch_size, fc.trainer.max_epochs) == (
        [784, 600, 10],
        0.08,
        64,
        100,
    )
    assert (fc.lit.optimizer.lr, fc.lit.scheduler.factor, fc.lit.scheduler.every) == (0.0005, 0.9, 5000)
    assert (fc.convert.zeta, fc.convert.weight_bounds, fc.convert.input_range) == (0.5, [-10, 0.99], [0, 1])
    assert fc.lit.activity_penalty == 0 and composed("experiment=exact_fc_l1").lit.activity_penalty == 4.5e-4
    vgg = composed("experiment=exact_vgg_cifar10_l1", "recipe=exact_vgg_cifar_authors")
    assert (vgg.data.batch_size, vgg.trainer.max_epochs, vgg.model.dropout) == (128, 250, [0.3, 0.4, 0.5])
    assert (vgg.lit.optimizer.l2, vgg.lit.scheduler.factor, vgg.lit.scheduler.every) == (5e-4, 0.5, 20)
    assert (vgg.lit.activity_penalty, vgg.data.train_transform.degrees, vgg.model.momentum) == (1e-6, 15, 0.01)


@pytest.mark.parametrize("name", ["exact_vgg_cifar10", "exact_vgg_cifar100"])
def test_pixels_of_cifar_reach_from_minus_3_to_3_once_standardized(name):
    cfg = composed(f"experiment={name}")
    p, q = ((pixel - cfg.model.mean) / cfg.model.std for pixel in cfg.convert.input_range)
    assert (p, q) == (pytest.approx(-3, abs=1e-4), pytest.approx(3, abs=1e-4))


def test_a_short_training_of_a_long_protocol_is_a_reduced_one():
    cfg = composed("experiment=exact_vgg_mnist")
    data = SimpleNamespace(reductions=list)
    assert reductions(cfg, data) == ["2 epochs instead of 100"]
    assert reductions(composed("experiment=exact_vgg_mnist", "recipe=exact_fc_authors"), data) == []


def test_the_direct_protocol_is_pinned():
    cfg = composed("experiment=stbp_resnet19_repository")
    model, recipe = cfg.model, cfg.recipe
    assert (model.steps, model.neuron.v_th, model.neuron.tau, model.stem, model.alpha) == (2, 0.4, 0.25, 64, 1)
    assert model.residual_alpha == pytest.approx(2**-0.5)
    assert (model.neuron.surrogate.a, model.neuron.surrogate.centre, model.mean, model.std) == (
        0.5,
        "zero",
        [0.0],
        [1.0],
    )
    assert (cfg.data.batch_size, cfg.data.val_size, cfg.data.train_transform) == (64, 6000, None)
    assert (cfg.trainer.max_epochs, cfg.trainer.precision, recipe.patience, recipe.keep) == (11, "32-true", 7, "last")
    optimizer = recipe.optimizer
    assert (optimizer._target_, optimizer.lr, optimizer.betas, optimizer.eps) == (
        "torch.optim.Adam",
        1e-3,
        [0.9, 0.999],
        1e-8,
    )
    assert (recipe.scheduler.factor, recipe.scheduler.every) == (0.1, 10)
    assert len(cfg.paper.rates) == 19 and len(cfg.paper.epochs) == 11


def test_ours_differs_from_the_repository_in_what_it_says():
    ours, theirs = (composed(f"experiment={name}") for name in ("stbp_resnet19", "stbp_resnet19_repository"))
    surrogates = [cfg.neuron.surrogate._target_.rpartition(".")[2] for cfg in (ours, theirs)]
    assert (surrogates, ours.neuron.surrogate.centre) == (["ATan", "Rectangle"], "threshold")
    assert (ours.recipe.keep, ours.recipe.reduced) == ("best", None)
    assert (ours.model.mean, ours.model.std, ours.data.train_transform.flip) == ([0.1307], [0.3082], False)
    for key in ("epochs", "batch_size", "val_size"):
        assert ours.recipe[key] == theirs.recipe[key]


@pytest.mark.parametrize("surrogate", ["rectangle", "triangle", "sigmoid", "atan"])
def test_every_surrogate_fits_the_direct_network(surrogate):
    cfg = composed("experiment=stbp_resnet19_narrow", f"neuron/surrogate={surrogate}", "model.width_mult=0.0625")
    net = make_network(cfg.model)
    assert type(net.fire.neurons.neuron.surrogate).__name__.lower() == surrogate


def test_a_long_row_is_left_out_unless_it_is_asked_for(tmp_path):
    preset = load_preset("paper")
    preset.rows = [row for row in preset.rows if row.get("long") and not row.get("needs")]
    names = [row.name for row in preset.rows]
    trained = []

    def train(cfg, extra):
        trained.append(cfg.name)

    runs, skipped, failed = run_rows(train, preset, tmp_path, [])
    assert not runs and not failed and not trained and skipped.keys() == set(names) >= {"stbp_resnet19"}
    assert all("--long" in line for line in skipped.values()) and "175 minutes" in skipped["stbp_resnet19"]
    run_rows(train, preset, tmp_path, [], long=True)
    assert trained == names


def test_the_direct_row_runs_where_there_is_a_gpu_and_a_narrow_reduced_one_everywhere(tmp_path, monkeypatch):
    preset = load_preset("paper")
    preset.rows = [row for row in preset.rows if row.name in ("stbp_resnet19_narrow", "stbp_resnet19")]
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    for gpu, expected in (
        (True, {"stbp_resnet19_narrow": (0.25, "cpu"), "stbp_resnet19": (1.0, "gpu")}),
        (False, {"stbp_resnet19_narrow": (0.25, "cpu")}),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        found = {}

        def train(cfg, overrides, found=found):
            found[cfg.name] = (cfg.model.width_mult, cfg.trainer.accelerator)
            reasons = [] if cfg.name == "stbp_resnet19" else ["8 epochs instead of 11", "narrow: 0.25 of the width"]
            assert reductions(cfg, SimpleNamespace(reductions=list)) == reasons

        _, skipped, _ = run_rows(train, preset, tmp_path, [])
        assert found == expected
        assert ("--long" in skipped["stbp_resnet19"]) != gpu


@pytest.mark.parametrize("convert", ["mmse", "calibrate_bias", "calibrate_potential", "calibrate_weights"])
def test_the_network_with_max_pools_takes_every_conversion_of_the_sweep_over_latencies(convert):
    assert composed("experiment=lenet_maxpool", f"convert={convert}", "simulate.duration=0.008").convert.steps == 8


def test_the_energy_preset_has_the_settings_of_the_committed_runs(tmp_path):
    committed = {
        path.parent.name: OmegaConf.load(path) for path in CONF.parent.glob("outputs/reference/energy/*/*/config.yaml")
    }
    preset = load_preset("energy")
    assert {row.name for row in preset.rows} == set(committed)
    for row in preset.rows:
        cfg = row_config(preset, row, ["paths.data=data"], tmp_path)
        for block in ("data", "model", "recipe", "convert", "encode", "neuron", "simulate", "energy", "seed"):
            ran = OmegaConf.to_container(committed[row.name]).get(block)
            asked = cfg.get(block)
            assert (OmegaConf.to_container(asked, resolve=True) if OmegaConf.is_config(asked) else asked) == ran, (
                row.name,
                block,
            )
