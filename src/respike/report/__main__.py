"""python -m respike.report RUN_DIR... [--out DIR]: print the table of finished runs and write their page."""

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from respike.errors import InputError
from respike.report.collect import Run, find_runs, find_unfinished, load_run
from respike.report.page import write_report
from respike.report.render import to_text
from respike.report.table import rows


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the report; returns the exit status, 2 when a run cannot be read or the report not written."""
    parser = argparse.ArgumentParser(prog="python -m respike.report", description="Report on finished runs.")
    parser.add_argument("run_dirs", nargs="+", type=Path, metavar="RUN_DIR", help="a run directory or a folder of them")
    parser.add_argument("--out", type=Path, default=Path("outputs/report"), help="folder of the report (%(default)s)")
    parser.add_argument("--title", default="Spiking-network papers, reproduced", help="heading of the page")
    given = parser.parse_args(arguments)
    try:
        runs, skipped = _collect(given.run_dirs)
        write_report(runs, skipped, given.out, given.title)
    except (InputError, OSError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    width = shutil.get_terminal_size((120, 24)).columns
    print(to_text(rows(runs, skipped), max(width, 100)))
    print(f"\nreport: {given.out / 'index.html'}")
    return 0


def _collect(paths: Sequence[Path]) -> tuple[list[Run], dict[str, str]]:
    """Finished runs, each once however often it was named, and the unfinished ones of folders with the reason."""
    runs: dict[Path, Run] = {}
    skipped: dict[str, str] = {}
    for path in paths:
        single = (path / "metrics.json").is_file() or (path / "config.yaml").is_file()
        found = [load_run(path)] if single else find_runs(path)
        unfinished = [] if single else find_unfinished(path)
        if not found and not unfinished:
            raise InputError(f"{path}: holds no run; give a directory with metrics.json or a folder of them")
        runs |= {run.path.resolve(): run for run in found}
        skipped |= {str(directory.relative_to(path.parent)): "unfinished, no metrics.json" for directory in unfinished}
    return list(runs.values()), skipped


if __name__ == "__main__":
    sys.exit(main())
