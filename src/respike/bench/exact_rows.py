"""The rows of the exact mapping: every evaluator, in both precisions."""

from collections.abc import Callable, Iterator

from respike.bench import exact
from respike.bench.plan import Plan
from respike.bench.row import Row, isolated, summary


def exact_rows(plan: Plan, tell: Callable[[str], None]) -> Iterator[Row]:
    """The rows of each mapped network of the plan, as they are finished."""
    for name in plan.exact:
        tell(f"{name}: the network (trained once, then kept under {plan.outputs / 'stages'})")
        place = plan.out / "work" / f"{name}.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        about = {"part": "exact", "work": name, "title": exact.TITLES[name], "steps": None}
        given = {"experiment": name, "outputs": str(plan.outputs), "overrides": list(plan.overrides)}
        made = isolated(plan, (name,), "respike.bench.exact.make", 3600, **given, keep=str(place))
        if "reason" in made:
            yield about | {"name": "networks"} | made
            continue
        amount = {"work": str(place), "images": plan.images, "repeats": plan.repeats, "budget": plan.budget}
        for row, options in exact.ROWS.items():
            for precision in ("float64", "float32"):
                log = name, f"{row} {precision}", "exact.measure"
                answer = isolated(plan, log, "respike.bench.exact.measure", precision=precision, **amount, **options)
                answer = about | {"name": row, "arithmetic": precision, "reduced": plan.reduced} | answer
                tell(f"{name}: {row}, {precision}: {summary(answer)}")
                yield answer
