"""What the energy model needs beside a simulation: accuracies of quantized ReLU networks. Shared by the callbacks."""

from collections.abc import Mapping
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn

from respike.callbacks.convert import converter
from respike.callbacks.train_accuracy import read_accuracy, write_accuracy
from respike.data.datamodule import ImageDataModule
from respike.metrics.energy import EnergyModel, baselines, model_metrics
from respike.metrics.operations import Operations
from respike.networks.quantize import quantized
from respike.system.cache import measured_once, network_key, source_hash
from respike.system.distributed import all_gather
from respike.system.files import write_csv
from respike.training.trainer import data_of

CALIBRATION = 500  # training images that give the ranges of quantized activations


def predicted_classes(net: nn.Module, data: ImageDataModule, device: torch.device) -> Tensor:
    """The classes of all test images, (B,), on every rank."""
    batches = data.batches("test", data.eval_batch_size, shared=True)
    with torch.inference_mode():
        classes = [net(images.to(device)).argmax(1).cpu() for images, _, _ in batches]
    return torch.cat([part for gathered in all_gather(classes) for part in gathered])


def macs_by_layer(counts: Mapping[str, int], layer_of: Mapping[str, str], images: int) -> dict[str, float] | None:
    """Multiply-accumulates per image of each spiking layer.

    counts: of `counted_macs` on the images, by the path of a module. layer_of: the layer that its weights belong to. None if
    there is a module without.
    """
    total: dict[str, float] = {}
    for path, count in counts.items():
        if path not in layer_of:
            return None
        total[layer_of[path]] = total.get(layer_of[path], 0.0) + count / images
    return total


def quantized_accuracies(
    trainer: Trainer, pl_module: LightningModule, model: EnergyModel, operations: Operations
) -> dict[str, float]:
    """ann/int8_acc, and ann/bits_acc with the bits of the other baseline: the ReLU network quantized without training.

    Measured once for each network and number of bits where stages are kept: the runs of a sweep share them.
    """
    stages = converter(trainer).stages
    bits = {baseline.name: baseline.bits for baseline in baselines(operations, model)}
    return {f"ann/{name}_acc": _quantized_accuracy(trainer, pl_module, bits[name], stages) for name in ("int8", "bits")}


def _quantized_accuracy(trainer: Trainer, pl_module: LightningModule, bits: int, stages: Path | None) -> float:
    data, net = data_of(trainer), pl_module.net

    def measure() -> float:
        few = next(iter(data.batches("train", CALIBRATION, first=CALIBRATION)))[0].to(pl_module.device)
        classes = predicted_classes(quantized(net, few, bits), data, pl_module.device)
        return float((classes == data.labels("test")).double().mean())

    images = [data.fingerprint("train"), data.fingerprint("test")]
    key = {"stage": "quantized accuracy", "bits": bits, "data": images, "source": source_hash(quantized)}
    return measured_once(stages, key | network_key(net), measure, write_accuracy, read_accuracy)[0]


def energy_of_run(trainer: Trainer, model: EnergyModel, operations: Operations) -> dict[str, float]:
    """The metrics of the model; writes the counts to operations.csv in the run's folder."""
    write_csv(Path(trainer.default_root_dir, "operations.csv"), operations.rows())
    return model_metrics(model, operations)
