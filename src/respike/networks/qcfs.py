"""The quantization-clip-floor-shift activation (QCFS) of Bu et al. 2022, and networks with it in place of ReLUs.

With u = x / theta and L levels (their equation 15 with a shift of 1/2):

    y = theta q(u),    q(u) = floor(L clip(u, 0, 1) + 1/2) / L

The derivative of the floor is taken as 1, as in the authors' code (the derivative by theta in their text is wrong, they say):

    dy/dx = 1 for 0 <= u <= 1, else 0;    dy/dtheta = q - u for 0 <= u <= 1, 1 above, 0 below

A neuron with threshold theta that is reset by subtraction and starts at theta / 2 fires clip(floor(T u + 1/2), 0, T) times in
T steps of the same input x: at T = L its rate times theta is y.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from respike.errors import InputError
from respike.networks.mlp import MaskDropout

ACTIVATIONS = ("relu", "qcfs")
# Settings of the block `model` that decide what stands in place of ReLUs, whichever network it names.
ACTIVATION = {"activation": "relu", "levels": 4, "threshold": 8.0, "threshold_q": None}
SMALLEST = 1e-3  # of a threshold
RELUS = (F.relu, F.relu_, torch.relu, torch.relu_, F.relu6, "relu", "relu_")


def qcfs(x: Tensor, theta: Tensor, levels: int) -> Tensor:
    """theta q(x / theta), of any shape, for a threshold theta () above 0, with the gradients of the authors' code."""
    return _QCFS.apply(x, theta, levels)


class _QCFS(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, theta: Tensor, levels: int) -> Tensor:
        y = (x / theta).mul_(levels).clamp_(0, levels).add_(0.5).floor_().mul_(theta / levels)
        ctx.save_for_backward(x, theta, y)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Any:
        x, theta, y = ctx.saved_tensors
        by_x = gradient * ((x >= 0) & (x <= theta))
        # the sum over all x of q - u inside, of q = 1 above, of q = 0 below
        by_theta = ((gradient * y).sum(dtype=theta.dtype) - (by_x * x).sum(dtype=theta.dtype)) / theta
        return by_x, by_theta, None


class QCFS(nn.Module):
    """`qcfs` with a threshold that is trained. levels: L; theta: the threshold at the start.

    A training step that makes the threshold smaller than `SMALLEST` is followed by one from there.
    Raises InputError for less than one level and for a threshold that is not positive.
    """

    def __init__(self, levels: int = 4, theta: float | Tensor = 8.0):
        super().__init__()
        if levels < 1:
            raise InputError(f"model.levels={levels}: one or more levels are needed, as in model.levels=4")
        theta = torch.as_tensor(theta).detach().clone()
        if not theta > 0:
            raise InputError(f"model.threshold={float(theta)}: a number above 0 is needed, as in model.threshold=8")
        self.levels = levels
        self.theta = nn.Parameter(theta)

    @property
    def threshold(self) -> Tensor:
        """The threshold, (), above 0."""
        return self.theta.detach().clamp(min=SMALLEST)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape."""
        self.theta.data.clamp_(min=SMALLEST)
        return qcfs(x, self.theta, self.levels)

    def extra_repr(self) -> str:
        """The number of levels, for print(net)."""
        return f"levels={self.levels}"


def with_qcfs(net: nn.Module, levels: int = 4, threshold: float = 8.0) -> nn.Module:
    """A network with a `QCFS` of its own in place of every ReLU and ReLU6: `replace_relus`."""
    return replace_relus(net, lambda: QCFS(levels, threshold), "model.activation=qcfs", "respike.networks.qcfs.QCFS()")


def replace_relus(net: nn.Module, make: Callable[[], nn.Module], given: str, instead: str) -> nn.Module:
    """A network with make() in place of every ReLU and ReLU6, module or function, except one at the output.

    Modules that are called once are replaced in `net` itself. Where ReLUs are functions, or one module is called several times,
    the result is a torch.fx.GraphModule of the same modules, with relu1, relu2, ... in the order of the forward. Weights and
    their names stay. given: the setting that asks for it; instead: what to write in a forward. Raises InputError for a forward
    that torch.fx cannot trace or that has no ReLU.
    """
    try:
        graph = _Tracer().trace(net)
    except Exception as error:  # the network's forward runs here
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(
            f"{given}: {type(net).__name__}.forward cannot be traced by torch.fx ({reason}); write nn.ReLU() as {instead} in it"
        ) from error
    modules = dict(net.named_modules())
    relus = [node for node in graph.nodes if _is_relu(node, modules) and not _is_output(node)]
    if not relus:
        raise InputError(f"{given}: {type(net).__name__} has no ReLU in front of its output")
    calls = Counter(node.target for node in relus)
    if all(node.op == "call_module" and calls[node.target] == 1 for node in relus):
        for node in relus:
            net.set_submodule(str(node.target), make())
        return net
    for node in graph.nodes:
        if "training" in node.kwargs:
            raise InputError(
                f"{given}: '{node}' in {type(net).__name__}.forward depends on the mode of the network, which a "
                "traced forward cannot follow; use its module, as nn.Dropout for F.dropout"
            )
    traced = fx.GraphModule(net, graph, type(net).__name__)
    for number, node in enumerate(relus, 1):
        name = f"relu{number}" if f"relu{number}" not in modules else f"{given.rpartition('=')[2]}{number}"
        traced.add_submodule(name, make())
        with graph.inserting_before(node):
            node.replace_all_uses_with(graph.call_module(name, (node.args[0],)))
        graph.erase_node(node)
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced.train(net.training)


class _Tracer(fx.Tracer):
    """Does not trace into layers of torch and their subclasses."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        layers = (QCFS, nn.ReLU, nn.ReLU6, MaskDropout, _BatchNorm, nn.Linear, nn.Conv2d)
        return isinstance(module, layers) or super().is_leaf_module(module, qualified_name)


def _is_relu(node: fx.Node, modules: dict[str, nn.Module]) -> bool:
    if node.op == "call_module":
        return isinstance(modules[str(node.target)], nn.ReLU | nn.ReLU6)
    return node.target in RELUS


def _is_output(node: fx.Node) -> bool:
    return all(user.op == "output" for user in node.users)


def start_thresholds(net: nn.Module, images: Tensor, q: float) -> None:
    """Set the threshold of every `QCFS` to the q-quantile of the positive activations that ReLUs in their place have.

    images: (B, C, H, W); q in (0, 1]. For the fine-tuning of trained weights. A layer without positive activation keeps its
    own.
    """
    found: dict[QCFS, float] = {}

    def rectify(module: QCFS, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        positive = inputs[0][inputs[0] > 0]
        if len(positive):
            found[module] = float(positive.kthvalue(max(1, round(q * len(positive)))).values)
        return inputs[0].relu()

    layers = [module for module in net.modules() if isinstance(module, QCFS)]
    hooks = [layer.register_forward_hook(rectify) for layer in layers]
    modes = {module: module.training for module in net.modules()}
    with torch.no_grad():
        net.eval()(images)
        for layer, threshold in found.items():
            layer.theta.fill_(threshold)
    for hook in hooks:
        hook.remove()
    for module, mode in modes.items():
        module.training = mode
