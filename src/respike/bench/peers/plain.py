"""The loop over steps that a user of plain PyTorch writes."""

from respike.bench.chain import Draw, Simulator, drives
from respike.convert.rate.rate_snn import RateSNN


def loop(snn: RateSNN, steps: int) -> Simulator:
    """One step after the other, all layers in each."""
    layers = drives(snn)

    def run(images, draw: Draw):
        v = [0.0] * len(layers)
        counts = 0.0
        for _ in range(steps):
            x = draw(images)
            for i, layer in enumerate(layers):
                v[i] += layer(x)
                x = (v[i] >= 1).float()
                v[i] *= 1 - x
            counts += x
        return counts

    return run
