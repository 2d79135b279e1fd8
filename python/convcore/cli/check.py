"""``convcore check``: a student's layers, or the library's own kernels, against the reference."""

from __future__ import annotations

from convcore.cli._parser import Args, UsageError, Verbs, add_verb, integer, nearest, real
from convcore.cli._result import Result, describe

_EPILOG = """\
The file is run in a process of its own, once for each of its layers, with limits of time and
memory. It has functions in the form of CS231n's assignments (conv_forward_naive(x, w, b,
conv_param) -> out, cache and conv_backward_naive(dout, cache); max_pool_forward_naive,
affine_forward, relu_forward, batchnorm_forward, softmax_loss, svm_loss) or classes with forward and
backward.

Exit code: 0 everything is right, 1 something is wrong, 2 a wrong command line, or no such file.

examples:
  convcore check layers.py
  convcore check layers.py --require conv --require max_pool --json
  convcore check layers.py --time-limit 5 --memory-limit 1000
  convcore check --self
"""


def add_parser(verbs: Verbs) -> None:
    """Declare the arguments."""
    parser = add_verb(verbs, run, "check", "find what is wrong with a student's layers", _EPILOG)
    parser.add_argument("file", metavar="FILE.py", nargs="?")
    parser.add_argument(
        "--self",
        action="store_true",
        dest="own",
        help="check every kernel of convcore on this machine instead",
    )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="LAYER",
        help="a layer that has to be there (may be given several times)",
    )
    parser.add_argument(
        "--time-limit", type=real(0.1), metavar="SECONDS", help="for each layer (default 20)"
    )
    parser.add_argument(
        "--memory-limit", type=integer(64), metavar="MB", help="address space (default 2048)"
    )
    parser.add_argument("--seed", type=integer(0), default=0, metavar="N", help="default: 0")


def run(args: Args) -> Result:
    """Check the file, or the library."""
    if args.own == (args.file is not None):
        raise UsageError("expected FILE.py or --self, and not both")
    if args.own:
        from convcore.teaching.check.self_check import check_self

        kernels = check_self(seed=args.seed)
        return Result(kernels.to_dict(), str(kernels), code=0 if kernels.passed else 1)
    from convcore.teaching.check import EXERCISES, MEMORY_LIMIT, TIME_LIMIT, check

    for name in args.require:
        if name not in EXERCISES:
            raise UsageError(f"--require {name!r} is no layer: {nearest(name, EXERCISES)}")
    try:
        with open(args.file, "rb"):
            pass
    except OSError as error:  # not 1: that is a file with mistakes
        raise UsageError(describe(error)) from None
    report = check(
        args.file,
        require=args.require,
        time_limit=args.time_limit or TIME_LIMIT,
        memory_limit=args.memory_limit << 20 if args.memory_limit else MEMORY_LIMIT,
        seed=args.seed,
    )
    return Result(report.to_dict(), str(report), code=0 if report.passed else 1)
