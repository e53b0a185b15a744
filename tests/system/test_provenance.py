"""The commit of a run is that of this package's repository, or unknown."""

import subprocess

import pytest

from respike.system import provenance


@pytest.fixture
def repository(tmp_path):
    """repository(*files) -> the commit of a repository in tmp_path that tracks these files."""

    def make(*files):
        def git(*command):
            who = ["-c", "user.name=a", "-c", "user.email=a@b"]
            return subprocess.run(
                ["git", "-C", tmp_path, *who, *command], check=True, capture_output=True, text=True
            ).stdout

        git("init", "--quiet")
        for file in files:
            (tmp_path / file).write_text("1")
        git("add", *files)
        git("commit", "--quiet", "-m", "first")
        return git("rev-parse", "HEAD").strip()

    return make


def test_a_package_that_another_repository_surrounds_has_no_commit(repository, tmp_path, monkeypatch):
    commit = repository("own.py")
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "own.py"))
    assert provenance.git_commit() == commit
    (tmp_path / "own.py").write_text("2")
    assert provenance.git_commit() == f"{commit}-dirty"
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "installed.py"))
    assert provenance.git_commit() == "unknown"
