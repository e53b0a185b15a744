"""The conversion at the end of a test: cached, made again if damaged, and refused before training if it cannot be saved."""

import functools

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from small_training import image_set
from torch import nn

from respike.callbacks.convert import Convert
from respike.convert import data_norm, exact_map, load_snn, no_norm, percentile_norm
from respike.data.datamodule import ImageDataModule
from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.training.classifier import Classifier
from respike.training.losses import half_squared_error


def convert(folder, method, net=None, logger=False, **settings):
    """Test a small network with the callback, caching conversions in folder/stages; returns the callback."""
    torch.manual_seed(0)
    net = net or MLP([36, 20, 3])
    module = Classifier(net, half_squared_error, functools.partial(torch.optim.SGD, lr=0.1), seed=3)
    callback = Convert(method, stages=folder / "stages", **settings)
    trainer = pl.Trainer(
        accelerator="cpu", logger=logger, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder / "run", callbacks=[callback],
    )  # fmt: skip
    trainer.test(module, datamodule=ImageDataModule(image_set, root="", batch_size=7, seed=1), verbose=False)
    return callback


def equal(a, b):
    return all(torch.equal(value, b.state_dict()[name]) for name, value in a.state_dict().items())


@pytest.mark.parametrize("method", [data_norm, functools.partial(exact_map, zeta=0.25)])
def test_a_conversion_is_cached_and_saved_with_the_run(tmp_path, method):
    first = convert(tmp_path, method)
    (stage,) = (tmp_path / "stages").glob("*/snn.pt")
    written = stage.stat().st_mtime_ns
    again = convert(tmp_path, method)
    assert stage.stat().st_mtime_ns == written
    assert equal(first.snn, again.snn)
    assert equal(load_snn(tmp_path / "run" / "checkpoints" / "snn.pt"), first.snn)
    weights = torch.load(tmp_path / "run" / "checkpoints" / "ann.pt", weights_only=True)
    assert list(weights) == ["1.weight", "3.weight"]


@pytest.mark.parametrize("content", [b"", b"no network", None])
def test_a_damaged_cached_conversion_is_made_again(tmp_path, content, caplog):
    first = convert(tmp_path, data_norm)
    (stage,) = (tmp_path / "stages").glob("*/snn.pt")
    whole = stage.read_bytes()
    for _ in range(2):  # a folder set aside earlier is replaced
        stage.write_bytes(whole[:-200] if content is None else content)
        with caplog.at_level("WARNING", "respike"):
            again = convert(tmp_path, data_norm)
        assert equal(first.snn, again.snn) and equal(load_snn(stage), first.snn)
    assert sum("made again" in line for line in caplog.messages) == 2


class Doubled(nn.Linear):
    """A Linear that computes something else."""

    def forward(self, x):
        return 2 * super().forward(x)


def test_a_layer_that_computes_something_else_than_its_base_is_refused_before_training(tmp_path):
    net = nn.Sequential(nn.Flatten(), Doubled(36, 3))
    with pytest.raises(InputError, match=r"layer '1' \(Doubled\).*plain nn.Linear"):
        convert(tmp_path, no_norm, net)


def test_a_network_that_cannot_be_converted_is_refused_before_training(tmp_path):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sigmoid(), nn.Flatten(), nn.Linear(32, 3))
    with pytest.raises(InputError, match="'1', a Sigmoid"):
        convert(tmp_path, no_norm, net)


class Metrics(Logger):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.values = {}

    def log_metrics(self, metrics, step=None):
        self.values |= metrics

    def log_hyperparams(self, *args, **kwargs):
        pass

    name, version = "metrics", ""


@pytest.mark.parametrize("scale", ["layer", "channel"])
def test_scales_are_logged_for_a_layer_and_spread_over_channels(tmp_path, scale):
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3))
    logger = Metrics()
    snn = convert(tmp_path, functools.partial(percentile_norm, scale=scale, readout="current"), net, logger).snn
    logged, found = logger.values, torch.as_tensor(snn.scales["conv1"])
    assert logged["convert/factor/conv1"] == pytest.approx(float(found.mean()))
    spread = {name: value for name, value in logged.items() if "scale_" in name}
    if scale == "layer":
        assert not spread and found.ndim == 0
    else:
        low, middle, high = (spread[f"convert/scale_{which}/conv1"] for which in ("min", "median", "max"))
        assert (low, high) == (float(found.min()), float(found.max())) and low < middle < high
        assert len(spread) == 3  # the output keeps its units


def test_the_key_of_a_cached_conversion_has_its_settings(tmp_path):
    for settings in ({}, {"scale": "channel"}, {"readout": "current"}, {"max_pool": "gate"}, {"max_pool": "gate"}):
        convert(tmp_path, functools.partial(data_norm, **({"scale": "layer", "readout": "counts"} | settings)))
    assert len(list((tmp_path / "stages").glob("*/snn.pt"))) == 4


def test_calibration_images_are_drawn_by_their_seed_alone(tmp_path):
    """The same seed draws the same images, whatever the seed of the split; without one they are the first of the split."""
    drawn = []
    for seed, draw in ((1, 0), (5, 0), (1, 1), (1, None), (5, None)):
        data = ImageDataModule(image_set, root="", batch_size=7, seed=seed)
        drawn.append(torch.cat([index for _, _, index in data.batches("train", 4, first=20, draw=draw)]).tolist())
    first, same, other, split, other_split = drawn
    assert first == same and len(set(first)) == 20
    assert len({tuple(numbers) for numbers in (first, other, split, other_split)}) == 4
    scales = [convert(tmp_path, data_norm, calibration_size=3, calibration_seed=draw).snn.scales for draw in (0, 0, 1)]
    assert scales[0] == scales[1] != scales[2]
    assert len(list((tmp_path / "stages").glob("*/snn.pt"))) == 2


@pytest.mark.parametrize("size", [0, -3])
def test_a_calibration_size_below_1_is_refused(size):
    with pytest.raises(InputError, match=rf"^callbacks\.convert\.calibration_size={size}"):
        Convert(no_norm, calibration_size=size)
