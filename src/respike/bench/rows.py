"""Runs a plan. Each row is measured in a process of its own and yielded as a dict; a row that could not run has a `reason`."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from respike.bench import cnn
from respike.bench.experiment import experiment_config, make_workload
from respike.bench.isolated import call
from respike.bench.plan import (
    CNN_BUDGET,
    CNN_CONTENDERS,
    CNN_STEPS,
    CNNS,
    CONTENDERS,
    DIRECT_TRAININGS,
    DIRECT_WORKLOADS,
    EXACT_ROWS,
    EXACT_TITLES,
    TRAININGS,
    Contender,
    Plan,
)
from respike.bench.rate import agreements
from respike.bench.workload import TITLES, Workload
from respike.errors import InputError

PASSES = 0.7  # share of a row's time limit for its passes; the rest is for starting, warming up and probing
Row = dict[str, Any]
Report = Callable[[str], None]  # is called with a line of progress


def run(plan: Plan, report: Report = print) -> Iterator[Row]:
    """The rows, as they are finished. Raises InputError if a network of the plan cannot be made."""
    if plan.includes("rate"):
        yield from rate_rows(plan, report)
    yield from cnn_rows(plan, report)
    if plan.includes("exact"):
        yield from exact_rows(plan, report)
    if plan.includes("direct"):
        yield from direct_rows(plan, report)


def rate_rows(plan: Plan, report: Report) -> Iterator[Row]:
    """Bare products, simulations, agreement, costs and training of each rate-coded network.

    Raises InputError if a network cannot be made.
    """
    for name in plan.workloads:
        report(f"{name}: the network (trained once, then kept in {plan.outputs / 'stages'})")
        workload = make_workload(experiment_config(name, plan.outputs, plan.overrides))
        path = workload.save(plan.out / "work" / f"{name}.pt")
        for measured in _rate_rows(plan, workload, path):
            row = {"part": measured.pop("part"), "workload": name, "title": workload.title, "steps": workload.steps}
            row |= measured | {"reduced": reductions(plan, workload)}
            report(f"{name}: {row['part']}, {row['name']}: {summary(row)}")
            yield row


def reductions(plan: Plan, workload: Workload) -> str:
    """Why these are not the numbers of a full run; empty if they are."""
    total = len(workload.images)
    fewer = f"{plan.images:,} of {total:,} images" if plan.images < total else ""
    return "; ".join(filter(None, (plan.reduced, fewer, workload.reduced)))


def _rate_rows(plan: Plan, workload: Workload, path: Path) -> Iterator[Row]:
    arguments = {"workload": str(path), "rows": plan.floor_rows, "repeats": plan.repeats}
    floor = isolated(plan, (workload.name, "products"), "respike.bench.floor.floor", arguments)
    yield {"part": "floor", "name": "bare products"} | floor
    chosen = plan.contenders(CONTENDERS) if plan.times_simulations else []
    outputs = {row.name: plan.out / "work" / f"{file_name(workload.name, row.name)}.pt" for row in chosen}
    for contender, row in _simulated(plan, workload, path, chosen, outputs):
        about = {"name": contender.name, "arithmetic": contender.arithmetic, "fires": contender.fires}
        yield {"part": "simulate"} | about | row | _floor_shares(row, floor)
    for row in agreements(outputs, workload.labels):
        yield {"part": "agreement"} | row
    if plan.includes("cost"):
        yield from _costs(plan, workload, path)
    if plan.includes("training"):
        yield from _trained(plan, workload)


def _simulated(
    plan: Plan, workload: Workload, path: Path, chosen: list[Contender], outputs: dict[str, Path]
) -> Iterator[tuple[Contender, Row]]:
    """Each contender's measurements. The batch sizes of all peers are searched first: the fastest peer gets all passes."""
    arguments = {row.name: {"contender": asdict(row), "workload": str(path)} for row in chosen}
    images = {"images": min(plan.search, plan.images)}
    found = {
        row.name: isolated(
            plan,
            (workload.name, row.name, "search"),
            "respike.bench.rate.search_batch",
            arguments[row.name] | images,
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
            budget = plan.budget
            if row.name in in_full and not plan.reduced:
                budget = PASSES * plan.limit
            if workload.relu is not None:
                budget = CNN_BUDGET * plan.budget
            more = {
                "images": plan.images, "repeats": plan.repeats, "budget": budget, "batch": answer.get("batch"),
                "keep": str(outputs[row.name]),
            }  # fmt: skip
            log = workload.name, row.name
            answer = isolated(plan, log, "respike.bench.rate.measure", arguments[row.name] | more)
        yield row, answer


def _floor_shares(row: Row, floor: Row) -> Row:
    """Time of the bare products over the time of the row; above 1 the row is faster than the products."""
    if "reason" in row or "reason" in floor:
        return {}
    return {f"share_{dtype}": floor[dtype] / row["seconds_per_10000"] for dtype in ("fp32", "bf16")}


def _costs(plan: Plan, workload: Workload, path: Path, cnn_images: int = 0) -> Iterator[Row]:
    """cnn_images: images of the curve of a network of cnn.py, which has no curve over images."""
    images = min(cnn_images, plan.images) or plan.cost_sample
    steps = [count for count in plan.cost_steps if not cnn_images or count >= CNN_STEPS]
    arguments = {"steps": steps, "images": images, "repeats": plan.repeats}
    curves: dict[str, tuple[str, dict[str, Any]]] = {
        "cost against images": (
            "respike.bench.rate.cost_of_images",
            {"counts": plan.cost_images, "repeats": plan.repeats},
        ),
        "cost against steps": ("respike.bench.rate.cost_of_steps", arguments),
    }
    for part, (function, given) in list(curves.items())[bool(cnn_images) :]:
        answer = isolated(plan, (workload.name, part), function, {"workload": str(path)} | given)
        for point in answer.get("points", [{"reason": answer.get("reason")}]):
            yield {"part": part, "name": "ours"} | point


def _trained(plan: Plan, workload: Workload) -> Iterator[Row]:
    arguments = {
        "experiment": workload.name, "outputs": str(plan.outputs), "overrides": plan.overrides,
        "batches": plan.train_batches, "warm_up": plan.warm_up,
    }  # fmt: skip
    for row in TRAININGS:
        answer = isolated(plan, (workload.name, "train", row.name), row.train, arguments | row.options)
        yield {"part": "train", "name": row.name, "arithmetic": row.arithmetic} | answer


def cnn_rows(plan: Plan, report: Report) -> Iterator[Row]:
    """Bare products, simulations and costs of the networks of cnn.py. A network without its files is a row with the reason."""
    for name in plan.cnns:
        if not plan.includes(name):
            continue
        report(f"{name}: the network and its conversion")
        cost, amount = CNNS[name].cost, max(1, CNNS[name].images // (5 if plan.reduced else 1))
        about = {
            "workload": name,
            "title": f"{TITLES[name]}, {CNN_STEPS} steps",
            "steps": CNN_STEPS,
            "reduced": plan.reduced,
        }
        try:
            workload = cnn.make(name, plan.data, amount, CNNS[name].calibration, CNN_STEPS)
        except InputError as error:
            yield about | {"part": "cnn", "name": "network", "reason": str(error)}
            continue
        path = workload.save(plan.out / "work" / f"{name}.pt")
        for measured in _cnn_rows(
            replace(plan, images=amount, search=amount, limit=3 * plan.limit), workload, path, cost
        ):
            row = about | measured
            report(f"{name}: {row['part']}, {row['name']}: {summary(row)}")
            yield row


def _cnn_rows(plan: Plan, workload: Workload, path: Path, cost: int) -> Iterator[Row]:
    batches = tuple(size for size in CNNS[workload.name].batches if size <= plan.images)
    arguments = {"workload": str(path), "batches": batches, "images": plan.images, "repeats": plan.repeats}
    floor = isolated(plan, (workload.name, "forwards"), "respike.bench.cnn.forwards", arguments)
    yield {"part": "forwards", "name": "bare products"} | floor
    chosen = [replace(row, batches=batches) if row.batches else row for row in plan.contenders(CNN_CONTENDERS)]
    outputs = {row.name: plan.out / "work" / f"{file_name(workload.name, row.name)}.pt" for row in chosen}
    for contender, row in _simulated(plan, workload, path, chosen, outputs):
        shares = {} if "GPU" in contender.name else _floor_shares(row, floor)
        yield {"part": "cnn", "name": contender.name, "arithmetic": contender.arithmetic} | row | shares
    if cost and (not plan.only or {"cost", "cnn", workload.name} & set(plan.only)):
        yield from _costs(plan, workload, path, cost)


def exact_rows(plan: Plan, report: Report) -> Iterator[Row]:
    """Every evaluator of the exact mapping in both precisions, for each mapped network."""
    for name in plan.exact:
        report(f"{name}: the network (trained once, then kept in {plan.outputs / 'stages'})")
        path = plan.out / "work" / f"{name}.pt"
        path.parent.mkdir(parents=True, exist_ok=True)
        about = {"part": "exact", "workload": name, "title": EXACT_TITLES[name], "steps": None}
        arguments = {"experiment": name, "outputs": str(plan.outputs), "overrides": plan.overrides, "keep": str(path)}
        made = isolated(plan, (name,), "respike.bench.exact.make", arguments, limit=3600)
        if "reason" in made:
            yield about | {"name": "networks"} | made
            continue
        images, reduced = made["images"], (plan.reduced, made["reduced"])
        fewer = f"{plan.images:,} of {images:,} images" if plan.images < images else ""
        about |= {"reduced": "; ".join(filter(None, (*reduced, fewer)))}
        amount = {"workload": str(path), "images": plan.images, "repeats": plan.repeats, "budget": plan.budget}
        for title, options in EXACT_ROWS.items():
            for precision in ("float64", "float32"):
                log = name, f"{title} {precision}"
                given = {"precision": precision} | amount | options
                answer = isolated(plan, log, "respike.bench.exact.measure", given)
                row = about | {"name": title, "arithmetic": precision} | answer
                report(f"{name}: {title}, {precision}: {summary(row)}")
                yield row


def direct_rows(plan: Plan, report: Report) -> Iterator[Row]:
    """A training step of the directly trained ResNet-19, for each width and each implementation."""
    for title, workload in DIRECT_WORKLOADS.items():
        about = {"part": "direct", "workload": "stbp_resnet19", "title": title, "steps": 2, "reduced": plan.reduced}
        for training in DIRECT_TRAININGS:
            log = "direct", str(workload["batch"]), training.name
            arguments = {"timed": plan.direct_steps} | workload | training.options
            answer = isolated(plan, log, training.train, arguments)
            row = about | {"name": training.name, "arithmetic": training.arithmetic} | answer
            report(f"{title}: {training.name}: {summary(row)}")
            yield row


def isolated(
    plan: Plan, log: tuple[str, ...], function: str, arguments: Mapping[str, Any], limit: float | None = None
) -> Row:
    """`respike.bench.isolated.call` with the plan's threads and limit in seconds (or another one).

    log: words that name the log file in the plan's folder `logs`.
    """
    path = plan.out / "logs" / f"{file_name(*log)}.log"
    return call(function, arguments, path, limit or plan.limit, plan.threads)


def file_name(*words: str) -> str:
    """The words in lower case, joined, without blanks, commas and dots."""
    return "-".join(words).replace(", ", "-").replace(" ", "-").replace(".", "-").lower()


def summary(row: Row) -> str:
    """A row in a few words, for a line of progress."""
    if row.get("reason"):
        return row["reason"]
    if row["part"] in ("simulate", "cnn"):
        batch = f", batch {row['batch']}" if row["batch"] else ""
        return f"{_timed(row)}{batch}"
    if row["part"] == "exact":
        return _timed(row)
    if row["part"] in ("floor", "forwards"):
        return f"{row['fp32']:.1f} s in fp32, {row['bf16']:.1f} s in bf16 for 10,000 images"
    if row["part"] == "agreement":
        return f"{100 * row['counts_differ']:.3f} % of the final counts differ"
    if row["part"] == "train":
        return f"{row['images_per_second']:,.0f} images per second, then {100 * row['accuracy']:.2f} % test accuracy"
    if row["part"] == "direct":
        return f"{1000 / row['images_per_second']:.1f} ms per image, {row['mib_per_image']:.1f} MiB per image"
    return f"{row['images']:,} images, {row['steps']} steps: {row['seconds']:.2f} s"


def _timed(row: Row) -> str:
    accuracy = f"{100 * row['accuracy']:.2f} %, " if "accuracy" in row else ""
    return (
        f"{row['seconds_per_10000']:.2f} s for 10,000 images, {accuracy}"
        f"timed on {row['images']:,} images, {row['runs']} times"
    )
