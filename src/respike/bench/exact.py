"""Time of the evaluators of the exact mapping, and of the ReLU network that they reproduce. Runs in processes of their own."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import Tensor, nn

from respike.bench.experiment import experiment_config, start_training
from respike.bench.plan import EXACT_OVERRIDES
from respike.bench.timing import affordable, seconds, spread
from respike.convert.exact.ttfs_net import TTFSNet
from respike.convert.saving import network_content, network_from_content
from respike.data.pixels import to_unit
from respike.simulate.ttfs import search, simulate_ttfs
from respike.training.fit import fit_once, make_network

CALIBRATION = 1000  # images; more of them would not change a time
FEW = 20  # images of the warm-up: the published search takes seconds for each


def make(experiment: str, outputs: str, overrides: list[str], keep: str) -> dict[str, Any]:
    """Train (once, as respike.train does) and map an experiment's network. Saves both networks and the test set.

    keep: file for `measure`. Returns the number of test `images`, and why the data set is `reduced`, "" if it is not.
    """
    cfg = experiment_config(experiment, Path(outputs), (*EXACT_OVERRIDES.get(experiment, ()), *overrides))
    module, data = start_training(cfg)
    fit_once(cfg, instantiate(cfg.trainer, logger=False, enable_progress_bar=False), module, data)
    images = (x for x, _, _ in data.batches("train", 500, first=CALIBRATION))
    snn = instantiate(cfg.convert)(module.net.eval(), images)
    chosen = data.index["test"]
    model = OmegaConf.to_container(cfg.model, resolve=True)
    save(Path(keep), model, module.net, snn, data.images.test_images[chosen], data.labels("test"))
    return {"images": len(chosen), "reduced": "; ".join(data.reductions())}


def save(keep: Path, model: Any, net: nn.Module, snn: TTFSNet, images: Tensor, labels: Tensor) -> None:
    """Write what `measure` reads. model: config node from which `net` is instantiated. images: uint8 (N, C, H, W)."""
    networks = {"model": model, "weights": net.state_dict(), "snn": network_content(snn)}
    torch.save(networks | {"images": images, "labels": labels}, keep)


def measure(
    workload: str, precision: str, images: int, repeats: int, budget: float, relu: bool = False, **options: Any
) -> dict[str, Any]:
    """Time passes of one row over test images. Returns `spread` of the times, the accuracy and the certified share.

    workload: file of `make`. precision: "float64" or "float32". relu: evaluate the ReLU network; otherwise the spiking
    network with `options`, as in EXACT_ROWS. A row that is too slow for the budget is timed on fewer images.
    """
    loaded = torch.load(workload, weights_only=True)
    dtype = getattr(torch, precision)
    if relu:
        net = make_network(OmegaConf.create(loaded["model"]))
        net.load_state_dict(loaded["weights"])
        run = _relu(net.to(dtype).eval(), dtype)
    else:
        run = _spiking(network_from_content(loaded["snn"], [TTFSNet], workload), precision, **options)
    pixels = loaded["images"][:images]
    run(pixels[:FEW])
    probe = pixels[: max(FEW, len(pixels) // 50)]
    count, repeats = affordable(seconds(run, probe)[0] / len(probe), len(pixels), repeats, budget)
    passes = [seconds(run, pixels[:count]) for _ in range(repeats)]
    predicted, certified = passes[-1][1]
    right = (predicted == loaded["labels"][:count]).double().mean().item()
    answer = {"images": count, "accuracy": right, "arithmetic": precision, "certified": certified}
    return answer | spread([time for time, _ in passes], count)


def _relu(net: nn.Module, dtype: torch.dtype) -> Callable[[Tensor], tuple[Tensor, float | None]]:
    def run(images: Tensor) -> tuple[Tensor, None]:
        with torch.inference_mode():
            parts = [net(to_unit(part).to(dtype)) for part in images.split(100)]
        return torch.cat(parts).argmax(1), None

    return run


def _spiking(
    snn: TTFSNet, precision: str, plain: bool = False, **settings: Any
) -> Callable[[Tensor], tuple[Tensor, float | None]]:
    """plain: search in PyTorch instead of compiled code, for the rest of this process."""
    if plain:
        search.compiled = lambda device: False

    def run(images: Tensor) -> tuple[Tensor, float]:
        record = simulate_ttfs(snn, images, precision=precision, **settings)
        counts = record.counts.values()
        return record.predicted, sum(c.certified for c in counts) / max(1, sum(c.pairs for c in counts))

    return run
