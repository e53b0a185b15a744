"""Energy of arithmetic at 45 nm (Horowitz 2014, 32-bit floats): an estimate of operations, not of a chip."""

from respike.simulate.record import SpikeRecord

MAC_PJ = 4.6  # multiply-accumulate
AC_PJ = 0.9  # accumulate


def energy_metrics(record: SpikeRecord) -> dict[str, float]:
    """energy/ann_nj and energy/snn_nj per image, beside their constants.

    The ReLU network is charged every multiply-accumulate of its weights. A spike costs one accumulate per synapse it reaches;
    an analog input costs the multiply-accumulates of the first layer at every step.
    """
    synops = sum(int(values.sum()) for values in record.synops.values()) / record.images
    analog = record.analog_macs * record.steps
    return {
        "energy/ann_nj": record.ann_macs * MAC_PJ / 1000,
        "energy/snn_nj": (synops * AC_PJ + analog * MAC_PJ) / 1000,
        "energy/mac_pj": MAC_PJ,
        "energy/ac_pj": AC_PJ,
    }
