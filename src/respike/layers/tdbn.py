"""Threshold-dependent batch norm over time and batch together (Zheng et al. 2021, eqs. 6-8)."""

import torch
from torch import Tensor, distributed, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from respike.errors import InputError
from respike.system.distributed import world_size


class TdBN(nn.Module):
    """y = weight alpha v_th (x - mean) / sqrt(var + eps) + bias, per channel; y is N(0, (alpha v_th)^2) at initialization.

    alpha: 1, or 1/sqrt(2) in front of a sum of two branches. In training, mean and (biased) variance are taken over all
    steps, images and places, of all processes together (`trainer=ddp`); in eval mode they are running averages (of unbiased
    variances). This is no subclass of torch's norms, because Lightning's `sync_batchnorm` would replace it by a layer without
    alpha and v_th. Raises InputError in training for a single number per channel, which has no unbiased variance.
    """

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, v_th: float, alpha: float = 1.0, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.gain, self.eps, self.momentum = alpha * v_th, eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (T, B, C, H, W) or (T, B, C) -> the same shape, in float32 if x has fewer bits."""
        x = x.to(torch.promote_types(x.dtype, self.weight.dtype))
        mean, var = self._batch_statistics(x) if self.training else (self.running_mean, self.running_var)
        scale, shift = self.affine(mean, var)
        places = (-1, *[1] * (x.dim() - 3))
        return x * scale.view(places) + shift.view(places)

    def affine(self, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
        """scale (C,) and shift (C,) of y = scale x + shift with these statistics (C,)."""
        scale = self.gain * self.weight / torch.sqrt(var + self.eps)
        return scale, self.bias - scale * mean

    def _batch_statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        axes = [axis for axis in range(x.dim()) if axis != 2]
        count: Tensor | float = x.numel() / x.shape[2]
        if world_size() > 1:
            count = sum_over_processes(torch.tensor(count, dtype=x.dtype, device=x.device))
        mean = sum_over_processes(x.sum(axes)) / count
        squares = sum_over_processes(((x - mean.view(-1, *[1] * (x.dim() - 3))) ** 2).sum(axes))
        var = squares / count
        self.track(mean.detach(), var.detach(), count)
        return mean, var

    @torch.no_grad()
    def track(self, mean: Tensor, var: Tensor, count: Tensor | float) -> None:
        """Update the running averages by the mean and biased variance (C,) of `count` numbers per channel.

        count: a Tensor in a distributed job, where every process has at least one number. Raises InputError for one number.
        """
        if not isinstance(count, Tensor) and count < 2:
            raise InputError(
                "tdBN: a batch with one number per channel has no variance (one image, one step, maps of 1x1); type a "
                "recipe.batch_size that leaves no single image over, or model.steps=2"
            )
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_((var * count / (count - 1)).to(self.running_var), self.momentum)

    def extra_repr(self) -> str:
        """Channels and alpha * v_th, for print(net)."""
        return f"{len(self.weight)}, alpha * v_th = {self.gain:g}"


def sum_over_processes(x: Tensor) -> Tensor:
    """x summed over all processes, differentiable; x itself in a single process."""
    if world_size() == 1:
        return x
    return _SumOverProcesses.apply(x)


class _SumOverProcesses(torch.autograd.Function):
    """The loss of every process depends on the x of every process, so gradients are summed too."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        distributed.all_reduce(total)
        return total


def fold(layer: nn.Conv2d, norm: TdBN) -> nn.Conv2d:
    """A convolution with a bias that is equal to `layer` followed by `norm` in eval mode."""
    folded = nn.Conv2d(  # torch annotates the attributes of a Conv2d as tuple[int, ...]
        layer.in_channels, layer.out_channels, layer.kernel_size, layer.stride, layer.padding, layer.dilation,  # type: ignore[arg-type]
        layer.groups, bias=True, device=layer.weight.device, dtype=layer.weight.dtype,
    )  # fmt: skip
    folded.weight, folded.bias = fuse_conv_bn_weights(
        layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, norm.gain * norm.weight, norm.bias
    )
    return folded
