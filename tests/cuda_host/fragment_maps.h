// Records which lane of a warp holds which element in mma and ldmatrix: on a GPU (tests/cuda_gpu) and on the twins that
// stand in for it in the tests (test_fragments.cpp). What is right stands in fragment_maps.txt.
//
// Of mma: one element of A at a time is 1 and the others 0, while the elements of B are numbered. Then an element of C
// is the number of the element of B that met the one of A, or 0; from all of them together follows where every element
// stands, but for what rows and columns are called. Those names are taken from the file.
#pragma once
#include <algorithm>
#include <fstream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/ptx.cuh"

namespace convcore::fragments {

constexpr int kLanes = 32;
constexpr int kHalves = 4 * kLanes * 2;  // of the largest operand: 4 registers of two halves in each lane

// out (elements of A, 32, 4): C for each element of A. kHalf: 2 where a register holds two elements, else 1. Elements
// are numbered by lane, register, half.
template <int kHalf>
CONVCORE_KERNEL(kLanes)
probe_mma(float* out) {
  const int lane = int(threadIdx.x);
  constexpr int kA = 4 * kHalf, kB = 2 * kHalf;  // elements per lane
  uint32_t b[2];
  for (int r = 0; r < 2; r++) {
    const float low = float(1 + lane * kB + r * kHalf), high = low + 1;
    b[r] = kHalf == 1 ? cuda::to_tf32(low) : cuda::to_bf16x2(low, high);
  }
  for (int element = 0; element < kLanes * kA; element++) {
    uint32_t a[4];
    for (int r = 0; r < 4; r++) {
      const int first = lane * kA + r * kHalf;
      const float low = first == element ? 1.0f : 0.0f, high = first + 1 == element ? 1.0f : 0.0f;
      a[r] = kHalf == 1 ? cuda::to_tf32(low) : cuda::to_bf16x2(low, high);
    }
    float c[4] = {0, 0, 0, 0};
    if constexpr (kHalf == 1)
      cuda::mma_tf32(c, a, b);
    else
      cuda::mma_bf16(c, a, b);
    for (int r = 0; r < 4; r++) out[(element * kLanes + lane) * 4 + r] = c[r];
  }
}

// out (32, 4): what each lane gets of 32 rows of 8 numbered 16-bit values.
CONVCORE_KERNEL(kLanes) probe_ldmatrix(uint32_t* out) {
  cuda::SharedMemory memory;
  uint16_t* rows = memory.array<uint16_t>(kLanes * 8);
  const int lane = int(threadIdx.x);
  for (int i = 0; i < 8; i++) rows[lane * 8 + i] = uint16_t(lane * 8 + i);
  __syncwarp();
  uint32_t d[4];
  cuda::ldmatrix4(d, rows + lane * 8);
  for (int r = 0; r < 4; r++) out[lane * 4 + r] = d[r];
}
constexpr size_t kProbeShared = kLanes * 8 * sizeof(uint16_t);

using Place = std::tuple<int, int, int>;  // lane, register, half
using Element = std::pair<int, int>;      // row, column
using Map = std::map<Place, Element>;
using Maps = std::map<std::string, Map>;  // by "instruction operand"

inline Maps read_maps(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  Maps maps;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream words(line);
    std::string instruction, operand;
    int lane, number, half, row, column;
    if (!(words >> instruction >> operand >> lane >> number >> half >> row >> column))
      throw std::runtime_error(path + ": not understood: " + line);
    maps[instruction + " " + operand][{lane, number, half}] = {row, column};
  }
  return maps;
}

constexpr int kUnclear = -1;  // a row or column on which what was recorded does not agree

// Notes a row and column; both become unclear when they were noted differently before.
inline void note(Map& map, const Place& place, const Element& element) {
  const auto [at, fresh] = map.emplace(place, element);
  if (!fresh && at->second != element) at->second = {kUnclear, kUnclear};
}

inline Place place_of(int element, int registers, int halves) {
  return {element / (registers * halves), element / halves % registers, element % halves};
}

// What probe_mma left in `out`, with the names of rows and columns from `right`.
inline Maps maps_of_mma(const std::string& name, const float* out, int halves, const Maps& right) {
  const Map &right_a = right.at(name + " A"), &right_b = right.at(name + " B"), &right_c = right.at(name + " C");
  Maps maps;
  for (int a = 0; a < kLanes * 4 * halves; a++)
    for (int lane = 0; lane < kLanes; lane++)
      for (int r = 0; r < 4; r++) {
        const int met = int(out[(a * kLanes + lane) * 4 + r]);
        if (met < 1 || met > kLanes * 2 * halves) continue;
        const Place at_a = place_of(a, 4, halves), at_b = place_of(met - 1, 2, halves), at_c = {lane, r, 0};
        const int m = right_c.at(at_c).first, n = right_c.at(at_c).second;
        note(maps[name + " A"], at_a, {m, right_b.at(at_b).first});
        note(maps[name + " B"], at_b, {right_a.at(at_a).second, n});
        note(maps[name + " C"], at_c, {right_a.at(at_a).first, right_b.at(at_b).second});
      }
  return maps;
}

inline Map map_of_ldmatrix(const uint32_t* out) {
  Map map;
  for (int lane = 0; lane < kLanes; lane++)
    for (int r = 0; r < 4; r++)
      for (int half = 0; half < 2; half++) {
        const int number = int(out[lane * 4 + r] >> (16 * half) & 0xFFFFu);
        map[{lane, r, half}] = {number / 8, number % 8};
      }
  return map;
}

inline std::string text_of(const Maps& maps) {
  std::ostringstream text;
  for (const auto& [name, map] : maps)
    for (const auto& [place, element] : map)
      text << name << " " << std::get<0>(place) << " " << std::get<1>(place) << " " << std::get<2>(place) << " "
           << element.first << " " << element.second << "\n";
  return text.str();
}

}  // namespace convcore::fragments
