"""Energy of arithmetic at 45 nm (Horowitz 2014, 32-bit floats): an estimate of operations, not of a chip."""

from respike.simulate.record import SpikeRecord
from respike.simulate.ttfs.record import TTFSRecord

MAC_PJ = 4.6  # multiply-accumulate
AC_PJ = 0.9  # accumulate


def energy_metrics(record: SpikeRecord) -> dict[str, float]:
    """energy/ann_nj and energy/snn_nj per image, beside their constants.

    The ReLU network is charged every multiply-accumulate of its weights. A spike costs one accumulate per synapse it reaches;
    an analog input costs the multiply-accumulates of the first layer at every step.
    """
    synops = sum(int(values.sum()) for values in record.synops.values()) / record.images
    return _energy(record.ann_macs, synops, record.analog_macs * record.steps)


def ttfs_energy(record: TTFSRecord) -> dict[str, float]:
    """The same of a time-to-first-spike network: one accumulate per synapse that a spike before t_max reaches."""
    return _energy(record.ann_macs, sum(record.synops.values()) / record.images, 0)


def _energy(ann_macs: float, synops: float, analog_macs: float) -> dict[str, float]:
    return {
        "energy/ann_nj": ann_macs * MAC_PJ / 1000,
        "energy/snn_nj": (synops * AC_PJ + analog_macs * MAC_PJ) / 1000,
        "energy/mac_pj": MAC_PJ,
        "energy/ac_pj": AC_PJ,
    }
