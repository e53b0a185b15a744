"""Stages: made once, found again, made again when damaged or when the code that makes them changes."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest

import respike
from respike.errors import InputError
from respike.system import cache
from respike.system.cache import cached, code_hash, stage_hash

KEY = {"a": 1}


def read(folder):
    return int((folder / "content").read_text())


class Maker:
    """Counts how often it fills a stage."""

    def __init__(self, content="42"):
        self.calls, self.content = 0, content

    def __call__(self, folder):
        self.calls += 1
        (folder / "content").write_text(self.content)
        return 2.5


def never(folder):
    pytest.fail("made again")


def test_a_stage_is_made_once_and_read_afterwards(tmp_path):
    content, stage = cached(tmp_path / "new", KEY, Maker(), read)
    assert (content, stage.seconds, stage.fresh) == (42, 2.5, True)
    content, stage = cached(tmp_path / "new", KEY, never, read)
    assert (content, stage.seconds, stage.fresh) == (42, 2.5, False)
    assert stage.folder == tmp_path / "new" / stage_hash(KEY)


@pytest.mark.parametrize("kept", [True, False])
def test_a_value_is_measured_once_where_stages_are_kept_and_at_every_call_elsewhere(tmp_path, kept):
    measured = []

    def measure():
        measured.append(len(measured))
        return measured[-1]

    def save(value, folder):
        (folder / "content").write_text(str(value))

    root = tmp_path if kept else None
    first, second = (cache.measured_once(root, KEY, measure, save, read) for _ in range(2))
    assert (first[0], first[2]) == (0, False)
    assert second == (0, first[1], True) if kept else (second[0], second[2]) == (1, False)
    assert list(tmp_path.glob("*/content")) == [tmp_path / stage_hash(KEY) / "content"] * kept


def test_a_stage_that_was_whole_but_not_renamed_is_adopted(tmp_path):
    unfinished = tmp_path / f"{stage_hash(KEY)}.unfinished"
    unfinished.mkdir()
    (unfinished / "stage.json").write_text('{"seconds": 7}')
    (unfinished / "content").write_text("8")
    content, stage = cached(tmp_path, KEY, never, read)
    assert (content, stage.seconds, stage.fresh) == (8, 7, False) and not unfinished.exists()


def test_a_stage_that_fails_leaves_nothing_that_looks_finished(tmp_path):
    def fail(folder):
        (folder / "content").write_text("half")
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        cached(tmp_path, KEY, fail, read)
    assert cached(tmp_path, KEY, Maker(), read)[1].fresh
    assert cached(tmp_path, KEY, never, read)[0] == 42


def _empty(stage):
    (stage / "stage.json").write_text("")


def _no_seconds(stage):
    (stage / "stage.json").write_text("{}")


def _binary(stage):
    (stage / "stage.json").write_bytes(b"\xff\x00")


def _content_gone(stage):
    (stage / "content").unlink()


def _content_broken(stage):
    (stage / "content").write_text("4 and")


def _content_folder(stage):
    (stage / "content").unlink()
    (stage / "content").mkdir()


@pytest.mark.parametrize("damage", [_empty, _no_seconds, _binary, _content_gone, _content_broken, _content_folder])
def test_a_damaged_stage_is_said_set_aside_and_made_again(tmp_path, damage, caplog):
    folder = cached(tmp_path, KEY, Maker(), read)[1].folder
    for _ in range(2):  # a folder that was set aside earlier is replaced
        damage(folder)
        caplog.clear()
        content, stage = cached(tmp_path, KEY, maker := Maker(), read)
        assert (content, stage.fresh, maker.calls) == (42, True, 1)
        (line,) = (record.message for record in caplog.records if record.levelname == "WARNING")
        assert f"{folder} is damaged" in line and "\n" not in line
        assert folder.with_name(f"{folder.name}.damaged").is_dir()
    assert cached(tmp_path, KEY, never, read)[0] == 42


def test_a_finished_stage_in_a_folder_that_cannot_be_written_is_read(tmp_path, monkeypatch):
    cached(tmp_path, KEY, Maker(), read)

    def refused(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(cache.FileLock, "acquire", refused)
    assert cached(tmp_path, KEY, never, read)[0] == 42
    with pytest.raises(InputError, match=r"^paths\.stages=.*Read-only file system.*type paths\.stages=FOLDER$"):
        cached(tmp_path, {"a": 2}, never, read)


def test_a_damaged_stage_that_cannot_be_set_aside_is_one_line(tmp_path, monkeypatch, caplog):
    _content_broken(folder := cached(tmp_path, KEY, Maker(), read)[1].folder)

    def refused(self, target):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(InputError) as answer:
        cached(tmp_path, KEY, never, read)
    said = str(answer.value)
    assert said.startswith(f"{folder} is damaged (invalid literal") and "\n" not in said
    assert said.endswith("cannot be set aside (Permission denied); type paths.stages=FOLDER") and not caplog.records


def test_without_a_home_folder_the_cache_is_a_temporary_one(monkeypatch):
    def unknown(uid):
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert cache.cache_folder("data") == Path(tempfile.gettempdir(), f"respike-{os.getuid()}", "respike", "data")
    monkeypatch.setenv("HOME", "/home/me")
    assert cache.cache_folder("data") == Path("/home/me/.cache/respike/data")


@pytest.mark.parametrize("kind", cache.CODE)
def test_the_code_of_every_kind_exists(kind):
    root = Path(respike.__file__).parent
    assert all((root / name).exists() for name in cache.CODE[kind])


@pytest.mark.parametrize(
    ("changed", "kinds"),
    [
        ("neurons/integrate_fire.py", {"conversion", "spiking training", "run"}),
        ("simulate/rate/kernels/events.c", {"conversion", "run"}),  # calibrations simulate
        ("convert/rate/wiring.py", {"conversion", "spike-time training", "run"}),
        ("layers/tdbn.py", {"conversion", "spiking training", "run"}),
        ("data/pixels.py", set(cache.CODE)),
        ("callbacks/train_accuracy.py", {"train_acc", "run"}),
        ("callbacks/relu_pass.py", {"relu pass", "run"}),
        ("report/page.py", set()),
    ],
)
def test_a_change_of_code_changes_the_hash_of_what_it_decides(tmp_path, monkeypatch, changed, kinds):
    package = tmp_path / "respike"
    shutil.copytree(Path(respike.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = {kind: code_hash(kind) for kind in cache.CODE}
    monkeypatch.setattr(cache, "__file__", str(package / "system" / "cache.py"))
    assert {kind: code_hash(kind) for kind in cache.CODE} == before
    with (package / changed).open("a") as file:
        file.write("\n")
    assert {kind for kind in cache.CODE if code_hash(kind) != before[kind]} == kinds
