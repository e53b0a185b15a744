"""Whether spiking pays: outputs/reference/energy."""

import pandas as pd

from respike.report.columns import count, percent
from respike.report.decision import default_model, energy_table, energy_verdict
from respike.report.docs.reference import Reference, bullets, sentence


def energy(reference: Reference) -> str:
    """The cheapest spiking run of each network beside its int8 ReLU network, by the energy model with memory."""
    return energy_table(reference.decisions, default_model())


def pays(reference: Reference) -> str:
    """A sentence for each of these networks."""
    said = []
    for one in reference.decisions:
        reduced = one.measured[one.best][0]["reduced"]
        note = f" (Reduced: {reduced}.)" if reduced else ""
        said.append(f"{one.title}: {energy_verdict(one, default_model())}{note}")
    return bullets(said)


def resnet20_again(reference: Reference) -> str:
    """What other committed runs of ResNet-20's weights cost: conversions calibrated for few steps, and the exact mapping."""
    rows = reference.sweep("resnet20_cifar10")
    said = []
    for method, steps in (("calibrate_weights", 16), ("calibrate_potential", 32)):
        runs = rows[(rows["norm"] == method) & (rows["snn/steps"] == steps)].mean(numeric_only=True)
        said.append(f"`{method}` with T = {steps}: {percent(runs['snn/test_acc'])}, {_times_int8(runs)}")
    mapped = reference.run("exact_resnet20_cifar10")
    said.append(f"`exact_resnet20_cifar10`: {percent(mapped['snn/test_acc'])}, {_times_int8(mapped)}")
    return sentence(
        "The table prices one run of ResNet-20, which was not tuned. Other committed runs of the same weights, simulated with "
        "16-bit weights (means over draws of calibration images) or, in spike time, in floating point, cost this many times "
        f"the energy of the int8 ReLU network: {'; '.join(said)}."
    )


def _times_int8(run: pd.Series) -> str:
    low, high = sorted(float(run[f"energy/ratio_{end}"]) for end in ("low", "high"))
    return f"{count(low)} to {count(high)}"
