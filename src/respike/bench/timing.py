"""Seconds of one contender on one work. These functions run in a process of their own (isolated.py)."""

import math
import statistics
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from respike.bench.chain import bernoulli
from respike.bench.contenders import Contender
from respike.bench.isolated import resolve
from respike.bench.workload import Work
from respike.simulate.record import predict

WARM_UP = 200  # images at most


class Output(NamedTuple):
    """counts: output spikes (B, classes); predicted: class after each step (T, B), where the contender tells."""

    counts: Tensor
    predicted: Tensor | None = None


Run = Callable[[Tensor], Output]  # images (B, C, H, W) in [0, 1]


def runner(contender: Contender, work: Work, batch: int | None) -> Run:
    """The contender, built for the work; peers get `batch` images at a time and draw their own input spikes."""
    make = resolve(contender.make)
    if contender.options is not None:
        ours = make(work.snn, work.settings, **contender.options)

        def run_ours(images: Tensor) -> Output:
            record = ours(images)
            return Output(record.counts, record.predicted)

        return run_ours
    peer = make(work.snn, work.steps)

    def run_peer(images: Tensor) -> Output:
        with torch.no_grad():
            return Output(torch.cat([peer(part, bernoulli) for part in images.split(batch)]))

    return run_peer


def seconds(run: Callable, *arguments: Any) -> tuple[float, Any]:
    """Wall time of a call, and what it returned."""
    start = time.perf_counter()
    result = run(*arguments)
    return time.perf_counter() - start, result


def search_batch(contender: dict[str, Any], work: str, images: int) -> dict[str, Any]:
    """Try every batch size up to `images`. Returns the best as `batch`, and its seconds per image.

    contender: fields of a Contender. tried: batch size -> seconds per image, the less of two rounds; a size is timed on
    one batch, small ones on more.
    """
    row, given = Contender(**contender), Work.load(work)
    pixels = given.pixels(images)
    sizes = [size for size in row.batches if size <= len(pixels)] or [len(pixels)]
    run = {size: runner(row, given, size) for size in sizes}
    tried = dict.fromkeys(sizes, math.inf)
    for size in sizes:
        run[size](pixels[: min(size, WARM_UP)])
    for size in sizes * 2:
        part = pixels[: max(size, len(pixels) // 5)]
        tried[size] = min(tried[size], seconds(run[size], part)[0] / len(part))
    best = best_batch(tried)
    return {"batch": best, "seconds_per_image": tried[best], "tried": tried}


def best_batch(tried: dict[int, float]) -> int:
    """The size of least seconds per image."""
    return min(tried, key=tried.__getitem__)


def affordable(per_image: float, images: int, repeats: int, budget: float, least: int = 100) -> tuple[int, int]:
    """(images, repeats) that fit a budget of seconds: fewer repeats first, one at least, then fewer images.

    per_image: seconds; least: images that are timed whatever they cost. Fewer images are a multiple of 100.
    """
    if per_image * images <= budget:
        return images, max(1, min(repeats, int(budget / (per_image * images))))
    return min(images, max(least, int(budget / per_image) // 100 * 100)), 1


def measure(
    contender: dict[str, Any], work: str, images: int, repeats: int, budget: float, batch: int | None, keep: str
) -> dict[str, Any]:
    """Time whole passes over `images` images, after a warm-up: median, least and most seconds, and the accuracy.

    contender: fields of a Contender; batch: images at a time, None where it cuts the work itself; budget: seconds for
    all passes; what exceeds it is timed less often, or on fewer images. keep: file for the output.
    """
    row, given = Contender(**contender), Work.load(work)
    torch.manual_seed(0)
    pixels = given.pixels(images)
    run = runner(row, given, batch)
    run(pixels[:WARM_UP])
    probe = pixels[: max(batch or 1, len(pixels) // 20)]
    per_image = seconds(run, probe)[0] / len(probe)
    count, repeats = affordable(per_image, len(pixels), repeats, budget, least=max(100, batch or 0))
    pixels = pixels[:count]
    passes = [seconds(run, pixels) for _ in range(repeats)]
    times, output = [t for t, _ in passes], passes[-1][1]
    right = predict(output.counts.long()) == given.labels[:count]
    torch.save({"counts": output.counts, "predicted": output.predicted}, keep)
    return {"images": count, "batch": batch, "accuracy": right.double().mean().item()} | spread(times, count)


def spread(times: list[float], images: int) -> dict[str, float]:
    """Median, least and most of wall times, and the median for 10,000 images."""
    median = statistics.median(times)
    return {
        "runs": len(times), "seconds": median, "seconds_min": min(times), "seconds_max": max(times),
        "seconds_per_10000": median * 10_000 / images, "images_per_second": images / median,
    }  # fmt: skip
