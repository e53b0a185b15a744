"""Energy of the arithmetic operations at 45 nm (Horowitz 2014, 32-bit floats). Memory access is not included."""

from respike.simulate.record import SpikeRecord
from respike.simulate.ttfs.record import TTFSRecord

MAC_PJ = 4.6  # multiply-accumulate
AC_PJ = 0.9  # accumulate


def energy_metrics(record: SpikeRecord) -> dict[str, float]:
    """energy/ann_nj and energy/snn_nj per image, and the constants energy/mac_pj and energy/ac_pj.

    The ReLU network needs one multiply-accumulate per use of a weight. A spike needs one accumulate per synapse that it
    reaches; values that are no spikes, an analog input and carried currents, need the multiply-accumulates of the layer that
    reads them at every step.
    """
    synops = sum(int(values.sum()) for values in record.synops.values()) / record.images
    return _energy(record.ann_macs, synops, record.analog_macs * record.steps)


def ttfs_energy(record: TTFSRecord) -> dict[str, float]:
    """`energy_metrics` of a time-to-first-spike network: one accumulate per synapse that a spike before t_max reaches."""
    return _energy(record.ann_macs, sum(record.synops.values()) / record.images, 0)


def _energy(ann_macs: float, synops: float, analog_macs: float) -> dict[str, float]:
    return {
        "energy/ann_nj": ann_macs * MAC_PJ / 1000,
        "energy/snn_nj": (synops * AC_PJ + analog_macs * MAC_PJ) / 1000,
        "energy/mac_pj": MAC_PJ,
        "energy/ac_pj": AC_PJ,
    }
