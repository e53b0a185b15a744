"""The ReLU network's pass over the test images is that network's, is made once, and made again if its files are cut."""

import functools

import pytest
import pytorch_lightning as pl
import torch

from respike.callbacks.convert import Convert
from respike.callbacks.relu_pass import relu_pass
from respike.convert import data_norm
from respike.data.datamodule import ImageDataModule
from respike.data.datasets import ImageSet
from respike.metrics.operations import counted_macs
from respike.networks.mlp import MLP
from respike.training.classifier import Classifier
from respike.training.losses import half_squared_error


def image_set(root):
    """Thirty random 6x6 images of three classes, for training and test."""
    images = torch.randint(0, 256, (30, 1, 6, 6), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    labels = torch.arange(30) % 3
    return ImageSet("noise", images, labels, images, labels, ("a", "b", "c"), None)


class Pass(pl.Callback):
    def __init__(self, double):
        self.double = double

    def on_test_end(self, trainer, pl_module):
        self.found = relu_pass(trainer, pl_module, self.double)


def passed(folder, net, double, stages=True):
    module = Classifier(net, half_squared_error, functools.partial(torch.optim.SGD, lr=0.1))
    callbacks = [Convert(data_norm, stages=folder / "stages" if stages else None, keep_networks=False), Pass(double)]
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder / "run", callbacks=callbacks,
    )  # fmt: skip
    data = ImageDataModule(image_set, root="", batch_size=7, eval_batch_size=8, seed=1)
    trainer.test(module, datamodule=data, verbose=False)
    return callbacks[-1].found, torch.cat([images for images, _, _ in data.batches("test", 30)])


@pytest.mark.parametrize("double", [False, True])
def test_it_is_the_networks_pass_and_is_made_once(tmp_path, double):
    torch.manual_seed(0)
    net = MLP([36, 20, 12, 3])
    first, images = passed(tmp_path, net, double)
    reference = net.double() if double else net
    with torch.inference_mode(), counted_macs(reference) as counts:
        expected = reference(images.to(next(reference.parameters())))
    net.float()
    torch.testing.assert_close(first.outputs, expected)
    assert list(first.macs.items()) == list(counts.items()) and len(counts) == 3
    (file,) = (tmp_path / "stages").glob("*/outputs.npy")
    written = file.stat().st_mtime_ns
    again, _ = passed(tmp_path, net, double)
    assert torch.equal(again.outputs, first.outputs) and again.macs == first.macs
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:100])
    mended, _ = passed(tmp_path, net, double)
    assert torch.equal(mended.outputs, first.outputs)
    alone, _ = passed(tmp_path, net, double, stages=False)
    assert torch.equal(alone.outputs, first.outputs) and alone.macs == first.macs
