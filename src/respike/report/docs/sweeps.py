"""Tables of the sweeps over settings and conversions: outputs/reference/sweeps."""

from typing import Any

import pandas as pd

from respike.metrics.interval import half_interval
from respike.report.columns import NOTHING, Column, count, metric, percent, text_of
from respike.report.docs.papers import EARLY, PROVED
from respike.report.docs.reference import Reference, sentence
from respike.report.runs import load_runs
from respike.report.summary import listed
from respike.report.tables import markdown_table, to_markdown
from respike.system.files import read_csv

QCFS = "qcfs_resnet20_given_cifar10"
V_TH, WIDTH = "neuron.v_th", "neuron.surrogate.a"
CHANCE = 0.1135  # share of the largest class of MNIST's test images


def normalizations(reference: Reference) -> str:
    """The corners of the threshold x rate maps: accuracy and latency per normalization."""
    chosen, norms, lines = [(0.25, 1000), (1, 1000), (1, 400)], ["no_norm", "data_norm", "model_norm"], []
    for name in ("diehl_fc", "diehl_cnn"):
        rows: Any = reference.sweep(name).set_index(["neuron.threshold", "encode.max_rate", "norm"])
        for threshold, rate in chosen:
            found = [rows.loc[(threshold, rate, norm)] for norm in norms]
            cells = [
                percent(run["snn/test_acc"])
                + (f", {run['snn/time_to_1pct_ms']:g} ms" if run["snn/test_acc"] > CHANCE else ", chance")
                for run in found
            ]
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


def few_steps(reference: Reference) -> str:
    """Accuracy of conversions of one network after few steps: means over draws of calibration images, 95 % intervals."""
    rows = read_csv(reference.folder / "sweeps" / "resnet20_cifar10" / "latency.csv")
    rows["text"] = [
        f"{acc:.2f} %" + ("" if pd.isna(half) else f" ± {half:.2f}")
        for acc, half in zip(rows["acc"], rows["acc ±"], strict=True)
    ]
    return _by_steps(rows, "conversion")


def few_steps_gains(reference: Reference) -> str:
    """What thresholds and calibrations change in few steps, in points of accuracy."""
    rows = read_csv(reference.folder / "sweeps" / "resnet20_cifar10" / "latency.csv")
    accuracy: Any = rows.pivot(index="method", columns="steps", values="acc")

    def gain(method: str, other: str, *steps: int) -> str:
        return listed([f"{accuracy.at[method, t] - accuracy.at[other, t]:+.1f}" for t in steps])

    channel, largest, start = "percentile, per channel", "data_norm, per channel", "mmse, rounding floor, per channel"
    said = [
        f"The ReLU network has {rows['relu'].iloc[0]:.2f} %.",
        f"A threshold per channel instead of one per layer changes the accuracy of `percentile` by "
        f"{gain(channel, 'percentile, per layer', 8, 32, 256)} points at T = 8, 32 and 256; the largest activation as the "
        f"threshold (`data_norm`) instead of a quantile by {gain(largest, channel, 8, 32, 256)}.",
        f"Compared with the thresholds that they start from (`mmse`, rounded down), calibrated biases change the accuracy by "
        f"{gain('calibrate_bias', start, 1, 4, 8, 32)} points at T = 1, 4, 8 and 32; fitted weights by "
        f"{gain('calibrate_weights', start, 1, 4, 8, 32)}.",
    ]
    return sentence(" ".join(said))


def peer_accuracy(reference: Reference) -> str:
    """Accuracy of the same rules in SpikingJelly and here."""
    rows = read_csv(reference.folder / "bench" / "accuracy" / "accuracy.csv").dropna(subset=["rule"])
    rows = rows.assign(method=rows["rule"] + ", " + rows["library"], text=[percent(acc) for acc in rows["acc"]])
    return _by_steps(rows, "rule and library")


def peer_differences(reference: Reference) -> str:
    """By how much the two libraries differ, and by how many standard errors of paired answers."""
    rows = read_csv(reference.folder / "bench" / "accuracy" / "accuracy.csv").dropna(subset=["rule"])
    both = rows.pivot(index=["rule", "steps"], columns="library", values=["acc", "alone"])
    points = 100 * (both["acc"]["respike"] - both["acc"]["SpikingJelly"]).abs()
    here, there = both["alone"]["respike"], both["alone"]["SpikingJelly"]
    errors = ((here - there).abs() / (here + there).clip(lower=1) ** 0.5).max()
    return sentence(
        f"At the same rule and T the two differ by at most {points.max():.2f} points, and by at most {errors:.1f} standard "
        f"errors of the difference of paired answers."
    )


def qcfs(reference: Reference) -> str:
    """A network that was fine-tuned with QCFS activations, after few steps."""
    rows = _qcfs_rows(reference)
    rows["text"] = [percent(acc / 100) for acc in rows["acc"]]
    return _by_steps(rows, "conversion")


def qcfs_network(reference: Reference) -> str:
    """What the same network has as it was trained, and how unevenly its units spike."""
    runs = load_runs([reference.folder / "sweeps" / QCFS / "runs"])
    plain = runs[runs["cfg.convert._target_"].str.endswith("qcfs_thresholds")].iloc[0]
    return sentence(
        f"The quantized network, with L = {plain['cfg.model.levels']:g}, has {percent(plain['ann/test_acc'])}. Behind its "
        f"first layer, {100 * plain['snn/unevenness']:.0f} % of the units have other numbers of spikes in L steps than their "
        "activation says."
    )


def qcfs_read_from(reference: Reference) -> str:
    """What a delayed read-out and calibrations change after 8 and 16 steps, in points of the quantized network's accuracy."""
    rows = _qcfs_rows(reference)
    accuracy: Any = rows.pivot(index="method", columns="steps", values="acc")
    lines = [
        [str(name), *(f"{accuracy.at[name, steps] - rows['relu'].iloc[0]:+.1f}" for steps in (8, 16))]
        for name in rows["method"].unique()
    ]
    return markdown_table(["conversion", "T = 8", "T = 16"], lines)


def _qcfs_rows(reference: Reference) -> Any:
    return read_csv(reference.folder / "sweeps" / QCFS / "latency.csv").query("steps >= 4")


def _by_steps(rows: pd.DataFrame, head: str) -> str:
    """A table of `text`: a line for each `method`, a column for each number of steps."""
    table = rows.pivot(index="method", columns="steps", values="text").reindex(rows["method"].unique()).fillna(NOTHING)
    lines = [[str(name), *row] for name, row in zip(table.index, table.to_numpy(), strict=True)]
    return markdown_table([head, *(f"T = {steps:.0f}" for steps in table.columns)], lines)


def zeta(reference: Reference) -> str:
    """Margin of the exact mapping: the FC net."""
    return _zeta(reference, "exact_fc")


def zeta_vgg(reference: Reference) -> str:
    """Margin of the exact mapping: the VGG net for CIFAR-10."""
    return _zeta(reference, "exact_vgg_cifar10")


def _zeta(reference: Reference, network: str) -> str:
    rows = reference.sweep(f"{network}/zeta").sort_values("convert.zeta", ascending=False)
    columns = [Column("convert.zeta", "zeta"), metric("ttfs/latency"), metric("snn/test_acc"), metric("snn/agreement")]
    return to_markdown(rows, [*columns, EARLY, PROVED])


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
    """Noise of the exact mapping: mean over the trials, FC net."""
    return _noise(reference, "exact_fc")


def noise_vgg(reference: Reference) -> str:
    """Noise of the exact mapping: mean over the trials, VGG net for CIFAR-10."""
    return _noise(reference, "exact_vgg_cifar10")


def _noise(reference: Reference, network: str) -> str:
    rows = reference.sweep(f"{network}/noise")
    kinds = {
        "simulate.time_noise": "spike times, sigma {:g}",
        "simulate.alpha_noise": "drive alpha, sigma {:g}",
        "simulate.levels": "spike times on a grid of {:g} levels per interval",
    }
    lines = []
    for key, words in ((key, words) for key, words in kinds.items() if key in rows):
        for value, trials in rows[rows[key] > 0].groupby(key):
            accuracy, agreed = trials["snn/test_acc"], trials["snn/agreement"]
            spread = [f"{100 * accuracy.std():.2f}", f"{100 * half_interval(list(accuracy)):.2f}"]
            cells = [percent(accuracy.mean()), *(spread if len(trials) > 1 else ["", ""]), percent(agreed.mean())]
            lines.append([words.format(value), f"{len(trials)}", *cells])
    heads = ["noise", "trials", "accuracy", "standard deviation (points)", "95 % interval ± (points)", "agreement"]
    return markdown_table(heads, lines)


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
    edge = [f"{v_th:g}" for v_th in best.loc[best[WIDTH] == rows[WIDTH].max(), V_TH]]
    largest = f" For V_th {listed(edge)} that is the largest a that was tried." if edge else ""
    return sentence(
        f"The best a for V_th of {listed(map('{:g}'.format, best[V_TH]))} is {widths}: {ratios} times V_th (one seed).{largest}"
    )
