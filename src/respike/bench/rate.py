"""Measurements of a rate-coded network: time of simulations, their agreement, and cost curves.

`search_batch`, `measure`, `cost_of_images` and `cost_of_steps` run in processes of their own. T steps, B images.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from respike.bench.isolated import resolve
from respike.bench.peers import bernoulli
from respike.bench.plan import Contender
from respike.bench.timing import WARM_UP, affordable, seconds, spread
from respike.bench.workload import Workload
from respike.convert.rate.rate_snn import RateSNN
from respike.errors import InputError
from respike.simulate import SpikeRecord, simulate
from respike.simulate.rate.kernels import events, triton_backend
from respike.simulate.rate.program import Program, compile_program
from respike.simulate.rate.settings import Settings
from respike.simulate.record import predict

REFUSALS: dict[str, Callable[[Program, Settings], str | None]] = {  # why a backend cannot run a program, None if it can
    "events": events.unsupported,
    "triton": lambda program, settings: triton_backend.unsupported(program),
}


class Output(NamedTuple):
    """counts: output spikes (B, classes). predicted: class after each step (T, B), None if the contender has only counts."""

    counts: Tensor
    predicted: Tensor | None = None


Run = Callable[[Tensor, int | None], Output]  # images (B, C, H, W) in [0, 1], how many at a time


def our_simulator(
    snn: RateSNN, settings: dict[str, Any], double: bool = False, device: str = "cpu", **options: Any
) -> Callable[[Tensor], SpikeRecord]:
    """images (B, C, H, W) -> SpikeRecord. double: float64 weights. options: further keyword arguments of `simulate`.

    Raises InputError if the requested backend cannot run: `simulate` would then use plain torch.
    """
    chosen = settings | options
    backend = chosen.get("backend", "auto")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("the Triton kernels need a CUDA device")
    snn = (snn.double() if double else snn).to(device)
    checked = backend not in REFUSALS

    def run(images: Tensor) -> SpikeRecord:
        nonlocal checked
        if not checked:
            checked = True
            parsed = Settings(**chosen)
            reason = REFUSALS[backend](compile_program(snn, images.shape[1:], parsed), parsed)
            if reason is not None:
                raise InputError(reason)
        return simulate(snn, images.to(device), **chosen)

    return run


def runner(contender: Contender, workload: Workload) -> Run:
    """The contender, built for the workload. A peer gets a batch of images at a time and draws its own input spikes."""
    make = resolve(contender.make)
    if contender.options is not None and not contender.converts:
        ours = make(workload.snn, workload.keywords, **contender.options)

        def run_ours(images: Tensor, batch: int | None) -> Output:
            record = ours(images)
            return Output(record.counts.cpu(), record.predicted.cpu())

        return run_ours
    given = () if contender.converts else (bernoulli,)
    peer = make(workload, **contender.options or {}) if contender.converts else make(workload.snn, workload.steps)

    def run_peer(images: Tensor, batch: int | None) -> Output:
        with torch.no_grad():
            return Output(torch.cat([peer(part, *given).cpu() for part in images.split(batch or len(images))]))

    return run_peer


def search_batch(contender: dict[str, Any], workload: str, images: int) -> dict[str, Any]:
    """Find the fastest batch size up to `images`.

    contender: fields of a Contender. workload: file of `Workload.save`.
    Returns `batch`, its `seconds_per_image`, and `tried`: seconds per image of every size, the smaller of two rounds.
    """
    row, loaded = Contender(**contender), Workload.load(workload)
    pixels = loaded.pixels(images)
    sizes = [size for size in row.batches if size <= len(pixels)] or [len(pixels)]
    run = runner(row, loaded)
    tried = dict.fromkeys(sizes, math.inf)
    for size in sizes:
        run(pixels[: min(size, WARM_UP)], size)
    for size in sizes * 2:
        part = pixels[: max(size, len(pixels) // 5 // size * size)]  # whole batches, as most of a run has
        tried[size] = min(tried[size], seconds(run, part, size)[0] / len(part))
    best = min(tried, key=tried.__getitem__)
    return {"batch": best, "seconds_per_image": tried[best], "tried": tried}


def measure(
    contender: dict[str, Any], workload: str, images: int, repeats: int, budget: float, batch: int | None, keep: str
) -> dict[str, Any]:
    """Time passes over `images` images after a warm-up. Returns `spread` of the times, and the accuracy.

    Of a network of cnn.py also the `correlation` of its output with the ReLU network's.

    contender: fields of a Contender. workload: file of `Workload.save`. batch: images at a time, None if the simulation
    chooses. budget: seconds for all passes; a slower row is timed less often, or on fewer images. keep: file for the output.
    """
    row, loaded = Contender(**contender), Workload.load(workload)
    torch.manual_seed(0)
    pixels = loaded.pixels(images)
    run = runner(row, loaded)
    few = WARM_UP if loaded.relu is None else max(batch or 1, len(pixels) // 10)
    run(pixels[:few], batch)
    probe = pixels[: max(batch or 1, len(pixels) // 20)]
    per_image = seconds(run, probe, batch)[0] / len(probe)
    count, repeats = affordable(per_image, len(pixels), repeats, budget, least=max(100, batch or 0))
    pixels = pixels[:count]
    passes = [seconds(run, pixels, batch) for _ in range(repeats)]
    output = passes[-1][1]
    torch.save({"counts": output.counts, "predicted": output.predicted}, keep)
    answer: dict[str, Any] = {"images": count, "batch": batch}
    if len(loaded.labels):
        answer["accuracy"] = (predict(output.counts) == loaded.labels[:count]).double().mean().item()
    if loaded.relu is not None:
        answer["correlation"] = correlation(output.counts, loaded.relu["logits"][:count])
    return answer | spread([time for time, _ in passes], count)


def correlation(outputs: Tensor, logits: Tensor) -> float:
    """Correlation of outputs with logits, (B, classes) each, after the mean of each class is subtracted."""
    centred = [(values.double() - values.double().mean(0)).flatten() for values in (outputs, logits)]
    return torch.corrcoef(torch.stack(centred))[0, 1].item()


def agreement(first: dict[str, Tensor], second: dict[str, Tensor], labels: Tensor) -> dict[str, Any]:
    """Compare two outputs, predicted (T, B) and counts (B, classes), on the images that both have. labels: (B,).

    predictions_differ: share of (image, step) predictions. counts_differ: share of final counts. accuracy_gap: accuracy of
    the first minus that of the second, as a fraction.
    """
    images = min(len(first["counts"]), len(second["counts"]))
    a, b = (output["predicted"][:, :images] for output in (first, second))
    counts = [output["counts"][:images] for output in (first, second)]
    right = [(predicted[-1] == labels[:images]).double().mean().item() for predicted in (a, b)]
    return {
        "images": images,
        "predictions_differ": (a != b).double().mean().item(),
        "counts_differ": (counts[0] != counts[1]).double().mean().item(),
        "accuracy_gap": right[0] - right[1],
    }


def agreements(outputs: dict[str, Path], labels: Tensor) -> list[dict[str, Any]]:
    """`agreement` of every pair of contenders whose output file exists and has predictions. outputs: name -> file."""
    loaded = {name: torch.load(path, weights_only=True) for name, path in outputs.items() if path.is_file()}
    comparable = [name for name, output in loaded.items() if output["predicted"] is not None]
    return [
        {"name": f"{one} / {other}", **agreement(loaded[one], loaded[other], labels)}
        for one, other in combinations(comparable, 2)
    ]


def cost_of_images(workload: str, counts: list[int], repeats: int = 1) -> dict[str, Any]:
    """points: median seconds for each number of images. Beyond the size of the test set its images are repeated."""
    loaded = Workload.load(workload)
    pixels = loaded.images
    simulate(loaded.snn, pixels[:WARM_UP], **loaded.keywords)
    points = []
    for count in counts:
        chosen = pixels[torch.arange(count) % len(pixels)]
        run = partial(simulate, loaded.snn, chosen, **loaded.keywords)
        times = [seconds(run)[0] for _ in range(repeats)]
        points.append({"images": count, "steps": loaded.steps} | spread(times, count))
    return {"points": points}


def cost_of_steps(workload: str, steps: list[int], images: int, repeats: int = 1) -> dict[str, Any]:
    """points: median seconds for each number of steps, with the first `images` images."""
    loaded = Workload.load(workload)
    pixels = loaded.images[:images]
    points = []
    for count in steps:
        settings = loaded.keywords | {"duration": count / 1000, "start_at_zero": False}
        simulate(loaded.snn, pixels[: min(WARM_UP, max(1, len(pixels) // 5))], **settings)
        run = partial(simulate, loaded.snn, pixels, **settings)
        times = [seconds(run)[0] for _ in range(repeats)]
        points.append({"images": len(pixels), "steps": count} | spread(times, len(pixels)))
    return {"points": points}
