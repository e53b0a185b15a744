"""python -m respike.report RUN_DIR... [--out DIR]: the table of finished runs and their page.

--compare: what varies among them; --decide: whether spiking is worth it.
"""

import argparse
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

from respike.errors import InputError
from respike.report.comparison import compare, write_comparison
from respike.report.comparison.compare import chosen_columns, sorted_points
from respike.report.comparison.wandb_source import project_runs
from respike.report.decision import write_decisions
from respike.report.page import check_folder, write_report
from respike.report.publish import PAGE, publish_jobs, write_published
from respike.report.runs import frame_of, load_runs, read_runs, with_skipped
from respike.report.tables import to_text
from respike.report.terminal import comparison_text, terminal_width
from respike.report.verdicts import judge
from respike.system.signals import run_command


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit status, 2 when a run cannot be read or the report not written."""
    parser = _parser()
    given = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    if not given.run_dirs and not given.wandb:
        parser.error("give a run directory, a folder of them, or --wandb entity/project")
    if given.publish and (given.wandb or not given.compare):
        parser.error(
            "--publish stands with --compare and run directories; rows of a preset: respike.reproduce --publish"
        )
    unused = [name for name in ("sort", "columns", "latency") if getattr(given, name) != parser.get_default(name)]
    if unused and not (given.compare or given.wandb):
        parser.error(f"--{unused[0]} stands with --compare or --wandb")
    try:
        (_decide if given.decide else _compare if given.compare or given.wandb else _report)(given)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m respike.report", description="Report on finished runs.")
    parser.add_argument("run_dirs", nargs="*", type=Path, metavar="RUN_DIR", help="a run directory or a folder of them")
    parser.add_argument(
        "--out", type=Path, help="folder of the report (outputs/report, outputs/comparison or outputs/decision)"
    )
    parser.add_argument("--title", help="heading of the page")
    parser.add_argument(
        "--decide",
        action="store_true",
        help="is spiking worth it: accuracy, latency and energy beside the ReLU network in fp32 and int8",
    )
    compared = parser.add_argument_group("comparison of runs that differ in settings")
    compared.add_argument("--compare", action="store_true", help="maps, curves, trade-offs, means over seeds")
    compared.add_argument(
        "--sort", default="", metavar="NAME", help="metric, best first, or setting, ascending; -NAME reverses the order"
    )
    compared.add_argument("--columns", default="", metavar="NAMES", help="metrics of the table, comma-separated")
    compared.add_argument(
        "--latency",
        default="within",
        help="within (one point of the run's final accuracy) or the time to an accuracy: 0.98",
    )
    compared.add_argument(
        "--publish",
        type=Path,
        metavar="DIR",
        help="copy the runs' records to DIR/runs and write the page of all that lie there to DIR",
    )
    compared.add_argument("--wandb", default="", metavar="ENTITY/PROJECT", help="compare the runs of a W&B project")
    return parser


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--sort -NAME` as `--sort=-NAME`: argparse takes a value with a leading dash for an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--sort":
            joined[-1] = f"--sort={argument}"
        else:
            joined.append(argument)
    return joined


def _report(given: argparse.Namespace) -> None:
    out = given.out or Path("outputs/report")
    if len(given.run_dirs) == 1 and (given.run_dirs[0] / PAGE).is_file():
        runs = write_published(given.run_dirs[0], out, given.title or "")
    else:
        runs = load_runs(given.run_dirs)
        write_report(runs, {}, out, given.title or "Spiking-network papers, reproduced")
    print(to_text(judge(runs), terminal_width()))
    print(f"\nreport: {out / 'index.html'}")


def _decide(given: argparse.Namespace) -> None:
    if given.compare or given.wandb:
        raise InputError("--decide reads run directories and stands alone; leave --compare and --wandb out")
    out = given.out or Path("outputs/decision")
    for line in write_decisions(load_runs(given.run_dirs), out, given.title or "Is spiking worth it?"):
        print(textwrap.fill(line, terminal_width(), subsequent_indent="    ", break_on_hyphens=False))
    print(f"\ndecision: {out / 'index.html'}")


def _compare(given: argparse.Namespace) -> None:
    online, skipped = project_runs(given.wandb) if given.wandb else ([], {})
    frame = with_skipped(frame_of([*read_runs(given.run_dirs), *online]), skipped)
    comparison = compare(frame, given.latency)
    failures = comparison.failures
    names = [name.strip() for name in given.columns.split(",") if name.strip()]
    out = given.out or given.publish or Path("outputs/comparison")
    if given.publish:
        # Mistakes end the command before anything is copied.
        check_folder(out, "comparison")
        sorted_points(comparison, given.sort)
        chosen_columns(comparison, names)
        publish_jobs([Path(path) for path in frame.loc[frame["failure"] == "", "path"]], given.publish)
        comparison = compare(load_runs([given.publish / "runs"]), given.latency)
    write_comparison(comparison, out, given.title or "Runs compared", given.sort, names, small=bool(given.publish))
    print(comparison_text(comparison, given.sort, names, terminal_width()))
    for _, job in failures.iterrows():
        print(f"no result: {job['path']} {job['overrides']}: {job['failure']}")
    print(f"\ncomparison: {out / 'index.html'}")


if __name__ == "__main__":
    run_command(main)
