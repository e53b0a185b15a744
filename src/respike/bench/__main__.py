"""python -m respike.bench: time ours and the peers, write bench.csv, bench.md and bench.png."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from respike.bench.contenders import BATCHES
from respike.bench.figure import figure
from respike.bench.plan import QUICK, WORKS, Plan
from respike.bench.rows import run
from respike.bench.table import facts_of, markdown, write_csv
from respike.errors import InputError
from respike.figures.style import save
from respike.system.provenance import processor


def parse(arguments: Sequence[str] | None) -> Plan:
    """The plan that the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m respike.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few images, one pass: a look, marked reduced")
    parser.add_argument("--images", type=_positive, help="test images (10,000)")
    parser.add_argument("--repeats", type=_positive, help="timed passes at most (3)")
    parser.add_argument("--budget", type=float, help="seconds of timed passes per row (15)")
    parser.add_argument("--threads", type=_positive, help="of everybody (what torch would take)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="rows with this in their names, training, cost, exact, direct"
    )
    parser.add_argument("--works", nargs="+", choices=WORKS, help="networks (all)")
    parser.add_argument("--out", type=Path, help="folder of the results (outputs/bench)")
    given = vars(parser.parse_args(arguments))
    quick = QUICK if given.pop("quick") else {}
    asked = {name: tuple(v) if isinstance(v, list) else v for name, v in given.items() if v is not None}
    return Plan(**(quick | asked))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: a number from 1 up")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status, 2 when there is nothing to work on."""
    plan = parse(arguments)
    torch.set_num_threads(plan.threads)
    start, rows = time.perf_counter(), []
    plan.out.mkdir(parents=True, exist_ok=True)
    try:
        for row in run(plan, tell=lambda line: print(f"[{time.perf_counter() - start:4.0f} s] {line}", flush=True)):
            rows.append(row)
            write_csv(rows, plan.out / "bench.csv")
    except InputError as error:
        print(f"respike: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"respike: interrupted; what was timed is in {plan.out / 'bench.csv'}", file=sys.stderr)
        return 130
    facts = facts_of(processor(), BATCHES, min(plan.search, plan.images))
    (plan.out / "bench.md").write_text(markdown(rows, facts), encoding="utf-8")
    drawn = any(row["part"] == "simulate" and not row.get("reason") for row in rows)
    if drawn:
        save(figure(rows), plan.out / "bench.png")
    print(f"{plan.out / 'bench.md'}, bench.csv{', bench.png' if drawn else ''}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
