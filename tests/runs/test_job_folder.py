"""Names of job folders: readable, of one part, different for different jobs, never too long for a file system."""

from hypothesis import given
from hypothesis import strategies as st

from respike.runs.job_folder import job_folder

NAMES = st.lists(st.text("abc=,./_-0123456789", max_size=40), max_size=12).map(",".join)


def test_short_names_stay_as_they_are():
    assert job_folder("convert=none,simulate.threshold=0.5") == "convert=none,simulate.threshold=0.5"


def test_a_path_is_another_name_than_its_parts_joined():
    assert (
        job_folder("model.path=a/b").startswith("model.path=a_b-") and job_folder("model.path=a_b") == "model.path=a_b"
    )


@given(NAMES, st.text("xyz", min_size=1, max_size=200))
def test_names_are_one_part_short_and_tell_jobs_apart(name, more):
    folders = job_folder(name), job_folder(name + more)
    assert all("/" not in folder and 0 < len(folder) < 200 for folder in folders)
    assert folders[0] != folders[1] or not name
