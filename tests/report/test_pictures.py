"""A run's own pictures on the page: those it drew, in a set order, shown once, and seen by a real browser."""

import shutil
import subprocess
from urllib.parse import unquote, urlparse
from xml.etree import ElementTree

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from respike.report import load_runs, write_report
from respike.report.pictures import CAPTIONS, COLOURS, MORE_COLOURS, compact, run_pictures

GROUPS = [
    {"title": "Shown", "runs": ["digits", "one"], "gallery": "digits"},
    {"title": "Together", "runs": ["one", "two"]},
]
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
GREEN, RED = (0, 200, 30), (220, 30, 0)  # colours that nothing else on the page has


@pytest.fixture
def report(make_run, tmp_path):
    """A report with a section that shows the pictures of a run and one that shows none; each run drew two known ones."""
    paths = [make_run(name) for name in ("digits", "one", "two")]
    for path in paths:
        Image.new("RGB", (600, 300), GREEN).save(path / "figures" / "samples.png")
        Image.new("RGB", (600, 300), RED).save(path / "figures" / "confusion.gif")
        Image.new("RGB", (9, 9)).save(path / "figures" / "somebody's.png")
    write_report(load_runs(paths), {}, tmp_path / "a report", "Pictures", GROUPS)
    return tmp_path / "a report"


def page_of(report):
    return ElementTree.fromstring((report / "index.html").read_text(encoding="utf-8"))


def test_a_run_shows_the_pictures_it_drew_in_the_order_of_the_captions(make_run):
    path = make_run("a")
    for name in [*reversed(CAPTIONS), "other.png"]:
        (path / "figures" / name).write_bytes(b"")
    assert [picture.file for picture in run_pictures(path)] == list(CAPTIONS)


def test_the_gallery_of_a_section_is_shown_there_and_other_pictures_in_the_details(report):
    sections = {s.find("h2").text: [i.get("src") for i in s.iter("img")] for s in page_of(report).iter("section")}
    own = ["../runs/digits/figures/samples.png", "../runs/digits/figures/confusion.gif"]
    assert sections["Shown"] == ["fig-shown.png", *own]
    assert sections["Together"] == ["fig-together.png"]
    kept = sections["Where the numbers come from"]
    assert not set(own) & set(kept)
    assert {f"../runs/{name}/figures/samples.png" for name in ("one", "two")} <= set(kept)


def test_every_link_and_image_resolves_from_the_file_system(report):
    addresses = [e.get(key) for e in page_of(report).iter() for key in ("href", "src") if e.get(key)]
    assert "../runs/digits/figures/somebody%27s.png" in addresses
    for address in addresses:
        parts = urlparse(address)
        assert not parts.scheme and (report / unquote(parts.path)).exists()
    text = (report / "REPORT.md").read_text(encoding="utf-8")
    assert "](../runs/digits/figures/confusion.gif)" in text


def test_a_browser_shows_the_pictures(report, tmp_path):
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip(f"no browser to look with: {', '.join(BROWSERS)}")
    shot = tmp_path / "shot.png"
    done = subprocess.run(
        [
            browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1300,3000",
            f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={shot}", (report / "index.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert shot.is_file(), done.stderr[-2000:]
    seen = (imread(shot)[..., :3] * 255).round().astype(int)
    for colour in (GREEN, RED):
        shown = (np.abs(seen - colour).max(2) < 8).sum()
        assert shown > 20_000  # once each, as wide as half the page


def test_a_compact_photograph_keeps_more_colours(tmp_path):
    red, green = np.meshgrid(np.linspace(0, 255, 200), np.linspace(0, 255, 200))
    before = np.stack([red, green, 255 - red], axis=-1).astype(np.uint8)
    Image.fromarray(before).save(tmp_path / "photo.png")
    compact(tmp_path)
    with Image.open(tmp_path / "photo.png") as image:
        assert COLOURS < len(image.getcolors()) <= MORE_COLOURS
        after = np.asarray(image.convert("RGB"))
    assert np.abs(after - before.astype(float)).mean() < 5


def test_a_small_marker_keeps_its_colour_among_many_others(tmp_path):
    ramp = np.full((400, 400, 3), 255, np.uint8)
    ramp[:, :80] = np.stack([np.arange(400) // 2, np.arange(400) // 2, np.zeros(400)], axis=-1)[:, None]
    ramp[:6, 394:] = marker = (0, 158, 115)
    Image.fromarray(ramp).save(tmp_path / "map.png")
    compact(tmp_path)
    with Image.open(tmp_path / "map.png") as image:
        after = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(after[:6, 394:] - marker).max() <= 16


def test_a_compact_picture_has_its_colours_and_fewer_bytes(tmp_path):
    figure, axes = plt.subplots()
    axes.plot([0, 3, 1], color="#0072b2")
    figure.savefig(tmp_path / "chart.png")
    plt.close(figure)
    before, size = imread(tmp_path / "chart.png"), (tmp_path / "chart.png").stat().st_size
    compact(tmp_path)
    after, smaller = imread(tmp_path / "chart.png"), (tmp_path / "chart.png").stat().st_size
    difference = np.abs(after[..., :3] - before[..., :3])
    assert difference.max() < 0.08 and difference.mean() < 5e-4
    assert smaller < 0.6 * size
    compact(tmp_path)
    assert (tmp_path / "chart.png").stat().st_size == smaller
