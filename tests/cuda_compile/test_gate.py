"""What gate.py reads from nvcc, nvdisasm, nm and readelf, and what it finds wrong in it."""

from __future__ import annotations

import json
import shutil

import pytest

from cuda_compile import gate

PTXAS = """\
ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function '_Z1av' for 'sm_90'
ptxas info    : Function properties for _Z1av
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers, used 0 barriers
ptxas info    : Compile time = 12.305 ms
ptxas info    : Compiling entry function '_Z1bv' for 'sm_90'
ptxas info    : Function properties for _Z1bv
    16 bytes stack frame, 8 bytes spill stores, 12 bytes spill loads
ptxas info    : Used 255 registers, used 1 barriers, 16 bytes cumulative stack size, 4096 bytes smem, 360 bytes cmem[0]
"""

SASS = """\
\t.target\tsm_90
\t.section\t.text._Z1av,"ax",@progbits
.text._Z1av:
        .type           _Z1av,@function
        /*0000*/                   LDC R1, c[0x0][0x28] ;
        /*0010*/              @!P2 IADD3 R9, R9, 0x1, RZ ;
        /*0020*/             @!UP0 UIADD3 UR4, UR4, 0x1, URZ ;
.L_x_1:
        /*0030*/                   HMMA.16816.F32.BF16 R4, R8, R12, R4 ;
        /*0040*/                   HMMA.1688.F32.TF32 R4, R8, R12, R4 ;
\t.section\t.text._Z1bv,"ax",@progbits
.text._Z1bv:
       /*10000*/               @P0 STL.64 [R1], R2 ;
"""


def test_parse_ptxas():
    kernels = gate.parse_ptxas(PTXAS)
    assert kernels == {
        "_Z1av": gate.Kernel(registers=30),
        "_Z1bv": gate.Kernel(registers=255, shared=4096, stack=16, spills=20),
    }


def test_parse_sass():
    assert gate.parse_sass(SASS) == {
        "_Z1av": {"LDC": 1, "IADD3": 1, "UIADD3": 1, "HMMA": 2},
        "_Z1bv": {"STL": 1},
    }


@pytest.mark.parametrize(
    ("demangled", "short"),
    [
        (
            "void convcore::cuda::detail::f<(convcore::cuda::Precision)0, 4>(long, g::H)",
            "f<(Precision)0, 4>",
        ),
        (
            "void convcore::cuda::detail::elements<2, 1, convcore::cuda::(anonymous namespace)::"
            "Backward<(convcore::Activation)8> >(long, A<2>)",
            "elements<2, 1, Backward<(Activation)8>>",
        ),
        ("convcore::cuda::(anonymous namespace)::plain(float*)", "plain"),
    ],
)
def test_short_name(demangled, short):
    assert gate.short_name(demangled) == short


@pytest.mark.skipif(not shutil.which("c++filt"), reason="needs c++filt")
def test_demangle():
    assert gate.demangle(["_Z1av", "_Z1bi"]) == {"_Z1av": "a()", "_Z1bi": "b(int)"}


TENSOR, PLAIN = "f<(Precision)3, 4>", "f<(Precision)0, 4>"


@pytest.mark.parametrize(
    ("name", "kernel", "problem"),
    [
        (TENSOR, {"instructions": {"HMMA": 4}}, None),
        (PLAIN, {"instructions": {"FFMA": 4}}, None),
        ("sum", {"instructions": {"FADD": 4}}, None),
        (TENSOR, {"instructions": {"FFMA": 4}}, "no HMMA"),
        (PLAIN, {"instructions": {"FADD": 4}}, "no FFMA"),
        (PLAIN, {"instructions": {"FFMA": 1, "HMMA": 4}}, "4 HMMA"),
        ("sum", {"instructions": {"HMMA": 4}}, "4 HMMA"),
        ("sum", {"instructions": {"FADD": 1, "LDL": 2}}, "0 bytes of stack, 2 LDL"),
        ("sum", {"instructions": {"FADD": 1, "STL": 3}}, "3 STL"),
        ("sum", {"instructions": {"FADD": 1}, "stack": 8}, "8 bytes of stack"),
        ("sum", {"instructions": {"FADD": 1}, "spills": 8}, "8 bytes of registers"),
        ("sum", {}, "no machine code"),
    ],
)
def test_problems_of_kernel(name, kernel, problem):
    problems = gate.problems_of_kernel(name, gate.Kernel(**kernel))
    if problem is None:
        assert problems == []
    else:
        assert [problem in text for text in problems] == [True]


def test_problems_of_budget():
    budget = {"a": {"shared": 16, "80": 30, "90": 32}, "gone": {"shared": 0, "80": 1}}

    def problems(**found):
        return gate.problems_of_budget(budget, found, ["80"])

    same = {"shared": 16, "80": 30}
    gone = budget["gone"]
    assert problems(a=same, gone=gone) == []
    assert problems(a={**same, "90": 99}, gone=gone) == []  # not compiled for it this time
    assert problems(a={**same, "80": 31}, gone=gone) == [
        "a: 31 registers on sm_80, the budget is 30"
    ]
    assert problems(a={**same, "80": 29}, gone=gone)[0].endswith("lower it")
    assert "17 bytes of static" in problems(a={**same, "shared": 17}, gone=gone)[0]
    assert problems(a=same) == ["gone: in the budget and gone"]
    assert problems(a=same, gone=gone, b=same) == ["b: not in the budget"]


def test_problems_of_symbols():
    nm = "0000000000026320 T convcore_cuda_api\n"
    readelf = " 0x0000000000000001 (NEEDED)             Shared library: [libstdc++.so.6]\n"
    assert gate.problems_of_symbols(nm, readelf) == []
    assert "cudaMalloc" in gate.problems_of_symbols(nm + "0001 T cudaMalloc\n", readelf)[0]
    driver = readelf.replace("libstdc++.so.6", "libcuda.so.1")
    assert gate.problems_of_symbols(nm, driver) == ["it cannot be opened without libcuda.so.1"]


def test_headers_are_part_of_what_a_result_depends_on(tmp_path, monkeypatch):
    (tmp_path / "csrc").mkdir()
    header = tmp_path / "csrc" / "a.cuh"
    header.write_text("1")
    monkeypatch.setattr(gate, "ROOT", tmp_path)
    before = gate.headers_digest()
    header.write_text("2")
    assert gate.headers_digest() != before


def test_the_budget_names_each_kernel_once_and_the_compiler_that_ci_installs():
    pairs = json.loads(gate.BUDGET.read_text(), object_pairs_hook=list)
    kernels = [name for name, _ in dict(pairs)["kernels"]]
    assert sorted(set(kernels)) == kernels
    assert (
        f"nvidia-cuda-nvcc=={dict(pairs)['nvcc']}\n"
        in gate.BUDGET.with_name("toolkit.txt").read_text()
    )
