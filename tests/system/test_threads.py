"""Jobs side by side share the cores of their machine."""

import pytest
import torch

from respike.errors import InputError
from respike.system.threads import job_threads, set_threads


@pytest.mark.parametrize(
    ("launcher", "environment", "threads"),
    [
        ({}, {}, None),
        ({"n_jobs": -1}, {}, 1),
        ({"n_jobs": -2}, {}, 1),
        ({"n_jobs": 4}, {}, 4),
        ({"n_jobs": 3}, {}, 5),
        ({"n_jobs": 100}, {}, 1),
        ({"cpus_per_task": 2}, {}, 2),
        ({"cpus_per_task": 2}, {"SLURM_CPUS_PER_TASK": "6"}, 6),
        ({"n_jobs": 4}, {"OMP_NUM_THREADS": "3", "SLURM_CPUS_PER_TASK": "6"}, 3),
    ],
)
def test_a_job_gets_what_it_was_allotted_else_an_equal_share_of_16_cores(launcher, environment, threads):
    assert job_threads(launcher, environment, 16) == threads


def test_threads_can_be_given(monkeypatch):
    before = torch.get_num_threads()
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    try:
        set_threads(2)
        set_threads("auto")  # a single run keeps what torch has
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    for wrong in (0, -1, "many", True, 1.5):
        with pytest.raises(InputError, match="threads=auto"):
            set_threads(wrong)
