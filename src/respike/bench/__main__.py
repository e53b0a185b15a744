"""python -m respike.bench: measure this package and other libraries; write bench.csv, bench.md and bench.png."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from respike.bench.figure import figure
from respike.bench.plan import BATCHES, CNNS, QUICK, WORKLOADS, Plan
from respike.bench.rows import file_name, run
from respike.bench.table import COLUMNS, facts_of, markdown, to_frame
from respike.errors import InputError
from respike.figures.style import save
from respike.system.files import write_csv
from respike.system.provenance import processor
from respike.system.signals import run_command


def parse(arguments: Sequence[str] | None) -> Plan:
    """The plan that a command line asks for. arguments: None for those of this process."""
    parser = argparse.ArgumentParser(
        prog="python -m respike.bench",
        description="Measure this package and other libraries; write bench.csv, bench.md and bench.png.",
    )
    parser.add_argument("--quick", action="store_true", help="few images, one pass; marked as reduced")
    parser.add_argument("--images", type=_positive, help="test images (10,000)")
    parser.add_argument("--repeats", type=_positive, help="timed passes at most (3)")
    parser.add_argument("--budget", type=float, help="seconds of timed passes per row (15)")
    parser.add_argument("--threads", type=_positive, help="threads of every row (the number that torch chooses)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME",
        help="only rows with this word in their name, or the parts rate (its parts: cost, training), exact, direct, cnn (its "
        f"parts: {', '.join(CNNS)}), gpu",
    )  # fmt: skip
    parser.add_argument("--workloads", "--works", nargs="+", choices=WORKLOADS, help="rate-coded networks (all)")
    parser.add_argument(
        "--out", type=Path, help="folder of the results (outputs/bench; with --only outputs/bench/NAME)"
    )
    given = vars(parser.parse_args(arguments))
    if given["only"] and given["out"] is None:  # a part does not replace the results of the whole
        given["out"] = Plan.out / "-".join(file_name(word) for word in given["only"])
    amounts = dict(QUICK) if given.pop("quick") else {}
    amounts |= {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    return Plan(**amounts)


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 1 up")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark. Returns the exit status: 2 if a network cannot be made."""
    plan = parse(arguments)
    torch.set_num_threads(plan.threads)
    start, rows = time.perf_counter(), []
    plan.out.mkdir(parents=True, exist_ok=True)
    try:
        for row in run(plan, report=lambda line: print(f"[{time.perf_counter() - start:4.0f} s] {line}", flush=True)):
            rows.append(row)
            write_csv(plan.out / "bench.csv", [{name: row.get(name) for name in COLUMNS} for row in rows])
    except InputError as error:
        print(f"respike: {error}", file=sys.stderr)
        return 2
    frame = to_frame(rows)
    search = min(plan.search, plan.images)
    facts = facts_of(processor(), [size for size in BATCHES if size <= search] or [search], search)
    (plan.out / "bench.md").write_text(markdown(frame, facts), encoding="utf-8")
    written = ["bench.md", "bench.csv"]
    (plan.out / "bench.png").unlink(missing_ok=True)
    if len(frame[(frame.part == "simulate") & frame.reason.isna()]):
        save(figure(frame), plan.out / "bench.png")
        written.append("bench.png")
    print(f"{plan.out}: {', '.join(written)}")
    return 0


if __name__ == "__main__":
    run_command(main, "finished rows are in bench.csv")
