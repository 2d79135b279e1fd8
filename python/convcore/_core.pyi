# The compiled module, written by hand: C++ sees only `object` where the arrays are.
# tests/test_stubs.py holds names and arguments against the module itself.

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convcore.functional._arguments import FloatArray

IntArray = npt.NDArray[np.integer[Any]]

class DeviceArray:
    __iter__: None
    __array_ufunc__: None
    def __init__(self) -> None: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def device(self) -> str: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    def numpy(self) -> np.ndarray[Any, Any]: ...
    def to_device(self, device: str, /) -> Any: ...
    def copy(self) -> DeviceArray: ...
    def reshape(self, *shape: int | Sequence[int]) -> DeviceArray: ...
    def item(self) -> float: ...
    def __float__(self) -> float: ...
    def __int__(self) -> int: ...
    def __bool__(self) -> bool: ...
    def __len__(self) -> int: ...
    def __getitem__(self, index: object, /) -> DeviceArray: ...
    def __setitem__(self, index: object, value: object, /) -> None: ...
    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> object: ...
    def __dlpack_device__(self) -> tuple[int, int]: ...
    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

class Plan:
    def __init__(
        self,
        training: list[dict[str, Any]],
        inference: list[dict[str, Any]],
        parameters: list[tuple[list[int], bool, int, int, bool]],
        input: Sequence[int],
        clip_grad_norm: float,
        without_rules: Sequence[str],
        device: str,
        precision: int,
        /,
    ) -> None: ...
    def describe(self, images: int, training: bool, /) -> str: ...
    def forward(
        self, x: object, gather: tuple[Any, ...], batch: int, parameters: list[tuple[Any, ...]], /
    ) -> FloatArray: ...
    def kernel_nodes(self, images: int, training: bool, /) -> int: ...
    def memory_bytes(self) -> int: ...
    def prepare(self, images: int, training: bool, /) -> None: ...
    def profile(self, images: int, training: bool, /) -> None: ...
    @staticmethod
    def rules() -> list[str]: ...
    def train(
        self,
        x: object,
        gather: tuple[Any, ...],
        targets: object,
        order: object,
        batch: int,
        ignore_index: int,
        mean: bool,
        dropout_keys: Sequence[tuple[int, int]],
        groups: list[dict[str, Any]],
        parameters: list[tuple[Any, ...]],
        /,
    ) -> list[tuple[float, float, int]]: ...

def adagrad_step(
    param: FloatArray,
    grad: FloatArray,
    sum: FloatArray,
    lr: float,
    lr_decay: float,
    eps: float,
    weight_decay: float,
    step: int,
    l1: float,
    /,
) -> None: ...
def adam_step(
    param: FloatArray,
    grad: FloatArray,
    exp_avg: FloatArray,
    exp_avg_sq: FloatArray,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    weight_decay: float,
    decoupled: bool,
    step: int,
    l1: float,
    /,
) -> None: ...
def adaptive_avg_pool2d_backward(
    dy: FloatArray, x_shape: Sequence[int], output_size: Sequence[int | None], /
) -> FloatArray: ...
def adaptive_avg_pool2d_forward(
    x: FloatArray, output_size: Sequence[int | None], /
) -> FloatArray: ...
def adaptive_max_pool2d_backward(
    dy: FloatArray,
    x_shape: Sequence[int],
    x: FloatArray | None,
    indices: IntArray | None,
    output_size: Sequence[int | None],
    /,
) -> FloatArray: ...
def adaptive_max_pool2d_forward(
    x: FloatArray, output_size: Sequence[int | None], need_indices: bool, /
) -> tuple[FloatArray, npt.NDArray[np.int32] | None]: ...
def add_backward(dy: FloatArray, a: FloatArray, b: FloatArray, /) -> FloatArray: ...
def add_forward(a: FloatArray, b: FloatArray, /) -> FloatArray: ...
def avg_pool2d_backward(
    op: str,
    dy: FloatArray,
    x_shape: Sequence[int],
    windows: Sequence[Sequence[int]],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    /,
) -> FloatArray: ...
def avg_pool2d_forward(
    op: str,
    x: FloatArray,
    windows: Sequence[Sequence[int]],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
    /,
) -> FloatArray: ...
def batch_norm_backward(
    dy: FloatArray,
    x: FloatArray,
    running_mean: FloatArray | None,
    running_var: FloatArray | None,
    weight: FloatArray | None,
    training: bool,
    momentum: float,
    eps: float,
    saved_mean: FloatArray | None,
    saved_rstd: FloatArray | None,
    need_dx: bool,
    need_dweight: bool,
    need_dbias: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]: ...
def batch_norm_forward(
    x: FloatArray,
    running_mean: FloatArray | None,
    running_var: FloatArray | None,
    weight: FloatArray | None,
    bias: FloatArray | None,
    training: bool,
    momentum: float,
    eps: float,
    /,
) -> tuple[FloatArray, FloatArray, FloatArray]: ...
def build_info() -> dict[str, Any]: ...
def channels_last(x: FloatArray, /) -> FloatArray: ...
def conv1d_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    need_dx: bool,
    need_dw: bool,
    need_db: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]: ...
def conv1d_forward(
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    /,
) -> FloatArray: ...
def conv2d_algorithm(
    pass_: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    /,
) -> str: ...
def conv2d_algorithms(
    pass_: str,
    x_shape: Sequence[int],
    w_shape: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    /,
) -> list[str]: ...
def conv2d_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    algo: str,
    need_dx: bool,
    need_dw: bool,
    need_db: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]: ...
def conv2d_forward(
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    algo: str,
    /,
) -> FloatArray: ...
def conv_pool_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None,
    padding: Sequence[int],
    need_dx: bool,
    /,
) -> tuple[FloatArray | None, FloatArray, FloatArray]: ...
def conv_pool_forward(
    x: FloatArray, w: FloatArray, b: FloatArray | None, padding: Sequence[int], /
) -> FloatArray: ...
def cross_entropy_backward(
    dy: object,
    x: FloatArray,
    target: object,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    saved: FloatArray | None,
    /,
) -> FloatArray: ...
def cross_entropy_forward(
    x: FloatArray,
    target: object,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
    need_gradient: bool,
    /,
) -> tuple[FloatArray, FloatArray | None]: ...
def cuda_architectures() -> list[str]: ...
def cuda_device_info() -> dict[str, Any]: ...
def cuda_empty_cache() -> None: ...
def cuda_memory_stats() -> dict[str, int]: ...
def cuda_reason() -> str: ...
def cuda_synchronize() -> None: ...
def device_zeros(shape: Sequence[int], /) -> DeviceArray: ...
def dropout2d_backward(
    dy: FloatArray, x: FloatArray, p: float, seed: int, stream: int, /
) -> FloatArray: ...
def dropout2d_forward(x: FloatArray, p: float, seed: int, stream: int, /) -> FloatArray: ...
def dropout_backward(
    dy: FloatArray, x: FloatArray, p: float, seed: int, stream: int, /
) -> FloatArray: ...
def dropout_forward(x: FloatArray, p: float, seed: int, stream: int, /) -> FloatArray: ...
def dropout_identity(op: str, x: FloatArray, p: float, /) -> FloatArray: ...
def elu_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def elu_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def from_dlpack(array: object, /) -> Any: ...
def gather_images(
    x: npt.NDArray[np.uint8] | FloatArray,
    indices: IntArray,
    pad: int,
    flip: bool,
    seed: int,
    stream: int,
    scale: FloatArray | None,
    shift: FloatArray | None,
    channels_last: bool,
    /,
) -> FloatArray: ...
def gelu_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def gelu_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def gelu_tanh_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def gelu_tanh_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def group_norm_backward(
    dy: FloatArray,
    x: FloatArray,
    num_groups: int,
    weight: FloatArray | None,
    eps: float,
    saved_mean: FloatArray | None,
    saved_rstd: FloatArray | None,
    need_dx: bool,
    need_dweight: bool,
    need_dbias: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]: ...
def group_norm_forward(
    x: FloatArray,
    num_groups: int,
    weight: FloatArray | None,
    bias: FloatArray | None,
    eps: float,
    /,
) -> tuple[FloatArray, FloatArray, FloatArray]: ...
def isa() -> str: ...
def layer_norm_backward(
    dy: FloatArray,
    x: FloatArray,
    normalized_shape: Sequence[int],
    weight: FloatArray | None,
    eps: float,
    saved_mean: FloatArray | None,
    saved_rstd: FloatArray | None,
    need_dx: bool,
    need_dweight: bool,
    need_dbias: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]: ...
def layer_norm_forward(
    x: FloatArray,
    normalized_shape: Sequence[int],
    weight: FloatArray | None,
    bias: FloatArray | None,
    eps: float,
    /,
) -> tuple[FloatArray, FloatArray, FloatArray]: ...
def leaky_relu_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def leaky_relu_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def limit_norms(param: FloatArray, max_norm: float, /) -> None: ...
def linear_backward(
    dy: FloatArray,
    x: FloatArray,
    w: FloatArray,
    need_dx: bool,
    need_dw: bool,
    need_db: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]: ...
def linear_forward(x: FloatArray, w: FloatArray, b: FloatArray | None, /) -> FloatArray: ...
def log_softmax_backward(
    dy: FloatArray, x: FloatArray | None, dim: int, saved: FloatArray | None, /
) -> FloatArray: ...
def log_softmax_forward(x: FloatArray, dim: int, /) -> FloatArray: ...
def lp_pool2d_backward(
    dy: FloatArray,
    x: FloatArray,
    norm_type: float,
    windows: Sequence[Sequence[int]],
    ceil_mode: bool,
    /,
) -> FloatArray: ...
def lp_pool2d_forward(
    x: FloatArray, norm_type: float, windows: Sequence[Sequence[int]], ceil_mode: bool, /
) -> FloatArray: ...
def max_pool2d_backward(
    op: str,
    dy: FloatArray,
    x_shape: Sequence[int],
    x: FloatArray | None,
    indices: IntArray | None,
    windows: Sequence[Sequence[int]],
    ceil_mode: bool,
    /,
) -> FloatArray: ...
def max_pool2d_forward(
    op: str, x: FloatArray, windows: Sequence[Sequence[int]], ceil_mode: bool, need_indices: bool, /
) -> tuple[FloatArray, npt.NDArray[np.int32] | None]: ...
def memory_stats() -> dict[str, int]: ...
def mixup_pairs(
    indices: IntArray, count: int, alpha: float, seed: int, stream: int, use: int, /
) -> tuple[npt.NDArray[np.int64], FloatArray]: ...
def mse_loss_backward(
    dy: object,
    x: FloatArray,
    target: FloatArray,
    reduction: str,
    need_dx: bool,
    need_dtarget: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None]: ...
def mse_loss_forward(x: FloatArray, target: FloatArray, reduction: str, /) -> FloatArray: ...
def multi_margin_loss_backward(
    dy: object,
    x: FloatArray,
    target: object,
    p: int,
    margin: float,
    weight: FloatArray | None,
    reduction: str,
    saved: FloatArray | None,
    /,
) -> FloatArray: ...
def multi_margin_loss_forward(
    x: FloatArray,
    target: object,
    p: int,
    margin: float,
    weight: FloatArray | None,
    reduction: str,
    need_gradient: bool,
    /,
) -> tuple[FloatArray, FloatArray | None]: ...
def num_threads() -> int: ...
def pad_backward(
    dy: FloatArray, x_shape: Sequence[int], pad: Sequence[int], mode: str, /
) -> FloatArray: ...
def pad_channels_backward(
    dy: FloatArray, x_shape: Sequence[int], padding: Sequence[int], stride: Sequence[int], /
) -> FloatArray: ...
def pad_channels_forward(
    x: FloatArray, padding: Sequence[int], stride: Sequence[int], /
) -> FloatArray: ...
def pad_forward(x: FloatArray, pad: Sequence[int], mode: str, value: float, /) -> FloatArray: ...
def peak(name: str, seconds: float, /) -> float: ...
def philox(seed: int, stream: int, block: int, /) -> list[int]: ...
def random_permutation(seed: int, stream: int, n: int, /) -> npt.NDArray[np.int64]: ...
def random_uniform(
    seed: int, stream: int, shape: Sequence[int], low: float, high: float, /
) -> FloatArray: ...
def reachable_isas() -> str: ...
def release_cache() -> None: ...
def relu_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def relu_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def rmsprop_step(
    param: FloatArray,
    grad: FloatArray,
    square_avg: FloatArray,
    grad_avg: FloatArray | None,
    momentum_buffer: FloatArray | None,
    lr: float,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    l1: float,
    /,
) -> None: ...
def same_padding(in_: int, kernel: int, stride: int, dilation: int, /) -> list[int]: ...
def scaled_tanh_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def scaled_tanh_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def set_conv2d_choices(
    choices: Sequence[
        tuple[
            str,
            Sequence[int],
            Sequence[int],
            Sequence[int],
            Sequence[int],
            Sequence[int],
            int,
            str,
        ]
    ],
    /,
) -> None: ...
def set_num_threads(count: int, /) -> None: ...
def sgd_step(
    param: FloatArray,
    grad: FloatArray,
    momentum_buffer: FloatArray | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    first_step: bool,
    l1: float,
    /,
) -> None: ...
def sigmoid_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def sigmoid_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def silu_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def silu_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def softmax_backward(
    dy: FloatArray, x: FloatArray | None, dim: int, saved: FloatArray | None, /
) -> FloatArray: ...
def softmax_forward(x: FloatArray, dim: int, /) -> FloatArray: ...
def stochastic_pool2d_backward(
    dy: FloatArray, x: FloatArray, windows: Sequence[Sequence[int]], /
) -> FloatArray: ...
def stochastic_pool2d_forward(
    x: FloatArray, windows: Sequence[Sequence[int]], training: bool, seed: int, stream: int, /
) -> tuple[FloatArray, npt.NDArray[np.int32] | None]: ...
def subsampling2d_backward(
    dy: FloatArray,
    x: FloatArray,
    weight: FloatArray,
    windows: Sequence[Sequence[int]],
    need_dx: bool,
    need_dweight: bool,
    need_dbias: bool,
    /,
) -> tuple[FloatArray | None, FloatArray | None, FloatArray | None]: ...
def subsampling2d_forward(
    x: FloatArray,
    weight: FloatArray,
    bias: FloatArray | None,
    windows: Sequence[Sequence[int]],
    /,
) -> FloatArray: ...
def tanh_backward(
    dy: FloatArray, x: FloatArray | None, saved: FloatArray | None, alpha: float, beta: float, /
) -> FloatArray: ...
def tanh_forward(x: FloatArray, alpha: float, beta: float, /) -> FloatArray: ...
def to_device(array: object, device: str, /) -> Any: ...
def transform_images(
    x: npt.NDArray[np.uint8] | FloatArray,
    indices: IntArray,
    stages: Sequence[tuple[str, Sequence[float]]],
    seed: int,
    stream: int,
    scale: float,
    partners: IntArray | None,
    weights: FloatArray | None,
    to_bytes: bool,
    /,
) -> npt.NDArray[np.uint8] | FloatArray: ...
def window_output_size(
    op: str,
    axis: str,
    in_: int,
    kernel: int,
    stride: int,
    pad_before: int,
    pad_after: int,
    dilation: int,
    ceil_mode: bool,
    /,
) -> int: ...
