"""respike: spiking-network papers reproduced by configuration.

    data -> networks -> training -> convert -> simulate -> metrics -> report

A ReLU network is trained, converted to a spiking network and simulated, or a spiking network is trained directly; the
result is compared with the published number. `python -m respike.train` runs one experiment, `python -m respike.reproduce`
all experiments of a preset. In Python:

    from respike.convert import percentile_norm
    from respike.neurons.encode import Current
    from respike.neurons.integrate_fire import SOFT
    from respike.simulate import simulate

    deep = {"q": 0.995, "zeros": False, "scale": "channel", "readout": "current", "spiking_pools": False}
    snn = percentile_norm(net, calibration_images, **deep)
    record = simulate(snn, images, encode=Current(), neuron=SOFT)
"""

from respike.system import torchvision_guard  # noqa: F401  must come before pytorch_lightning and torchvision

# isort: split
import warnings

from respike.runs import job_folder  # noqa: F401  registers a resolver for conf
from respike.system import precision  # noqa: F401  registers a resolver for conf

# conf/hydra completes the launchers' own configs of the same names; Hydra 1.3 warns that this is deprecated
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper)/")
