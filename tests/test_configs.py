"""Every config composes, and what it names can be made."""

from types import SimpleNamespace

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from respike import reproduce
from respike.errors import InputError
from respike.reproduce import load_preset, row_config
from respike.runs.folder import reductions
from respike.train import CONF, explain

EXPERIMENTS = sorted(path.stem for path in (CONF / "experiment").glob("*.yaml"))
SCALARS = ("convert", "encode", "simulate", "logger", "trainer", "data")
OPTIONS = [(group, path.stem) for group in SCALARS for path in sorted((CONF / group).glob("*.yaml"))]


def composed(tmp_path, *overrides):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("config", overrides=[f"paths.run={tmp_path}", *overrides])
    OmegaConf.resolve(cfg)
    return cfg


def make(cfg):
    """Everything `train` makes of a config but the loggers (which would start W&B) and the trainer."""
    instantiate(cfg.data)
    instantiate(cfg.lit, net=instantiate(cfg.model))
    instantiate(cfg.encode)
    return [instantiate(callback) for callback in cfg.callbacks.values()]


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_experiment_composes_and_instantiates(tmp_path, name):
    cfg = composed(tmp_path, f"experiment={name}")
    assert cfg.name == name
    if name.endswith("_published") or "vgg16" in name:
        with pytest.raises(Exception) as caught:
            make(cfg)
        assert "model.path=" in explain(caught.value)
    else:
        assert len(make(cfg)) == len(cfg.callbacks)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_published_numbers_are_fractions_with_a_source_and_a_budget(tmp_path, name):
    cfg = composed(tmp_path, f"experiment={name}")
    assert all(value is None or 0.5 < value <= 1 for value in cfg.paper.published.values())
    assert cfg.paper.headline is None or cfg.paper.headline in cfg.paper.published
    assert cfg.paper.source
    assert cfg.budget_min > 0


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_names_something_that_exists(tmp_path, group, option):
    cfg = composed(tmp_path, f"{group}={option}", "name=x")
    OmegaConf.set_struct(cfg, False)
    chosen = cfg[group]
    if chosen:
        chosen["_partial_"] = True
        assert callable(instantiate(chosen))


@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_every_row_of_a_preset_composes(tmp_path, preset):
    loaded = load_preset(preset)
    names = [row.name for row in loaded.rows]
    assert len(set(names)) == len(names)
    for row in loaded.rows:
        cfg = row_config(loaded, row, [], tmp_path / row.name)
        assert cfg.name == row.name
        assert cfg.budget_min > 0
    assert {name for group in loaded.groups for name in group.runs} == set(names)


def test_an_unknown_preset_names_those_there_are():
    with pytest.raises(InputError, match="paper, quick"):
        load_preset("nope")


@pytest.mark.parametrize("convert", ["none", "data_norm", "model_norm", "percentile"])
@pytest.mark.parametrize("encode", ["rate", "threshold", "current"])
def test_any_conversion_and_any_input_coding_fit_any_experiment(tmp_path, convert, encode):
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False), torch.nn.ReLU())
    torch.nn.init.constant_(net[1].weight, 0.5)
    for name in [name for name in EXPERIMENTS if not name.startswith(("exact", "stbp"))] + [
        "exact_fc",
        "exact_fc_data_norm",
    ]:
        rates = ["simulate=default", "callbacks=default"]
        cfg = composed(tmp_path, f"experiment={name}", f"convert={convert}", f"encode={encode}", *rates)
        snn = instantiate(cfg.convert)(net, torch.rand(3, 1, 2, 2))
        assert instantiate(cfg.simulate)(snn, torch.rand(3, 1, 2, 2)).images == 3


def test_the_diehl_protocols_are_pinned(tmp_path):
    fc = composed(tmp_path, "experiment=diehl_fc")
    cnn = composed(tmp_path, "experiment=diehl_cnn", "recipe=authors")
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
    assert composed(tmp_path, "experiment=diehl_fc_raw").encode.max_rate == 200
    assert composed(tmp_path, "experiment=diehl_cnn_raw").encode.max_rate == 400


def test_the_mathworks_protocol_is_pinned(tmp_path):
    cfg = composed(tmp_path, "experiment=digits_cnn")
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


def test_the_exact_protocols_are_pinned(tmp_path):
    fc = composed(tmp_path, "experiment=exact_fc", "recipe=authors")
    assert (fc.model.sizes, fc.model.dropout, fc.data.batch_size, fc.trainer.max_epochs) == (
        [784, 600, 10],
        0.08,
        64,
        100,
    )
    assert (fc.lit.optimizer.lr, fc.lit.scheduler.factor, fc.lit.scheduler.every) == (0.0005, 0.9, 5000)
    assert (fc.convert.zeta, fc.convert.weight_bounds, fc.convert.input_range) == (0.5, [-10, 0.99], [0, 1])
    assert fc.lit.activity_penalty == 0 and composed(tmp_path, "experiment=exact_fc_l1").lit.activity_penalty == 4.5e-4
    vgg = composed(tmp_path, "experiment=exact_vgg_cifar10_l1", "recipe=authors")
    assert (vgg.data.batch_size, vgg.trainer.max_epochs, vgg.model.dropout) == (128, 250, [0.3, 0.4, 0.5])
    assert (vgg.lit.optimizer.l2, vgg.lit.scheduler.factor, vgg.lit.scheduler.every) == (5e-4, 0.5, 20)
    assert (vgg.lit.activity_penalty, vgg.data.train_transform.degrees, vgg.model.momentum) == (1e-6, 15, 0.01)


@pytest.mark.parametrize("name", ["exact_vgg_cifar10", "exact_vgg_cifar100"])
def test_pixels_of_cifar_reach_from_minus_3_to_3_once_standardized(tmp_path, name):
    cfg = composed(tmp_path, f"experiment={name}")
    p, q = ((pixel - cfg.model.mean) / cfg.model.std for pixel in cfg.convert.input_range)
    assert (p, q) == (pytest.approx(-3, abs=1e-4), pytest.approx(3, abs=1e-4))


def test_a_short_training_of_a_long_protocol_is_a_reduced_one(tmp_path):
    cfg = composed(tmp_path, "experiment=exact_vgg_mnist")
    data = SimpleNamespace(reductions=list)
    assert reductions(cfg, data) == ["2 epochs instead of 100"]
    assert reductions(composed(tmp_path, "experiment=exact_vgg_mnist", "recipe=authors"), data) == []


def test_the_direct_protocol_is_pinned(tmp_path):
    cfg = composed(tmp_path, "experiment=stbp_resnet19_repository")
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


def test_ours_differs_from_the_repository_in_what_it_says(tmp_path):
    ours, theirs = (composed(tmp_path, f"experiment={name}") for name in ("stbp_resnet19", "stbp_resnet19_repository"))
    assert (ours.neuron.surrogate.centre, ours.recipe.keep, ours.data.train_transform.padding) == (
        "threshold",
        "best",
        4,
    )
    assert (ours.model.mean, ours.model.std, ours.data.train_transform.flip) == ([0.1307], [0.3082], False)
    for key in ("epochs", "batch_size", "patience", "optimizer", "scheduler", "loss"):
        assert ours.recipe[key] == theirs.recipe[key]


@pytest.mark.parametrize("schedule", ["staircase", "cosine", "one_cycle"])
@pytest.mark.parametrize("experiment", ["stbp_resnet19", "stbp_resnet19_narrow", "stbp_resnet19_cifar10"])
def test_every_schedule_fits_every_direct_training(tmp_path, schedule, experiment):
    cfg = composed(tmp_path, f"experiment={experiment}", f"schedule@recipe.scheduler={schedule}")
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    scheduler = instantiate(cfg.recipe.scheduler)(optimizer, 100)
    assert type(scheduler).__name__ == {"staircase": "StepLR", "cosine": "CosineAnnealingLR"}.get(
        schedule, "OneCycleLR"
    )


@pytest.mark.parametrize("surrogate", ["rectangle", "triangle", "sigmoid", "atan"])
def test_every_surrogate_fits_the_direct_network(tmp_path, surrogate):
    cfg = composed(
        tmp_path, "experiment=stbp_resnet19_narrow", f"neuron/surrogate={surrogate}", "model.width_mult=0.0625"
    )
    net = instantiate(cfg.model)
    assert type(net.fire.neurons.neuron.surrogate).__name__.lower() == surrogate


def test_a_long_row_is_left_out_unless_it_is_asked_for(tmp_path, monkeypatch):
    preset = load_preset("paper")
    preset.rows = [row for row in preset.rows if row.get("long")]
    (name,) = [row.name for row in preset.rows]
    trained = []
    monkeypatch.setattr(reproduce, "train", lambda cfg, extra: trained.append(cfg.name))
    runs, skipped, broken = reproduce.run_rows(preset, tmp_path, [])
    assert not runs and not broken and "75 minutes" in skipped[name] and "--long" in skipped[name] and not trained
    reproduce.run_rows(preset, tmp_path, [], long=True)
    assert trained == [name]


def test_the_direct_row_is_whole_on_a_gpu_and_narrow_and_reduced_without(tmp_path, monkeypatch):
    preset = load_preset("paper")
    row = next(row for row in preset.rows if row.name == "stbp_resnet19")
    for gpu, width, accelerator, reasons in (
        (True, 1.0, "gpu", []),
        (False, 0.25, "cpu", ["8 epochs instead of 11", "narrow: 0.25 of the width"]),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpu=gpu: gpu)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
        cfg = row_config(preset, row, [], tmp_path)
        assert (cfg.model.width_mult, cfg.trainer.accelerator, cfg.name) == (width, accelerator, "stbp_resnet19")
        assert reductions(cfg, SimpleNamespace(reductions=list)) == reasons
