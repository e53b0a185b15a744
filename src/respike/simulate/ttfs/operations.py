"""Shapes, connections and multiply-accumulates of a TTFSNet, found by passing one image of zeros through it."""

import torch
from torch import Tensor, nn

from respike.convert.exact.ttfs_net import TTFSNet
from respike.errors import InputError


def network_shapes(snn: TTFSNet, input_shape: torch.Size) -> dict[str, tuple[torch.Size, torch.Size]]:
    """Per layer the shapes, without the batch, of what its synapses read and of its neurons, for images (C, H, W).

    Raises InputError where such images do not fit.
    """
    weight = snn.output.synapses.weight
    values, shapes = torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device), {}
    with torch.inference_mode():
        for name, layer in snn.layers.items():
            try:
                inputs = layer.path(values)
                values = layer.synapses(inputs)
            except RuntimeError as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"images of shape {tuple(input_shape)} do not fit the network at layer '{name}' ({reason})"
                ) from error
            shapes[name] = inputs.shape[1:], values.shape[1:]
    return shapes


def fan_out(synapses: nn.Linear | nn.Conv2d, inputs: torch.Size, neurons: torch.Size) -> Tensor:
    """How many neurons each input (of the inputs' shape) reaches, float64."""
    weight = synapses.weight
    if isinstance(synapses, nn.Linear):
        return torch.full(inputs, neurons[0], dtype=torch.float64, device=weight.device)
    with torch.inference_mode(False), torch.enable_grad():
        ones = torch.ones(1, *inputs, dtype=torch.float64, device=weight.device, requires_grad=True)
        kept = synapses.stride, synapses.padding, synapses.dilation, synapses.groups
        unit = torch.ones(weight.shape, dtype=torch.float64, device=weight.device)
        (reached,) = torch.autograd.grad(nn.functional.conv2d(ones, unit, None, *kept).sum(), ones)
    return reached[0]
