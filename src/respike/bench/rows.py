"""Runs a plan: every row of it, each in a process of its own."""

from collections.abc import Callable, Iterator

from respike.bench.direct_rows import direct_rows
from respike.bench.exact_rows import exact_rows
from respike.bench.plan import Plan
from respike.bench.rate_rows import rate_rows
from respike.bench.row import Row


def run(plan: Plan, tell: Callable[[str], None] = print) -> Iterator[Row]:
    """The rows, as they are finished. tell: is given a line of progress for each.

    Raises InputError where there is nothing to work on.
    """
    if not plan.only or not set(plan.only) <= {"exact", "direct"}:  # else no rate-coded network is wanted
        yield from rate_rows(plan, tell)
    if not plan.only or "exact" in plan.only:
        yield from exact_rows(plan, tell)
    if not plan.only or "direct" in plan.only:
        yield from direct_rows(plan, tell)
