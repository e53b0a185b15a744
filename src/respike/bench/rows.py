"""Runs a plan: every row of it, each in a process of its own. A row is a dict; who could not run has a `reason`."""

from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from respike.bench import exact
from respike.bench.agreement import agreements
from respike.bench.contenders import CONTENDERS, DIRECT_TRAININGS, DIRECT_WORKS, TRAININGS, Contender, named
from respike.bench.isolated import call
from respike.bench.plan import Plan
from respike.bench.prepare import make_work, work_config
from respike.bench.work import Work

Row = dict[str, Any]


def run(plan: Plan, tell: Callable[[str], None] = print) -> Iterator[Row]:
    """The rows, as they are finished. tell: is given a line of progress for each.

    Raises InputError where there is nothing to work on.
    """
    rates = not plan.only or not set(plan.only) <= {"exact", "direct"}  # else no rate-coded network is wanted
    for name in plan.works if rates else ():
        tell(f"{name}: the network (trained once, then kept under {plan.outputs / 'stages'})")
        work = make_work(work_config(name, plan.outputs, plan.overrides))
        path = work.save(plan.out / "work" / f"{name}.pt")
        for row in _rows(plan, work, path):
            row = {"part": row.pop("part"), "work": name, "title": work.title, "steps": work.steps} | row
            row["reduced"] = reductions(plan, work)
            tell(f"{name}: {row['part']}, {row['name']}: {summary(row)}")
            yield row
    yield from _exact(plan, tell)
    for row in _direct(plan) if not plan.only or "direct" in plan.only else []:
        tell(f"{row['title']}: {row['name']}: {summary(row)}")
        yield row


def _exact(plan: Plan, tell: Callable[[str], None]) -> Iterator[Row]:
    """The evaluators of the exact mapping, in both precisions."""
    for name in plan.exact if not plan.only or "exact" in plan.only else ():
        tell(f"{name}: the network (trained once, then kept under {plan.outputs / 'stages'})")
        place = plan.out / "work" / f"{name}.pt"
        place.parent.mkdir(parents=True, exist_ok=True)
        about = {"part": "exact", "work": name, "title": exact.TITLES[name], "steps": None}
        given = {"experiment": name, "outputs": str(plan.outputs), "overrides": list(plan.overrides)}
        made = call(
            "respike.bench.exact.make", plan.out / "logs" / f"{name}.log", 3600, plan.threads, **given, keep=str(place)
        )
        if "reason" in made:
            yield about | {"name": "networks"} | made
            continue
        amount = {"images": plan.images, "repeats": plan.repeats, "budget": plan.budget}
        for row, options in exact.ROWS.items():
            for precision in ("float64", "float32"):
                answer = _isolated(
                    plan,
                    name,
                    f"{row} {precision}",
                    "exact.measure",
                    work=str(place),
                    precision=precision,
                    **amount,
                    **options,
                )
                answer = about | {"name": row, "arithmetic": precision, "reduced": plan.reduced} | answer
                tell(f"{name}: {row}, {precision}: {summary(answer)}")
                yield answer


def reductions(plan: Plan, work: Work) -> str:
    """Why these are not the numbers of a full run, in words; empty where they are."""
    fewer = f"{plan.images:,} of {len(work.images):,} images" if plan.images < len(work.images) else ""
    return "; ".join(filter(None, (plan.reduced, fewer, work.reduced)))


def _rows(plan: Plan, work: Work, path: Path) -> Iterator[Row]:
    given = {"work": str(path), "rows": plan.floor_rows, "repeats": plan.repeats}
    floor = _isolated(plan, work.name, "products", "floor.floor", **given)
    yield {"part": "floor", "name": "bare products"} | floor
    chosen = [row for row in named(CONTENDERS, plan.only) if row.works is None or work.name in row.works]
    outputs = {row.name: plan.out / "work" / f"{_file(work.name, row.name)}.pt" for row in chosen}
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
        row.name: _isolated(plan, work.name, row.name, "timing.search_batch", **fields[row.name], images=images)
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
            answer = _isolated(plan, work.name, row.name, "timing.measure", **fields[row.name], **amount, **place)
        yield row, answer


def _shares(row: Row, floor: Row) -> Row:
    """The bare products' share of the time, in fp32 and in bf16; above 1: faster than they are."""
    if "reason" in row or "reason" in floor:
        return {}
    return {f"share_{kind}": floor[kind] / row["seconds_per_10000"] for kind in ("fp32", "bf16")}


def _costs(plan: Plan, work: Work, path: Path) -> Iterator[Row]:
    if plan.only and "cost" not in plan.only:
        return
    images = _isolated(plan, work.name, "cost", "cost.against_images", work=str(path), counts=list(plan.cost_images))
    steps = _isolated(
        plan,
        work.name,
        "cost",
        "cost.against_steps",
        work=str(path),
        steps=list(plan.cost_steps),
        images=plan.cost_sample,
    )
    for part, answer in (("cost against images", images), ("cost against steps", steps)):
        for point in answer.get("points", [{"reason": answer.get("reason")}]):
            yield {"part": part, "name": "ours"} | point


def _trained(plan: Plan, work: Work) -> Iterator[Row]:
    for training in TRAININGS if not plan.only or "training" in plan.only else []:
        if training.works is None or work.name in training.works:
            yield {"part": "train", "name": training.name, "arithmetic": training.arithmetic} | call(
                training.train, plan.out / "logs" / f"{_file(work.name, 'train', training.name)}.log", plan.limit,
                plan.threads, experiment=work.name, outputs=str(plan.outputs), overrides=list(plan.overrides),
                batches=plan.train_batches, warm_up=plan.warm_up, **training.options,
            )  # fmt: skip


def _direct(plan: Plan) -> Iterator[Row]:
    for title, arguments in DIRECT_WORKS.items():
        for training in DIRECT_TRAININGS:
            about = {"part": "direct", "work": "stbp_resnet19", "title": title, "steps": 2, "reduced": plan.reduced}
            log = plan.out / "logs" / f"{_file('direct', str(arguments['batch']), training.name)}.log"
            given = {"timed": plan.direct_steps, **arguments, **training.options}
            answer = call(training.train, log, plan.limit, plan.threads, **given)
            yield about | {"name": training.name, "arithmetic": training.arithmetic} | answer


def _isolated(plan: Plan, network: str, row: str, function: str, **arguments: Any) -> Row:
    log = plan.out / "logs" / f"{_file(network, row, function)}.log"
    return call(f"respike.bench.{function}", log, plan.limit, plan.threads, **arguments)


def _file(*names: str) -> str:
    return "-".join(names).replace(", ", "-").replace(" ", "-").replace(".", "-").lower()


def summary(row: Row) -> str:
    """A row in a few words, for the line of progress."""
    if row.get("reason"):
        return row["reason"]
    if row["part"] == "direct":
        return f"{1000 / row['images_per_second']:.1f} ms per image, {row['mib_per_image']:.1f} MiB"
    if row["part"] == "train":
        return f"{row['images_per_second']:,.0f} images per second, {100 * row['accuracy']:.2f} % after them"
    if "accuracy" in row:
        spent = f"{row['seconds_per_10000']:.2f} s for 10,000 images, {100 * row['accuracy']:.2f} %"
        if row["part"] == "exact":
            return f"{spent}, {row['images']:,} images, {row['runs']} runs"
        return f"{spent}, {row['images']:,} images, {row['runs']} runs, batch {row['batch'] or 'its own'}"
    if "fp32" in row:
        return f"{row['fp32']:.1f} s in fp32, {row['bf16']:.1f} s in bf16 for 10,000 images"
    if "counts_differ" in row:
        return f"{100 * row['counts_differ']:.3f} % of the final counts differ"
    return f"{row['images']:,} images, {row['steps']} steps: {row['seconds']:.2f} s"
