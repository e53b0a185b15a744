"""The conversion at the end of a test: cached, made again if damaged, and refused before training if it cannot be saved."""

import functools

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from respike.callbacks.convert import Convert
from respike.convert import data_norm, exact_map, load_snn, no_norm
from respike.data.datamodule import ImageDataModule
from respike.data.datasets import ImageSet
from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.training.classifier import Classifier
from respike.training.losses import half_squared_error


def image_set(root):
    """Sixty random 6x6 images of three classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 6, 6), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 3
    return ImageSet("noise", images, labels, images[:30], labels[:30], ("a", "b", "c"), None)


def convert(folder, method, net=None, **settings):
    """Test a small network with the callback, caching conversions in folder/stages; returns the callback."""
    torch.manual_seed(0)
    net = net or MLP([36, 20, 3])
    module = Classifier(net, half_squared_error, functools.partial(torch.optim.SGD, lr=0.1), seed=3)
    callback = Convert(method, stages=folder / "stages", **settings)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
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


@pytest.mark.parametrize("size", [0, -3])
def test_a_calibration_size_below_1_is_refused(size):
    with pytest.raises(InputError, match=rf"^callbacks\.convert\.calibration_size={size}"):
        Convert(no_norm, calibration_size=size)
