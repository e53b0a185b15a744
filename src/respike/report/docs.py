"""python -m respike.report.docs: write the measured tables and sentences of README.md and docs/ from outputs/reference.

A page marks them by <!-- table NAME --> or <!-- text NAME --> and <!-- end -->; NAME is a key of BLOCKS. A test compares the
pages with what this command would write. --check only compares.
"""

import argparse
import json
import math
import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from respike.errors import InputError
from respike.report.columns import (
    NOTHING,
    RESULTS,
    SIDE_BY_SIDE,
    Column,
    count,
    metric,
    percent,
    points,
    published,
    text_of,
)
from respike.report.decision import Decision, decisions, default_model, energy_table, verdict
from respike.report.runs import load_runs
from respike.report.tables import markdown_table, to_markdown
from respike.report.verdicts import judge
from respike.runs.old_names import new_key
from respike.system.files import read_csv
from respike.system.signals import run_command

BLOCK = re.compile(r"(<!-- (?:table|text) (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
TOLD = {column.key: column for column in RESULTS}
ROW, METHOD, DATA, VERDICT = (TOLD[key] for key in ("row", "method", "data", "verdict"))
REDUCED = Column("reduced", "reduced", of=text_of("reduced"), is_number=False)
EARLY = Column("early", "early crossings", of=lambda run: f"{100 * run['ttfs/early']:.2g} %")
PROVED = Column("proved", "proved by the bound", of=lambda run: share(run["ttfs/certified"]))
EPOCHS = Column("cfg.recipe.epochs", "epochs")
VALIDATION = Column("snn/val_acc", "validation", "%")
NETWORKS = ("resnet20", "vgg16", "resnet18")  # folders of the benchmark, one run each
AUTO, BACKENDS = "ours, fastest backend", ["ours, compiled events", "ours, plain torch", "ours, float32"]


@dataclass(frozen=True)
class Reference:
    """The committed results in a folder: runs, bench, sweeps and energy."""

    folder: Path

    @cached_property
    def runs(self) -> pd.DataFrame:
        """The judged runs."""
        return judge(load_runs([self.folder / "runs"]))

    @cached_property
    def decisions(self) -> list[Decision]:
        """What is known of each network whose operations were counted by layer."""
        return decisions(load_runs([self.folder / "energy"]), default_model())

    def table(self, names: Sequence[str], columns: Sequence[Column]) -> str:
        """A line for each named run."""
        if missing := [name for name in names if name not in self.runs.index]:
            raise InputError(
                f"{self.folder / 'runs'}: has no run {', '.join(missing)}; name the runs of a table in docs.py"
            )
        return to_markdown(self.runs.loc[list(names)], columns)

    def bench(self, name: str = "") -> pd.DataFrame:
        """Rows of the benchmark that were measured, with `network`: the workload and its steps."""
        rows = read_csv(self.folder / "bench" / name / "bench.csv")
        rows = rows[rows["reason"].isna()]
        return rows.assign(network=rows["workload"] + ", " + rows["steps"].map("{:.0f}".format) + " steps")

    def sweep(self, name: str) -> pd.DataFrame:
        """The runs of a sweep; settings under their present names, `norm`: the normalization."""
        rows = read_csv(self.folder / "sweeps" / name / "comparison.csv").rename(columns=new_key)
        return rows.assign(norm=rows["convert"].str.rpartition(".")[2]) if "convert" in rows else rows


def share(fraction: float) -> str:
    """0.9999991 -> "99.9999 %": rounded down, so that 100 % means all."""
    return f"{math.floor(round(1e6 * fraction, 3)) / 1e4:.6g} %"


def sentence(text: str) -> str:
    """Text in lines of the pages' width."""
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def listed(words: Iterable[object]) -> str:
    """ "1, 2 and 3"."""
    *most, last = map(str, words)
    return f"{', '.join(most)} and {last}" if most else last


def results(reference: Reference) -> str:
    """The main rows of every paper."""
    names = (
        "diehl_fc", "diehl_fc_raw", "diehl_cnn", "diehl_cnn_raw", "diehl_cnn_authors_seed3", "diehl_cnn_authors",
        "diehl_cnn_published", "digits_cnn", "digits_cnn_norm", "lenet_maxpool", "exact_fc", "exact_lenet",
        "ttfs_finetune_fc_alpha_noise", "ttfs_finetune_fc_levels", "ttfs_finetune_fc_latency",
        "stbp_resnet19_two_epochs",
    )  # fmt: skip
    accuracies = [
        column
        for kind, name in (("ann", "ANN"), ("snn", "SNN"))
        for column in (Column(kind, f"{name} published", of=published(f"{kind}/test_acc")), metric(f"{kind}/test_acc"))
    ]
    late = metric("snn/time_to_1pct_ms")
    return reference.table(names, [ROW, METHOD, DATA, *accuracies, metric("snn/agreement"), late, VERDICT])


def exact(reference: Reference) -> str:
    """The exactly mapped networks."""
    names = ("exact_fc", "exact_fc_l1", "exact_lenet", "exact_vgg_mnist", "exact_vgg_fashion", "exact_vgg_cifar10")
    measured = [metric(key) for key in ("ann/test_acc", "snn/test_acc", "snn/agreement")]
    return reference.table(names, [ROW, METHOD, *measured, PROVED, EARLY, metric("ttfs/latency"), REDUCED])


def recovered(reference: Reference) -> str:
    """What hardware costs the mapped FC net and what training in spike time recovers; a network with fewer spikes."""
    kinds = ("alpha_noise", "levels", "latency")
    names = [f"ttfs_{how}_fc_{kind}" for kind in kinds for how in ("plain", "finetune")]
    base = {"linear": reference.runs.loc["exact_fc"], "conv": reference.runs.loc["exact_lenet"]}

    def lost(run: pd.Series) -> str:
        start = base["conv" if run["cfg.start"] == "exact_lenet" else "linear"]
        return f"{100 * (start['snn/test_acc'] - run['snn/test_acc']):.2f}"

    columns = [
        ROW,
        METHOD,
        metric("snn/test_acc"),
        Column("lost", "points lost", of=lost),
        metric("ttfs/latency"),
        Column("spikes", "spikes / neuron", of=lambda run: f"{run['ttfs/spikes_per_neuron']:.3f}"),
    ]
    sparse = [name for name in ("ttfs_sparse_lenet",) if name in reference.runs.index]
    return reference.table([*names, *sparse], columns)


def recovered_trials(reference: Reference) -> str:
    """The FC net under drives that are off, mapped and fine-tuned: mean over the trials."""
    plain = reference.sweep("exact_fc/noise")
    trials = [plain[plain["simulate.alpha_noise"] == 0.005], reference.sweep("exact_fc/finetuned_alpha_noise")]
    mapped, tuned = (
        f"{percent(rows['snn/test_acc'].mean())} ({100 * rows['snn/test_acc'].std():.2f} points)" for rows in trials
    )
    return sentence(
        f"Drives that are off by 0.005 differ from trial to trial: over {len(trials[1])} trials the mapped net has {mapped} "
        f"on average (standard deviation), the fine-tuned one {tuned}."
    )


def three_ways(reference: Reference) -> str:
    """One trained network as spike times and as rates."""
    return reference.table(("exact_fc", "exact_fc_percentile", "exact_fc_data_norm"), SIDE_BY_SIDE)


def direct(reference: Reference) -> str:
    """The directly trained networks."""
    shown = [metric(key) for key in ("snn/spikes_per_image", "snn/synops_per_image")]
    said = Column("published", "published", of=published("snn/test_acc"))
    columns = [ROW, METHOD, said, metric("snn/test_acc"), VALIDATION, EPOCHS, *shown, REDUCED]
    return reference.table(("stbp_resnet19", "stbp_resnet19_two_epochs"), columns)


def authors_cnn(reference: Reference) -> str:
    """How far the run of the authors' file is from the curve of their own simulation."""
    run = reference.runs.loc["diehl_cnn_published"]
    ours = run["curve"].set_index("time_ms")["acc"]
    theirs = dict(json.loads(str(run["cfg.paper.curve"])))
    largest = max(abs(ours[time] - accuracy) for time, accuracy in theirs.items())
    return sentence(
        f"The accuracy of the authors' CNN file is within {100 * largest:.2f} points of their own simulation, which we ran "
        f"on it, at each of {len(theirs)} times from {min(theirs):g} to {max(theirs):g} ms."
    )


def speed(reference: Reference) -> str:
    """Compiled simulation against a plain loop, and against SpikingJelly and the bare products."""
    rows = reference.bench()
    timed = rows[rows.part == "simulate"].set_index(["name", "network"])["seconds_per_10000"]
    ours, loop = timed["ours, compiled events"], timed["plain PyTorch loop"]
    said = listed(f"{ours[network]:.3g} s ({network})" for network in ours.index)
    bare, large = _network(reference, "resnet20")
    seconds = large.seconds_per_10000
    peer = seconds[seconds.index.str.startswith("SpikingJelly")].min()
    return sentence(
        f"10,000 MNIST images take {said}, against {listed(f'{loop[network]:.3g} s' for network in ours.index)} for a plain "
        f"PyTorch loop. A ResNet-20 for CIFAR-10, {bare.steps:.0f} steps, takes {seconds[AUTO] / 10:.3g} ms per image: "
        f"{seconds[AUTO] / peer:.2f} of the time of SpikingJelly's conversion in its fastest mode, and "
        f"{seconds[AUTO] / bare.fp32:.2f} of that of the bare products in fp32."
    )


def simulation(reference: Reference) -> str:
    """Seconds per 10,000 images of every contender, and of the bare products."""
    rows = reference.bench()
    floors = rows[rows.part == "floor"].set_index("network")
    timed = rows[rows.part == "simulate"].pivot(index="name", columns="network", values="seconds_per_10000")
    timed = timed.loc[list(dict.fromkeys(rows[rows.part == "simulate"].name)), floors.index]
    for dtype in ("fp32", "bf16"):
        timed.loc[f"bare products, {dtype}"] = floors[dtype]
    lines = [
        [name, *(f"{seconds:.3g}" for seconds in line)]
        for name, line in zip(timed.index, timed.to_numpy(), strict=True)
    ]
    return markdown_table(["seconds", *timed.columns], lines)


def networks(reference: Reference) -> str:
    """Milliseconds per image of the networks of bench/cnn.py, their share of the bare fp32 products, and the accuracy."""
    columns, titles = [], []
    for name in NETWORKS:
        bare, timed = _network(reference, name)
        cells = {
            row: f"{_three_digits(seconds / 10)} ({seconds / bare['fp32']:.2f})"
            for row, seconds in timed.seconds_per_10000.items()
        }
        for row, accuracy in timed.accuracy.dropna().items():
            cells[row] += f", {100 * accuracy:.1f} %"
        for dtype in ("fp32", "bf16"):
            cells[f"bare products, {dtype}"] = f"{bare[dtype] / 10:.3g} ({bare[dtype] / bare['fp32']:.2f})"
        columns.append(cells)
        titles.append(bare["title"].replace(", random weights", ""))
    lines = [[row, *(cells.get(row, "–") for cells in columns)] for row in columns[0]]
    return markdown_table(["ms per image (of bare fp32 products)", *titles], lines)


def _network(reference: Reference, name: str) -> tuple[Any, Any]:
    """The row of the bare products, and the timed rows by name."""
    rows = reference.bench(name)
    return rows[rows.part == "forwards"].iloc[0], rows[rows.part == "cnn"].set_index("name")


def goals(reference: Reference) -> str:
    """What the speed of those networks was to be, and whether it is."""
    said = []
    for name in NETWORKS:
        bare, timed = _network(reference, name)
        seconds = timed.seconds_per_10000
        peers = seconds[seconds.index.str.startswith("SpikingJelly")]
        peer = peers.idxmin()
        share, of_peer = seconds[AUTO] / bare["fp32"], seconds[AUTO] / peers[peer]
        title = bare["title"].split(",")[0]
        said.append(f"- {title}: {share:.2f} of the bare fp32 products")
        if name != "resnet18":
            said[-1] += f" (goal, at most half: {_met(share <= 0.5)}; a quarter: {_met(share <= 0.25)})"
        mode = peer.removeprefix("SpikingJelly, ")
        said[-1] += f"; {of_peer:.2f} of SpikingJelly's fastest mode, {mode} (goal, below 1: {_met(of_peer < 1)})."
        fastest = seconds[BACKENDS].idxmin()
        said[-1] += f" Fastest backend: {fastest}; `auto` takes {seconds[AUTO] / seconds[fastest]:.2f} of its time."
        if timed.accuracy.isna().all():
            said[-1] += (
                f" Correlation of the outputs with the ReLU network's: ours {timed.correlation[AUTO]:.2f}, SpikingJelly's "
                f"{timed.correlation[peers.index].max():.2f} at best."
            )
    return "\n".join(textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in said)


def _met(met: bool) -> str:
    return "met" if met else "not met"


def cost_of_steps(reference: Reference) -> str:
    """Milliseconds per image of the compiled simulation against the number of steps."""
    curves = pd.concat(map(reference.bench, NETWORKS))
    curves = curves[curves.part == "cost against steps"]
    curves = curves.assign(ms=1000 * curves.seconds / curves.images)
    table = curves.pivot_table(index="workload", columns="steps", values="ms", sort=False).sort_index(axis=1)
    lines = [
        [str(name), *("–" if pd.isna(ms) else f"{ms:.3g}" for ms in row)]
        for name, row in zip(table.index, table.to_numpy(), strict=True)
    ]
    return markdown_table(["ms per image", *(f"{steps:.0f} steps" for steps in table.columns)], lines)


def agreement(reference: Reference) -> str:
    """The same input spikes on the grid and in floating point."""
    rows = reference.bench()
    pairs = rows[(rows.part == "agreement") & rows.name.str.contains("compiled events / ours, float")]
    heads = [
        "network",
        "grid against",
        "images",
        "predictions at single steps",
        "final counts",
        "final accuracy (points)",
    ]
    lines = [
        [row["network"], row["name"].rpartition(", ")[2], count(row["images"]), f"{100 * row['predictions_differ']:.3f} %",
         f"{100 * row['counts_differ']:.1f} %", points(row["accuracy_gap"])]
        for _, row in pairs.iterrows()
    ]  # fmt: skip
    return markdown_table(heads, lines)


def training_step(reference: Reference) -> str:
    """Training steps of the full-width ResNet-19."""
    rows = reference.bench("direct")
    rows = rows[rows.batch == rows.batch.min()]  # the quarter of the width runs in larger batches
    lines = [
        [row["name"], row.arithmetic, f"{1000 / row.images_per_second:.1f}", f"{row.mib_per_image:.1f}"]
        for _, row in rows.iterrows()
    ]
    return markdown_table(["", "arithmetic", "ms per image", "MiB per image"], lines)


def allocator(reference: Reference) -> str:
    """The allocator of these rows; files of earlier versions do not name it."""
    rows = reference.bench("direct")
    if "allocator" not in rows:
        return sentence(
            "In this run only our fused rows kept freed memory between steps, which is part of their lead. The benchmark now "
            "gives every row the same allocator."
        )
    return sentence(f"Allocator of every row: {listed(rows.allocator.unique())}.")


def normalizations(reference: Reference) -> str:
    """The corners of the threshold x rate maps: accuracy and latency per normalization."""
    chosen, norms, lines = [(0.25, 1000), (1, 1000), (1, 400)], ["no_norm", "data_norm", "model_norm"], []
    for name in ("diehl_fc", "diehl_cnn"):
        rows: Any = reference.sweep(name).set_index(["neuron.threshold", "encode.max_rate", "norm"])
        for threshold, rate in chosen:
            found = [rows.loc[(threshold, rate, norm)] for norm in norms]
            cells = [f"{percent(run['snn/test_acc'])}, {run['snn/time_to_1pct_ms']:g} ms" for run in found]
            lines.append([name, f"{threshold:g}", f"{rate} Hz", *cells])
    return markdown_table(["network", "threshold", "rate", *norms], lines)


def spike_threshold(reference: Reference) -> str:
    """Accuracy and spikes of the rendered digits against the threshold of the input coding."""
    rows = reference.sweep("digits_cnn").set_index(["encode.spike_threshold", "norm"])
    lines = []
    for threshold in sorted(rows.index.unique(0)):
        found = [rows.loc[(threshold, norm)] for norm in ("no_norm", "data_norm")]
        cells = [(percent(run["snn/test_acc"]), count(run["snn/spikes_per_image"])) for run in found]
        lines.append([f"{threshold:g}", *(cell for pair in cells for cell in pair)])
    heads = ["spike threshold", "unnormalized", "spikes per image", "data-normalized", "spikes per image"]
    return markdown_table(heads, lines)


def best_spike_threshold(reference: Reference) -> str:
    """The optimum of each normalization in that sweep."""
    rows = reference.sweep("digits_cnn")
    best = rows.loc[rows.groupby("norm")["snn/test_acc"].idxmax()].set_index("norm")
    said = [
        f"{words} weights are best at {best['encode.spike_threshold'][norm]:g} ({percent(best['snn/test_acc'][norm])}, "
        f"{count(best['snn/spikes_per_image'][norm])} spikes per image)"
        for norm, words in (("no_norm", "unnormalized"), ("data_norm", "data-normalized"))
    ]
    return sentence(f"Among the thresholds of the sweep, {listed(said)}.")


def max_pools(reference: Reference) -> str:
    """The rules by which spikes pass a max-pool, on the same weights."""
    rows = reference.sweep("lenet_maxpool").set_index("convert.max_pool", drop=False)
    measured = (
        "ann/test_acc",
        "snn/test_acc",
        "snn/acc_drop",
        "snn/agreement",
        "snn/time_to_1pct_ms",
        "snn/spikes_per_image",
    )
    columns = [
        Column("convert.max_pool", "max-pool", of=text_of("convert.max_pool"), is_number=False),
        *map(metric, measured),
    ]
    return to_markdown(rows.loc[["count", "gate", "before_neuron", "average"]], columns)


def energy(reference: Reference) -> str:
    """The cheapest spiking run of each network beside its int8 ReLU network, by the energy model with memory."""
    return energy_table(reference.decisions, default_model())


def pays(reference: Reference) -> str:
    """A sentence for each of these networks."""
    said = []
    for one in reference.decisions:
        reduced = one.measured[one.best][0]["reduced"]
        note = f" (Reduced: {reduced}.)" if reduced else ""
        said.append(f"- {one.title}: {verdict(one, default_model())}{note}")
    full = reference.runs.loc["stbp_resnet19"]
    accuracy, accumulates = percent(full["snn/test_acc"]), count(full["snn/synops_per_image"])
    said.append(
        "- The ResNet-19 of this table trained on a part of the images. That of `stbp_resnet19`, of the same width, reaches "
        f"{accuracy} with {accumulates} accumulates per image; its layers were not counted."
    )
    return "\n".join(textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in said)


def _three_digits(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def few_steps(reference: Reference) -> str:
    """Accuracy of conversions of one network after few steps: means over draws of calibration images, 95 % intervals."""
    rows = read_csv(reference.folder / "sweeps" / "resnet20_cifar10" / "latency.csv")
    rows["text"] = [
        f"{acc:.2f} %" + ("" if pd.isna(half) else f" ± {half:.2f}")
        for acc, half in zip(rows["acc"], rows["acc ±"], strict=True)
    ]
    return _by_steps(rows, "conversion")


def peer_accuracy(reference: Reference) -> str:
    """Accuracy of the same rules in SpikingJelly and here."""
    rows = read_csv(reference.folder / "bench" / "accuracy" / "accuracy.csv").dropna(subset=["rule"])
    rows = rows.assign(method=rows["rule"] + ", " + rows["library"], text=[percent(acc) for acc in rows["acc"]])
    return _by_steps(rows, "rule and library")


def qcfs(reference: Reference) -> str:
    """Networks that were fine-tuned with QCFS activations, and their bias calibrated for T steps."""
    folder = reference.folder / "sweeps" / "resnet20_cifar10" / "runs"
    runs = load_runs(sorted(folder.glob("qcfs_*")))
    steps, lines = (8, 16, 32, 64), []
    for _, run in runs.sort_index().sort_values("cfg.model.levels", kind="stable").iterrows():
        method = run["cfg.convert._target_"].rpartition(".")[2]
        acc = run["curve"].set_index("step")["acc"]
        read = acc.tail(1) if "calibrate" in method else acc  # a calibration is for one T
        cells = [percent(read[t]) if t in read.index else NOTHING for t in steps]
        uneven = f"{100 * run['snn/unevenness']:.0f} %"
        lines.append([Path(run["path"]).name, method, percent(run["ann/test_acc"]), *cells, uneven])
    heads = [
        "run",
        "conversion",
        "quantized network",
        *(f"T = {t}" for t in steps),
        "uneven units behind the first layer",
    ]
    return markdown_table(heads, lines)


def _by_steps(rows: pd.DataFrame, head: str) -> str:
    """A table of `text`: a line for each `method`, a column for each number of steps."""
    table = rows.pivot(index="method", columns="steps", values="text").reindex(rows["method"].unique()).fillna(NOTHING)
    lines = [[str(name), *row] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return markdown_table([head, *(f"T = {steps:.0f}" for steps in table.columns)], lines)


def zeta(reference: Reference) -> str:
    """Margin of the exact mapping."""
    rows = reference.sweep("exact_fc/zeta").sort_values("convert.zeta", ascending=False)
    columns = [Column("convert.zeta", "zeta"), metric("ttfs/latency"), metric("snn/agreement"), EARLY, PROVED]
    return to_markdown(rows, columns)


def smallest_zeta(reference: Reference) -> str:
    """The shortest latency with every prediction."""
    rows = reference.sweep("exact_fc/zeta")
    rows = rows[rows["snn/agreement"] == 1].sort_values("convert.zeta")
    least, most = rows.iloc[0], rows.iloc[-1]
    return sentence(
        f"In the FC net zeta {least['convert.zeta']:g} keeps all {count(least['test_images'])} predictions at a latency of "
        f"{least['ttfs/latency']:.1f}; zeta {most['convert.zeta']:g} has {most['ttfs/latency']:.1f}."
    )


def noise(reference: Reference) -> str:
    """Noise of the exact mapping: mean over the trials."""
    rows = reference.sweep("exact_fc/noise")
    kinds = {
        "simulate.time_noise": "spike times, sigma {:g}",
        "simulate.alpha_noise": "drive alpha, sigma {:g}",
        "simulate.levels": "spike times on a grid of {:g} levels per interval",
    }
    lines = []
    for key, words in kinds.items():
        for value, trials in rows[rows[key] > 0].groupby(key):
            accuracy, agreed = trials["snn/test_acc"], trials["snn/agreement"]
            spread = f"{100 * accuracy.std():.2f}" if len(trials) > 1 else ""
            lines.append(
                [words.format(value), f"{len(trials)}", percent(accuracy.mean()), spread, percent(agreed.mean())]
            )
    heads = ["noise", "trials", "accuracy", "standard deviation (points)", "agreement"]
    return markdown_table(heads, lines)


V_TH, WIDTH = "neuron.v_th", "neuron.surrogate.a"


def vth_a(reference: Reference) -> str:
    """Accuracy over threshold and half-width of the surrogate."""
    accuracy = reference.sweep("stbp_resnet19_narrow").pivot(index=V_TH, columns=WIDTH, values="snn/test_acc")
    lines = [[f"{v_th:g}", *map(percent, row)] for v_th, row in zip(accuracy.index, accuracy.to_numpy(), strict=True)]
    return markdown_table(["V_th \\ half-width a", *map("{:g}".format, accuracy.columns)], lines)


def best_a(reference: Reference) -> str:
    """The best half-width of the surrogate for each threshold."""
    rows = reference.sweep("stbp_resnet19_narrow")
    best = rows.loc[rows.groupby(V_TH)["snn/test_acc"].idxmax()]
    widths, ratios = (listed(map("{:g}".format, values)) for values in (best[WIDTH], best[WIDTH] / best[V_TH]))
    return sentence(
        f"The best a for V_th of {listed(map('{:g}'.format, best[V_TH]))} is {widths}: {ratios} times V_th (one seed)."
    )


BLOCKS: dict[str, Callable[[Reference], str]] = {
    block.__name__: block
    for block in (
        results, exact, recovered, recovered_trials, three_ways, direct, authors_cnn, speed, simulation, networks, goals,
        cost_of_steps, agreement, training_step, allocator, energy, pays,
        normalizations, max_pools, few_steps, peer_accuracy, qcfs, spike_threshold,
        best_spike_threshold, zeta, smallest_zeta, noise, vth_a, best_a,
    )
}  # fmt: skip


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


def main(arguments: Sequence[str] | None = None) -> int:
    """Write or check the pages. Returns the exit status: 1 if --check finds a difference, 2 for mistakes."""
    parser = argparse.ArgumentParser(prog="python -m respike.report.docs", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("root", nargs="?", type=Path, default=Path(), help="root of the repository (this folder)")
    parser.add_argument("--check", action="store_true", help="write nothing; status 1 if a page differs")
    given = parser.parse_args(arguments)
    try:
        reference = Reference(given.root / "outputs" / "reference")
        texts = {page: written(page, reference) for page in pages(given.root)}
    except (InputError, OSError) as error:
        print(f"respike: {error}", file=sys.stderr)
        return 2
    changed = [page for page, text in texts.items() if text != page.read_text(encoding="utf-8")]
    for page in changed:
        if not given.check:
            page.write_text(texts[page], encoding="utf-8")
        print(f"{page}: {'differs from outputs/reference; type make docs' if given.check else 'written'}")
    return int(given.check and bool(changed))


if __name__ == "__main__":
    run_command(main)
