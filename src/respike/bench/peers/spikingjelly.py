"""SpikingJelly 2: `IFNode` fires at the threshold (its step function is 1 at 0) and resets to v_reset=0."""

from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from respike.bench.chain import Draw, Simulator, drives
from respike.convert.rate.rate_snn import RateSNN
from respike.errors import InputError


def _network(snn: RateSNN) -> nn.Sequential:
    """SpikingJelly's own layers, which take both step modes, with an `IFNode` behind each."""
    modules: list[nn.Module] = []
    for drive in drives(snn):
        modules += [*(_layer(module) for module in drive), neuron.IFNode(v_threshold=1.0, v_reset=0.0)]
    return nn.Sequential(*modules).eval()


def _layer(module: nn.Module) -> nn.Module:
    bias = getattr(module, "bias", None) is not None
    if isinstance(module, nn.Flatten):
        return layer.Flatten()
    if isinstance(module, nn.AvgPool2d):
        return layer.AvgPool2d(module.kernel_size, module.stride, module.padding)
    if isinstance(module, nn.Linear):
        made = layer.Linear(module.in_features, module.out_features, bias)
    elif isinstance(module, nn.Conv2d):
        made = layer.Conv2d(
            module.in_channels, module.out_channels, module.kernel_size, module.stride, module.padding,
            module.dilation, module.groups, bias,
        )  # fmt: skip
    else:
        raise InputError(f"{type(module).__name__}: no layer of SpikingJelly is named for it here")
    made.load_state_dict(module.state_dict())
    return made


def single_step(snn: RateSNN, steps: int) -> Simulator:
    """step_mode "s": the whole network once per step, x (B, ...)."""
    net = _network(snn)
    functional.set_step_mode(net, "s")

    def run(images, draw: Draw):
        functional.reset_net(net)
        counts = 0.0
        for _ in range(steps):
            counts += net(draw(images))
        return counts

    return run


def multi_step(snn: RateSNN, steps: int) -> Simulator:
    """step_mode "m": layer by layer, x (T, B, ...)."""
    net = _network(snn)
    functional.set_step_mode(net, "m")

    def run(images, draw: Draw):
        functional.reset_net(net)
        return net(draw(images.expand(steps, *images.shape))).sum(0)

    return run
