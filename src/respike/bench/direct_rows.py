"""The rows of the directly trained ResNet-19: a step of its training."""

from collections.abc import Callable, Iterator

from respike.bench.contenders import DIRECT_TRAININGS, DIRECT_WORKS
from respike.bench.plan import Plan
from respike.bench.row import Row, isolated, summary


def direct_rows(plan: Plan, tell: Callable[[str], None]) -> Iterator[Row]:
    """A row for each width and each way to train it, as they are finished."""
    for title, arguments in DIRECT_WORKS.items():
        for training in DIRECT_TRAININGS:
            log = "direct", str(arguments["batch"]), training.name
            given = {"timed": plan.direct_steps, **arguments, **training.options}
            row = {"part": "direct", "work": "stbp_resnet19", "title": title, "steps": 2, "reduced": plan.reduced}
            row |= {"name": training.name, "arithmetic": training.arithmetic} | isolated(
                plan, log, training.train, **given
            )
            tell(f"{title}: {training.name}: {summary(row)}")
            yield row
