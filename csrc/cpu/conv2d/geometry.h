// What the convolution kernels share: workspaces, and the arithmetic of strides.
#pragma once
#include "core/allocator.h"
#include "core/window.h"
#include "cpu/vec.h"

namespace convcore::cpu::CONVCORE_ISA {

enum Slot { kPlaneSlot, kFillSlot, kGradientSlot };  // workspaces of the calling thread

constexpr int64_t kBlockFloats = 1 << 16;  // planes of one block of rows: 256 KiB, a part of L2

static inline float* workspace(Slot slot, int64_t floats) {
  return static_cast<float*>(thread_workspace(slot, size_t(floats) * sizeof(float)));
}

template <typename T>
struct Buffer {  // shared by the threads of one call
  ScratchBlock block;
  T* data;
  explicit Buffer(int64_t count) : block(size_t(count) * sizeof(T)), data(static_cast<T*>(block.data())) {}
};

static inline int64_t greatest_common_divisor(int64_t a, int64_t b) {
  return b == 0 ? a : greatest_common_divisor(b, a % b);
}

// The residues modulo the stride that the taps of an axis reach. Tap r reads phase r % period, `shift` places on.
struct Phases {
  int64_t period, count, max_shift;
  explicit Phases(const WindowAxis& w)
      : period(w.stride / greatest_common_divisor(w.dilation, w.stride)),
        count(min_of(w.kernel, period)),
        max_shift((w.kernel - 1) * w.dilation / w.stride) {}
};

// The taps of an axis that meet a pixel at all: taps `first` .. first + axis.kernel - 1, at least one. Planes for these
// are at most about as large as input and output together, whatever the dilation and the padding.
struct LiveTaps {
  int64_t first;
  WindowAxis axis;
  LiveTaps(const WindowAxis& w, int64_t in, int64_t out) : first(0), axis(w) {
    const auto start = [&](int64_t tap) { return tap * w.dilation - w.pad_before; };  // the pixel it meets at place 0
    while (first < w.kernel - 1 && (out - 1) * w.stride + start(first) < 0) first++;
    int64_t end = w.kernel;
    while (end > first + 1 && start(end - 1) >= in) end--;
    axis.kernel = end - first;
    axis.pad_before -= first * w.dilation;
  }
};

// Rows of output computed from one filling of the planes: few enough for L2, and with few images so few that there is
// work for eight threads. Depends on the shape only.
static inline int64_t rows_per_block(int64_t images, int64_t rows, int64_t max_shift, int64_t floats_per_row) {
  constexpr int64_t kTasks = 8;
  const int64_t fit = kBlockFloats / max_of<int64_t>(1, floats_per_row) - max_shift;
  const int64_t fair = images >= kTasks ? rows : (rows * images + kTasks - 1) / kTasks;
  return max_of<int64_t>(1, min_of(rows, min_of(fit, fair)));
}

// One residue h0 of one axis of dx, and the taps that reach it.
struct InputPhase {
  int64_t first, count;  // rows h = first + a * stride, a < count
  int64_t q0, max_shift;
  int64_t first_tap, tap_step, taps;  // taps first_tap + u * tap_step, u < taps

  InputPhase() = default;
  InputPhase(const WindowAxis& w, int64_t in, int64_t h0) : first(h0), count((in - h0 + w.stride - 1) / w.stride) {
    const int64_t residue = ((h0 + w.pad_before) % w.stride + w.stride) % w.stride;  // LiveTaps may pad by less than 0
    q0 = (h0 + w.pad_before - residue) / w.stride;
    tap_step = Phases(w).period;
    first_tap = 0;
    while (first_tap < min_of(tap_step, w.kernel) && first_tap * w.dilation % w.stride != residue) first_tap++;
    const bool reached = first_tap < min_of(tap_step, w.kernel);
    taps = reached ? (w.kernel - 1 - first_tap) / tap_step + 1 : 0;
    max_shift = reached ? shift(w, taps - 1) : 0;
  }
  int64_t tap(int64_t u) const { return first_tap + u * tap_step; }
  int64_t shift(const WindowAxis& w, int64_t u) const { return tap(u) * w.dilation / w.stride; }
};

// Rows or columns of dy that the phases of one axis read: `size` of them from `first` on, and place a of a phase reads
// up to first + a + reach.
struct GradientSpan {
  int64_t first, size, reach;
  GradientSpan(const WindowAxis& w, int64_t in) : first(0), size(0), reach(0) {
    int64_t end = 0, last_q0 = 0;
    bool any = false;
    for (int64_t h0 = 0; h0 < min_of(w.stride, in); h0++) {
      const InputPhase phase(w, in, h0);
      if (phase.taps == 0) continue;
      first = any ? min_of(first, phase.q0 - phase.max_shift) : phase.q0 - phase.max_shift;
      end = any ? max_of(end, phase.q0 + phase.count) : phase.q0 + phase.count;
      last_q0 = any ? max_of(last_q0, phase.q0) : phase.q0;
      any = true;
    }
    size = end - first, reach = last_q0 - first;
  }
};

}  // namespace convcore::cpu::CONVCORE_ISA
