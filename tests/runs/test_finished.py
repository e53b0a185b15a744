"""A finished run is kept while its config, images and code are the same; a config is never written through a link."""

import linecache
import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
from omegaconf import OmegaConf

import respike
from respike.data.datasets import ImageSet
from respike.runs.folder import RunFolder, finished, run_code
from respike.system import cache


def image_set(root, seed=0):
    """Two random images."""
    import torch

    images = torch.randint(0, 256, (2, 1, 4, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return ImageSet("noise", images, torch.arange(2), images, torch.arange(2), ("a", "b"), None)


def config(folder, seed=0, max_rate=1000):
    data = {"_target_": "respike.data.datamodule.ImageDataModule", "root": "", "batch_size": 1}
    data["dataset"] = {"_target_": f"{__name__}.image_set", "_partial_": True, "seed": seed}
    return OmegaConf.create({"paths": {"run": str(folder)}, "data": data, "encode": {"max_rate": max_rate}})


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    folder = tmp_path / "run"
    trainer = pl.Trainer(logger=False, enable_checkpointing=False, accelerator="cpu", default_root_dir=tmp_path)
    origin = {"data": {"sha256": image_set("").sha256}}
    RunFolder(config(folder)).finish({"snn/test_acc": 0.5}, origin, trainer)
    return folder


def test_a_finished_run_is_kept_for_its_own_config_and_images_only(run):
    assert finished(config(run), run)
    assert not finished(config(run, max_rate=500), run)
    (run / "config.yaml").write_text(OmegaConf.to_yaml(config(run, seed=1)))
    assert not finished(config(run, seed=1), run)


@pytest.mark.parametrize("file", ["metrics.json", "provenance.json", "config.yaml"])
@pytest.mark.parametrize("content", [None, b"", b"\xff\x00"])
def test_a_run_with_a_missing_or_damaged_file_is_not_finished(run, file, content):
    if content is None:
        (run / file).unlink()
    else:
        (run / file).write_bytes(content)
    assert not finished(config(run), run)


def test_a_run_made_by_a_simulator_that_was_changed_since_is_run_again(run, tmp_path, monkeypatch):
    """The package is copied and one sign of its neuron's equation changed; a change of the report does not count."""
    package = tmp_path / "respike"
    shutil.copytree(Path(respike.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(cache, "__file__", str(package / "system" / "cache.py"))
    assert finished(config(run), run)
    (package / "report" / "page.py").write_text("")
    assert finished(config(run), run)
    equation = package / "neurons" / "integrate_fire.py"
    text = equation.read_text()
    assert text.count("v.addcmul_(v, before, value=-1)") == 1
    equation.write_text(text.replace("v.addcmul_(v, before, value=-1)", "v.addcmul_(v, before, value=+1)"))
    assert not finished(config(run), run)


def test_a_config_that_is_a_link_is_replaced_and_what_it_names_is_left_alone(tmp_path):
    (tmp_path / "mine.yaml").write_text("precious: 1\n")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").symlink_to(tmp_path / "mine.yaml")
    RunFolder(config(tmp_path / "run"))
    assert (tmp_path / "mine.yaml").read_text() == "precious: 1\n"
    assert not (tmp_path / "run" / "config.yaml").is_symlink()


NET = """
from torch import nn
class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(16, {}))
"""


def test_a_run_of_a_network_or_a_weights_file_that_was_changed_since_is_run_again(tmp_path, monkeypatch):
    """Whichever the user changes: the file of an own class, or the bytes at the same path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    own, weights = tmp_path / "my_own_net.py", tmp_path / "net.pt"
    own.write_text(NET.format(2))
    weights.write_bytes(b"first")
    cfg = config(tmp_path / "run")
    cfg.model, cfg.ckpt_path = {"_target_": "my_own_net.Net"}, str(weights)
    codes = {run_code(cfg)}
    weights.write_bytes(b"second")
    codes.add(run_code(cfg))
    own.write_text(NET.format(3))
    linecache.clearcache()
    codes.add(run_code(cfg))
    assert len(codes) == 3 and run_code(cfg) in codes
