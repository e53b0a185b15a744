"""The pass of the ReLU network over the test images, which all simulations of one network share."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from respike.callbacks.convert import converter
from respike.metrics.operations import counted_macs
from respike.networks.copying import eval_copy
from respike.system.cache import code_hash, measured_once, network_key
from respike.system.distributed import all_gather
from respike.system.files import write_json
from respike.training.trainer import data_of

BATCH = 100  # images at a time in float64


@dataclass(frozen=True)
class ReluPass:
    """Outputs (B, C) of all test images, and `counted_macs` on them, by the path of a module; the same on every rank."""

    outputs: Tensor
    macs: dict[str, int]


def relu_pass(trainer: Trainer, pl_module: LightningModule, double: bool = False) -> ReluPass:
    """The pass in the precision of the network, or in float64. Done once for each network where stages are kept."""
    data, stages = data_of(trainer), converter(trainer).stages

    def measure() -> ReluPass:
        net = eval_copy(pl_module.net)
        net, size = (net.double(), BATCH) if double else (net, data.eval_batch_size)
        with torch.inference_mode(), counted_macs(net, data.input_shape) as counts:
            batches = (images.to(pl_module.device) for images, _, _ in data.batches("test", size, shared=True))
            outputs = [net(images.double() if double else images).cpu() for images in batches]
        parts = all_gather((outputs, dict(counts)))
        macs: dict[str, int] = {}
        for path, count in ((path, count) for _, found in parts for path, count in found.items()):
            macs[path] = macs.get(path, 0) + count
        return ReluPass(torch.cat([output for found, _ in parts for output in found]), macs)

    key = {
        "stage": "relu pass", "double": double, "data": data.fingerprint("test"), "source": code_hash("relu pass"),
        "device": pl_module.device.type,
    }  # fmt: skip
    return measured_once(stages, key | network_key(pl_module.net), measure, _save, _load)[0]


def _save(found: ReluPass, folder: Path) -> None:
    np.save(folder / "outputs.npy", found.outputs.numpy())
    write_json(folder / "macs.json", found.macs)


def _load(folder: Path) -> ReluPass:
    macs = json.loads((folder / "macs.json").read_text(encoding="utf-8"))
    return ReluPass(torch.from_numpy(np.load(folder / "outputs.npy")), macs)
