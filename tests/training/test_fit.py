"""Trainings are kept by content, resumed where they were interrupted, and refused where they do not fit."""

import copy
import functools
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf

from respike.data.datamodule import ImageDataModule
from respike.data.datasets import ImageSet
from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.system.cache import cached, stage_hash
from respike.training import history
from respike.training.classifier import Classifier
from respike.training.fit import check_fit, fit_key, fit_once, load_weights
from respike.training.losses import half_squared_error


def image_set(root):
    """Sixty random 6x6 images of three classes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (60, 1, 6, 6), generator=generator, dtype=torch.uint8)
    labels = torch.arange(60) % 3
    return ImageSet("noise", images, labels, images[:30], labels[:30], ("a", "b", "c"), None)


def parts(tmp_path, epochs=4, callbacks=()):
    torch.manual_seed(0)
    net = MLP([36, 20, 3], dropout=0.5, output_relu="unmasked")
    optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.5)
    module = Classifier(net, half_squared_error, optimizer, seed=3)
    data = ImageDataModule(image_set, root="", batch_size=7, seed=1)
    trainer = pl.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        callbacks=list(callbacks),
    )
    cfg = OmegaConf.create(
        {
            "data": {"root": "x", "batch_size": 7},
            "model": {},
            "lit": {"seed": 3},
            "trainer": {"max_epochs": epochs},
            "seed": 3,
            "paths": {"stages": str(tmp_path / "stages")},
            "simulate": {"threshold": 1},
        }
    )
    return cfg, trainer, module, data


def test_a_long_epoch_says_how_far_it_is(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(history, "EVERY", 0.0)
    cfg, trainer, module, data = parts(tmp_path, epochs=1)
    with caplog.at_level("INFO", history.__name__):
        fit_once(cfg, trainer, module, data)
    told = [line for line in caplog.messages if "min left" in line]
    assert len(told) == trainer.num_training_batches == 9
    assert told[2].startswith("epoch 1: 33 %") and told[-1].startswith("epoch 1: 100 %, 0 min")


class Stop(pl.Callback):
    """Interrupts the training at the start of an epoch, as Ctrl-C would."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == self.epoch:
            raise KeyboardInterrupt


def test_an_interrupted_training_resumes_and_ends_as_the_uninterrupted_one(tmp_path):
    cfg, trainer, whole, data = parts(tmp_path / "a")
    assert fit_once(cfg, trainer, whole, data).fresh
    cfg, trainer, first, data = parts(tmp_path / "b", callbacks=[Stop(2)])
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit_once(cfg, trainer, first, data)
    assert not list((tmp_path / "b" / "stages").glob("*/model.ckpt"))
    cfg, trainer, second, data = parts(tmp_path / "b")
    stage = fit_once(cfg, trainer, second, data)
    epochs = [line.split(",")[0] for line in (stage.folder / "history.csv").read_text().splitlines()]
    assert epochs == ["epoch", "1", "2", "3", "4"]
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, second.net.state_dict()[name])


def test_an_equal_training_is_done_once_and_another_one_anew(tmp_path):
    cfg, trainer, first, data = parts(tmp_path)
    assert fit_once(cfg, trainer, first, data).fresh
    cfg, trainer, again, data = parts(tmp_path)
    assert not fit_once(cfg, trainer, again, data).fresh
    assert all(torch.equal(a, b) for a, b in zip(first.net.parameters(), again.net.parameters(), strict=True))
    cfg, trainer, other, data = parts(tmp_path, epochs=1)
    assert fit_once(cfg, trainer, other, data).fresh


def test_simulation_and_data_folder_do_not_change_the_key_but_everything_that_trains_does(tmp_path):
    cfg, _, module, data = parts(tmp_path)
    key = fit_key(cfg, data, module.net)
    for path, value in (("simulate.threshold", 2), ("data.root", "elsewhere"), ("data.test_size", 5)):
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, path, value)
        assert fit_key(changed, data, module.net) == key
    for path, value in (("seed", 4), ("trainer.max_epochs", 5), ("data.batch_size", 8), ("lit.seed", 9)):
        changed = copy.deepcopy(cfg)
        OmegaConf.update(changed, path, value)
        assert fit_key(changed, data, module.net) != key
    assert fit_key(cfg, data, MLP([36, 21, 3])) != key
    (tmp_path / "start.pt").write_bytes(b"weights")
    assert fit_key(OmegaConf.merge(cfg, {"ckpt_path": str(tmp_path / "start.pt")}), data, module.net) != key
    assert fit_key(OmegaConf.merge(cfg, {"trainer": {"limit_train_batches": 2}}), data, module.net) != key


def test_a_stage_that_was_whole_but_not_renamed_is_adopted(tmp_path):
    (tmp_path / f"{stage_hash({'a': 1})}.unfinished").mkdir()
    (tmp_path / f"{stage_hash({'a': 1})}.unfinished" / "stage.json").write_text('{"seconds": 7}')
    stage = cached(tmp_path, {"a": 1}, lambda folder: pytest.fail("made again"))
    assert stage.seconds == 7 and (stage.folder / "stage.json").is_file()


def test_a_stage_that_fails_leaves_nothing_that_looks_finished(tmp_path):
    def fail(folder):
        (folder / "model.ckpt").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        cached(tmp_path, {"a": 1}, fail)
    assert cached(tmp_path, {"a": 1}, lambda folder: 2.5).fresh
    assert cached(tmp_path, {"a": 1}, fail).seconds == 2.5


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_missing_and_damaged_checkpoints_are_one_line(tmp_path, content):
    file = tmp_path / "net.pt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"ckpt_path=.*net\.pt") as caught:
        load_weights(SimpleNamespace(net=MLP([4, 2])), file)
    assert "\n" not in str(caught.value)


def test_a_network_that_does_not_fit_the_data_is_refused(tmp_path):
    data = parts(tmp_path)[3]
    check_fit(MLP([36, 3]), data)
    with pytest.raises(InputError, match=r"\(1, 6, 6\)"):
        check_fit(MLP([35, 3]), data)
    with pytest.raises(InputError, match="3 classes"):
        check_fit(MLP([36, 2]), data)


def test_a_network_with_an_attribute_called_net_reloads(tmp_path):
    own = torch.nn.Sequential()
    own.net = MLP([4, 2])
    torch.save(own.state_dict(), tmp_path / "own.pt")
    load_weights(SimpleNamespace(net=own), tmp_path / "own.pt")
    assert set(own.state_dict()) == {"net.1.weight"}


def test_weights_load_from_plain_and_lightning_checkpoints_but_not_from_another_network(tmp_path):
    source, target = MLP([4, 3, 2]), MLP([4, 3, 2])
    torch.save(source.state_dict(), tmp_path / "plain.pt")
    lightning = {"state_dict": {f"net.{name}": value for name, value in source.state_dict().items()}}
    torch.save(lightning, tmp_path / "lightning.ckpt")
    for file in ("plain.pt", "lightning.ckpt"):
        load_weights(SimpleNamespace(net=target), tmp_path / file)
        assert all(torch.equal(a, b) for a, b in zip(source.parameters(), target.parameters(), strict=True))
    with pytest.raises(InputError, match="another network"):
        load_weights(SimpleNamespace(net=MLP([4, 5, 2])), tmp_path / "plain.pt")
