"""python -m respike.report.docs: write the measured tables and sentences of README.md and docs/ from outputs/reference.

A page marks them by <!-- table NAME --> or <!-- text NAME --> and <!-- end -->; NAME is a key of BLOCKS. The pages that decide
whether spiking pays, in outputs/reference/energy/decision, are written as well. A test compares all of them with what this
command would write. --check only compares.
"""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from respike.errors import InputError
from respike.report.decision import decision_pages
from respike.report.docs import energy, papers, speed, sweeps
from respike.report.docs.reference import Reference
from respike.system.signals import run_command

BLOCK = re.compile(r"(<!-- (?:table|text) (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
BLOCKS: dict[str, Callable[[Reference], str]] = {  # the public functions of these modules
    block.__name__: block
    for module in (papers, speed, energy, sweeps)
    for block in vars(module).values()
    if callable(block) and getattr(block, "__module__", "") == module.__name__ and not block.__name__.startswith("_")
}


def pages(root: Path) -> list[Path]:
    """The pages with marked blocks below the root of the repository."""
    return [
        root / "README.md",
        *sorted((root / "docs").glob("*.md")),
        root / "outputs" / "reference" / "sweeps" / "README.md",
    ]


def written(page: Path, reference: Reference) -> str:
    """The text of a page with its blocks made anew. Raises InputError for a name that is not in BLOCKS."""

    def made(match: re.Match[str]) -> str:
        if match[2] not in BLOCKS:
            raise InputError(f"{page}: block {match[2]} is unknown; there are {', '.join(BLOCKS)}")
        return f"{match[1]}{BLOCKS[match[2]](reference)}\n{match[4]}"

    return BLOCK.sub(made, page.read_text(encoding="utf-8"))


def energy_pages(reference: Reference) -> dict[Path, str]:
    """The pages whether spiking pays, for each network of outputs/reference/energy, by path."""
    folder = reference.folder / "energy" / "decision"
    found = decision_pages(reference.decisions, folder, "Is spiking worth it?")
    return {folder / file: text for file, text in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages. Returns the exit status: 1 if --check finds a difference, 2 for mistakes."""
    parser = argparse.ArgumentParser(prog="python -m respike.report.docs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="root of the repository (this folder)")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a page differs")
    given = parser.parse_args(arguments)
    try:
        reference = Reference(given.root / "outputs" / "reference")
        texts = {page: written(page, reference) for page in pages(given.root)} | energy_pages(reference)
    except (InputError, OSError) as error:
        print(f"respike: {error}", file=sys.stderr)
        return 2
    changed = [page for page, text in texts.items() if not page.is_file() or text != page.read_text(encoding="utf-8")]
    for page in changed:
        if not given.check:
            page.parent.mkdir(exist_ok=True)
            page.write_text(texts[page], encoding="utf-8")
        print(f"{page}: {'differs from outputs/reference; type make docs' if given.check else 'written'}")
    return int(given.check and bool(changed))


if __name__ == "__main__":
    run_command(main)
