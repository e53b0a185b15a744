"""Seconds of the evaluators of the exact mapping, beside the ReLU network they stand for. In processes of their own."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from respike.bench.prepare import start_training, work_config
from respike.bench.timing import WARM_UP, affordable, seconds, spread
from respike.convert.exact.ttfs_net import TTFSNet
from respike.convert.saving import network_content, network_from_content
from respike.simulate.ttfs import search, simulate_ttfs
from respike.training.fit import fit_once

CALIBRATION = 1000  # images; X_n of more would change no time
TITLES = {
    "exact_fc": "Exact mapping, FC 784-600-10",
    "exact_lenet": "Exact mapping, LeNet5",
    "exact_vgg_mnist": "Exact mapping, VGG of 16 layers at half its width, one epoch on 4,000 images",
}
OVERRIDES = {"exact_vgg_mnist": ("model.width=0.5", "data.train_size=4000", "recipe.epochs=1")}
ROWS: dict[str, dict[str, Any]] = {
    "ReLU network": {"relu": True},
    "ours, certified": {},
    "ours, closed form, unproved": {"evaluator": "closed"},
    "ours, everything sorted, compiled": {"evaluator": "sorted"},
    "everything sorted, PyTorch, as published": {"evaluator": "sorted", "plain": True},
}


def make(experiment: str, outputs: str, overrides: list[str], keep: str) -> dict[str, Any]:
    """Train (once, as respike.train does), map, save networks and test images in the file `keep`. TITLES name reductions."""
    cfg = work_config(experiment, Path(outputs), (*OVERRIDES.get(experiment, ()), *overrides))
    module, data = start_training(cfg)
    fit_once(cfg, instantiate(cfg.trainer, logger=False, enable_progress_bar=False), module, data)
    images = (x for x, _, _ in data.batches("train", 500, first=CALIBRATION))
    snn = instantiate(cfg.convert)(module.net.eval(), images)
    model = OmegaConf.to_container(cfg.model, resolve=True)
    save_work(keep, model, module.net, snn, data.images.test_images[data.index["test"]], data.labels("test"))
    return {}


def save_work(path: str, model: dict[str, Any], net: nn.Module, snn: TTFSNet, images: Tensor, labels: Tensor) -> None:
    """Save a network, its config `model`, its spiking network, and test images (N, C, H, W) with labels (N,)."""
    networks = {"model": model, "weights": net.state_dict(), "snn": network_content(snn)}
    torch.save(networks | {"images": images, "labels": labels}, path)


def measure(work: str, precision: str, images: int, repeats: int, budget: float, **options: Any) -> dict[str, Any]:
    """Time whole passes of one row over test images: seconds, accuracy, share certified.

    work: file of `save_work`; options: of ROWS. Too slow a row is timed on fewer images.
    """
    kept = torch.load(work, weights_only=True)
    if options.pop("relu", False):
        net = instantiate(kept["model"])
        net.load_state_dict(kept["weights"])
        run = _relu(net, precision)
    else:
        run = _spiking(network_from_content(kept["snn"], [TTFSNet], work), precision, **options)
    pixels = kept["images"][:images]
    run(pixels[: min(WARM_UP, 20)])
    probe = pixels[: max(20, len(pixels) // 50)]
    count, repeats = affordable(seconds(run, probe)[0] / len(probe), len(pixels), repeats, budget)
    passes = [seconds(run, pixels[:count]) for _ in range(repeats)]
    predicted, certified = passes[-1][1]
    right = (predicted == kept["labels"][:count]).double().mean().item()
    answer = {"images": count, "accuracy": right, "arithmetic": precision, "certified": certified}
    return answer | spread([time for time, _ in passes], count)


def _relu(net: nn.Module, precision: str) -> Callable[[Tensor], tuple[Tensor, None]]:
    net = copy.deepcopy(net).to(getattr(torch, precision)).eval()

    def run(images: Tensor) -> tuple[Tensor, None]:
        with torch.inference_mode():
            parts = [net((part.float() / 255).to(getattr(torch, precision))) for part in images.split(100)]
        return torch.cat(parts).argmax(1), None

    return run


def _spiking(
    snn: TTFSNet, precision: str, plain: bool = False, **settings: Any
) -> Callable[[Tensor], tuple[Tensor, float]]:
    if plain:
        search.compiled = lambda device: False  # of this process

    def run(images: Tensor) -> tuple[Tensor, float]:
        record = simulate_ttfs(snn, images, precision=precision, **settings)
        counts = record.counts.values()
        return record.predicted, sum(c.certified for c in counts) / max(1, sum(c.pairs for c in counts))

    return run
