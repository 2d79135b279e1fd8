"""Check that the hot loops of the kernels keep their vectors in registers.

    python .ci/check_spills.py BUILD_DIR

A kernel is written for the registers there are: so many accumulators, so many operands. When the
compiler needs one more, it moves a vector to the stack and back in every round, and the loop loses
a third of its speed without any test noticing. So this reads the disassembly of the AVX2 and
AVX-512 kernels, or of the AArch64 ones. Of every innermost loop that multiplies and adds vectors
(vfmadd...ps, fmla) it reports

* a whole vector register that is stored to the stack, unless there are 32 of those instructions to
  each (a long loop without inner loop: less than can be measured);
* more than one vector per eight of those instructions that is read from the stack. (So many may be
  constants of the loop for which no register was left: an operand in memory costs nothing then.)

A loop is the code from the target of a backward jump to the last jump to it; an innermost one
has no other loop's start within. A slot on the stack has a constant offset: an access with an index
register is to a local array, which is meant.

BUILD_DIR is the folder of a Release build (the one that pip made: build/<wheel tag>, or
build/aarch64).
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FMAS_PER_CONSTANT = 8  # FMAs in a loop for each vector that may be read from the stack
FMAS_PER_STORE = 32  # FMAs in a loop for each vector that may be stored there
# Functions that may use the stack: a Winograd transform holds 6 x 6 vectors, more than there are
# registers.
MEANT = re.compile(r"\b(transform_\w+|winograd_\w+)[(<]")
FUNCTION = re.compile(r"^[0-9a-f]+ <(.+)>:$")
INSTRUCTION = re.compile(r"^\s*([0-9a-f]+):\s+(\S+)\s*(.*)$")
JUMP = re.compile(r"^(j\w+|b|b\.\w+|cbn?z|tbn?z)$")
JUMP_TARGET = re.compile(r"\b([0-9a-f]+) <")
FMA = re.compile(r"^(vfn?m(add|sub)\d+p[sd]|fml[as])$")
VECTOR = re.compile(r"%[yz]mm|\bq\d+\b")
ONE_NUMBER = re.compile(r"broadcast|\{1to")
# A constant offset from the stack pointer, or from the frame pointer where there is one.
STACK_SLOT = re.compile(r"\(%rsp\)|\[sp(, #\d+)?\]")
FRAME_SLOT = re.compile(r"\(%r[sb]p\)|\[(sp|x29)(, #-?\d+)?\]")
FRAME_POINTER = {("mov", "%rsp,%rbp"), ("mov", "x29, sp")}


class Instruction(NamedTuple):
    """One line of a disassembly."""

    address: int
    name: str
    operands: str


def functions(disassembly: str) -> Iterator[tuple[str, list[Instruction]]]:
    """Yield the name and the instructions of each function."""
    name, body = "", []
    for line in disassembly.splitlines():
        if found := FUNCTION.match(line):
            yield name, body
            name, body = found[1], []
        elif found := INSTRUCTION.match(line):
            body.append(Instruction(int(found[1], 16), found[2], found[3]))
    yield name, body


def innermost_loops(body: list[Instruction]) -> Iterator[list[Instruction]]:
    """Yield the instructions of each loop that holds no other loop."""
    ends: dict[int, int] = {}  # of the loop that starts at an address: the last jump back
    for line in body:
        if JUMP.match(line.name) and (found := JUMP_TARGET.search(line.operands)):
            target = int(found[1], 16)
            if body[0].address <= target <= line.address:
                ends[target] = max(ends.get(target, 0), line.address)
    for start, end in ends.items():
        if not any(start < other <= end for other in ends):
            yield [line for line in body if start <= line.address <= end]


def stack_moves(loop: list[Instruction], slot: re.Pattern[str]) -> tuple[int, int]:
    """Return how many whole vector registers are stored to the stack and read from there."""
    stores = reads = 0
    for line in loop:
        if not slot.search(line.operands) or not VECTOR.search(line.operands):
            continue
        if ONE_NUMBER.search(line.name + line.operands):
            continue
        # x86 in AT&T syntax: the destination comes last. AArch64: str, stp.
        if line.operands.endswith(")") or line.name.startswith("st"):
            stores += 1
        else:
            reads += 1
    return stores, reads


def problems_of(obj: Path, isa: str) -> tuple[int, list[str]]:
    """Return the number of loops with FMAs in an object file, and a sentence about each bad one."""
    foreign = isa == "baseline" and platform.machine() != "aarch64"
    objdump = "aarch64-linux-gnu-objdump" if foreign else "objdump"
    command = [objdump, "-d", "-C", "--no-show-raw-insn", obj]
    disassembly = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    checked, problems = 0, []
    for name, body in functions(disassembly):
        if MEANT.search(name):
            continue
        framed = any((line.name, line.operands) in FRAME_POINTER for line in body)
        slot = FRAME_SLOT if framed else STACK_SLOT
        for loop in innermost_loops(body):
            fmas = sum(bool(FMA.match(line.name)) for line in loop)
            if not fmas:
                continue
            checked += 1
            stores, reads = stack_moves(loop, slot)
            if stores > fmas // FMAS_PER_STORE or reads > fmas // FMAS_PER_CONSTANT:
                problems.append(
                    f"the loop at {loop[0].address:x}-{loop[-1].address:x} with {fmas} FMAs stores "
                    f"{stores} vectors to the stack and reads {reads} from there, in {name}"
                )
    return checked, problems


def main(build_dir: Path) -> int:
    """Check every object file of the kernels; print what is wrong."""
    bad = 0
    wide = (build_dir / "CMakeFiles/convcore_cpu_avx512.dir").exists()
    for isa in ("avx2", "avx512") if wide else ("baseline",):
        folder = build_dir / f"CMakeFiles/convcore_cpu_{isa}.dir"
        total = 0
        for obj in sorted(folder.rglob("*.o")):
            checked, problems = problems_of(obj, isa)
            total += checked
            for problem in problems:
                print(f"check_spills: {isa}, {obj.stem}: {problem}")
            bad += len(problems)
        if total == 0:
            sys.exit(f"check_spills: {folder} holds no loop with FMAs")
        print(f"{isa}: {total} innermost loops with FMAs")
    return bad


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])) > 0)
