#!/usr/bin/env bash
# Everything that needs a GPU, in parts: bash bench/gpu_suite.sh RESULTS [PART...]
#
# RESULTS is a folder; each part leaves PART.json (and PART.log) there. Without parts, all run, one after the other. A part
# takes less than ten minutes (SUITE_LIMIT seconds) and nothing is fetched: the machine needs nvcc, CMake, Ninja, and a Python
# with NumPy, safetensors, tqdm, scikit-build-core, pybind11, pytest, hypothesis; torch for what is measured beside it. A part
# that fails does not stop the others; the exit status is 1 when one did. After `build`, parts run in any order; `layers`
# uses the results of `ceilings` when they are there.
#
#   build            convcore with the plug-in for the GPU that is here, into build/gpu (and what the other parts compile)
#   gate             tests/cuda_compile/gate.py for this GPU's architecture
#   tests            the whole test suite on the device
#   fragments        the maps of mma and ldmatrix, recorded and compared (tests/cuda_host/fragment_maps.txt)
#   memcheck racecheck synccheck initcheck      compute-sanitizer, small shapes
#   determinism      the same training twice, the same bits
#   losses           50 steps on the CPU and on the GPU, in each precision
#   nodes            kernels of a training step
#   ceilings         FMA, mma.sync, copies, nodes of a graph (bench/gpu_peak.cu)
#   resnet20-fp32 resnet20-tf32 resnet20-bf16   training, batch 128, beside torch: eager, compiled, as a graph
#   resnet20-1024-fp32 resnet20-1024-bf16       the same with batch 1024
#   lenet5           training, batch 128
#   layers           convolutions, pooling, batch norm, SGD at batch 1024, beside torch
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

all=(build gate tests fragments memcheck racecheck synccheck initcheck determinism losses nodes ceilings
  resnet20-fp32 resnet20-tf32 resnet20-bf16 resnet20-1024-fp32 resnet20-1024-bf16 lenet5 layers)
if (($# == 0)); then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
  exit 2
fi
mkdir -p "$1"
results=$(cd "$1" && pwd)
shift
if (($#)); then parts=("$@"); else parts=("${all[@]}"); fi

limit=${SUITE_LIMIT:-580}
python=${PYTHON:-python3}
site=$PWD/build/gpu/site
export PYTHONPATH=$site${PYTHONPATH:+:$PYTHONPATH} PYTHONUNBUFFERED=1
[[ ${CUDACXX:-} ]] || PATH=$PATH:/usr/local/cuda/bin
export PATH
nvcc=${CUDACXX:-nvcc}

# The architecture of the GPU, as 90.
architecture() {
  nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d '. '
}

suite() {
  "$python" bench/gpu_suite.py "$@"
}

# compile_program SOURCE NAME: into build/gpu, when it is not there or older.
compile_program() {
  local out=build/gpu/$2
  [[ $out -nt $1 ]] || "$nvcc" -std=c++17 -O3 "-arch=sm_$(architecture)" -I csrc -I tests/cuda_host "$1" -o "$out"
}

build() {
  mkdir -p build/gpu
  nvidia-smi
  "$nvcc" --version
  CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)} "$python" -m pip install -v --no-index \
    --no-build-isolation --no-deps --upgrade --target "$site" -Cbuild-dir=build/gpu/tree \
    -Ccmake.define.CONVCORE_CUDA=ON . || return
  compile_program tests/cuda_gpu/fragment_maps.cu fragment_maps || return
  compile_program bench/gpu_peak.cu gpu_peak || return
  "$python" -m convcore info
  "$python" -m convcore info --json >"$results/build.json" || return
  "$python" -c 'import convcore, sys; sys.exit(convcore.cuda.reason())'
}

gate() {
  "$python" tests/cuda_compile/gate.py --nvcc "$(command -v "$nvcc")" --architectures "$(architecture)" &&
    "$python" tests/cuda_compile/gate.py --library "$site/convcore/libconvcore_cuda.so"
}

tests() {
  local workers=()
  "$python" -c 'import xdist' 2>/dev/null && workers=(-n "$(($(nproc) / 2))")
  "$python" -m pytest -q --device cuda -p no:cacheprovider "${workers[@]}" -m 'not torch and not slow' \
    -W default --junitxml="$results/tests.xml" tests
  local status=$?
  "$python" - "$results" <<'PYTHON'
import json, sys, xml.etree.ElementTree as tree
suite = tree.parse(f"{sys.argv[1]}/tests.xml").getroot().find("testsuite")
failed = [f"{c.get('classname')}::{c.get('name')}" for c in suite.iter("testcase")
          if c.find("failure") is not None or c.find("error") is not None]
counts = {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped", "time")}
json.dump({"part": "tests", **counts, "failed": failed}, open(f"{sys.argv[1]}/tests.json", "w"), indent=1)
PYTHON
  rm -f "$results/tests.xml"
  return $status
}

fragments() {
  compile_program tests/cuda_gpu/fragment_maps.cu fragment_maps || return
  build/gpu/fragment_maps tests/cuda_host/fragment_maps.txt >"$results/fragment_maps.txt"
  local status=$?
  printf '{"part": "fragments", "as_expected": %s, "lines": %s}\n' "$( ((status)) && echo false || echo true)" \
    "$(wc -l <"$results/fragment_maps.txt")" >"$results/fragments.json"
  grep -v '^#' tests/cuda_host/fragment_maps.txt | sort | diff - <(sort "$results/fragment_maps.txt") | head -n 40
  return $status
}

sanitizer() { # TOOL
  local options=(--tool "$1" --error-exitcode 9 --print-limit 20)
  [[ $1 == memcheck ]] && options+=(--leak-check no)
  compute-sanitizer "${options[@]}" "$python" bench/gpu_suite.py small --out -
  local status=$?
  printf '{"part": "%s", "exit_status": %d}\n' "$1" "$status" >"$results/$1.json"
  return $status
}

run_part() {
  local out=$results/$1.json
  case $1 in
    build | gate | tests | fragments) "$1" ;;
    memcheck | racecheck | synccheck | initcheck) sanitizer "$1" ;;
    determinism) suite determinism --out "$out" --steps 20 ;;
    losses | nodes) suite "$1" --out "$out" ;;
    ceilings) compile_program bench/gpu_peak.cu gpu_peak && build/gpu/gpu_peak >"$out" && cat "$out" ;;
    resnet20-fp32 | resnet20-tf32 | resnet20-bf16)
      suite training --out "$out" --network resnet20 --batch 128 --steps 200 --precision "${1#resnet20-}" --limit 90
      ;;
    resnet20-1024-*)
      suite training --out "$out" --network resnet20 --batch 1024 --steps 40 --precision "${1##*-}" --limit 90
      ;;
    lenet5) suite training --out "$out" --network lenet5 --batch 128 --steps 400 --precision fp32 --limit 90 ;;
    layers)
      local ceilings=()
      [[ -s $results/ceilings.json ]] && ceilings=(--ceilings "$results/ceilings.json")
      suite layers --out "$out" --batch 1024 "${ceilings[@]}"
      ;;
    *)
      echo "no such part: $1 (there are: ${all[*]})" >&2
      return 2
      ;;
  esac
}

# A part in a process group of its own, so that a time limit ends all of it.
if [[ ${SUITE_PART:-} ]]; then
  run_part "$SUITE_PART"
  exit
fi
failed=()
for part in "${parts[@]}"; do
  printf '\n======== %s (at %d s)\n' "$part" "$SECONDS"
  SUITE_PART=$part timeout -k 10 "$limit" bash "${BASH_SOURCE[0]}" "$results" 2>&1 | tee "$results/$part.log" || failed+=("$part")
done
if ((${#failed[@]})); then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "all parts passed, in $SECONDS s"
