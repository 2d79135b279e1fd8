"""Seeded bugs: each change to a CUDA kernel must make the host tests fail.

    python tests/cuda_host/mutants.py BUILD_DIR

BUILD_DIR is a build with the host tests in it (cmake --preset release). A mutant is one source file with one change,
compiled as the build does and linked with the build's other objects. What survives is printed, and the exit status is 1.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Mutant:
    """One bug: the occurrence number `which` of `old` in `file` becomes `new`."""

    what: str
    file: str
    old: str
    new: str
    tests: str  # the test cases that may catch it
    which: int = 0


BARRIER = "__syncthreads();"
PRODUCTS, FUSED, OPS = "conv2d*,linear*,no bank*", "fused*,optimizers*", "*"
STAGE = (
    BARRIER
    + "  // the stage is there, and everybody has read the one before, which the next one overwrites"
)
MUTANTS = [
    Mutant("no barrier before a stage is read", "product_kernels.cuh:product_fp32.cu", STAGE, "", PRODUCTS, 0),
    Mutant("the same in the pixels product", "product_kernels.cuh:product_fp32.cu", STAGE, "", PRODUCTS, 1),
    Mutant("a stage overwritten before all have read it", "product_kernels.cuh:product_fp32.cu", STAGE + "\n      if (stage + 1 < stages) load(stage + 1);",
           "if (stage + 1 < stages) load(stage + 1);\n      " + BARRIER, PRODUCTS),
    Mutant("the same in the pixels product", "product_kernels.cuh:product_fp32.cu", STAGE + "\n      if (box + 1 < end) load(box + 1);",
           "if (box + 1 < end) load(box + 1);\n      " + BARRIER, PRODUCTS),
    Mutant("the wait leaves one group too many", "product_kernels.cuh:product_fp32.cu", "async_wait<0>();", "async_wait<1>();", PRODUCTS, 0),
    Mutant("the wait leaves one group too many, pixels product", "product_kernels.cuh:product_fp32.cu", "async_wait<0>();", "async_wait<1>();",
           PRODUCTS, 1),
    Mutant("the halo reads one row too many", "product_kernels.cuh:product_fp32.cu", "unsigned(h) >= unsigned(in.h)",
           "unsigned(h) > unsigned(in.h)", PRODUCTS),
    Mutant("the halo drops the first column", "product_kernels.cuh:product_fp32.cu", "unsigned(w) >= unsigned(in.w)",
           "unsigned(w - 1) >= unsigned(in.w - 1)", PRODUCTS),
    Mutant("rows of a fragment of A swapped", "product_kernels.cuh:product_tf32x3.cu",
           "rows[m + 8 * (matrix % 2) + lane % 8].patch * pitch + 4 * (matrix / 2)",
           "rows[m + 8 * (matrix / 2) + lane % 8].patch * pitch + 4 * (matrix % 2)", PRODUCTS),
    Mutant("fragments of B swapped", "product_kernels.cuh:product_tf32x3.cu", "y[j][0] = both[0], y[j][1] = both[1]",
           "y[j][0] = both[1], y[j][1] = both[0]", PRODUCTS),
    Mutant("BF16 pairs swapped", "product_kernels.cuh:product_bf16.cu", "return to_bf16x2(v.x, v.y);", "return to_bf16x2(v.y, v.y);", PRODUCTS),
    Mutant("3xTF32 without one of its products", "product_kernels.cuh:product_tf32x3.cu", "mma_tf32(c, al, bs);", "", PRODUCTS),
    Mutant("the groups' tiles added without a barrier", "product_kernels.cuh:product_fp32.cu", "        " + BARRIER + "\n      }\n      for (int at",
           "      }\n      for (int at", PRODUCTS),
    Mutant("a pitch that meets one bank", "product_kernels.cuh:product_bf16.cu", "kPad = kHalf ? 8 : 4", "kPad = kHalf ? 8 : 0", PRODUCTS),
    Mutant("too little shared memory", "product_kernels.cuh:product_fp32.cu", "shared_bytes<detail::Row>(Tile::kM) +", "", PRODUCTS),
    Mutant("parts summed one short", "product.cu", "split < splits; split++", "split < splits - 1; split++", PRODUCTS),
    Mutant("boxes of the wrong phase", "product_kernels.cuh:product_fp32.cu", "box >= p.phase[number + 1].first_box",
           "box > p.phase[number + 1].first_box", PRODUCTS),
    Mutant("padding that is normalised", "product_kernels.cuh:product_fp32.cu", "if (index[i] < 0) continue;  // zero it stays", "", FUSED),
    Mutant("an operand stored by no box", "product_kernels.cuh:product_fp32.cu", " || first + count >= all", "", FUSED),
    Mutant("a mask that lets zeros through", "product_kernels.cuh:product_fp32.cu", "other[k] > 0 ? v[k]", "other[k] >= 0 ? v[k]", FUSED),
    Mutant("sums of groups read too early", "product_kernels.cuh:product_fp32.cu", BARRIER + "  // all groups have left their sums", "", FUSED),
    Mutant("the wrong block is the last", "last_block.cuh:product_fp32.cu", "== blocks - 1", "== blocks - 2", FUSED),
    Mutant("an arrival without a fence", "last_block.cuh:product_fp32.cu", "__threadfence();  // what was stored", "// ", FUSED),
    Mutant("arrivals left behind", "last_block.cuh:product_fp32.cu", "if (last) *arrivals = 0;", "", FUSED),
    Mutant("a slice of the parts lost", "last_block.cuh:product_fp32.cu", "slice < slices; slice++", "slice < slices - 1; slice++", FUSED),
    Mutant("rows of a shortcut for columns", "operand.cuh:product_fp32.cu", "j * s.step_w) * s.c;", "i * s.step_w) * s.c;", FUSED),
    Mutant("a slice of the gradient's parts lost", "optimizer_many.cu", "slice < kSlices; slice++", "slice < kSlices - 1; slice++", FUSED),
    Mutant("slices summed without a barrier", "optimizer_many.cu", BARRIER, "", FUSED),
    Mutant("sums of the head overwritten", "fused_head.cu", BARRIER + "  // before the sums are overwritten", "", FUSED),
    Mutant("the head reads means too early", "fused_head.cu", "  " + BARRIER + "\n  for (int64_t k = int(threadIdx.x) / kWarp",
           "  for (int64_t k = int(threadIdx.x) / kWarp", FUSED),
    Mutant("a tap too few in the gradient", "conv2d.cu", "r < w.kernel; r++) {\n    const int64_t offset",
           "r < w.kernel - 1; r++) {\n    const int64_t offset", PRODUCTS),
    Mutant("the transposed tile without a barrier", "reorder.cu", BARRIER, "", OPS, 0),
    Mutant("the transposed tile overwritten too early", "reorder.cu", BARRIER, "", OPS, 1),
    Mutant("sums of channels without a barrier", "channel_sums.cuh:batch_norm.cu", BARRIER, "", OPS),
    Mutant("sums of channels overwritten too early", "channel_sums.cuh:batch_norm.cu", BARRIER + "  // before the next sum", "// before the next sum", OPS),
    Mutant("one row of threads left out of the sums", "channel_sums.cuh:batch_norm.cu", "other < kSumThreads; other",
           "other < kSumThreads - columns; other", OPS),
    Mutant("dropout one position off", "dropout.cu", "first = 4 * block - mask.first", "first = 4 * block + 1 - mask.first", OPS),
    Mutant("a lane that leaves its warp", "softmax.cu", "sum = warp_sum(sum);",
           "if (lane() == 7) return;\n    sum = warp_sum(sum);", OPS),
    Mutant("an output that is not written", "pool2d.cuh:max_pool2d.cu", "store_lanes(y, value);", "if (index.at[0]) store_lanes(y, value);", OPS),
    Mutant("a window too few over a pixel", "pool2d.cuh:avg_pool2d.cu", "stride.quotient(pixel + before) + 1", "stride.quotient(pixel + before)", OPS),
    Mutant("a quotient one too small", "images.cuh:max_pool2d.cu", "multiplier_) + small) >> shift_", "multiplier_) + small - 1) >> shift_", OPS),
    Mutant("the pixels of a large window without a barrier", "adaptive_avg_pool2d.cu", BARRIER, "", "adaptive*"),
    Mutant("sums of a block without a barrier", "device.cuh:group_norm.cu", "scratch[thread / kWarp] = value;\n  " + BARRIER,
           "scratch[thread / kWarp] = value;", "group_norm*"),
    Mutant("a block's sums overwritten too early", "device.cuh:group_norm.cu", BARRIER + "  // before anybody", "// before anybody",
           "group_norm*"),
    Mutant("sums of planes that skip a pixel", "plane_sums.cuh:subsampling2d.cu", "if (pixel >= plane)", "if (pixel > plane)",
           "subsampling2d*"),
    Mutant("mirrored about the pixel after the edge", "pad.cu", "before + 2 * (in - 1) - at", "before + 2 * in - 1 - at", "pad"),
    Mutant("the random number of another output", "stochastic_pool2d.cu", "p.w % 4 < 2", "p.w % 4 < 3", "stochastic*"),
    Mutant("a table that is written to one place", "transform_images.cu", "int(some), to + done", "int(some), to", "transform*"),
    Mutant("conv_pool: a stage overwritten too early", "conv_pool.cu", "if (c0 > 0) " + BARRIER, "", "conv_pool*"),
    Mutant("conv_pool: a stage read too early", "conv_pool.cu", BARRIER + "\n    if (group >= d.groups)", "if (group >= d.groups)", "conv_pool*"),
    Mutant("conv_pool: rows and columns of a winner swapped", "conv_pool.cu", "2 * (h % 2) + w % 2 ?", "2 * (w % 2) + h % 2 ?", "conv_pool*"),
    Mutant("conv_pool: a slice of the pixels left out", "conv_pool.cu", "s < d.slices; s++", "s < d.slices - 1; s++", "conv_pool*"),
    Mutant("conv_pool: a NaN that does not win", "conv_pool.cu", "value > best || value != value", "value > best", "conv_pool*"),
    Mutant("parts added one short", "parts.cuh:conv2d_groups.cu", "row < kPartRows; row++", "row < kPartRows - 1; row++", "conv2d with*"),
    Mutant("filters of groups overwritten too early", "conv2d_groups.cu", BARRIER + "  // before the last filters", "// before the last filters",
           "conv2d with*"),
    Mutant("a strip that is too long", "conv2d_groups.cu", "if (j + p < strips.w) store_lanes", "store_lanes", "conv2d with*"),
    Mutant("filters not turned", "conv2d_groups.cu", "d.flipped ? taps - 1 - tap : tap", "tap", "conv2d with*"),
]  # fmt: skip


#: Which the tests do not catch yet: each is a hole to be closed, by a test, and then leaves this list.
HOLES = {
    "a pitch that meets one bank",
    "a slice of the parts lost",
    "rows of a shortcut for columns",
    "the head reads means too early",
    "a block's sums overwritten too early",
    "parts added one short",
}


def commands(build: Path) -> tuple[dict[str, str], str]:
    """Return how each kernel source is compiled, and how the tests are linked."""
    lines = json.loads((build / "compile_commands.json").read_text())
    compile_line = {
        Path(entry["file"]).name: entry["command"]
        for entry in lines
        if "cuda_host_kernels.dir" in entry["command"]
    }
    link = subprocess.run(
        ["ninja", "-C", str(build), "-t", "commands", "cuda_host_tests"],
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()[-1]  # fmt: skip
    return compile_line, link


def survives(mutant: Mutant, build: Path, compile_line: dict[str, str], link: str) -> str | None:
    """Return why the tests did not catch the mutant; None when they did."""
    changed, _, compiled = mutant.file.partition(":")
    compiled = compiled or changed
    source = (ROOT / "csrc/cuda" / changed).read_text()
    parts = source.split(mutant.old)
    if len(parts) < mutant.which + 2:
        return "its text is not in the source any more"
    head = mutant.old.join(parts[: mutant.which + 1])
    text = head + mutant.new + mutant.old.join(parts[mutant.which + 1 :])
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "cuda"
        tree.mkdir()
        (tree / changed).write_text(text)
        if compiled != changed:
            (tree / compiled).write_text((ROOT / "csrc/cuda" / compiled).read_text())
        obj = Path(folder) / "mutant.o"
        words = shlex.split(compile_line[compiled])
        original = words[words.index("-o") + 1]
        words[words.index("-o") + 1] = str(obj)
        words[words.index("-c") + 1] = str(tree / compiled)
        words.insert(1, f"-I{folder}")  # before the tree's own headers
        words += ["-w", "-Wno-error"]  # what a bug leaves unused is no reason
        words.append("-O0")  # compiles faster, and the tests that catch a bug end early
        made = subprocess.run(words, cwd=build, capture_output=True, text=True, check=False)
        if made.returncode:
            return "it does not compile:\n" + made.stderr[:2000]
        program = Path(folder) / "tests"
        line = link.replace(original, str(obj)).replace("-o cuda_host_tests", f"-o {program}")
        line = line.replace("-o tests/cuda_host/cuda_host_tests", f"-o {program}")
        subprocess.run(line, cwd=build, shell=True, check=True, capture_output=True)
        try:
            ran = subprocess.run(
                [program, f"-tc={mutant.tests}", "-aa=1"],
                capture_output=True, timeout=120, check=False,
                env={**os.environ, "CONVCORE_NUM_THREADS": "1"},
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return None
        return None if ran.returncode else "every test passed"


def main() -> int:
    """Try every mutant."""
    build = Path(sys.argv[1]).resolve()
    compile_line, link = commands(build)
    unchanged = Mutant("nothing", "reorder.cu", "#include", "#include", "*")
    if survives(unchanged, build, compile_line, link) is None:
        print("the tests fail without any change: mend that first")
        return 1
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        answers = pool.map(lambda m: survives(m, build, compile_line, link), MUTANTS)
        alive = [(m, why) for m, why in zip(MUTANTS, answers, strict=True) if why]
    for mutant, why in alive:
        kind = "known hole" if mutant.what in HOLES else "SURVIVED"
        print(f"{kind}: {mutant.what} ({mutant.file}): {why}")
    print(f"{len(MUTANTS) - len(alive)} of {len(MUTANTS)} seeded bugs caught")
    closed = HOLES - {mutant.what for mutant, _ in alive}
    for what in sorted(closed):
        print(f"closed: {what!r} is caught now, and leaves HOLES")
    return 1 if closed or {mutant.what for mutant, _ in alive} - HOLES else 0


if __name__ == "__main__":
    sys.exit(main())
