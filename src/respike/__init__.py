"""respike: spiking-network papers reproduced by configuration.

    data -> networks -> lit (train) -> convert -> simulate -> metrics -> report

A ReLU network is trained, turned into a spiking network, simulated step by step and laid beside the published
number. `respike.train` runs one experiment, `respike.reproduce` all of a preset. In Python:

    from respike.convert import data_norm
    from respike.simulate import simulate

    snn = data_norm(net, calibration_images)
    record = simulate(snn, images)
"""

from respike.system import torchvision_guard  # noqa: F401  before anything imports pytorch_lightning or torchvision

# isort: split
import warnings

from respike.runs import job_folder  # noqa: F401  for conf
from respike.system import precision  # noqa: F401  for conf

# conf/hydra fills in the launchers' own settings of the same names, as is meant; Hydra 1.3 warns of its way to do so
warnings.filterwarnings("ignore", message=r"\s*'hydra/(launcher|sweeper)/")
