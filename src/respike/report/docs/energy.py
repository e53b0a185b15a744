"""Whether spiking pays: outputs/reference/energy."""

import textwrap

from respike.report.columns import count, percent
from respike.report.decision import default_model, energy_table, verdict
from respike.report.docs.reference import Reference


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
    full = reference.runs.loc["stbp_resnet19_narrow"]
    accuracy, accumulates = percent(full["snn/test_acc"]), count(full["snn/synops_per_image"])
    said.append(
        "- The ResNet-19 of this table trained on a part of the images. That of `stbp_resnet19_narrow`, of the same width, "
        f"reaches {accuracy} with {accumulates} accumulates per image; its layers were not counted."
    )
    return "\n".join(textwrap.fill(line, 120, subsequent_indent="  ", break_on_hyphens=False) for line in said)
