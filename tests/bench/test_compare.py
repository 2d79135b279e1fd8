"""What follows from measured seconds, on made-up ones."""

from __future__ import annotations

import json

import pytest

from convcore.bench import report
from convcore.bench.compare import compare, differences, read


def row(ours, name="lenet5_conv1", op="conv", **peers):
    sides = {"convcore": ours} | {name.replace("_", " "): times for name, times in peers.items()}
    return {
        "op": op, "case": name, "pass": "forward", "caches": "warm", "algorithm": None,
        "flops": 12_000_000, "bytes": 3_000_000, "seconds": sides,
    }  # fmt: skip


def document(*rows, threads=2, cpu="a CPU"):
    machine = {
        "cpu": cpu, "cpus": 2, "load": 0.0, "instruction_set": "avx2", "compiler": "GNU 12",
        "commit": None, "torch": "2.13.0",
    }  # fmt: skip
    peaks = dict.fromkeys(("fma", "fma_broadcast"), 24e9)
    peaks |= dict.fromkeys(("l2_read", "l2_copy", "memory_read", "memory_copy"), 12e9)
    return {
        "machine": machine, "threads": threads, "rounds": 3, "peaks": peaks, "rows": list(rows)
    }  # fmt: skip


# ---- compare -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "now", "slower"),
    [
        ([1.0, 1.1, 1.2], [1.3, 1.4, 1.5], True),  # every round
        ([1.0, 1.1, 1.3], [1.2, 1.4, 1.5], False),  # the spreads overlap
        ([1.0, 1.1, 1.2], [1.2, 1.4, 1.5], False),  # they touch
        ([1.0, 1.1, 1.2], [0.5, 0.6, 0.7], False),  # faster
        ([1.0, 1.0], [2.0, 2.0], False),  # too few rounds to have a spread
    ],
)
def test_compare_calls_slower_what_is_beyond_the_spread(then, now, slower):
    (found,) = compare(document(row(then)), document(row(now)))
    assert found.slower is slower
    assert found.ratio.low <= found.ratio.median <= found.ratio.high


def test_compare_gives_the_speed_against_then():
    (found,) = compare(document(row([4.0, 2.0, 3.0])), document(row([1.0, 2.0, 1.5])))
    assert found.ratio == (2.0, 1.0, 4.0)
    assert (found.case, found.which, found.setting) == ("lenet5_conv1", "forward", "warm")


def test_compare_takes_the_rows_in_common():
    old = document(row([1.0] * 3), row([1.0] * 3, name="lenet5_conv2"))
    new = document(row([1.0] * 3, name="lenet5_conv2"), row([1.0] * 3, name="resnet20_stem"))
    assert [c.case for c in compare(old, new)] == ["lenet5_conv2"]


def test_compare_without_a_row_in_common_raises():
    with pytest.raises(ValueError, match="the two runs have no row in common"):
        compare(document(row([1.0])), document(row([1.0], name="lenet5_conv2")))


def test_differences_names_what_is_not_the_same():
    old, new = document(row([1.0])), document(row([1.0]), threads=1, cpu="another CPU")
    assert differences(old, old) == []
    assert differences(old, new) == ["threads: 2 then, 1 now", "cpu: a CPU then, another CPU now"]


def test_read_gives_what_was_written(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps(report.complete(document(row([1.0, 2.0])))))
    assert read(path)["rows"][0]["seconds"]["convcore"] == [1.0, 2.0]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"rows": [{}]}', '{"rows": [1]}'])
def test_read_refuses_what_is_no_result(tmp_path, text):
    path = tmp_path / "old.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"old\.json is no result of convcore bench --json FILE"):
        read(path)


# ---- report --------------------------------------------------------------------------------------


def test_ratio_is_to_the_better_layout_round_by_round():
    found = report.ratio(
        row([1.0, 2.0, 4.0], torch_NCHW=[9.0, 9.0, 9.0], torch_NHWC=[2.0, 6.0, 4.0])
    )
    assert found == (2.0, 1.0, 3.0)


def test_ratio_without_torch_is_none():
    assert report.ratio(row([1.0])) is None
    assert report.best_peer(row([1.0])) is None


def test_share_is_that_of_the_right_ceiling():
    peaks = document()["peaks"]
    assert report.share(row([1e-3, 1e-3, 9.0]), peaks) == pytest.approx(12e9 / 24e9)
    assert report.share(row([1e-3], op="pool"), peaks) == pytest.approx(3e9 / 12e9)


def test_summary_gives_the_geometric_mean_and_the_lowest():
    rows = [
        row([1.0], torch_NCHW=[4.0]),
        row([1.0], name="lenet5_conv2", torch_NCHW=[1.0]),
        row([1.0], name="lenet5_pool1", op="pool", torch_NCHW=[3.0]),
    ]
    conv, pool = report.summary(rows)
    assert conv["geometric_mean"] == pytest.approx(2.0)
    assert (conv["cells"], conv["lowest"], conv["lowest_at"]) == (2, 1.0, "lenet5_conv2 forward")
    assert pool["geometric_mean"] == pytest.approx(3.0)


def test_lines_have_a_cell_for_each_head():
    both = document(
        row([1e-3], torch_NCHW=[4e-3], torch_NHWC=[2e-3]),
        row([2e-6], name="lenet5_fc1", op="dense", torch_NCHW=[4e-6]),
    )
    alone = document(row([1e-3]))
    for d in (both, alone):
        assert {len(line) for line in report.lines(d)} == {len(report.head(d))}
    assert report.lines(both)[1][-4:] == ("4.00 us", "-", "2.00", "2.00 .. 2.00")
    assert report.lines(alone)[0][4:] == ("1.00 ms", "12.0 GFLOP/s", "50%")


def test_closing_says_when_the_machine_was_busy():
    quiet = document(row([1.0]))
    assert "busy" not in " ".join(report.closing(quiet))
    quiet["machine"]["load"] = 3.0
    assert (
        "the machine was busy when the run began (load 3.0 on 2 CPUs)" in report.closing(quiet)[-1]
    )


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2.0, "2.00 s"),
        (0.0123, "12.3 ms"),
        (0.123, "123 ms"),
        (4.5e-6, "4.50 us"),
        (4e-7, "0.40 us"),
    ],
)
def test_duration_has_three_digits(seconds, text):
    assert report.duration(seconds) == text
