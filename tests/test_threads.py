"""The number of threads: where it comes from, forks, many callers at once, other libraries."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest

import convcore
from convcore import functional as F
from helpers import floats

PRINT_THREADS = "import convcore; print(convcore.num_threads())"
needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity"
)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def run(program, **environment):
    """Run a program in a process of its own; a process that hangs is an error."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("OMP_", "GOMP_", "CONVCORE_NUM"))
    }
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        env=kept | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def output(program, **environment):
    """Return the words that a program prints; it must end well."""
    result = run(program, **environment)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


# ---- where the number comes from -------------------------------------------------------------------


@needs_affinity
def test_num_threads_is_the_number_of_cpus_of_the_process():
    assert output(PRINT_THREADS) == [str(len(os.sched_getaffinity(0)))]


@needs_affinity
@pytest.mark.parametrize("when", ["before the import", "after the import"])
def test_num_threads_obeys_the_affinity(when):
    bind = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])"
    lines = ["import convcore", "print(convcore.num_threads())"]
    lines.insert(0 if when == "before the import" else 1, bind)
    assert output("\n".join(lines)) == ["1"]


def test_num_threads_obeys_omp_num_threads():
    assert output(PRINT_THREADS, OMP_NUM_THREADS="1") == ["1"]


def test_num_threads_puts_its_own_variable_first():
    assert output(PRINT_THREADS, CONVCORE_NUM_THREADS="7", OMP_NUM_THREADS="1") == ["7"]


def test_num_threads_takes_an_empty_variable_for_none():
    want = output(PRINT_THREADS)
    assert output(PRINT_THREADS, CONVCORE_NUM_THREADS="") == want


@pytest.mark.parametrize("text", ["0", "-1", "two", "2x", "1.5", "1025", "99999999999999999999"])
@pytest.mark.parametrize("call", ["num_threads()", "functional.relu(np.ones(3, np.float32))"])
def test_a_wrong_variable_is_an_error(text, call):
    result = run(f"import convcore, numpy as np; convcore.{call}", CONVCORE_NUM_THREADS=text)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1] == (
        "ValueError: CONVCORE_NUM_THREADS is not a number of threads: "
        f"expected a number from 1 to 1024, got '{text}'"
    )


def test_set_num_threads_sets():
    convcore.set_num_threads(3)
    assert convcore.num_threads() == 3
    convcore.set_num_threads(np.int32(2))
    assert convcore.num_threads() == 2


@pytest.mark.parametrize(
    ("count", "error", "message"),
    [
        (0, ValueError, "count is out of range: expected at least 1, got 0"),
        (-3, ValueError, "count is out of range: expected at least 1, got -3"),
        (1025, ValueError, "count is out of range: expected at most 1024, got 1025"),
        (2**40, ValueError, "count is out of range: expected at most 1024, got 1099511627776"),
        (2**70, ValueError, "count is out of range: expected a 64-bit int, got "),
        (2.0, TypeError, "count has the wrong type: expected an int, got 2.0 (float)"),
        ("2", TypeError, "count has the wrong type: expected an int, got '2' (str)"),
        (None, TypeError, "count has the wrong type: expected an int, got None (NoneType)"),
        (True, TypeError, "count has the wrong type: expected an int, got True (bool)"),
    ],
)
def test_set_num_threads_rejects(count, error, message):
    before = convcore.num_threads()
    with pytest.raises(error, match=re.escape(f"set_num_threads: {message}")):
        convcore.set_num_threads(count)
    assert convcore.num_threads() == before


# ---- many callers ----------------------------------------------------------------------------------


def test_many_python_threads_get_right_results(rng):
    convcore.set_num_threads(3)
    cases = [(floats(rng, 2, 5, 24, 24), floats(rng, 20, 5, 3, 3)) for _ in range(8)]
    dy = floats(rng, 2, 20, 22, 22)

    def step(x, w):
        y = F.conv2d(x, w)
        dx, dw = F.conv2d_backward(dy, x, w, need_db=False)[:2]
        return [a.tobytes() for a in (y, F.relu(y), F.max_pool2d(y, 2), dx, dw)]

    want = [step(*case) for case in cases]
    got = [[] for _ in cases]
    start = threading.Barrier(len(cases))

    def work(i):
        start.wait()
        for _ in range(5):
            got[i].append(step(*cases[i]))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(cases))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(got[i] == [want[i]] * 5 for i in range(len(cases)))


# ---- forks -----------------------------------------------------------------------------------------

FORK = """
    import multiprocessing, warnings
    import numpy as np
    import convcore
    from convcore import functional as F

    def step(_=None):
        rng = np.random.default_rng(0)
        x, w = (rng.standard_normal(s).astype(np.float32) for s in [(4, 8, 40, 40), (16, 8, 3, 3)])
        y = F.conv2d(x, w)
        F.conv2d_backward(y, x, w, need_db=False)
        return y.tobytes(), convcore.num_threads()

    warnings.simplefilter("ignore")  # Python's own warning about forks of processes with threads
    convcore.set_num_threads(3)
    want = step()[0] if {before} else None
    with multiprocessing.get_context("fork").Pool(2) as pool:
        results = pool.map(step, range(4))
    want = step()[0] if want is None else want
    assert all(bits == want for bits, _ in results)
    print(*[count for _, count in results], convcore.num_threads())
"""


@needs_fork
def test_a_forked_child_computes_on_one_thread():
    assert output(FORK.replace("{before}", "True")) == ["1", "1", "1", "1", "3"]


@needs_fork
def test_a_child_forked_before_any_thread_has_threads():
    assert output(FORK.replace("{before}", "False")) == ["3", "3", "3", "3", "3"]


@needs_fork
def test_a_forked_child_goes_on_with_a_planned_network():
    program = """
        import multiprocessing, warnings
        import numpy as np
        import convcore
        from convcore import nn

        warnings.simplefilter("ignore")
        convcore.set_num_threads(3)
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((64, 3, 12, 12)).astype(np.float32), np.arange(64) % 4
        model = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(1600, 4))
        model.compile("adam")
        model.fit(x, y, verbose=0)
        model.predict(x)  # on several threads: the work of a step is too little for that

        def step(_):
            convcore.manual_seed(1)
            model.fit(x, y, verbose=0)
            return model.predict(x).tobytes(), convcore.num_threads()

        with multiprocessing.get_context("fork").Pool(2) as pool:
            results = [pool.apply(step, (0,))]
        bits, count = step(0)
        assert all(other == bits for other, _ in results)
        print(*[count for _, count in results], count)
    """
    assert output(program) == ["1", "3"]


@needs_fork
def test_fork_while_another_thread_computes():
    program = """
        import os, threading, warnings
        import numpy as np
        import convcore
        from convcore import functional as F

        warnings.simplefilter("ignore")
        convcore.set_num_threads(2)
        x = np.ones((64, 64), np.float32)
        stop = False

        def work():
            while not stop:
                F.relu(x)

        thread = threading.Thread(target=work)
        thread.start()
        for _ in range(20):
            child = os.fork()
            if child == 0:
                os._exit(0 if F.relu(x).sum() == x.size else 1)
            assert os.waitpid(child, 0)[1] == 0
        stop = True
        thread.join()
        print("done")
    """
    assert output(program) == ["done"]


# ---- other libraries -------------------------------------------------------------------------------


@pytest.mark.torch
@pytest.mark.parametrize("order", ["convcore torch sklearn", "sklearn torch convcore"])
def test_other_libraries_with_threads_in_one_process(order):
    for name in order.split():
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"{name} is not installed")
    imports = "\n".join(
        {
            "convcore": "import convcore",
            "torch": "import torch",
            "sklearn": "import sklearn.cluster",
        }[name]
        for name in order.split()
    )
    program = """
        import numpy as np
        import threadpoolctl
        import convcore, torch
        from convcore import functional as F
        from sklearn.cluster import KMeans

        rng = np.random.default_rng(0)
        x, w = (rng.standard_normal(s).astype(np.float32) for s in [(4, 8, 40, 40), (16, 8, 3, 3)])
        points = rng.standard_normal((2000, 8))

        def ours():
            y = F.conv2d(x, w)
            dx, dw = F.conv2d_backward(y, x, w, need_db=False)[:2]
            return [y, dx, dw]

        def theirs():
            tx, tw = torch.tensor(x, requires_grad=True), torch.tensor(w, requires_grad=True)
            ty = torch.nn.functional.conv2d(tx, tw)
            ty.backward(ty.detach())
            return [t.detach().numpy() for t in (ty, tx.grad, tw.grad)]

        def clusters():
            return [KMeans(3, n_init=1, random_state=0).fit(points).cluster_centers_]

        def counts():
            pools = {p["filepath"]: p["num_threads"] for p in threadpoolctl.threadpool_info()}
            return pools, torch.get_num_threads()

        torch.set_num_threads(2)
        convcore.set_num_threads(3)
        before = counts()
        first = [ours(), theirs(), clusters()]
        for _ in range(3):
            for function, want in zip([ours, theirs, clusters], first):
                for a, b in zip(function(), want):
                    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
        for a, b in zip(first[0], first[1]):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5 * np.abs(b).max())
        assert counts() == before, (counts(), before)
        torch.set_num_threads(1)
        assert convcore.num_threads() == 3
        convcore.set_num_threads(2)
        assert torch.get_num_threads() == 1
        print("done")
    """
    assert output(imports + "\n" + textwrap.dedent(program)) == ["done"]
