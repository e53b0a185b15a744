"""Every experiment of a preset, then the report.

    python -m respike.reproduce paper
    python -m respike.reproduce quick logger=csv
    python -m respike.reproduce paper --seeds 5

Finished rows are kept: after an interruption the same command continues.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from respike.errors import InputError
from respike.report import judge, load_runs, to_text, write_report
from respike.report.publish import publish
from respike.report.runs import with_skipped
from respike.report.terminal import terminal_width
from respike.runs.offline import offline_lines
from respike.runs.overrides import check_typed
from respike.runs.preset import check_overrides, choose_rows, load_preset, number_of_seeds, run_rows
from respike.system.signals import run_command
from respike.train import train


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a preset. Returns the exit status: 1 if a row failed or an argument is wrong, 2 without a report."""
    parser = argparse.ArgumentParser(prog="python -m respike.reproduce", description=__doc__.splitlines()[0])
    parser.add_argument("preset", nargs="?", default="paper", help="a file of conf/report (paper)")
    parser.add_argument("overrides", nargs="*", help="Hydra overrides for every row, as in logger=csv")
    parser.add_argument("--fresh", action="store_true", help="run finished rows again")
    parser.add_argument("--seeds", default="1", metavar="N", help="run rows that train in minutes with N seeds (1)")
    parser.add_argument("--long", action="store_true", help="also rows of an hour or more, and no row in a short form")
    parser.add_argument("--only", default="", metavar="ROWS", help="these rows of the preset, separated by commas")
    parser.add_argument(
        "--publish", type=Path, metavar="DIR", help="also copy results there, with a page of all rows published"
    )
    given = parser.parse_intermixed_args(arguments)  # options may stand between the overrides, as make writes them
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        check_typed(given.overrides)
        check_overrides(given.overrides)
        seeds = number_of_seeds(given.seeds)
        preset = load_preset(given.preset, given.overrides)
        names = [str(row.name) for row in preset.rows]
        choose_rows(preset, given.only)
    except InputError as error:
        print(f"respike: {error}", file=sys.stderr)
        return 1
    try:
        folder = Path(preset.paths.outputs, given.preset)
        runs, skipped, failed = run_rows(train, preset, folder, given.overrides, given.long, seeds, given.fresh)
        groups = OmegaConf.to_container(preset.groups)
        assert isinstance(groups, list)
        write_report(load_runs(runs), skipped, Path(preset.paths.outputs, "report"), preset.title, groups)
        if given.publish:
            publish(runs, given.publish, preset.title, names, groups, skipped)
    except (InputError, OSError) as error:
        print(f"respike: {error}", file=sys.stderr)
        return 2
    print(f"\n{to_text(judge(with_skipped(load_runs(runs), skipped)), terminal_width())}")
    for line in offline_lines(runs, folder):
        print(line)
    print(f"report: {Path(preset.paths.outputs, 'report', 'index.html')}")
    return int(failed)


if __name__ == "__main__":
    run_command(main, "finished rows and epochs are kept, the same command continues")
