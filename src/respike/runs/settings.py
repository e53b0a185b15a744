"""Every setting of a run, with its kind, its range, its unit and a valid example.

One class is one block of the config; `SETTINGS` says which. Where a group has several options, its class has the keys of all of
them. The default of a field is the example that an error message gives; the defaults of a run are in conf/.
`respike.runs.check` checks a composed config against this table.
"""

# mypy: disable-error-code="valid-type,assignment"
# valid-type: choices are listed where they are implemented; assignment: examples are written as they are typed

from typing import Annotated, Any, Literal

from respike.convert.rate.mmse import ROUNDINGS
from respike.convert.rate.normalize import CONVENTIONS, SCALES
from respike.convert.rate.wiring import MAX_POOLS, READOUTS
from respike.data.glyphs import FAMILIES
from respike.layers.norm_neuron import BACKENDS as NORM_BACKENDS
from respike.networks.qcfs import ACTIVATIONS
from respike.networks.resnet_cifar import SHORTCUTS
from respike.networks.spike_times import NEURONS
from respike.networks.torchvision_vgg16 import PIXELS
from respike.neurons.integrate_fire import RESETS
from respike.neurons.surrogate import CENTRES
from respike.nir.read import FIRES
from respike.runs.kinds import (
    Block,
    Count,
    Length,
    NotNegative,
    Positive,
    Range,
    Seed,
    Share,
    ShareBelow1,
    Text,
    Whole,
)
from respike.simulate.rate.settings import BACKENDS
from respike.simulate.ttfs.settings import CROSSINGS, EVALUATORS, PRECISIONS
from respike.training.early_stopping import KEEP

Path = Annotated[str, Text()]
Name = Annotated[str, Text(inside=True)]
Threads = Annotated[int, Range(low=1, high=1024)]
Dropout = ShareBelow1 | Annotated[list[ShareBelow1], Length(3, 3)]
OutputReLU = Literal["masked", "unmasked", "none"]
Shape = Annotated[list[Count], Length(3, 3)]
Pair = Annotated[list[float], Length(2, 2, rising=True)]
Limit = Annotated[float, Range(above=0, high=1)] | Count  # a share of the batches, or so many


HEADLINES = ("ann/test_acc", "snn/test_acc", "snn/agreement")  # a verdict needs a fraction of which more is better


class Run:
    """conf/config.yaml."""

    name: Name = "mine"  # of the run: its folder, below paths.outputs
    sweep_name: Name = "grid"  # of a multirun: its folder
    seed: Seed = 0
    threads: Literal["auto"] | Threads = "auto"
    train: bool = True
    start: Name | None = "exact_fc"  # an experiment
    ckpt_path: Path | None = "weights.pt"
    random_weights: bool = False
    keep_networks: bool = True
    budget_min: Positive | None = 10  # minutes


class Protocol:
    """The key protocol of conf/config.yaml and of an experiment."""

    method: Literal["rate", "ttfs", "direct"] | None = "rate"
    recipes: list[str] = "[]"
    convention: Literal[*CONVENTIONS] = "lambda"
    q: Annotated[float, Range(above=0, high=1)] = 0.995
    zeros: bool = False
    scale: Literal[*SCALES] = "channel"
    readout: Literal[*READOUTS] = "current"
    spiking_pools: bool = False
    output_layer: bool = True
    strong: bool = True
    fold_dropout: bool = True
    max_rate: Positive = 1000  # Hz
    input_range: Pair = "[0,1]"


class Paper:
    """The key paper of an experiment."""

    title: str = "'FC 784-10'"
    source: str = "'Diehl et al. 2015'"
    headline: Literal[*HEADLINES] | None = "snn/test_acc"  # the verdict is on this metric
    published: dict[str, Share | None] | None = "{snn/test_acc:0.986}"
    tolerance: Share | None = 0.0  # 0: the number is claimed to be exact
    standard_error: Share | None = 0.001  # of a published mean
    curve: list[Annotated[list[float], Length(2, 2)]] | None = "[[10,0.95],[20,0.98]]"  # ms and accuracy
    curve_source: str | None = "'Diehl et al. 2015'"
    epochs: list[float] | None = "[0.95,0.98]"  # accuracy after each
    rates: list[float] | None = "[0.1,0.3]"  # of each layer


class Recipe:
    """conf/recipe."""

    name: str = "mine"
    networks: list[str] = "[]"
    reduced: str | None = "'3 epochs instead of 250'"
    epochs: Whole = 12
    batch_size: Count = 64  # images
    val_size: Whole = 6000  # training images held out for validation
    patience: Count | None = 7  # epochs without a lower validation loss
    keep: Literal[*KEEP] = "last"
    transform: Block | None = "null"
    dropout: Dropout = 0.5  # share dropped, or the three shares of a VGG
    momentum: Share = 0.1  # of the batch norms
    output_relu: OutputReLU = "none"
    activity_penalty: NotNegative = 0.0
    loss: Block = "{_target_:torch.nn.functional.cross_entropy,_partial_:true}"
    optimizer: Block = "{_target_:torch.optim.Adam,_partial_:true,lr:0.003}"
    scheduler: Block | None = "null"
    init: Block | None = "null"


class Optimizer:
    """The optimizer of a recipe: of torch.optim, or of respike.training.optimizers."""

    lr: NotNegative = 0.003
    momentum: ShareBelow1 = 0.9
    betas: Annotated[list[ShareBelow1], Length(2, 2)] = "[0.9,0.999]"
    eps: Positive = 1e-8
    weight_decay: NotNegative = 0.0005
    dampening: NotNegative = 0
    l2: NotNegative = 0.0005
    nesterov: bool = True


class Scheduler:
    """conf/recipe/scheduler."""

    factor: Annotated[float, Range(above=0, high=1)] = 0.1
    every: Count = 10  # epochs, or steps of `exponential`
    epochs: Whole = 10
    max_lr: NotNegative = 0.003


class Transform:
    """The transform of a recipe, respike.data.augment."""

    padding: Whole = 4  # pixels
    shift: Share = 0.1  # of the side
    degrees: Annotated[float, Range(low=0, high=180)] = 15
    flip: bool = True
    hole: Whole = 16  # pixels of a side
    fill: Annotated[list[float], Length(1)] | None = "[0.4914,0.4822,0.4465]"  # by channel


class Init:
    """The start weights of a recipe, respike.networks.init."""

    bound: Positive = 0.01


class Model:
    """conf/model."""

    sizes: Annotated[list[Count], Length(2)] = "[784,600,10]"
    channels: Annotated[list[Count], Length(1)] = "[12,64]"
    input_shape: Shape = "[1,28,28]"
    classes: Count = 10
    bias: bool = False
    dropout: Dropout = 0.5
    output_relu: OutputReLU = "none"
    kernel: Count = 5  # pixels
    pool: Count = 2  # pixels
    pool_stride: Count | None = 1  # pixels
    momentum: Share = 0.1
    mean: float | list[float] | None = 0.5  # of the pixels in [0, 1]; a list for a ResNet, as in [0.5]
    std: Positive | list[Positive] | None = 0.5
    width: Positive = 0.25
    width_mult: Positive = 0.25
    path: Path | None = "weights.h5"
    dt: Positive | None = 0.0001  # of a NIR file, in its units
    name: Annotated[str, Text()] = "resnet18"  # of a constructor of torchvision.models
    num_classes: Count | None = 1000
    depth: Count = 20
    shortcut: Literal[*SHORTCUTS] = "zeros"
    activation: Literal[*ACTIVATIONS] = "relu"
    levels: Count = 4  # of qcfs
    threshold: Positive = 8  # of qcfs, at the start of the training
    threshold_q: Annotated[float, Range(above=0, high=1)] | None = 0.99  # quantile of activations that gives it instead
    preprocessing: Literal[*PIXELS] = "torchvision"
    side: Count = 224  # pixels
    net: Block = "{_target_:respike.networks.exact_fc.ExactFC}"
    steps: Annotated[int, Range(low=1, high=10_000)] = 2
    stem: Count = 64
    blocks: Annotated[list[Count], Length(1)] = "[3,3,2]"
    hidden: Count = 256
    neuron: Block | None = "null"
    alpha: Positive = 1
    residual_alpha: Positive = 0.7
    backend: Literal[*NORM_BACKENDS] = "auto"


class Lit:
    """conf/lit."""

    loss: Block = Recipe.loss
    optimizer: Block = Recipe.optimizer
    scheduler: Block | None = "null"
    init: Block | None = "null"
    seed: Seed = 0
    activity_penalty: NotNegative = 0.0
    kind: Literal["ann", "snn"] = "ann"
    input_range: Pair = "[0,1]"
    largest: Positive | None = 1000
    quantile: Annotated[float, Range(above=0, high=1)] | None = 0.99
    zeta: Annotated[float, Range(above=-1)] = 0.5
    gamma: NotNegative = 10
    time_noise: NotNegative = 0.01
    levels: Annotated[int, Range(low=2, high=2**31 - 1)] | None = 8
    alpha_noise: NotNegative = 0.005
    neurons: Literal[*NEURONS] = "b1"
    spike_penalty: NotNegative = 1e-5
    weight_bits: Annotated[int, Range(low=2, high=24)] | None = 6
    weight_range: tuple[Annotated[float, Range(below=0)], Annotated[float, Range(above=0)]] | None = "[-1,1]"


class Neuron:
    """conf/neuron."""

    threshold: Annotated[float, Range(above=0, high=1e30)] = 1.0
    reset: Literal[*RESETS] = "zero"
    start: Annotated[float, Range(below=1)] = 0.5  # a share of the threshold
    t_ref: NotNegative = 0.002  # s
    fire_above: bool = False
    path: Path | None = "net.nir"
    fires: Literal[*FIRES] = "above"
    v_th: Positive = 0.4
    tau: Share = 0.25  # of the potential, kept at each step
    detach_reset: bool = False
    surrogate: Block = "{_target_:respike.neurons.surrogate.Rectangle}"


class Surrogate:
    """conf/neuron/surrogate."""

    a: Positive = 0.5
    steepness: Positive = 4
    centre: Literal[*CENTRES] = "threshold"


class Convert:
    """conf/convert."""

    convention: Literal[*CONVENTIONS] = "lambda"
    scale: Literal[*SCALES] = "channel"
    output_layer: bool = True
    strong: bool = True
    fold_dropout: bool = True
    spiking_pools: bool = False
    max_pool: Literal[*MAX_POOLS] = "count"
    readout: Literal[*READOUTS] = "current"
    q: Annotated[float, Range(above=0, high=1)] = 0.995
    zeros: bool = False
    batches: Count = 100
    batch_size: Count = 10  # images
    steps: Count = 8
    rounding: Literal[*ROUNDINGS] = "half"
    norm: Block = "{_target_:respike.convert.rate.normalize.percentile_norm,_partial_:true}"
    simulate: Block = "{_target_:respike.simulate.rate.layerwise.simulate,_partial_:true}"
    iterations: Count = 200
    lr: Positive = 0.001  # a share of the root mean square of a layer's weights
    seed: Seed = 0
    zeta: Annotated[float, Range(above=-1)] | Literal["auto"] = 0.5
    input_range: Pair = "[0,1]"
    weight_bounds: tuple[Annotated[float, Range(below=0)], Annotated[float, Range(above=0, below=1)]] = "[-10,0.99]"


class Encode:
    """conf/encode."""

    max_rate: Positive = 1000  # Hz
    spike_threshold: Positive = 2.5
    gain: Positive = 1


class Simulate:
    """conf/simulate."""

    encode: Block = "{_target_:respike.neurons.encode.Rate}"
    neuron: Block = "{_target_:respike.neurons.integrate_fire.IntegrateFire}"
    dt: Positive = 0.001  # s
    duration: Positive = 0.04  # s
    start_at_zero: bool = False
    drop_first_output: bool = False
    read_from: Whole = 0  # steps
    weight_bits: Annotated[int, Range(low=2, high=24)] | None = 16
    seed: Seed = 0
    backend: Literal[*BACKENDS] = "auto"
    steps: Annotated[int, Range(low=1, high=10_000)] | None = 2
    chunk: Count | None = 100  # images
    evaluator: Literal[*EVALUATORS] = "certified"
    first_crossing: Literal[*CROSSINGS] = "exact"
    precision: Literal[*PRECISIONS] = "float64"
    time_noise: NotNegative = 0.001
    alpha_noise: NotNegative = 0.001
    weight_noise: NotNegative = 0.001
    levels: Annotated[int, Range(low=2, high=2**31 - 1)] | None = 64
    trial: Whole = 0


class ConvertCallback:
    """callbacks.convert."""

    calibrate_on: Literal["train", "test"] = "train"
    calibration_size: Count | None = 1000  # images
    calibration_seed: Seed | None = 0
    stages: Path | None = "outputs/stages"
    keep_networks: bool = True


class Figures:
    """callbacks.figures."""

    image: Whole = 0  # number of a test image
    film: bool = True
    neurons: Count = 4
    potentials_of: Count = 100  # images
    published_rates: list[float] | None = "null"
    published_epochs: list[float] | None = "null"
    published_on: str | None = "null"


class Data:
    """conf/data."""

    dataset: Block = "{_target_:respike.data.datasets.mnist,_partial_:true}"
    root: Path = "/my/images"
    batch_size: Count = 64  # images
    eval_batch_size: Count = 200  # images
    val_size: Whole = 6000  # images
    train_size: Count | None = 1000  # images
    test_size: Count | None = 1000  # images
    train_transform: Block | None = "null"
    seed: Seed = 0
    mean: Annotated[list[float], Length(1)] | None = "[0.485,0.456,0.406]"  # of each channel of the pixels in [0, 1]
    std: Annotated[list[Positive], Length(1)] | None = "[0.229,0.224,0.225]"


class Dataset:
    """data.dataset."""

    rotation: Annotated[float, Range(low=0, high=180)] = 15  # degrees
    scale: Annotated[list[Annotated[float, Range(low=0.3, high=3)]], Length(2, 2, rising=True)] = "[0.8,1.1]"
    shear: Annotated[float, Range(low=0, high=10)] = 0.1
    stroke: Annotated[list[Annotated[float, Range(low=-10, high=10)]], Length(2, 2, rising=True)] = (
        "[0.6,1.2]"  # pixels
    )
    shift: Annotated[float, Range(low=0, high=28)] = 3  # pixels
    train_count: Annotated[int, Range(low=10, high=10_000_000)] = 5000
    test_count: Annotated[int, Range(low=10, high=10_000_000)] = 5000
    fonts: Annotated[list[Literal[*FAMILIES]], Length(1)] = "[sans,mono]"
    test_fonts: Annotated[list[Literal[*FAMILIES]], Length(1)] | None = "[serif]"
    seed: Seed = 0
    size: Annotated[int, Range(low=1, high=10_000)] = 28  # pixels of a side
    resize: Annotated[int, Range(low=1, high=10_000)] = 256  # pixels of the shorter side, before the centre is cropped
    channels: Literal[1, 3] = 3
    name: str | None = "mine"
    train_files: Count | None = 1000
    test_files: Count | None = 1000


class Trainer:
    """conf/trainer: parameters of Lightning's Trainer. Those without an entry here are of the types that Lightning declares."""

    accelerator: Literal["cpu", "gpu", "cuda", "mps", "tpu", "auto"] = "cpu"
    devices: Literal["auto", -1] | Count | Annotated[list[Whole], Length(1)] | Annotated[str, Text()] = 1
    num_nodes: Count = 1
    precision: Literal["32-true", "16-mixed", "bf16-mixed", 32, "32", 16, "16", "bf16"] | None = "32-true"
    strategy: str | Block = "ddp"
    max_epochs: Whole = 10
    min_epochs: Whole | None = 1
    max_steps: Literal[-1] | Count = 1000
    min_steps: Whole | None = 1
    limit_train_batches: Limit | None = 0.1
    limit_val_batches: Limit | Literal[0] | None = 0.1
    limit_test_batches: Limit | None = 0.1
    overfit_batches: Share | Whole = 0.0
    val_check_interval: Limit | None = 1.0
    check_val_every_n_epoch: Count | None = 1
    accumulate_grad_batches: Count = 1
    num_sanity_val_steps: Literal[-1] | Whole | None = 0
    log_every_n_steps: Whole | None = 50
    gradient_clip_val: Positive | None = 1.0
    default_root_dir: Path = "outputs"
    fast_dev_run: Literal[False] = False  # it would measure nothing
    reload_dataloaders_every_n_epochs: Whole = 0


class Energy:
    """conf/energy. What the lists hold is checked by `respike.metrics.energy.EnergyModel`."""

    weight_bits: Annotated[int, Range(low=1, high=32)] = 8
    potential_bits: Annotated[int, Range(low=1, high=32)] = 16
    accumulator_bits: Annotated[int, Range(low=1, high=32)] = 32
    time_levels: Annotated[int, Range(low=2, high=2**31 - 1)] = 256
    multiply: NotNegative = 0.2  # pJ
    fp32_mac: NotNegative = 4.6  # pJ
    fp32_add: NotNegative = 0.9  # pJ
    add: list[list[float]] = "[[8,0.03],[32,0.1]]"  # bits and pJ
    memory: list[list[float | None]] = "[[8,10,10],[null,1300,2600]]"  # KB and pJ of 64 bits, low and high


class Logger:
    """conf/logger."""

    project: Annotated[str, Text()] = "respike"
    name: Annotated[str, Text()] | None = "mine"
    save_dir: Path = "outputs"
    mode: Literal["online", "offline", "disabled", "shared"] = "offline"
    log_model: bool | Literal["all"] = False
    version: str | int | None = "''"
    default_hp_metric: bool = False


class Paths:
    """conf/paths."""

    data: Path = "/my/data"
    outputs: Path = "outputs"
    run: Path = "outputs/mine"
    stages: Path = "outputs/stages"


class Launcher:
    """conf/hydra/launcher."""

    n_jobs: Literal[-1, -2, -3, -4] | Count | None = -1  # at once
    batch_size: Annotated[str, Text()] = 1  # jobs dealt out at a time, or auto; Hydra holds it as a text
    timeout_min: Count = 120  # minutes
    cpus_per_task: Count | None = 2
    mem_gb: Positive | None = 4
    nodes: Count = 1
    tasks_per_node: Count = 1
    array_parallelism: Count = 32  # jobs at once
    stderr_to_stdout: bool = True
    setup: list[str] | None = "[]"


class Sweeper:
    """conf/hydra/sweeper."""

    objectives: dict[str, Any] = "{acc_at_10ms:maximize}"
    n_trials: Count = 30
    at_once: Count = 1
    seed: Seed = 0
    max_batch_size: Count | None = "null"
    grids: list[dict[str, Any]] = "[{convert:percentile,convert.q:'0.99,1'}]"


SETTINGS = {  # block of the config -> its settings; in the order in which they are checked
    "": Run,
    "protocol": Protocol,
    "paper": Paper,
    "paths": Paths,
    "recipe": Recipe,
    "recipe.optimizer": Optimizer,
    "recipe.scheduler": Scheduler,
    "recipe.transform": Transform,
    "recipe.init": Init,
    "trainer": Trainer,
    "data": Data,
    "data.dataset": Dataset,
    "neuron": Neuron,
    "neuron.surrogate": Surrogate,
    "model": Model,
    "model.net": Model,
    "lit": Lit,
    "lit.optimizer": Optimizer,
    "lit.scheduler": Scheduler,
    "lit.init": Init,
    "encode": Encode,
    "convert": Convert,
    "convert.norm": Convert,
    "convert.norm.norm": Convert,
    "simulate": Simulate,
    "callbacks.convert": ConvertCallback,
    "callbacks.figures": Figures,
    "energy": Energy,
    "logger": Logger,
    "hydra.launcher": Launcher,
    "hydra.sweeper": Sweeper,
}
