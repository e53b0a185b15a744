"""What the energy model needs beside a simulation: the ReLU network's own pass. Shared by the callbacks."""

from collections.abc import Mapping
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from respike.data.datamodule import ImageDataModule
from respike.metrics.energy import EnergyModel, baselines, model_metrics
from respike.metrics.operations import Operations
from respike.networks.quantize import quantized
from respike.system.distributed import all_gather
from respike.system.files import write_csv

CALIBRATION = 500  # training images that give the ranges of quantized activations


def predicted_classes(net: nn.Module, data: ImageDataModule, device: torch.device) -> Tensor:
    """The classes of all test images, (B,), on every rank."""
    batches = data.batches("test", data.eval_batch_size, shared=True)
    with torch.inference_mode():
        classes = [net(images.to(device)).argmax(1).cpu() for images, _, _ in batches]
    return torch.cat([part for gathered in all_gather(classes) for part in gathered])


def macs_by_layer(counts: Mapping[str, int], layer_of: Mapping[str, str], images: int) -> dict[str, float] | None:
    """Multiply-accumulates per image of each spiking layer, on every rank, from the counts of all ranks.

    counts: of `counted_macs`, by the path of a module. layer_of: the layer that its weights belong to. None if there is a
    module without.
    """
    total: dict[str, float] = {}
    for path, count in ((path, count) for part in all_gather(dict(counts)) for path, count in part.items()):
        if path not in layer_of:
            return None
        total[layer_of[path]] = total.get(layer_of[path], 0.0) + count / images
    return total


def quantized_accuracies(
    pl_module: LightningModule, data: ImageDataModule, model: EnergyModel, operations: Operations
) -> dict[str, float]:
    """ann/int8_acc, and ann/bits_acc with the bits of the other baseline: the ReLU network quantized without training."""
    bits = {baseline.name: baseline.bits for baseline in baselines(operations, model)}
    few = next(iter(data.batches("train", CALIBRATION, first=CALIBRATION)))[0].to(pl_module.device)
    labels, found = data.labels("test"), {}
    for name in ("int8", "bits"):
        classes = predicted_classes(quantized(pl_module.net, few, bits[name]), data, pl_module.device)
        found[f"ann/{name}_acc"] = float((classes == labels).double().mean())
    return found


def energy_of_run(trainer: Trainer, model: EnergyModel, operations: Operations) -> dict[str, float]:
    """The metrics of the model; writes the counts to operations.csv in the run's folder."""
    write_csv(Path(trainer.default_root_dir, "operations.csv"), operations.rows())
    return model_metrics(model, operations)
