"""Writes the spiking network of a finished run as a NIR graph, which other libraries and chips read.

python -m respike.export RUN_DIR --nir net.nir
"""

import argparse
import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nir
from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate
from omegaconf import OmegaConf
from torch import nn

from respike.convert import load_snn
from respike.data.datasets import image_shape
from respike.errors import InputError, print_lines
from respike.networks.state_dicts import give_state_dict, read_checkpoint, state_dict_of
from respike.nir.write import export_nir
from respike.report.runs import is_number, read_run
from respike.report.terminal import shown_path
from respike.simulate.rate.settings import Settings
from respike.system.signals import run_command
from respike.training.fit import make_network

__all__ = ["export_nir", "export_run", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file. Returns the exit status: 1 for a network that NIR cannot represent, and for mistakes."""
    parser = argparse.ArgumentParser(prog="python -m respike.export", description=__doc__.splitlines()[0])
    parser.add_argument(
        "run_dir", type=Path, metavar="RUN_DIR", help="the folder of a finished run, of rates or trained directly"
    )
    parser.add_argument("--nir", type=Path, required=True, metavar="FILE", help="the file to write, as net.nir")
    parser.add_argument("--lossy", action="store_true", help="approximate what NIR cannot represent")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        metavar=("C", "H", "W"),
        help="of the images, where the run's settings do not say it",
    )
    given = parser.parse_args(arguments)
    return print_lines(lambda: export_run(given.run_dir, given.nir, given.lossy, given.shape))


def export_run(run_dir: Path, path: Path, lossy: bool = False, shape: Sequence[int] | None = None) -> list[str]:
    """Write the spiking network of a run as the run simulated it; returns the lines that the command prints.

    Raises InputError for a run without such a network, for settings that are not known here, and as `export_nir`.
    """
    record = read_run(run_dir)
    file, weights = (run_dir / "checkpoints" / name for name in ("snn.pt", "weights.pt"))
    if path.is_dir():
        raise InputError(f"--nir {path}: is a folder; give a file, as --nir net.nir")
    snn: nn.Module
    if str(record.get("cfg.simulate._target_")).endswith(".simulate_ttfs"):
        raise InputError(f"{run_dir}: a run of method=ttfs, and NIR has no spike times; export a run of method=rate")
    if file.is_file():
        snn, settings = load_snn(file), _settings(record, run_dir)
    elif weights.is_file():
        snn, settings = _direct_network(run_dir, weights), {}
        steps = record.get("cfg.simulate.steps")
        if steps is not None and is_number(steps):  # else the network's own
            settings["duration"] = 0.001 * steps
    else:
        missing = weights if record.get("cfg.method.name") == "direct" else file
        raise InputError(f"{missing}: no such file; a run keeps its spiking network there (keep_networks=true)")
    if shape is None:
        shape = image_shape(_block(record, "data.dataset")) or json.loads(record.get("cfg.model.input_shape") or "null")
    if shape is None:
        raise InputError(
            f"{run_dir}: its settings do not say the shape of the images; type --shape C H W, as --shape 3 32 32"
        )
    try:
        lost = export_nir(snn, path, shape, lossy=lossy, **settings)
    except OSError as error:
        raise InputError(f"--nir {path}: cannot be written ({' '.join(str(error).split())})") from error
    graph = nir.read(path, type_check=False)
    kinds = Counter(type(node).__name__ for node in graph.nodes.values())
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind not in ("Input", "Output"))
    read = "at the threshold (>=)" if graph.metadata["fires"] == ">=" else "above the threshold (>)"
    return [
        f"{shown_path(path)}: images of {'x'.join(map(str, shape))}, {counted}",
        f"neurons fire {read}, one step is dt = 1, the class is read from {graph.metadata['readout']}",
        *(f"lost: {what}" for what in lost),
    ]


def _direct_network(run_dir: Path, weights: Path) -> nn.Module:
    """The network of a run of method=direct."""
    model, line = OmegaConf.load(run_dir / "config.yaml").model, f"{weights}"
    _check_targets(OmegaConf.to_container(model, resolve=True), run_dir)
    net = make_network(model)
    give_state_dict(net, state_dict_of(read_checkpoint(weights, "weights", "run it again"), line), line)
    return net


def _check_targets(block: Any, run_dir: Path) -> None:
    """Raise InputError for a callable that is not of respike: a run's folder may be anybody's, and no other code is run."""
    if isinstance(block, dict) and "_target_" in block and not _is_own(str(block["_target_"])):
        raise InputError(f"{run_dir}: _target_={block['_target_']} is not of respike; call export_nir in Python")
    for inner in block.values() if isinstance(block, dict) else block if isinstance(block, list) else ():
        _check_targets(inner, run_dir)


def _is_own(target: str) -> bool:
    """Whether a name is that of something which respike itself defines, not of what a module of it imports."""
    if not target.startswith("respike."):
        return False
    try:
        module = str(getattr(get_object(target), "__module__", ""))
    except (AttributeError, ImportError, ValueError):
        return False
    return module == "respike" or module.startswith("respike.")


def _settings(record: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """The keywords of `simulate` that a run had."""
    known = [field.name for field in dataclasses.fields(Settings)]
    found = {name: value for name, value in _block(record, "simulate").items() if name in known}
    for name in ("neuron", "encode"):
        block = _block(record, name)
        _check_targets(block, run_dir)
        if "_target_" not in block:
            raise InputError(f"{run_dir}: its config.yaml has no {name}._target_; run the experiment again")
        try:
            found[name] = instantiate(OmegaConf.create(block))
        except InstantiationException as error:
            raise InputError(f"{run_dir}: {name}: {' '.join(str(error.__cause__ or error).split())}") from error
    return found


def _block(record: Mapping[str, Any], block: str) -> dict[str, Any]:
    """A block of a run's settings."""
    found = OmegaConf.create()
    for key, value in record.items():
        if key.startswith(f"cfg.{block}.") and not (value is None and key.endswith("._target_")):
            OmegaConf.update(found, key.removeprefix(f"cfg.{block}."), value)
    content = OmegaConf.to_container(found)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


if __name__ == "__main__":
    run_command(main)
