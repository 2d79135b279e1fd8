# The compiled module, written by hand: C++ sees only `object` where the arrays are.
# tests/test_stubs.py holds names and arguments against the module itself.

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from convcore.functional._arguments import FloatArray

def build_info() -> dict[str, Any]: ...
def conv2d_backward(
    op: str,
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
def conv2d_forward(
    op: str,
    x: FloatArray,
    w: FloatArray,
    b: FloatArray | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    /,
) -> FloatArray: ...
def isa() -> str: ...
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
def memory_stats() -> dict[str, int]: ...
def num_threads() -> int: ...
def random_permutation(seed: int, stream: int, n: int, /) -> npt.NDArray[np.int64]: ...
def random_uniform(
    seed: int, stream: int, shape: Sequence[int], low: float, high: float, /
) -> FloatArray: ...
def reachable_isas() -> str: ...
def release_cache() -> None: ...
def same_padding(in_: int, kernel: int, stride: int, dilation: int, /) -> list[int]: ...
def set_num_threads(count: int, /) -> None: ...
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
