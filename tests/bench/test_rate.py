"""Batch search, time budgets, medians, agreement, and the results of isolated processes."""

import os
import sys
from dataclasses import asdict

import pytest
import torch

from respike.bench import rate
from respike.bench.isolated import call, peak_mib
from respike.bench.plan import CONTENDERS, Contender, named
from respike.bench.rate import agreement
from respike.bench.timing import affordable, spread
from respike.bench.workload import Workload
from respike.simulate.record import predict

SMALL = {"images": 20, "repeats": 2, "budget": 60.0}


def test_the_search_tries_every_size_that_fits_twice_and_takes_the_best(saved_workload, monkeypatch):
    clock = iter([3.0, 1.0, 8.0, 9.0, 2.0, 4.0])  # seconds of 5, 10 and 20 images, two rounds
    monkeypatch.setattr(rate, "seconds", lambda run, images, size: (next(clock), run(images, size)))
    row = Contender("loop", "respike.bench.peers.plain.loop", batches=(5, 10, 20, 100))
    found = rate.search_batch(asdict(row), saved_workload, 20)
    assert found["tried"] == {5: 3 / 5, 10: 1 / 10, 20: 4 / 20}
    assert (found["batch"], found["seconds_per_image"]) == (10, 1 / 10)


@pytest.mark.parametrize(
    ("per_image", "expected"),
    [(0.0001, (10_000, 3)), (0.0030, (10_000, 1)), (0.0020, (10_000, 2)), (0.0100, (4500, 1)), (9.0, (100, 1))],
)
def test_what_is_too_slow_loses_passes_first_and_images_then(per_image, expected):
    assert affordable(per_image, 10_000, 3, budget=45) == expected


def test_a_whole_batch_is_timed_whatever_it_costs():
    assert affordable(9.0, 10_000, 3, budget=45, least=1000) == (1000, 1)


def test_the_median_and_its_range_are_scaled_to_ten_thousand_images():
    measured = spread([4.0, 1.0, 2.0], images=1000)
    assert (measured["seconds"], measured["seconds_min"], measured["seconds_max"], measured["runs"]) == (2, 1, 4, 3)
    assert measured["seconds_per_10000"] == 20
    assert measured["images_per_second"] == 500


@pytest.mark.parametrize(("name", "batch"), [("plain PyTorch loop", 7), ("ours, float32", None)])
def test_a_measurement_reports_the_accuracy_of_the_images_it_timed(saved_workload, tmp_path, name, batch):
    keep = tmp_path / "output.pt"
    row = rate.measure(asdict(named(CONTENDERS, [name])[0]), saved_workload, **SMALL, batch=batch, keep=str(keep))
    counts = torch.load(keep)["counts"]
    right = predict(counts.long()) == Workload.load(saved_workload).labels
    assert row["accuracy"] == float(right.double().mean())
    assert (row["images"], row["runs"], len(counts)) == (20, 2, 20)


def test_a_missing_library_a_failure_and_a_time_limit_are_reasons(saved_workload, tmp_path, monkeypatch):
    log = tmp_path / "log" / "row.log"
    missing = call("respike.bench.no_such_peer.loop", {}, log, 60, 1)
    assert missing["reason"].startswith("not installed: respike.bench.no_such_peer")
    arguments = SMALL | {"contender": asdict(CONTENDERS[0]), "workload": "/none.pt", "batch": None, "keep": "/none"}
    failed = call("respike.bench.rate.measure", arguments, log, 60, 1)
    assert failed["reason"].startswith("FileNotFoundError")
    assert "Traceback" in log.read_text()
    (tmp_path / "endless.py").write_text("def wait():\n    while True:\n        pass\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert call("endless.wait", {}, log, 1, 1)["reason"] == "stopped after 1 s"


def test_peak_memory_is_the_process_own_not_its_parents(tmp_path):
    held = torch.ones(600 << 18)  # 600 MiB
    assert peak_mib() > 600
    child = call("respike.bench.timing.spread", {"times": [1.0], "images": 1}, tmp_path / "row.log", 60, 1)
    assert 50 < child["peak_mib"] < peak_mib() - 300
    del held


LEFT = """
import ctypes

def left_of_200_mib():
    def resident():
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
    before, block = resident(), libc.malloc(200 << 20)
    ctypes.memset(block, 1, 200 << 20)
    libc.free(block)
    return {"mib": (resident() - before) >> 10}
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="asks glibc")
@pytest.mark.parametrize("configured", [False, True])
def test_every_process_keeps_freed_memory_or_none_does(tmp_path, monkeypatch, configured):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    if configured:
        monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    (tmp_path / "block.py").write_text(LEFT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]))
    found = call("block.left_of_200_mib", {}, tmp_path / "row.log", 60, 1)
    assert found["mib"] < 20 if configured else found["mib"] > 180
    assert found["allocator"] == ("set by MALLOC_TRIM_THRESHOLD_" if configured else "freed memory is kept")


def test_agreement_counts_what_differs_on_the_images_both_have():
    predicted = torch.zeros(4, 3, dtype=torch.int16)
    first = {"predicted": predicted, "counts": torch.zeros(3, 5)}
    second = {"predicted": predicted.clone()[:, :2], "counts": torch.zeros(2, 5)}
    second["predicted"][3, 0] = 1
    second["counts"][0, 1] = 1
    found = agreement(first, second, labels=torch.zeros(3))
    assert found == {"images": 2, "predictions_differ": 1 / 8, "counts_differ": 1 / 10, "accuracy_gap": 0.5}
