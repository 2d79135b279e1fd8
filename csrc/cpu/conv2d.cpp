// conv2d on planes (cpu/planar.h): one algorithm for any kernel size, stride, dilation, padding and groups.
//
// Cost: n * c_out * h_out * w_out * c_in/groups * kh * kw multiply-adds for each of the three passes. The backward pass
// with stride multiplies no zeros: dx is computed phase by phase, each from the taps that reach it.
#include "ops/conv2d.h"

#include "core/allocator.h"
#include "core/threads.h"
#include "cpu/conv2d/winograd.h"
#include "cpu/planar.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

enum Slot { kPlaneSlot, kFillSlot, kGradientSlot };  // workspaces of the calling thread

constexpr int64_t kBlockFloats = 1 << 16;  // planes of one block of rows: 256 KiB, a part of L2

float* workspace(Slot slot, int64_t floats) {
  return static_cast<float*>(thread_workspace(slot, size_t(floats) * sizeof(float)));
}

template <typename T>
struct Buffer {  // shared by the threads of one call
  ScratchBlock block;
  T* data;
  explicit Buffer(int64_t count) : block(size_t(count) * sizeof(T)), data(static_cast<T*>(block.data())) {}
};

int64_t greatest_common_divisor(int64_t a, int64_t b) { return b == 0 ? a : greatest_common_divisor(b, a % b); }

// The residues modulo the stride that the taps of an axis reach. Tap r reads phase r % period, `shift` places on.
struct Phases {
  int64_t period, count, max_shift;
  explicit Phases(const WindowAxis& w)
      : period(w.stride / greatest_common_divisor(w.dilation, w.stride)),
        count(min_of(w.kernel, period)),
        max_shift((w.kernel - 1) * w.dilation / w.stride) {}
};

// The plane layout that the forward pass and the weight gradient read.
struct InputPlanes {
  Phases phases;
  Buffer<Gather> phase_rows, copy_columns;
  PlaneLayout layout{};

  explicit InputPlanes(const Conv2dShape& s)
      : phases(s.window.h), phase_rows(phases.count), copy_columns(s.window.w.kernel) {
    const WindowAxis &h = s.window.h, &w = s.window.w;
    for (int64_t e = 0; e < phases.count; e++)
      phase_rows.data[e] = {e * h.dilation % h.stride - h.pad_before, h.stride};
    for (int64_t i = 0; i < w.kernel; i++) copy_columns.data[i] = {i * w.dilation - w.pad_before, w.stride};
    layout.in_rows = s.h_in, layout.in_columns = s.w_in;
    layout.columns = s.w_out, layout.pitch = pitch_of(s.w_out);
    layout.rows = s.h_out + phases.max_shift;
    layout.phases = phases.count, layout.copies = w.kernel;
    layout.phase_rows = phase_rows.data, layout.copy_columns = copy_columns.data;
  }

  // Where the taps of the channels of a group lie, in the order of a filter's weights (c, r, s).
  void term_offsets(const Conv2dShape& s, int64_t* offsets) const {
    const WindowAxis& h = s.window.h;
    for (int64_t c = 0; c < s.c_in_per_group(); c++)
      for (int64_t r = 0; r < h.kernel; r++)
        for (int64_t i = 0; i < s.window.w.kernel; i++)
          *offsets++ = c * layout.channel() + layout.offset(r % phases.period, i, r * h.dilation / h.stride);
  }
};

// Rows of output computed from one filling of the planes: few enough for L2, and with few images so few that there is
// work for eight threads. Depends on the shape only.
int64_t rows_per_block(int64_t images, int64_t rows, int64_t max_shift, int64_t floats_per_row) {
  constexpr int64_t kTasks = 8;
  const int64_t fit = kBlockFloats / max_of<int64_t>(1, floats_per_row) - max_shift;
  const int64_t fair = images >= kTasks ? rows : (rows * images + kTasks - 1) / kTasks;
  return max_of<int64_t>(1, min_of(rows, min_of(fit, fair)));
}

}  // namespace

// ---- forward ------------------------------------------------------------------------------------------------------

static void conv2d_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  InputPlanes planes(s);
  PlaneLayout& layout = planes.layout;
  const int64_t c_in = s.c_in_per_group(), c_out = s.c_out_per_group(), terms = c_in * s.taps();
  const int64_t pixels = s.h_out * s.w_out;
  const int64_t block_rows = rows_per_block(s.n * s.groups, s.h_out, planes.phases.max_shift,
                                            c_in * layout.phases * layout.copies * layout.pitch);
  const int64_t blocks = (s.h_out + block_rows - 1) / block_rows;
  layout.rows = block_rows + planes.phases.max_shift;
  const Buffer<int64_t> offsets(terms);
  planes.term_offsets(s, offsets.data);

  const int64_t work = c_out * block_rows * s.w_out * terms / kLanes + c_in * layout.channel() / kLanes;
  parallel_for(s.n * s.groups * blocks, work, [&](int64_t begin, int64_t end) {
    float* filled = workspace(kPlaneSlot, c_in * layout.channel());
    float* scratch = workspace(kFillSlot, fill_scratch(layout));
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / (s.groups * blocks), g = task / blocks % s.groups, i0 = task % blocks * block_rows;
      const int64_t k = g * c_out;
      fill_planes(layout, c_in, x + (n * s.c_in + g * c_in) * s.h_in * s.w_in, i0, filled, scratch);
      PlanarSum sum{};
      sum.m = c_out, sum.terms = terms;
      sum.a = w + k * terms, sum.bias = b ? b + k : nullptr;
      sum.planes = filled, sum.offsets = offsets.data;
      sum.rows = min_of(block_rows, s.h_out - i0), sum.columns = s.w_out, sum.pitch = layout.pitch;
      sum.out = y + (n * s.c_out + k) * pixels + i0 * s.w_out;
      sum.out_m = pixels, sum.out_row = s.w_out, sum.out_column = 1;
      planar_sum(sum);
    }
  });
}

// ---- backward: input ----------------------------------------------------------------------------------------------
//
// Row h of dx gets w[r] * dy[i] for every tap r and output row i with i * stride + r * dilation = h + pad. Write
// h = h0 + a * stride: then i = q0 + a - shift(r), for the taps r whose r * dilation has the residue of h0 + pad modulo
// the stride, q0 = (h0 + pad) div stride. So the rows with one h0 < stride are a stride-1 sum over dy by those taps
// alone, and the same holds along columns: stride_h * stride_w sums, none of which multiplies a zero.

namespace {

// One residue h0 of one axis of dx, and the taps that reach it.
struct InputPhase {
  int64_t first, count;  // rows h = first + a * stride, a < count
  int64_t q0, max_shift;
  int64_t first_tap, tap_step, taps;  // taps first_tap + u * tap_step, u < taps

  InputPhase(const WindowAxis& w, int64_t in, int64_t h0) : first(h0), count((in - h0 + w.stride - 1) / w.stride) {
    const int64_t residue = (h0 + w.pad_before) % w.stride;
    q0 = (h0 + w.pad_before) / w.stride;
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

// dx at rows h0 + a * stride_h and columns w0 + b * stride_w, all images and channels.
void backward_input_phase(const Conv2dShape& s, const InputPhase& h, const InputPhase& w, const float* dy,
                          const float* weight, float* dx) {
  const int64_t c_in = s.c_in_per_group(), c_out = s.c_out_per_group(), taps = h.taps * w.taps;
  const int64_t terms = c_out * taps;

  // Planes of dy: one phase of rows, ending at the shift 0; one copy per tap column.
  const Gather rows{h.q0 - h.max_shift, 1};
  const Buffer<Gather> columns(w.taps);
  for (int64_t u = 0; u < w.taps; u++) columns.data[u] = {w.q0 - w.shift(s.window.w, u), 1};
  PlaneLayout layout{};
  layout.in_rows = s.h_out, layout.in_columns = s.w_out;
  layout.columns = w.count, layout.pitch = pitch_of(w.count);
  layout.phases = 1, layout.phase_rows = &rows;
  layout.copies = w.taps, layout.copy_columns = columns.data;
  const int64_t block_rows = rows_per_block(s.n * s.groups, h.count, h.max_shift, c_out * layout.copies * layout.pitch);
  const int64_t blocks = (h.count + block_rows - 1) / block_rows;
  layout.rows = block_rows + h.max_shift;
  const Buffer<int64_t> offsets(terms);
  for (int64_t t = 0; t < terms; t++) {
    const int64_t k = t / taps, u = t % taps / w.taps, v = t % w.taps;
    offsets.data[t] = k * layout.channel() + layout.offset(0, v, h.max_shift - h.shift(s.window.h, u));
  }

  // The weights of these taps, in the order (c_in, k, tap).
  const Buffer<float> packed(s.c_in * terms);
  parallel_for(s.c_in, terms, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) {
      float* to = packed.data + c * terms;
      for (int64_t k = c / c_in * c_out; k < (c / c_in + 1) * c_out; k++) {
        const float* from = weight + (k * c_in + c % c_in) * s.taps();
        for (int64_t u = 0; u < h.taps; u++)
          for (int64_t v = 0; v < w.taps; v++) *to++ = from[h.tap(u) * s.window.w.kernel + w.tap(v)];
      }
    }
  });

  const int64_t work = c_in * terms * block_rows * w.count / kLanes + c_out * layout.channel() / kLanes;
  parallel_for(s.n * s.groups * blocks, work, [&](int64_t begin, int64_t end) {
    float* filled = workspace(kPlaneSlot, c_out * layout.channel());
    float* scratch = workspace(kFillSlot, fill_scratch(layout));
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / (s.groups * blocks), g = task / blocks % s.groups, a0 = task % blocks * block_rows;
      const int64_t c = g * c_in;
      fill_planes(layout, c_out, dy + (n * s.c_out + g * c_out) * s.h_out * s.w_out, a0, filled, scratch);
      PlanarSum sum{};
      sum.m = c_in, sum.terms = terms;
      sum.a = packed.data + c * terms;
      sum.planes = filled, sum.offsets = offsets.data;
      sum.rows = min_of(block_rows, h.count - a0), sum.columns = w.count, sum.pitch = layout.pitch;
      sum.out_m = s.h_in * s.w_in, sum.out_row = s.window.h.stride * s.w_in, sum.out_column = s.window.w.stride;
      sum.out = dx + (n * s.c_in + c) * sum.out_m + h.first * s.w_in + w.first + a0 * sum.out_row;
      planar_sum(sum);
    }
  });
}

}  // namespace

static void conv2d_backward_input(const Conv2dShape& s, const float* dy, const float* w, float* dx) {
  for (int64_t h0 = 0; h0 < min_of(s.window.h.stride, s.h_in); h0++)
    for (int64_t w0 = 0; w0 < min_of(s.window.w.stride, s.w_in); w0++)
      backward_input_phase(s, InputPhase(s.window.h, s.h_in, h0), InputPhase(s.window.w, s.w_in, w0), dy, w, dx);
}

// ---- backward: weight, bias ---------------------------------------------------------------------------------------
//
// dw[k][c,t] = sum over images and pixels of dy[k][i,j] * plane_c[offset[t] + i*pitch + j], with dy copied to the same
// pitch: one run of aligned vectors per image (columns past the end are zeros in both). A tile of kWeightRows k times
// kWeightTaps (c,t) keeps its sums in registers over the images of a chunk, then adds up the lanes.
//
// Images are cut into shards, and output channels into ranges, by the shape alone; a task is one shard and one range.
// Each shard sums into its own copy of dw, and the copies are added in order.

namespace {

constexpr int kWeightRows = kRegisters >= 32 ? 4 : 3;  // 4 x 6 sums + 4 of dy + 1 of x = 29 registers,
constexpr int kWeightTaps = kRegisters >= 32 ? 6 : 3;  // 3 x 3 + 3 + 1 = 13
constexpr int64_t kTileFloats = 6 << 10;  // planes that a tile of a chunk reads again for each k: 24 KiB, half of L1
constexpr int64_t kShards = 8;
constexpr int64_t kShardFloats = 4 << 20;  // all copies of dw together: 16 MiB

struct WeightTile {
  const float* dy;         // planes of the first k of the tile
  int64_t dy_k, dy_n;      // floats from k to k, from image to image
  const float* planes;     // x
  int64_t planes_n;        // floats from image to image
  const int64_t* offsets;  // of the tile's terms
  int64_t n, floats;       // images; floats of one plane of dy
  float* dw;               // (k, terms): overwritten by the first chunk, added to by the others
  int64_t dw_k;
  bool first;
};

template <int K, int T>
void sum_weight_tile(const WeightTile& tile) {
  constexpr int kVectors = (K * T + kLanes - 1) / kLanes;  // vectors of sums: the rest of the last one stays zero
  Vec acc[kVectors * kLanes];
#pragma GCC unroll 64
  for (int i = 0; i < kVectors * kLanes; i++) acc[i] = Vec{};
  for (int64_t n = 0; n < tile.n; n++) {
    const float* dy = tile.dy + n * tile.dy_n;
    const float* x[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) x[t] = tile.planes + n * tile.planes_n + tile.offsets[t];
    for (int64_t p = 0; p < tile.floats; p += kLanes) {
      Vec d[K];
#pragma GCC unroll 8
      for (int k = 0; k < K; k++) d[k] = load(dy + k * tile.dy_k + p);
#pragma GCC unroll 8
      for (int t = 0; t < T; t++) {
        const Vec v = load(x[t] + p);
#pragma GCC unroll 8
        for (int k = 0; k < K; k++) acc[k * T + t] += d[k] * v;
      }
    }
  }
  float totals[kVectors * kLanes];
#pragma GCC unroll 8
  for (int i = 0; i < kVectors; i++) {
    Vec part[kLanes];
#pragma GCC unroll 16
    for (int l = 0; l < kLanes; l++) part[l] = acc[i * kLanes + l];
    store(totals + i * kLanes, sums(part));
  }
  for (int k = 0; k < K; k++)
    for (int t = 0; t < T; t++) {
      float* dw = tile.dw + k * tile.dw_k + t;
      *dw = tile.first ? totals[k * T + t] : *dw + totals[k * T + t];
    }
}

void sum_weight_tile(int64_t k, int64_t t, const WeightTile& tile) {
  const auto with_k = [&](auto taps) {
    if constexpr (kWeightRows >= 4)
      if (k == 4) return sum_weight_tile<4, taps.value>(tile);
    if (k == 3) return sum_weight_tile<3, taps.value>(tile);
    if (k == 2) return sum_weight_tile<2, taps.value>(tile);
    return sum_weight_tile<1, taps.value>(tile);
  };
  if constexpr (kWeightTaps >= 6) {
    if (t == 6) return with_k(Const<6>{});
    if (t == 5) return with_k(Const<5>{});
    if (t == 4) return with_k(Const<4>{});
  }
  if (t == 3) return with_k(Const<3>{});
  if (t == 2) return with_k(Const<2>{});
  return with_k(Const<1>{});
}

// How the images and channels of a weight gradient are cut; a function of the shape alone.
struct WeightCuts {
  int64_t chunk;     // images summed in registers at once
  int64_t shards;    // of the images
  int64_t ranges;    // of the output channels of a group
  int64_t channels;  // input channels whose planes are filled at once

  WeightCuts(const Conv2dShape& s, int64_t dy_plane, int64_t x_channel) {
    chunk = max_of<int64_t>(1, min_of(s.n, kTileFloats / max_of<int64_t>(1, kWeightTaps * dy_plane)));
    const int64_t dw_floats = s.c_out * s.c_in_per_group() * s.taps();
    const int64_t chunks = (s.n + chunk - 1) / chunk;
    shards = max_of<int64_t>(1, min_of(min_of(kShards, chunks), kShardFloats / max_of<int64_t>(1, dw_floats)));
    ranges = max_of<int64_t>(1, min_of((s.c_out_per_group() + 2 * kWeightRows - 1) / (2 * kWeightRows),
                                       (kShards + shards * s.groups - 1) / (shards * s.groups)));
    channels = max_of<int64_t>(1, min_of(s.c_in_per_group(), kBlockFloats / max_of<int64_t>(1, chunk * x_channel)));
  }
};

// Sums the images n_begin .. n_end - 1 into the weights of the output channels k .. k_end - 1 of group g.
struct WeightTask {
  const Conv2dShape& s;
  const InputPlanes& input;
  const WeightCuts& cuts;
  const int64_t* offsets;
  const float *dy, *x;

  void run(int64_t n_begin, int64_t n_end, int64_t g, int64_t k, int64_t k_end, float* dw) const {
    const PlaneLayout& layout = input.layout;
    const Gather as_is{0, 1};
    PlaneLayout dy_layout{};  // dy as it is, rows padded to the pitch
    dy_layout.in_rows = dy_layout.rows = s.h_out, dy_layout.in_columns = dy_layout.columns = s.w_out;
    dy_layout.pitch = layout.pitch, dy_layout.phases = dy_layout.copies = 1;
    dy_layout.phase_rows = dy_layout.copy_columns = &as_is;

    const int64_t c_in = s.c_in_per_group(), terms = c_in * s.taps();
    const int64_t dy_plane = s.h_out * layout.pitch, dy_image = (k_end - k) * dy_plane;
    const int64_t x_image = cuts.channels * layout.channel();
    float* x_planes = workspace(kPlaneSlot, cuts.chunk * x_image);
    float* dy_planes = workspace(kGradientSlot, cuts.chunk * dy_image);
    float* scratch = workspace(kFillSlot, max_of(fill_scratch(layout), fill_scratch(dy_layout)));

    for (int64_t n0 = n_begin; n0 < n_end; n0 += cuts.chunk) {
      const int64_t images = min_of(cuts.chunk, n_end - n0);
      for (int64_t n = 0; n < images; n++)
        fill_planes(dy_layout, k_end - k, dy + ((n0 + n) * s.c_out + k) * s.h_out * s.w_out, 0,
                    dy_planes + n * dy_image, scratch);
      for (int64_t c = 0; c < c_in; c += cuts.channels) {
        const int64_t c_count = min_of(cuts.channels, c_in - c), block_terms = c_count * s.taps();
        for (int64_t n = 0; n < images; n++)
          fill_planes(layout, c_count, x + ((n0 + n) * s.c_in + g * c_in + c) * s.h_in * s.w_in, 0,
                      x_planes + n * x_image, scratch);
        for (int64_t t = 0, t_count; t < block_terms; t += t_count) {
          t_count = next_tile(block_terms - t, kWeightTaps);
          for (int64_t i = k, k_count; i < k_end; i += k_count) {
            k_count = next_tile(k_end - i, kWeightRows);
            WeightTile tile{};
            tile.dy = dy_planes + (i - k) * dy_plane, tile.dy_k = dy_plane, tile.dy_n = dy_image;
            tile.planes = x_planes, tile.planes_n = x_image, tile.offsets = offsets + t;
            tile.n = images, tile.floats = dy_plane;
            tile.dw = dw + i * terms + c * s.taps() + t, tile.dw_k = terms, tile.first = n0 == n_begin;
            sum_weight_tile(k_count, t_count, tile);
          }
        }
      }
    }
  }
};

}  // namespace

static void conv2d_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  const int64_t terms = s.c_in_per_group() * s.taps(), c_out = s.c_out_per_group(), count = s.c_out * terms;
  if (s.n == 0) {
    memset(dw, 0, size_t(count) * sizeof(float));
    return;
  }
  const InputPlanes input(s);
  const WeightCuts cuts(s, s.h_out * input.layout.pitch, input.layout.channel());
  const Buffer<int64_t> offsets(terms);
  input.term_offsets(s, offsets.data);
  const Buffer<float> copies((cuts.shards - 1) * count);  // shard 0 sums into dw itself

  const WeightTask task{s, input, cuts, offsets.data, dy, x};
  const int64_t tasks = s.groups * cuts.ranges;
  const int64_t work = s.n * s.h_out * input.layout.pitch * count / kLanes / (cuts.shards * tasks);
  parallel_for(cuts.shards * tasks, work, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) {
      const int64_t shard = i / tasks, g = i / cuts.ranges % s.groups, range = i % cuts.ranges;
      task.run(s.n * shard / cuts.shards, s.n * (shard + 1) / cuts.shards, g, g * c_out + c_out * range / cuts.ranges,
               g * c_out + c_out * (range + 1) / cuts.ranges, shard == 0 ? dw : copies.data + (shard - 1) * count);
    }
  });
  if (cuts.shards > 1)
    parallel_for((count + kLanes - 1) / kLanes, cuts.shards, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * kLanes; i < min_of(count, end * kLanes); i++)
        for (int64_t shard = 1; shard < cuts.shards; shard++) dw[i] += copies.data[(shard - 1) * count + i];
    });
}

static void conv2d_backward_bias(const Conv2dShape& s, const float* dy, float* db) {
  const int64_t pixels = s.h_out * s.w_out, whole = pixels / kLanes * kLanes;
  parallel_for(s.c_out, s.n * pixels / kLanes + 1, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++) {
      Vec total{};
      for (int64_t n = 0; n < s.n; n++) {
        const float* plane = dy + (n * s.c_out + k) * pixels;
        for (int64_t p = 0; p < whole; p += kLanes) total += load(plane + p);
        total += load_partial(plane + whole, pixels - whole);
      }
      db[k] = sum(total);
    }
  });
}

Conv2dKernels conv2d_kernels();
Conv2dKernels conv2d_kernels() {
  return {conv2d_forward,   conv2d_backward_input,  conv2d_backward_weight, conv2d_backward_bias,
          winograd_forward, winograd_backward_input};
}

}  // namespace convcore::cpu::CONVCORE_ISA
