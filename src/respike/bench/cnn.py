"""Workloads of the size that people have: ResNet-20 with published weights, VGG-16 and ResNet-18 with random ones.

Images are CIFAR-10's, for the ResNet-18 enlarged to 224 pixels. Batch norms of random weights are measured on training images.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torchvision import models
from torchvision.models.vgg import cfgs, make_layers

from respike.bench.floor import DTYPES, macs
from respike.bench.timing import seconds
from respike.bench.workload import Workload
from respike.convert.rate.normalize import percentile_norm
from respike.data.image_folder import image_folder
from respike.data.pixels import to_unit
from respike.networks.init import measure_batch_norms
from respike.networks.resnet_cifar import ResNetCifar
from respike.networks.standardize import Standardize, standardized

PIXELS = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])  # mean and standard deviation, RGB
WEIGHTS = "pretrained/resnet20-12fca82f.th"  # of github.com/akamaster/pytorch_resnet_cifar10, below the data folder
QUANTILE = 0.999  # of all neurons, as SpikingJelly's mode 99.9%
PART = 20  # images at a time


def _vgg16() -> nn.Module:
    """The 13 convolutions of torchvision's VGG-16 with batch norms, and one linear layer, for 32x32 images."""
    return nn.Sequential(*make_layers(cfgs["D"], batch_norm=True), nn.Flatten(), nn.Linear(512, 10))


BUILD: dict[str, Callable[[], nn.Module]] = {"resnet20": ResNetCifar, "vgg16": _vgg16, "resnet18": models.resnet18}
SIDES = {"resnet20": 32, "vgg16": 32, "resnet18": 224}  # pixels


def make(name: str, data: Path, images: int, calibration: int, steps: int) -> Workload:
    """The workload of a network, converted by channel-wise 0.999-quantiles of `calibration` training images.

    data: folder with CIFAR10 and, for the ResNet-20, its weights. images: test images, mixed. Raises InputError if files are
    missing.
    """
    torch.manual_seed(0)
    net = BUILD[name]() if name != "resnet20" else ResNetCifar(path=data / WEIGHTS)
    sample = image_folder(data / "CIFAR10", SIDES[name], 3, name="CIFAR-10", train_files=calibration, test_files=images)
    train, test = mixed(sample.train_images), mixed(sample.test_images)
    if name != "resnet20":
        measure_batch_norms(net, (standardize(part) for part in train.split(PART)))
    return of_network(name, net, train, test, mixed(sample.test_labels) if name == "resnet20" else None, steps)


def of_network(name: str, net: nn.Module, train: Tensor, test: Tensor, labels: Tensor | None, steps: int) -> Workload:
    """The workload of a network for standardized images. train, test: uint8 (N, C, H, W). labels: None without training."""
    snn = percentile_norm(
        standardized(net.eval(), *PIXELS),
        train.split(PART),
        q=QUANTILE,
        scale="channel",
        readout="current",
        spiking_pools=False,
    )
    with torch.inference_mode():
        logits = torch.cat([net(standardize(part)) for part in test.split(PART)])
    relu = {"weights": net.state_dict(), "calibration": train, "logits": logits}
    labels = torch.empty(0, dtype=torch.int64) if labels is None else labels
    return Workload(name, snn, test, labels, {"duration": steps / 1000}, "CIFAR-10", relu=relu)


def mixed(values: Any) -> Tensor:
    """The rows in a random order that depends on their number only."""
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(0))]


def standardize(images: Tensor) -> Tensor:
    """Images in [0, 1], or uint8, as the networks take them."""
    return Standardize(*PIXELS)(to_unit(images))


def relu_network(workload: Workload) -> nn.Module:
    """The ReLU network of a workload, for standardized images, in eval mode."""
    assert workload.relu is not None
    net = BUILD[workload.name]()
    net.load_state_dict(workload.relu["weights"])
    return net.eval()


def forwards(workload: str, batches: list[int], images: int, repeats: int) -> dict[str, Any]:
    """Seconds of T forward passes of the ReLU network, norms folded, for 10,000 images: for each dtype the best batch size.

    workload: file of `Workload.save`. Contiguous and channels-last memory are tried; the smallest of `repeats` times counts.
    """
    loaded = Workload.load(workload)
    pixels = standardize(loaded.images[:images])
    result: dict[str, Any] = {"macs": macs(loaded.snn.float(), pixels.shape[1:])}
    for name, dtype in DTYPES.items():
        tried = {}
        with torch.inference_mode():
            for layout in (torch.contiguous_format, torch.channels_last):
                net = fuse(relu_network(loaded)).to(dtype).to(memory_format=layout)  # type: ignore[call-overload]
                for size in batches:
                    whole = pixels[: max(size, len(pixels) // size * size)]
                    parts = whole.to(dtype=dtype, memory_format=layout).split(size)
                    net(parts[0])
                    times = [seconds(_pass, net, parts)[0] for _ in range(repeats)]
                    tried[size, layout] = min(times) / sum(map(len, parts))
        best = min(tried, key=tried.__getitem__)
        result |= {name: tried[best] * loaded.steps * 10_000, f"{name}_batch": best[0]}
    return result


def _pass(net: nn.Module, parts: tuple[Tensor, ...]) -> None:
    for part in parts:
        net(part)
