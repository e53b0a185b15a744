"""README and docs: links resolve, commands compose, the Python example runs."""

import importlib
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from torch import nn

from respike.runs.compose import compose_run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "conf" / "README.md", ROOT / "CHANGELOG.md"]
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
PLACEHOLDER = re.compile(r"[<>]|\.\.\.|mypackage|/my/|FILE")
TRAIN = "python -m respike.train "
CHECK = "python -m respike.check "


def lines_of(page):
    """The lines of a page, with continued lines joined."""
    return page.read_text(encoding="utf-8").replace("\\\n", " ").splitlines()


def commands(start):
    """(page, command) for every indented line that begins with `start`, without its comment."""
    found = []
    for page in PAGES:
        for line in lines_of(page):
            if line.startswith("    ") and line.strip().startswith(start) and not PLACEHOLDER.search(line):
                found.append((page.name, line.strip()))
    return found


def composed(words, tmp_path):
    """Compose the first job of a command, and of a sweep every job that differs from the first in one value."""
    overrides = OverridesParser.create().parse_overrides([word for word in words if word != "-m"])
    choices = [
        [f"{override.key_or_group}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line]
        for override in overrides
    ]
    first = [values[0] for values in choices]
    jobs = [[*first[:i], value, *first[i + 1 :]] for i, values in enumerate(choices) for value in values[1:]]
    for job in [first, *jobs]:
        compose_run([f"paths.run={tmp_path}", *job])


def anchor(heading):
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"[`*]", "", heading.lstrip("#").strip().lower())
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_links_resolve(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if fragment:
            headings = [line for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("#")]
            assert fragment in map(anchor, headings), f"{page.name}: {target}"


def test_every_page_begins_with_a_command():
    for page in sorted((ROOT / "docs").glob("*.md")):
        _, _, first, *_ = page.read_text(encoding="utf-8").splitlines()
        assert re.match(r"    (make|python -m respike)", first), page.name


@pytest.mark.parametrize(("page", "command"), commands(TRAIN) + commands(CHECK))
def test_commands_compose(page, command, tmp_path):
    words = shlex.split(command, comments=True)[3:]
    if "--help" not in words:
        composed(words, tmp_path)


@pytest.mark.parametrize(("page", "command"), commands("make "))
def test_make_targets_and_sweeps_exist(page, command, tmp_path):
    targets = re.findall(r"^([a-z][\w -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    names = {name for target in targets for name in target.split()}
    words = shlex.split(command, comments=True)[1:]
    variables = dict(word.split("=", 1) for word in words if "=" in word)
    assert {word for word in words if "=" not in word} <= names
    if "SWEEP" in variables:
        compose_run([f"paths.run={tmp_path}", f"sweep={variables['SWEEP']}", f"experiment={variables['EXPERIMENT']}"])


@pytest.mark.skipif(shutil.which("make") is None, reason="no make here")
def test_make_takes_its_variables_from_the_command_line_alone(monkeypatch):
    for name in ("MAKEFLAGS", "MAKELEVEL"):  # of `make test ARGS=...`
        monkeypatch.delenv(name, raising=False)
    for name in ("OUT", "RUNS", "SORT", "ARGS", "VENV"):
        monkeypatch.setenv(name, "theirs")

    def said(*words):
        return subprocess.run(["make", "-n", "compare", *words], cwd=ROOT, capture_output=True, text=True)

    last = said().stdout.splitlines()[-1].rstrip()
    assert last == "theirs/bin/python -m respike.report outputs/sweeps --compare --out outputs/comparison --sort="
    last = said("OUT=mine", "RUNS=a b", "ARGS=-v").stdout.splitlines()[-1]
    assert last == "theirs/bin/python -m respike.report a b --compare --out mine --sort= -v"
    refused = said("VENV=my env")
    assert refused.returncode == 2 and "VENV=my env: a path without spaces is needed" in refused.stderr


def test_the_citation_is_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert citation["version"] == project["version"]
    assert f"## [{citation['version']}] - {citation['date-released']}" in (ROOT / "CHANGELOG.md").read_text(
        encoding="utf-8"
    )


def test_there_are_commands_to_check():
    assert len(commands(TRAIN)) > 15 and len(commands("make ")) > 5


def python_of(page):
    """The Python code of a page, which has one piece."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
    return compile(code, page, "exec")


def my_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3))


@pytest.mark.parametrize(("page", "steps"), [("README.md", 64), ("docs/your-own-network.md", 40)])
def test_the_python_example_runs(tmp_path, monkeypatch, page, steps):
    monkeypatch.chdir(tmp_path)
    torch.save(my_net().state_dict(), "net.pt")
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = {"MyNet": my_net, "calibration_images": images, "images": images, "labels": my_net()(images).argmax(1)}
    exec(python_of(page), names)
    record, snn = names["record"], names["snn"]
    assert record.steps == steps and record.spikes["conv1"].sum() > 0 and type(snn).__name__ == "RateSNN"
    assert (record.predicted[-1] == names["labels"]).float().mean() > 0.9
    assert snn.readout == "current" and snn.scales["conv1"].shape == (4,)


def test_the_python_example_of_spike_times_agrees_on_every_image():
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    names = {"MyNet": my_net, "training_images": images, "images": images}
    exec(python_of("docs/methods.md"), names)
    assert names["agreement"] == 1
    torch.testing.assert_close(names["record"].logits, my_net().double()(images.double()))


COMMANDS = "reproduce check export report report.docs bench bench.accuracy runs.offline"


@pytest.mark.parametrize("name", COMMANDS.split())
def test_every_command_has_help(name, capsys):
    main = importlib.import_module(
        f"respike.{name}" + (".__main__" if name in ("report", "report.docs", "bench") else "")
    )
    with pytest.raises(SystemExit) as end:
        main.main(["--help"])
    assert end.value.code == 0 and capsys.readouterr().out.startswith(f"usage: python -m respike.{name} ")
