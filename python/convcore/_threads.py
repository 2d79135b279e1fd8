"""The number of threads."""

from __future__ import annotations

from convcore import _core
from convcore.functional._arguments import to_int


def num_threads() -> int:
    """Return the number of threads that an op may use.

    Until `set_num_threads` is called this is ``CONVCORE_NUM_THREADS``, or else the smaller of
    ``OMP_NUM_THREADS`` and the number of CPUs that the process may run on (its affinity). The
    environment and the affinity are read once, when the first op runs or this is first asked.

    Returns
    -------
    int
        1 in a child of ``os.fork`` (and of ``multiprocessing`` with its fork method) whose parent
        had run an op on several threads: these do not exist in the child, and the OpenMP runtime
        would wait for them forever, so the child computes on the calling thread. Use the methods
        ``"spawn"`` or ``"forkserver"`` for children with threads.

    Raises
    ------
    ValueError
        When ``CONVCORE_NUM_THREADS`` is not a number from 1 to 1024. Every op raises it then.

    Examples
    --------
    >>> import convcore
    >>> convcore.set_num_threads(2)
    >>> convcore.num_threads()
    2
    """
    return _core.num_threads()


def set_num_threads(count: int) -> None:
    """Set the number of threads that an op may use, from now on and in the whole process.

    Results do not depend on it, not even in their last bit. An op with little to do takes fewer.
    Other libraries keep their own number of threads.

    Parameters
    ----------
    count : int
        From 1 to 1024. More than there are CPUs makes nothing faster.

    Raises
    ------
    TypeError
        When `count` is not an int; a bool is none.
    ValueError
        When `count` is out of range.
    """
    if isinstance(count, bool):
        raise TypeError(
            f"set_num_threads: count has the wrong type: expected an int, got {count} (bool)"
        )
    _core.set_num_threads(to_int("set_num_threads", "count", count))
