"""python -m respike.bench.accuracy: the ResNet-20 with published weights, converted by this package and by SpikingJelly.

The same rules on the same calibration images, read after every number of steps: accuracy.csv. Rules are 0.999-quantiles of all
activations, averaged over batches, per layer with potentials from 0 or per channel from half a threshold, and local threshold
balancing by many small updates or by a few large ones, as in its authors' demo. SpikingJelly takes the thresholds of the latter
per channel and starts at half a threshold there, too.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor
from tqdm import tqdm

from respike.bench import cnn
from respike.bench.timing import seconds
from respike.convert.calibration import Images, image_batches
from respike.convert.graph.nodes import Graph
from respike.convert.rate.local_threshold import local_threshold_norm
from respike.convert.rate.normalize import measured_norm
from respike.convert.rate.scales import activations
from respike.data.image_folder import image_folder
from respike.errors import InputError
from respike.networks.resnet_cifar import ResNetCifar
from respike.networks.standardize import standardized
from respike.neurons.encode import Current
from respike.neurons.integrate_fire import IntegrateFire
from respike.simulate import simulate
from respike.system.files import write_csv
from respike.system.provenance import git_commit, processor
from respike.system.signals import run_command

BATCH = 100  # images at a time, SpikingJelly's best here
MOMENTUM = 0.1  # of SpikingJelly's average over batches
UPDATES = {"local thresholds": 10, "local thresholds, large updates": 100}  # images of an update
READOUT: dict[str, Any] = {"readout": "current", "spiking_pools": False}
WIRING: dict[str, Any] = {"output_layer": True, "fold_dropout": True, "max_pool": "count", **READOUT}


def batch_quantiles(
    graph: Graph, node_of_layer: dict[str, str], images: Images, by_channel: bool = False
) -> dict[str, Tensor]:
    """A measure like `scales.max_scale`: the quantile of each batch of `BATCH` images, averaged with `MOMENTUM`.

    It is what SpikingJelly's hooks keep, with torch.quantile of all activations, silent ones as 0.
    """
    found: dict[str, Tensor] = {}
    batches = [part for whole in image_batches(images) for part in whole.split(BATCH)]
    for layer, value in activations(graph, node_of_layer, batches):
        rows = value.clamp(min=0).transpose(0, 1).flatten(1) if by_channel else value.clamp(min=0).reshape(1, -1)
        new = rows.float().quantile(cnn.QUANTILE, dim=1).double()
        found[layer] = found[layer].lerp(new, MOMENTUM) if layer in found else new
    return {layer: rows if by_channel else rows[0] for layer, rows in found.items()}


QUANTILES = partial(measured_norm, measure=batch_quantiles, **WIRING)
RULES: Mapping[str, tuple[Callable[..., Any], float]] = {  # our conversion, and the start of potentials in thresholds
    "quantile per layer": (partial(QUANTILES, scale="layer"), 0.0),
    "quantile per channel": (partial(QUANTILES, scale="channel"), 0.5),
} | {
    rule: (partial(local_threshold_norm, batches=1000, batch_size=size, **READOUT), 0.5)
    for rule, size in UPDATES.items()
}


def ours(rule: str, net: torch.nn.Module, train: Tensor, test: Tensor, steps: int) -> Tensor:
    """Predicted classes (T, N). train, test: uint8 (N, C, H, W)."""
    convert, start = RULES[rule]
    snn = convert(standardized(net, *cnn.PIXELS), train)
    neuron = IntegrateFire(reset="subtract", start=start)
    return simulate(snn, test, encode=Current(), neuron=neuron, duration=steps / 1000, progress=True).predicted


def theirs(rule: str, net: torch.nn.Module, train: Tensor, test: Tensor, steps: int) -> Tensor:
    """Predicted classes (T, N) of SpikingJelly's conversion, in single steps and float32."""
    from spikingjelly.activation_based import ann2snn, functional

    from respike.bench.peers.spikingjelly import acceptable

    if rule in UPDATES:
        recipe = ann2snn.LocalThresholdBalancingRecipe([cnn.standardize(part) for part in train.split(UPDATES[rule])])
    else:
        by_channel = rule.endswith("channel")
        recipe = ann2snn.RateCodingRecipe(
            [cnn.standardize(part) for part in train.split(BATCH)],
            mode=f"{100 * cnn.QUANTILE:g}%",
            channel_wise=by_channel,
            half_threshold=by_channel,
        )
    snn = ann2snn.Converter(recipe).convert(acceptable(net)).eval()
    functional.set_step_mode(snn, "s")
    predicted = []
    with torch.inference_mode():
        for part in tqdm(test.split(BATCH), desc=f"SpikingJelly, {rule}", unit="batch", mininterval=10):
            functional.reset_net(snn)
            images, total, classes = cnn.standardize(part), torch.zeros(()), []
            for _ in range(steps):
                total = total + snn(images)
                classes.append(total.argmax(1))
            predicted.append(torch.stack(classes))
    return torch.cat(predicted, 1)


LIBRARIES = {"SpikingJelly": theirs, "respike": ours}


def rows(data: Path, images: int, calibration: int, steps: int) -> Iterator[dict[str, Any]]:
    """One row for each library, rule and number of steps 1, 2, 4, ... Raises InputError if files are missing.

    alone: the number of images that this library classifies correctly and the other one does not.
    """
    net = ResNetCifar(path=data / cnn.WEIGHTS).eval()
    sample = image_folder(data / "CIFAR10", 32, 3, name="CIFAR-10", train_files=calibration, test_files=images)
    train, test, labels = (cnn.mixed(part) for part in (sample.train_images, sample.test_images, sample.test_labels))
    with torch.inference_mode():
        relu = torch.cat([net(cnn.standardize(part)).argmax(1) for part in test.split(BATCH)])
    about = {"images": len(labels), "calibration": len(train), "processor": processor(), "commit": git_commit()}
    yield {"library": "ReLU network", "acc": float((relu == labels).double().mean()), **about}
    read = [2**power for power in range(steps.bit_length())]
    for rule in RULES:
        timed = [seconds(run, rule, net, train, test, steps) for run in LIBRARIES.values()]
        right = [predicted.long() == labels for _, predicted in timed]
        for library, (took, _), mine, other in zip(LIBRARIES, timed, right, reversed(right), strict=True):
            for t in read:
                shares = {"acc": float(mine[t - 1].double().mean()), "alone": int((mine & ~other)[t - 1].sum())}
                yield {"library": library, "rule": rule, "steps": t, **shares, "seconds": round(took, 1), **about}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write accuracy.csv. Returns the exit status: 2 if files or SpikingJelly are missing, 130 if it was interrupted."""
    parser = argparse.ArgumentParser(prog="python -m respike.bench.accuracy", description=__doc__)
    data = Path(os.environ.get("DATA_DIR", "data"))
    parser.add_argument("--data", type=Path, default=data, help=f"folder with CIFAR10 and pretrained ({data})")
    parser.add_argument(
        "--images", type=int, default=10_000, help="test images, evenly spread over the classes (10,000)"
    )
    parser.add_argument(
        "--calibration", type=int, default=1000, help="training images that scales are measured on (1000)"
    )
    parser.add_argument("--steps", type=int, default=32, help="time steps (32)")
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/accuracy"), help="folder of the result")
    given = parser.parse_args(arguments)
    found = []
    given.out.mkdir(parents=True, exist_ok=True)
    try:
        for row in rows(given.data, given.images, given.calibration, given.steps):
            found.append(row)
            write_csv(given.out / "accuracy.csv", pd.DataFrame(found))
            print(" ".join(str(row.get(name, "")) for name in ("library", "rule", "steps", "acc")), flush=True)
    except (InputError, ImportError) as error:
        print(f"respike: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    run_command(main)
