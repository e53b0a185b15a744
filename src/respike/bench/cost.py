"""What ours costs against the number of images and against the number of steps. Runs in a process of its own."""

from typing import Any

import torch

from respike.bench.timing import WARM_UP, seconds
from respike.bench.workload import Work
from respike.simulate import simulate


def against_images(work: str, counts: list[int]) -> dict[str, Any]:
    """points: seconds for each number of images; beyond the test set its images come again, as other numbers."""
    given = Work.load(work)
    pixels = given.images
    simulate(given.snn, pixels[:WARM_UP], **given.settings)
    points = []
    for count in counts:
        chosen = pixels[torch.arange(count) % len(pixels)]
        time, _ = seconds(lambda chosen=chosen: simulate(given.snn, chosen, **given.settings))
        points.append({"images": count, "steps": given.steps, "seconds": time})
    return {"points": points}


def against_steps(work: str, steps: list[int], images: int) -> dict[str, Any]:
    """points: seconds for each number of steps, on the first `images` images."""
    given = Work.load(work)
    pixels = given.images[:images]
    points = []
    for count in steps:
        settings = given.settings | {"duration": count / 1000, "start_at_zero": False}
        simulate(given.snn, pixels[:WARM_UP], **settings)
        time, _ = seconds(lambda settings=settings: simulate(given.snn, pixels, **settings))
        points.append({"images": len(pixels), "steps": count, "seconds": time})
    return {"points": points}
