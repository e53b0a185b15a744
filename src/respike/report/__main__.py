"""python -m respike.report RUN_DIR... [--out DIR]: the table of finished runs and their page; --compare: what varies."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from respike.errors import InputError
from respike.report.collect import Failure, Run, find_runs, find_unfinished, load_failure, load_run
from respike.report.comparison import compare, write_comparison
from respike.report.comparison.listing import chosen_measures, sorted_points
from respike.report.comparison.listing import to_text as compared_text
from respike.report.comparison.wandb_source import project_runs
from respike.report.page import write_report
from respike.report.render import to_text
from respike.report.table import rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit status, 2 when a run cannot be read or the report not written."""
    parser = _parser()
    given = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    if not given.run_dirs and not given.wandb:
        parser.error("give a run directory, a folder of them, or --wandb entity/project")
    try:
        return _compare(given) if given.compare or given.wandb else _report(given)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m respike.report", description="Report on finished runs.")
    parser.add_argument("run_dirs", nargs="*", type=Path, metavar="RUN_DIR", help="a run directory or a folder of them")
    parser.add_argument("--out", type=Path, help="folder of the report (outputs/report, or outputs/comparison)")
    parser.add_argument("--title", help="heading of the page")
    compared = parser.add_argument_group("comparison of runs that differ in settings")
    compared.add_argument("--compare", action="store_true", help="maps, curves, trade-offs, means over seeds")
    compared.add_argument(
        "--sort", default="", metavar="NAME", help="metric, best first, or setting, ascending; -NAME turns it around"
    )
    compared.add_argument("--columns", default="", metavar="NAMES", help="metrics of the table, comma-separated")
    compared.add_argument(
        "--latency", default="within", help="within (one point of the run's end) or the time to an accuracy: 0.98"
    )
    compared.add_argument("--wandb", default="", metavar="ENTITY/PROJECT", help="runs of a W&B project; compares them")
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


def _report(given: argparse.Namespace) -> int:
    runs, unfinished = _collect(given.run_dirs)
    skipped = {name: load_failure(path).reason for name, path in unfinished.items()}
    out = given.out or Path("outputs/report")
    write_report(runs, skipped, out, given.title or "Spiking-network papers, reproduced")
    width = shutil.get_terminal_size((120, 24)).columns
    print(to_text(rows(runs, skipped), max(width, 100)))
    print(f"\nreport: {out / 'index.html'}")
    return 0


def _compare(given: argparse.Namespace) -> int:
    runs, unfinished = _collect(given.run_dirs)
    failures = [load_failure(path) for path in unfinished.values()]
    if given.wandb:
        online, skipped = project_runs(given.wandb)
        runs += online
        failures += [Failure(Path(name), {}, (), reason) for name, reason in skipped.items()]
    comparison = compare(runs, failures, given.latency)
    columns = [name.strip() for name in given.columns.split(",") if name.strip()]
    out = given.out or Path("outputs/comparison")
    write_comparison(comparison, out, given.title or "Runs compared", given.sort, columns)
    measures, points = chosen_measures(comparison, columns), sorted_points(comparison, given.sort)
    print(compared_text(comparison, points, measures))
    for note in comparison.notes:
        print(f"note: {note}")
    for failure in failures:
        print(f"no result: {failure.path} {' '.join(failure.overrides)}: {failure.reason}")
    print(f"\ncomparison: {out / 'index.html'}")
    return 0


def _collect(paths: Sequence[Path]) -> tuple[list[Run], dict[str, Path]]:
    """Finished runs, each once however often it was named, and the directories of folders that hold no result."""
    runs: dict[Path, Run] = {}
    unfinished: dict[str, Path] = {}
    for path in paths:
        single = (path / "metrics.json").is_file() or (path / "config.yaml").is_file()
        found = [load_run(path)] if single else find_runs(path)
        without = [] if single else find_unfinished(path)
        if not found and not without:
            raise InputError(f"{path}: holds no run; give a directory with metrics.json or a folder of them")
        runs |= {run.path.resolve(): run for run in found}
        unfinished |= {str(directory.relative_to(path.parent)): directory for directory in without}
    return list(runs.values()), unfinished


if __name__ == "__main__":
    sys.exit(main())
