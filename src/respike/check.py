"""What becomes of a network, before it is trained or simulated: every operation, its layer, its cost, and what will run it.

python -m respike.check experiment=diehl_cnn
python -m respike.check experiment=diehl_cnn --images 500
"""

import argparse
import gc
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from respike.convert.calibration import first_images
from respike.convert.rate.operations import Anatomy, Operation, dissect
from respike.convert.rate.rate_snn import RateSNN
from respike.convert.rate.wiring import wiring_of
from respike.data.datamodule import ImageDataModule
from respike.data.datasets import image_shape
from respike.errors import InputError, print_lines
from respike.figures.layers import rate_correlations as correlation_figure
from respike.figures.style import save
from respike.metrics.representation import rate_correlations, unit_shares
from respike.networks.init import measure_batch_norms
from respike.networks.standardize import Standardized
from respike.report.terminal import shown_path
from respike.runs.compose import compose_run
from respike.simulate.rate.layerwise import backends
from respike.simulate.rate.program import Program, bounds_program
from respike.simulate.rate.settings import Settings
from respike.system.messages import quiet_libraries
from respike.system.signals import run_command
from respike.system.threads import set_threads
from respike.training.fit import check_fit, has_random_weights, load_weights, untrained

NOTHING = "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table. Returns the exit status: 1 for a network that cannot be converted and for mistakes."""
    parser = argparse.ArgumentParser(prog="python -m respike.check", description=__doc__.splitlines()[0])
    parser.add_argument("overrides", nargs="*", help="as for respike.train: experiment=, model=, data=, KEY=VALUE")
    parser.add_argument(
        "--images", type=int, default=0, metavar="N",
        help="also scales, dead and saturated neurons and correlations, from N calibration images (0: no data is read)",
    )  # fmt: skip
    given = parser.parse_intermixed_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    return print_lines(lambda: check(given.overrides, given.images))


def check(overrides: Sequence[str], images: int = 0) -> list[str]:
    """The lines that the command prints. images: number of calibration images, 0 reads no data.

    Raises InputError for a network that cannot be converted, and as `compose_run`.
    """
    if images < 0:
        raise InputError(f"--images {images}: a number of calibration images, as in --images 500, or 0")
    cfg = compose_run(["paths.run=outputs", *overrides])
    if cfg.method.name != "rate":
        advice = "another experiment, as in experiment=diehl_fc" if cfg.protocol.method else "method=rate"
        raise InputError(f"method={cfg.method.name}: the table is of a conversion to rates; type {advice}")
    quiet_libraries()
    set_threads(cfg.get("threads", "auto"))
    torch.manual_seed(cfg.seed)
    data = instantiate(cfg.data)
    net, origin = _network(cfg, data)
    shape = data.input_shape if images else _image_shape(cfg)
    if images and has_random_weights(cfg):
        few = data.batches("train", min(32, data.eval_batch_size), first=images)
        measure_batch_norms(net, (batch for batch, _, _ in few))
        origin = "random weights, batch norms measured on training images"
    settings = Settings.of(instantiate(cfg.simulate))
    convert = instantiate(cfg.convert)
    anatomy = dissect(net, shape, **wiring_of(convert))
    if len(returned := anatomy.operations[-1].shape) != 1:
        raise InputError(f"the network returns {returned} for one image; one number per class is needed, as in (10,)")
    if images:
        check_fit(net, data)
    columns: dict[str, list[str]] = {}
    notes: list[str] = []
    if images:
        part = OmegaConf.select(cfg, "callbacks.convert.calibrate_on") or "train"
        calibration = [batch for batch, _, _ in data.batches(part, 100, first=images)]
        snn = convert(net, calibration)
        columns, notes = _measured(anatomy, snn, calibration, settings, _folder(cfg, net))
    else:
        snn = anatomy.snn
    title = f"{_name(net)}, images of {_shape(shape)}, {origin}; T = {settings.steps} steps"
    operations = anatomy.operations
    del anatomy, net
    gc.collect()  # a large network should be in memory twice at most
    on_gpu = cfg.trainer.get("accelerator") in ("gpu", "cuda")
    program = bounds_program(snn, torch.Size(shape), settings)
    del snn
    costs = _costs(program, settings, on_gpu)
    return [title, "", *_table(operations, costs, columns), "", *_summary(costs, settings), *notes]


@dataclass(frozen=True)
class Cost:
    """What a spiking layer costs. connections, macs: for one image and one pass; analog_macs: those on currents, per step.

    bits: of the integers that its sums need, 0 in floating point. backend: what runs it; reason: why nothing faster does.
    """

    layer: str
    neurons: int
    connections: int
    macs: int
    analog_macs: int
    bits: int
    backend: str
    reason: str | None


def _costs(program: Program, settings: Settings, on_gpu: bool) -> list[Cost]:
    runs_in = backends(program, settings, on_gpu)
    costs = []
    for layer in program.layers:
        counted = layer.connections
        macs = dict(zip(counted.sources, counted.macs, strict=True))
        bound = layer.largest_potential(settings.steps)
        backend, reason = runs_in[layer.name]
        costs.append(
            Cost(
                layer.name,
                0 if layer.analog else counted.shape.numel(),
                sum(int(fan_out.sum()) for fan_out in counted.fan_outs),
                counted.network_macs,
                sum(count for source, count in macs.items() if source in program.analog),
                math.ceil(math.log2(bound + 1)) + 1 if math.isfinite(bound) else 0,
                backend,
                reason,
            )
        )
    return costs


def _network(cfg: DictConfig, data: ImageDataModule) -> tuple[nn.Module, str]:
    """The network, and where its weights are from."""
    module = untrained(cfg, data)
    path = cfg.ckpt_path or cfg.model.get("path")
    if cfg.ckpt_path:
        load_weights(module, cfg.ckpt_path)
    return module.net, f"weights of {Path(path).name}" if path else "weights as initialized"


def _image_shape(cfg: DictConfig) -> Sequence[int]:
    """(C, H, W), from the settings alone. Raises InputError where only the data can tell."""
    dataset = cfg.data.dataset
    if (known := image_shape(dataset)) is not None:
        return known
    if "input_shape" in cfg.model:
        return tuple(cfg.model.input_shape)
    raise InputError(
        f"data.dataset._target_={dataset._target_}: the shape of its images is known only when they are read; "
        "type --images 100 as well"
    )


def _measured(
    anatomy: Anatomy, snn: RateSNN, images: list[Tensor], settings: Settings, folder: Path
) -> tuple[dict[str, list[str]], list[str]]:
    """Further columns by layer, and notes; writes the figure of correlations to the folder."""
    shares = unit_shares(snn, anatomy.graph, anatomy.node_of_layer, images)
    few, _ = first_images(images)
    correlations = rate_correlations(snn, anatomy.graph, anatomy.node_of_layer, few, **vars(settings))
    columns = {}
    for name, scale in snn.scales.items():
        ends = [float(scale.min()), float(scale.max())] if isinstance(scale, Tensor) else [scale]
        dead, saturated = (f"{100 * share:.1f} %" for share in shares[name]) if name in shares else (NOTHING, NOTHING)
        columns[name] = [
            " to ".join(f"{end:.3g}" for end in ends),
            dead,
            saturated,
            f"{correlations[name]:.3f}" if name in correlations else NOTHING,
        ]
    path = folder / "correlations.png"
    save(correlation_figure(correlations, settings.steps), path)
    count = sum(map(len, images))
    return columns, [
        f"scale: of one spike per step; dead: neurons without activation for any of {count:,} images; saturated: those above "
        "the scale for some image",
        f"corr.: of rates after {settings.steps} steps with activations, over {len(few)} images; drawn in {shown_path(path)}",
    ]


HEADINGS = ("operation", "", "shape", "becomes", "connections", "MACs", "bits", "runs in")
MEASURED = ("scale", "dead", "saturated", "corr.")


def _table(operations: list[Operation], costs: list[Cost], columns: dict[str, list[str]]) -> list[str]:
    by_layer = {cost.layer: cost for cost in costs}
    rows = [[*HEADINGS, *(MEASURED if columns else ())]]
    for one in operations:
        row = [one.name, one.what, _shape(one.shape), one.becomes]
        if cost := by_layer.get(one.layer):
            bits = str(cost.bits) if cost.bits else "float"
            row += [_short(cost.connections), _short(cost.macs), bits, cost.backend, *columns.get(one.layer, ())]
        rows.append(row)
    widths = [max(len(row[k]) for row in rows if k < len(row)) for k in range(len(rows[0]))]
    numbers = range(4, 7)
    return [
        "  ".join(
            cell.rjust(width) if k in numbers else cell.ljust(width)
            for k, (cell, width) in enumerate(zip(row, widths, strict=False))
        ).rstrip()
        for row in rows
    ]


def _summary(costs: list[Cost], settings: Settings) -> list[str]:
    neurons, connections = sum(cost.neurons for cost in costs), sum(cost.connections for cost in costs)
    analog = sum(cost.analog_macs for cost in costs)
    lines = [
        f"{_short(neurons)} neurons, {_short(connections)} connections, {_short(sum(cost.macs for cost in costs))} MACs per "
        f"image and pass" + (f"; {_short(analog)} of them on currents, not spikes" if analog else "")
    ]
    reasons: dict[tuple[str, str], list[str]] = {}
    for cost in costs:
        if cost.reason:
            reasons.setdefault((cost.backend, cost.reason), []).append(cost.layer)
    if any(cost.bits for cost in costs):
        lines.append("bits: of the largest integer that the sums of a layer can reach, with its sign")
    for (backend, reason), layers in reasons.items():
        more = f" and {len(layers) - 1} more run" if len(layers) > 1 else " runs"
        lines.append(f"'{layers[0]}'{more} in {backend}: {reason}")
    return lines


def _shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _short(count: float) -> str:
    """A count in three digits: 940, 1.81 G."""
    for unit in ("", " k", " M", " G", " T"):
        if count < 999.5:
            return f"{count:.3g}{unit}" if unit else f"{count:.0f}"
        count /= 1000
    return f"{count:.3g} P"


def _name(net: nn.Module) -> str:
    return type(net.net if isinstance(net, Standardized) else net).__name__


def _folder(cfg: DictConfig, net: nn.Module) -> Path:
    return Path(cfg.paths.outputs, "check", cfg.experiment or _name(net))


if __name__ == "__main__":
    run_command(main, "nothing is kept")
