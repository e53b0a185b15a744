"""Trainings are kept by content, resumed where they were interrupted, and refused where they do not fit."""

import copy
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from omegaconf import OmegaConf
from small_training import parts
from torchvision.models import VisionTransformer

from respike.errors import InputError
from respike.networks.mlp import MLP
from respike.system.files import read_csv
from respike.training import history
from respike.training.classifier import Classifier
from respike.training.fit import check_fit, fit_key, fit_once, load_stage, load_weights


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


def assert_equal_to_uninterrupted(folder, module, stage):
    """The weights and the history, but for times, of a training that nothing disturbed."""
    cfg, trainer, whole, data = parts(folder / "whole")
    expected = fit_once(cfg, trainer, whole, data)
    assert all(torch.equal(value, module.net.state_dict()[name]) for name, value in whole.net.state_dict().items())
    frames = [read_csv(each.folder / "history.csv").drop(columns="seconds") for each in (stage, expected)]
    assert frames[0].equals(frames[1]) and frames[0]["epoch"].tolist() == [1, 2, 3, 4]
    assert sorted(path.name for path in stage.folder.iterdir()) == ["history.csv", "model.ckpt", "stage.json"]


class Between(Classifier):
    """Interrupted after the history of the third epoch has been written, before the checkpoint."""

    def on_train_epoch_end(self):
        if self.current_epoch == 2:
            raise KeyboardInterrupt


def test_an_epoch_without_its_checkpoint_is_done_again_and_is_once_in_the_history(tmp_path):
    cfg, trainer, module, data = parts(tmp_path)
    module.__class__ = Between
    with pytest.raises(KeyboardInterrupt):
        fit_once(cfg, trainer, module, data)
    (written,) = (tmp_path / "stages").glob("*.unfinished/history.csv")
    assert read_csv(written)["epoch"].tolist() == [1, 2, 3]
    cfg, trainer, module, data = parts(tmp_path)
    stage = fit_once(cfg, trainer, module, data)
    assert stage.seconds >= read_csv(stage.folder / "history.csv")["seconds"].sum() - 0.01
    assert_equal_to_uninterrupted(tmp_path, module, stage)


class Runs:
    """A pickle that runs code when it is read."""

    def __reduce__(self):
        return Path.touch, (Path("ran"),)


def broken(file, how):
    if how == "code":
        torch.save({**torch.load(file, weights_only=False), "own": Runs()}, file)
    else:
        file.write_bytes(file.read_bytes()[: {"empty": 0, "cut": 5000}[how]])


@pytest.mark.parametrize("how", ["empty", "cut", "code"])
def test_a_damaged_checkpoint_is_set_aside_and_the_training_starts_again(tmp_path, monkeypatch, caplog, how):
    monkeypatch.chdir(tmp_path)
    cfg, trainer, module, data = parts(tmp_path, callbacks=[Stop(2)])
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit_once(cfg, trainer, module, data)
    (last,) = (tmp_path / "stages").glob("*.unfinished/last.ckpt")
    broken(last, how)
    last.with_name(".last.ckpt.7.partial").write_text("of a killed process")
    cfg, trainer, module, data = parts(tmp_path)
    with caplog.at_level("WARNING", "respike"):
        stage = fit_once(cfg, trainer, module, data)
    (line,) = [line for line in caplog.messages if "last.ckpt.damaged" in line]
    assert str(last) in line and "\n" not in line and not Path("ran").exists()
    assert_equal_to_uninterrupted(tmp_path, module, stage)


class FullDisk(pl.Callback):
    """From the third epoch on: files may not grow beyond a limit, or the file system `folder` is filled."""

    def __init__(self, folder=None):
        self.folder = folder

    def on_train_epoch_start(self, trainer, pl_module):
        if trainer.current_epoch == 2 and self.folder is None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        elif trainer.current_epoch == 2:
            with (
                pytest.raises(OSError, match="No space left"),
                (self.folder / "filler").open("wb", buffering=0) as file,
            ):
                while True:
                    file.write(b"0" * 512)

    def make_room(self):
        resource.setrlimit(
            resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_FSIZE)[1])
        )
        if self.folder is not None:
            (self.folder / "filler").unlink()


@pytest.fixture(params=["limit", "mount"])
def disk(request, tmp_path):
    """A folder, and a callback that fills it up."""
    if request.param == "limit":
        yield tmp_path, FullDisk()
        return
    mounted = tmp_path / "small"
    mounted.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(mounted)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True).returncode != 0:
        pytest.skip("no permission to mount a small file system")
    yield mounted, FullDisk(mounted)
    subprocess.run(["umount", "-l", str(mounted)], check=True)


def test_a_full_disk_is_one_line_and_the_same_command_continues_when_there_is_room(tmp_path, disk):
    folder, full = disk
    cfg, trainer, module, data = parts(folder, callbacks=[full])
    try:
        with pytest.raises(InputError, match=r"stages cannot take the training .*make room") as caught:
            fit_once(cfg, trainer, module, data)
    finally:
        full.make_room()
    assert "\n" not in str(caught.value)
    (unfinished,) = (folder / "stages").glob("*.unfinished")
    assert torch.load(unfinished / "last.ckpt", weights_only=True)["epoch"] == 1
    assert not list(unfinished.glob(".*"))
    cfg, trainer, module, data = parts(folder)
    assert_equal_to_uninterrupted(tmp_path, module, fit_once(cfg, trainer, module, data))


def test_killed_trainings_end_with_the_weights_of_a_whole_one(tmp_path):
    script = Path(__file__).with_name("kill_training.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "runs"), "2", "0"], capture_output=True, text=True
    )
    assert done.returncode == 0 and done.stdout.startswith("2 kills of "), done.stderr


@pytest.mark.parametrize(
    ("name", "size"), [("model.ckpt", 0), ("model.ckpt", 3000), ("history.csv", 0), ("history.csv", -1)]
)
def test_a_damaged_finished_training_changes_no_module_and_is_trained_again(tmp_path, caplog, name, size):
    cfg, trainer, module, data = parts(tmp_path)
    folder = fit_once(cfg, trainer, module, data).folder
    load_stage(module, folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:size])
    fresh = parts(tmp_path)[2]
    before = copy.deepcopy(fresh.net.state_dict())
    with pytest.raises(InputError, match=name):
        load_stage(fresh, folder)
    assert all(torch.equal(value, before[key]) for key, value in fresh.net.state_dict().items())
    cfg, trainer, module, data = parts(tmp_path)
    with caplog.at_level("WARNING", "respike"):
        stage = fit_once(cfg, trainer, module, data)
    (line,) = [line for line in caplog.messages if "set aside" in line]
    assert stage.fresh and str(folder) in line and folder.with_name(f"{folder.name}.damaged").is_dir()
    assert_equal_to_uninterrupted(tmp_path, module, stage)


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


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", None])
def test_missing_and_damaged_checkpoints_are_one_line(tmp_path, content):
    file = tmp_path / "net.pt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InputError, match=r"ckpt_path=.*net\.pt") as caught:
        load_weights(SimpleNamespace(net=MLP([4, 2])), file)
    assert "\n" not in str(caught.value)


def test_a_network_that_does_not_fit_the_data_is_refused(tmp_path, caplog):
    data = parts(tmp_path)[3]
    check_fit(MLP([36, 3]), data)
    with pytest.raises(InputError, match=r"\(1, 6, 6\)"):
        check_fit(MLP([35, 3]), data)
    with pytest.raises(InputError, match="3 classes"):
        check_fit(MLP([36, 2]), data)
    sized = VisionTransformer(32, 16, 1, 1, 8, 8, num_classes=3)  # asserts the size of its images
    sized.conv_proj = torch.nn.Conv2d(1, 8, 16, 16)
    with pytest.raises(InputError, match=r"\(1, 6, 6\) \(Wrong image height! Expected 32 but got 6!\)"):
        check_fit(sized, data)
    colour = torch.nn.Sequential(torch.nn.Conv2d(3, 1, 3), torch.nn.Flatten(), torch.nn.Linear(16, 3))
    with pytest.raises(
        InputError, match=r"images of 3 channels, those of noise have 1; type data\.dataset\.channels=3"
    ):
        check_fit(colour, data)
    assert "outputs" not in caplog.text
    check_fit(MLP([36, 5]), data)
    assert "5 outputs, the data 3 classes" in caplog.text


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
