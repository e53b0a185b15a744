"""How much a spiking network spikes. Input spikes are reported as a layer of their own and left out of the totals."""

from torch import Tensor

from respike.simulate.record import SpikeRecord


def spikes_per_image(record: SpikeRecord) -> Tensor:
    """Spikes of all layers but the input up to each step, averaged over images, float64 (T,)."""
    total = sum(spikes for name, spikes in record.spikes.items() if name != "input")
    return total.cumsum(0).double() / record.images


def firing_rates(record: SpikeRecord) -> dict[str, float]:
    """Mean rate of a neuron of each layer over the simulated time, in Hz; the input is a layer where it spikes."""
    seconds = record.dt * record.steps
    return {
        name: int(values.sum()) / (record.images * record.neurons[name] * seconds)
        for name, values in record.spikes.items()
    }


def activity_metrics(record: SpikeRecord) -> dict[str, float]:
    """snn/spikes_per_image, snn/spikes_per_neuron, snn/synops_per_image, snn/rate/<layer> in Hz."""
    spikes = float(spikes_per_image(record)[-1])
    neurons = sum(count for name, count in record.neurons.items() if name != "input")
    synops = sum(int(values.sum()) for values in record.synops.values())
    return {
        "snn/spikes_per_image": spikes,
        "snn/spikes_per_neuron": spikes / neurons,
        "snn/synops_per_image": synops / record.images,
        **{f"snn/rate/{name}": rate for name, rate in firing_rates(record).items()},
    }
