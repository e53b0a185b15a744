"""The clock of the benchmark: wall times of calls, and how many passes a time budget allows."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

WARM_UP = 200  # images at most


def seconds(run: Callable, *arguments: Any) -> tuple[float, Any]:
    """Wall time of a call in seconds, and its result."""
    start = time.perf_counter()
    result = run(*arguments)
    return time.perf_counter() - start, result


def affordable(per_image: float, images: int, repeats: int, budget: float, least: int = 100) -> tuple[int, int]:
    """(images, repeats) that take at most `budget` seconds: first fewer repeats, then, with one repeat, fewer images.

    per_image: seconds. least: number of images that are timed even if they take longer. A reduced number of images is a
    multiple of 100.
    """
    if per_image * images <= budget:
        return images, max(1, min(repeats, int(budget / (per_image * images))))
    return min(images, max(least, int(budget / per_image) // 100 * 100)), 1


def spread(times: Sequence[float], images: int) -> dict[str, float]:
    """Median, minimum and maximum of wall times for `images` images, and the median for 10,000 images."""
    median = statistics.median(times)
    return {
        "runs": len(times), "seconds": median, "seconds_min": min(times), "seconds_max": max(times),
        "seconds_per_10000": median * 10_000 / images, "images_per_second": images / median,
    }  # fmt: skip
