"""The rows of a rate-coded network: bare products, simulations, agreement, costs, trainings."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from respike.bench.agreement import agreements
from respike.bench.contenders import CONTENDERS, TRAININGS, Contender, named
from respike.bench.plan import Plan
from respike.bench.prepare import make_work, work_config
from respike.bench.row import Row, file_name, isolated, summary
from respike.bench.workload import Work


def rate_rows(plan: Plan, tell: Callable[[str], None]) -> Iterator[Row]:
    """The rows of each network of the plan, as they are finished. Raises InputError where there is nothing to work on."""
    for name in plan.works:
        tell(f"{name}: the network (trained once, then kept under {plan.outputs / 'stages'})")
        work = make_work(work_config(name, plan.outputs, plan.overrides))
        path = work.save(plan.out / "work" / f"{name}.pt")
        for row in _rows(plan, work, path):
            row = {"part": row.pop("part"), "work": name, "title": work.title, "steps": work.steps} | row
            row["reduced"] = reductions(plan, work)
            tell(f"{name}: {row['part']}, {row['name']}: {summary(row)}")
            yield row


def reductions(plan: Plan, work: Work) -> str:
    """Why these are not the numbers of a full run, in words; empty where they are."""
    fewer = f"{plan.images:,} of {len(work.images):,} images" if plan.images < len(work.images) else ""
    return "; ".join(filter(None, (plan.reduced, fewer, work.reduced)))


def _rows(plan: Plan, work: Work, path: Path) -> Iterator[Row]:
    given = {"work": str(path), "rows": plan.floor_rows, "repeats": plan.repeats}
    floor = isolated(plan, (work.name, "products"), "respike.bench.floor.floor", **given)
    yield {"part": "floor", "name": "bare products"} | floor
    chosen = [row for row in named(CONTENDERS, plan.only) if row.works is None or work.name in row.works]
    outputs = {row.name: plan.out / "work" / f"{file_name(work.name, row.name)}.pt" for row in chosen}
    for contender, row in _simulated(plan, work, path, chosen, outputs):
        about = {"name": contender.name, "arithmetic": contender.arithmetic, "fires": contender.fires}
        yield {"part": "simulate"} | about | row | _shares(row, floor)
    for row in agreements(outputs, work.labels):
        yield {"part": "agreement"} | row
    yield from _costs(plan, work, path)
    yield from _trained(plan, work)


def _simulated(
    plan: Plan, work: Work, path: Path, chosen: list[Contender], outputs: dict[str, Path]
) -> Iterator[tuple[Contender, Row]]:
    """Each contender's row: the batch sizes of all peers first, so that the quickest of them is timed in full."""
    fields = {row.name: {"contender": asdict(row), "work": str(path)} for row in chosen}
    images = min(plan.search, plan.images)
    found = {
        row.name: isolated(
            plan,
            (work.name, row.name, "search"),
            "respike.bench.timing.search_batch",
            **fields[row.name],
            images=images,
        )
        for row in chosen
        if row.batches
    }
    speeds = {name: answer["seconds_per_image"] for name, answer in found.items() if "reason" not in answer}
    in_full = {min(speeds, key=speeds.__getitem__, default=""), "ours, compiled events"}
    for row in chosen:
        outputs[row.name].unlink(missing_ok=True)
        answer = found.get(row.name, {})
        if "reason" not in answer:
            budget = plan.limit if row.name in in_full and not plan.reduced else plan.budget
            amount = {"images": plan.images, "repeats": plan.repeats, "budget": budget}
            place = {"batch": answer.get("batch"), "keep": str(outputs[row.name])}
            answer = isolated(
                plan, (work.name, row.name), "respike.bench.timing.measure", **fields[row.name], **amount, **place
            )
        yield row, answer


def _shares(row: Row, floor: Row) -> Row:
    """The bare products' share of the time, in fp32 and in bf16; above 1: faster than they are."""
    if "reason" in row or "reason" in floor:
        return {}
    return {f"share_{kind}": floor[kind] / row["seconds_per_10000"] for kind in ("fp32", "bf16")}


def _costs(plan: Plan, work: Work, path: Path) -> Iterator[Row]:
    if plan.only and "cost" not in plan.only:
        return
    given = {
        "cost against images": {"function": "respike.bench.cost.against_images", "counts": list(plan.cost_images)},
        "cost against steps": {
            "function": "respike.bench.cost.against_steps", "steps": list(plan.cost_steps), "images": plan.cost_sample,
        },
    }  # fmt: skip
    for part, arguments in given.items():
        answer = isolated(plan, (work.name, part), work=str(path), **arguments)
        for point in answer.get("points", [{"reason": answer.get("reason")}]):
            yield {"part": part, "name": "ours"} | point


def _trained(plan: Plan, work: Work) -> Iterator[Row]:
    for training in TRAININGS if not plan.only or "training" in plan.only else []:
        if training.works is None or work.name in training.works:
            log = work.name, "train", training.name
            given = {"experiment": work.name, "outputs": str(plan.outputs), "overrides": list(plan.overrides)}
            amount = {"batches": plan.train_batches, "warm_up": plan.warm_up}
            answer = isolated(plan, log, training.train, **given, **amount, **training.options)
            yield {"part": "train", "name": training.name, "arithmetic": training.arithmetic} | answer
