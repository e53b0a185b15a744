"""Whether spiking pays: outputs/reference/energy."""

from respike.report.decision import default_model, energy_table, energy_verdict
from respike.report.docs.reference import Reference, bullets


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
