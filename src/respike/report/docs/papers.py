"""Tables of the published systems: their rows in outputs/reference/runs."""

import json

import pandas as pd
from omegaconf import OmegaConf

from respike.report.columns import (
    RESULTS,
    SIDE_BY_SIDE,
    Column,
    count,
    duration,
    metric,
    percent,
    points,
    published,
    text_of,
)
from respike.report.docs.reference import Reference, sentence, share
from respike.report.summary import listed, verdicts
from respike.report.verdicts import own_seconds
from respike.runs.conf import names
from respike.system.files import read_csv

TOLD = {column.key: column for column in RESULTS}
ROW, METHOD, DATA, VERDICT = (TOLD[key] for key in ("row", "method", "data", "verdict"))
REDUCED = Column("reduced", "reduced", of=text_of("reduced"), is_number=False)
EARLY = Column("early", "early crossings", of=lambda run: f"{100 * run['ttfs/early']:.2g} %")
PROVED = Column("proved", "proved by the bound", of=lambda run: share(run["ttfs/certified"]))
SPIKES = Column("spikes", "spikes / neuron", of=lambda run: f"{run['ttfs/spikes_per_neuron']:.3f}")
EPOCHS = Column("cfg.recipe.epochs", "epochs")
VALIDATION = Column("snn/val_acc", "validation", "%")
FAR = 0.003  # a difference of accuracies that is told by row


MAIN_ROWS = (  # of every paper
    "diehl_fc", "diehl_fc_raw", "diehl_cnn", "diehl_cnn_raw", "diehl_cnn_authors_seed3", "diehl_cnn_authors",
    "diehl_cnn_small", "diehl_cnn_published", "digits_cnn", "digits_cnn_norm", "lenet_maxpool", "exact_fc", "exact_lenet",
    "exact_vgg_cifar10", "exact_resnet20_cifar10", "ttfs_finetune_fc_alpha_noise", "ttfs_finetune_fc_levels",
    "ttfs_finetune_fc_latency", "stbp_resnet19_narrow", "stbp_resnet19",
)  # fmt: skip


def verdict_counts(reference: Reference) -> str:
    """How many rows are compared with a published number, and with what outcome; why the others are not."""
    return sentence(f"Verdicts of all {len(reference.runs)} committed rows. {verdicts(reference.runs)}")


def results(reference: Reference) -> str:
    """The main rows of every paper."""
    accuracies = [
        column
        for kind, name in (("ann", "ANN"), ("snn", "SNN"))
        for column in (Column(kind, f"{name} published", of=published(f"{kind}/test_acc")), metric(f"{kind}/test_acc"))
    ]
    late = metric("snn/time_to_1pct_ms")
    return reference.table(MAIN_ROWS, [ROW, METHOD, DATA, *accuracies, metric("snn/agreement"), late, VERDICT])


def machines(reference: Reference) -> str:
    """On which processors these rows ran."""
    runs = reference.runs[(reference.runs["failure"] == "") & reference.runs.index.isin(MAIN_ROWS)]
    where = runs["provenance.processor"].value_counts().index
    others = []
    for processor in where[1:]:
        rows = runs.index[runs["provenance.processor"] == processor]
        others.append(f"{listed(f'`{row}`' for row in rows)} on {processor}")
    said = f"The rows of the table ran on {where[0]}" + (f", except {'; '.join(others)}." if others else ".")
    return sentence(said)


def repeated(reference: Reference) -> str:
    """How far the rows of one more run of the whole command, in `repeat`, are from the committed runs of the same seeds."""
    folder = reference.folder / "repeat"
    facts = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    rows = read_csv(folder / "results.csv").set_index("row")
    planned, rows = len(rows), rows[rows["skipped"].isna()]
    alike = rows[rows["reduced"].fillna("") == reference.runs["reduced"].reindex(rows.index)]
    files = {row: reference.folder / "runs" / row / "metrics.json" for row in alike.index}
    committed = {row: json.loads(file.read_text(encoding="utf-8"))["snn/test_acc"] for row, file in files.items()}
    differences = (alike["snn/test_acc"] - pd.Series(committed)).sort_values(key=abs, ascending=False)
    near = differences[differences.abs() < FAR]
    far = [f"{points(difference)} in `{row}`" for row, difference in differences.drop(near.index).items()]
    verdict = reference.runs["verdict"].reindex(alike.index)
    changed = [
        f"`{row}` ({alike['verdict'][row]}: one seed; of the mean of {reference.runs['seeds'][row]}: {verdict[row]})"
        for row in alike.index[alike["verdict"] != verdict]
    ]
    return sentence(
        f"`make reproduce-paper` was run once more, as one command in a fresh clone on {facts['processor']}, commit "
        f"{facts['git_commit'][:7]}. {len(rows)} of {planned} rows ran, in {duration(own_seconds(rows).sum())}; the "
        f"others lacked files or `--long`. {len(alike)} of them have the same form as the committed runs, some with a training "
        f"in common. In {len(near)} of these the spiking accuracy differs by less than {100 * FAR:g} points from that of the "
        f"committed run with the same seed{f'; it differs by {listed(far)}' if far else ''}. Verdicts are the same"
        f"{f', except that of {listed(changed)}' if changed else ''}."
    )


def exact(reference: Reference) -> str:
    """The exactly mapped networks."""
    rows = (
        "exact_fc", "exact_fc_l1", "exact_lenet", "exact_vgg_mnist", "exact_vgg_fashion", "exact_vgg_cifar10",
        "exact_vgg_cifar10_l1", "exact_resnet20_cifar10",
    )  # fmt: skip
    measured = [metric(key) for key in ("ann/test_acc", "snn/test_acc", "snn/agreement")]
    return reference.table(rows, [ROW, METHOD, *measured, PROVED, EARLY, metric("ttfs/latency"), SPIKES, REDUCED])


def not_run(reference: Reference) -> str:
    """The experiments of which outputs/reference has no run."""
    done: set[object] = set()
    for file in reference.folder.rglob("config.yaml"):
        facts = json.loads(file.with_name("metrics.json").read_text(encoding="utf-8"))
        done.add(facts.get("experiment") or OmegaConf.select(OmegaConf.load(file), "name"))
    left = [f"`{name}`" for name in names("experiment") if name not in done]
    return sentence(f"No run of {listed(left)} is committed.")


def sparse_vgg(reference: Reference) -> str:
    """What the penalty on activations costs the VGG for CIFAR-10."""
    plain, sparse = (reference.run(f"exact_vgg_cifar10{penalty}") for penalty in ("", "_l1"))
    images, change = plain["test_images"], sparse["snn/test_acc"] - plain["snn/test_acc"]
    error = sum(run["snn/test_acc"] * (1 - run["snn/test_acc"]) / images for run in (plain, sparse)) ** 0.5
    return sentence(
        f"The penalty on activations of `exact_vgg_cifar10_l1` leaves {sparse['ttfs/spikes_per_neuron']:.3f} instead of "
        f"{plain['ttfs/spikes_per_neuron']:.3f} spikes per neuron. The accuracy changes by {points(change)} points, "
        f"{'within' if abs(change) <= 2 * error else 'more than'} two standard errors of the difference on {count(images)} "
        f"images ({200 * error:.2f}); one training each."
    )


def recovered(reference: Reference) -> str:
    """What hardware costs the mapped FC net and what training in spike time recovers; a network with fewer spikes."""
    kinds = ("alpha_noise", "levels", "latency")
    rows = [f"ttfs_{how}_fc_{kind}" for kind in kinds for how in ("plain", "finetune")]

    def lost(run: pd.Series) -> str:
        start = reference.run(str(run["cfg.start"]))
        return points(start["snn/test_acc"] - run["snn/test_acc"]).removeprefix("+")

    columns = [
        ROW,
        METHOD,
        metric("snn/test_acc"),
        Column("lost", "points lost", of=lost),
        metric("ttfs/latency"),
        SPIKES,
    ]
    sparse = [name for name in ("ttfs_sparse_lenet",) if name in reference.runs.index]
    return reference.table([*rows, *sparse], columns)


def recovered_trials(reference: Reference) -> str:
    """The FC net under noise on the drives, mapped and fine-tuned: mean over the trials."""
    plain = reference.sweep("exact_fc/noise")
    trials = [plain[plain["simulate.alpha_noise"] == 0.005], reference.sweep("exact_fc/finetuned_alpha_noise")]
    means = [percent(rows["snn/test_acc"].mean()) for rows in trials]
    spreads = [f"{100 * rows['snn/test_acc'].std():.2f} points" for rows in trials]
    return sentence(
        f"With this noise the accuracy also differs from draw to draw: {len(trials[1])} draws for the network "
        f"of seed 0 give {means[0]} on average (standard deviation {spreads[0]}) as mapped, {means[1]} ({spreads[1]}) "
        "fine-tuned."
    )


def three_ways(reference: Reference) -> str:
    """One trained network as spike times and as rates."""
    return reference.table(("exact_fc", "exact_fc_percentile", "exact_fc_data_norm"), SIDE_BY_SIDE)


def direct(reference: Reference) -> str:
    """The directly trained networks."""
    shown = [metric(key) for key in ("snn/spikes_per_image", "snn/synops_per_image")]
    said = Column("published", "published", of=published("snn/test_acc"))
    columns = [ROW, METHOD, said, metric("snn/test_acc"), VALIDATION, EPOCHS, *shown, REDUCED]
    return reference.table(("stbp_resnet19_narrow", "stbp_resnet19"), columns)


def authors_cnn(reference: Reference) -> str:
    """How far the run of the authors' file is from the curve of their own simulation."""
    run = reference.run("diehl_cnn_published_curve")
    ours = run["curve"].set_index("time_ms")["acc"]
    theirs = dict(json.loads(str(run["cfg.paper.curve"])))
    largest = max(abs(ours[time] - accuracy) for time, accuracy in theirs.items())
    of = f", the mean of {run['seeds']} seeds," if run["seeds"] > 1 else ""
    return sentence(
        f"The accuracy of `diehl_cnn_published_curve`, the authors' CNN file with the scales of the test images{of} is within "
        f"{100 * largest:.2f} points of one run of their own simulation, which we ran on it, at each of {len(theirs)} times "
        f"from {min(theirs):g} to {max(theirs):g} ms."
    )
