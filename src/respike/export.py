"""Writes the spiking network of a finished run as a NIR graph, which other libraries and chips read.

python -m respike.export RUN_DIR --nir net.nir
"""

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from respike.convert import load_snn
from respike.data.datasets import image_shape
from respike.errors import InputError, explain
from respike.report.runs import read_run
from respike.report.terminal import shown_path
from respike.simulate.rate.nir import export_nir
from respike.simulate.rate.settings import Settings
from respike.system.signals import run_command

__all__ = ["export_nir", "export_run", "main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the file. Returns the exit status: 1 for a network that NIR cannot say and for mistakes."""
    parser = argparse.ArgumentParser(prog="python -m respike.export", description=__doc__.splitlines()[0])
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="the folder of a finished run of method=rate")
    parser.add_argument("--nir", type=Path, required=True, metavar="FILE", help="the file to write, as net.nir")
    parser.add_argument("--lossy", action="store_true", help="write what NIR cannot say in its nearest form")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        metavar=("C", "H", "W"),
        help="of the images, where the run's settings do not say it",
    )
    given = parser.parse_args(arguments)
    try:
        print("\n".join(export_run(given.run_dir, given.nir, given.lossy, given.shape)), flush=True)
    except Exception as error:
        answer = explain(error)
        if answer is None:
            raise
        print(f"respike: {answer}", file=sys.stderr)
        return 1
    return 0


def export_run(run_dir: Path, path: Path, lossy: bool = False, shape: Sequence[int] | None = None) -> list[str]:
    """Write the spiking network of a run as the run simulated it; returns the lines that the command prints.

    Raises InputError for a run without such a network, for settings that are not known here, and as `export_nir`.
    """
    record = read_run(run_dir)
    file = run_dir / "checkpoints" / "snn.pt"
    if not file.is_file():
        raise InputError(f"{file}: no such file; a run of method=rate keeps its network there (keep_networks=true)")
    snn, settings = load_snn(file), _settings(record, run_dir)
    if shape is None:
        shape = image_shape(_block(record, "data.dataset")) or json.loads(record.get("cfg.model.input_shape") or "null")
    if shape is None:
        raise InputError(
            f"{run_dir}: its settings do not say the shape of the images; type --shape C H W, as --shape 3 32 32"
        )
    lost = export_nir(snn, path, shape, lossy=lossy, **settings)
    graph = nir.read(path, type_check=False)
    kinds = Counter(type(node).__name__ for node in graph.nodes.values())
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()) if kind not in ("Input", "Output"))
    read = "at the threshold (>=)" if graph.metadata["fires"] == ">=" else "above the threshold (>)"
    return [
        f"{shown_path(path)}: images of {'x'.join(map(str, shape))}, {counted}",
        f"neurons fire {read}, one step is dt = 1, the class is read from {graph.metadata['readout']}",
        *(f"lost: {what}" for what in lost),
    ]


def _settings(record: Mapping[str, Any], run_dir: Path) -> dict[str, Any]:
    """The keywords of `simulate` that a run had."""
    known = [field.name for field in dataclasses.fields(Settings)]
    found = {name: value for name, value in _block(record, "simulate").items() if name in known}
    for name in ("neuron", "encode"):
        block = _block(record, name)
        target = str(block.get("_target_"))
        if not target.startswith("respike.neurons."):  # a run's folder may be anybody's: no other code is run
            raise InputError(f"{run_dir}: {name}._target_={target} is not of respike; call export_nir in Python")
        found[name] = instantiate(OmegaConf.create(block))
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
