// conv2d on planes (planes.h): one algorithm for any kernel size, stride, dilation, padding and groups.
//
// Cost: n * c_out * h_out * w_out * c_in/groups * kh * kw multiply-adds for each of the three passes. The backward pass
// with stride multiplies no zeros: dx is computed phase by phase, each from the taps that reach it.
#include "ops/conv2d.h"

#include "core/threads.h"
#include "cpu/conv2d/batch.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/conv2d/planes.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

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

}  // namespace

// ---- forward ------------------------------------------------------------------------------------------------------

namespace {

// Runs of taps and the place of each weight in a filter (c, r, s), for one group.
struct Runs {
  Buffer<TapRun> runs;
  Buffer<int64_t> weights;
  int64_t count = 0, terms = 0;
  bool single_taps = true;

  explicit Runs(int64_t most) : runs(most), weights(most) {}
  void add(int64_t offset, int64_t weight, bool below) {  // below: the tap reads the row below that of the last tap
    weights.data[terms++] = weight;
    if (below)
      runs.data[count - 1].taps++, single_taps = false;
    else
      runs.data[count++] = {offset, 1};
  }
};

}  // namespace

void planar_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  const LiveTaps live_h(s.window.h, s.h_in, s.h_out), live_w(s.window.w, s.w_in, s.w_out);
  const WindowAxis &wh = live_h.axis, &ww = live_w.axis;
  const Phases ph(wh), pw(ww);
  const int64_t c_in = s.c_in_per_group(), c_out = s.c_out_per_group(), terms = c_in * wh.kernel * ww.kernel;
  const int64_t row_of_filter = s.window.w.kernel, first_tap = live_h.first * row_of_filter + live_w.first;
  const int64_t pixels = s.h_out * s.w_out;
  const Buffer<Gather> phase_rows(ph.count), phase_columns(pw.count);
  for (int64_t e = 0; e < ph.count; e++) phase_rows.data[e] = {e * wh.dilation % wh.stride - wh.pad_before, wh.stride};
  for (int64_t e = 0; e < pw.count; e++)
    phase_columns.data[e] = {e * ww.dilation % ww.stride - ww.pad_before, ww.stride};
  const bool whole_rows = ww.stride == 1;
  PlaneLayout layout{};
  layout.in_rows = s.h_in, layout.in_columns = s.w_in;
  layout.columns = s.w_out + pw.max_shift, layout.pitch = whole_rows ? layout.columns : pitch_of(layout.columns);
  layout.phases = ph.count, layout.copies = pw.count;
  layout.phase_rows = phase_rows.data, layout.copy_columns = phase_columns.data;
  const int64_t block_rows =
      rows_per_block(s.n * s.groups, s.h_out, ph.max_shift, c_in * layout.phases * layout.copies * layout.pitch);
  const int64_t blocks = (s.h_out + block_rows - 1) / block_rows;
  layout.rows = block_rows + ph.max_shift;

  Runs runs(terms);
  const bool share = wh.dilation == greatest_common_divisor(wh.dilation, wh.stride) && block_rows > 1;
  for (int64_t c = 0; c < c_in; c++)
    for (int64_t i = 0; i < ww.kernel; i++)
      for (int64_t e = 0; e < ph.count; e++)
        for (int64_t r = e; r < wh.kernel; r += ph.period)
          runs.add(c * layout.channel() + layout.offset(e, i % pw.period, r * wh.dilation / wh.stride) +
                       i * ww.dilation / ww.stride,
                   c * s.taps() + first_tap + r * row_of_filter + i, share && r != e);
  const Buffer<float> packed(s.c_out * terms);  // (group, term, channel)
  parallel_for(s.c_out, terms, [&](int64_t begin, int64_t end) {
    for (int64_t k = begin; k < end; k++)
      for (int64_t t = 0; t < terms; t++)
        packed.data[(k / c_out * terms + t) * c_out + k % c_out] = w[k * c_in * s.taps() + runs.weights.data[t]];
  });

  const int64_t work = c_out * block_rows * s.w_out * terms / kLanes + c_in * layout.channel() / kLanes;
  parallel_for(s.n * s.groups * blocks, work, [&](int64_t begin, int64_t end) {
    float* filled = workspace(kPlaneSlot, c_in * layout.channel() + kLanes);
    float* scratch = workspace(kFillSlot, fill_scratch(layout));
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / (s.groups * blocks), g = task / blocks % s.groups, i0 = task % blocks * block_rows;
      const int64_t k = g * c_out;
      const float* image = x + (n * s.c_in + g * c_in) * s.h_in * s.w_in;
      if (whole_rows)
        fill_whole_rows(layout, c_in, image, Layout::row_major, 1, i0, filled);
      else
        fill_planes(layout, c_in, image, i0, filled, scratch);
      PlanarSum sum{};
      sum.m = c_out, sum.a = packed.data + k * terms, sum.bias = b ? b + k : nullptr;
      sum.planes = filled, sum.runs = runs.runs.data, sum.run_count = runs.count, sum.single_taps = runs.single_taps;
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
// alone, and the same holds along columns: stride_h * stride_w sums, none of which multiplies a zero. All of them read
// the same planes of dy, which are filled once per block of rows.

namespace {

// dx at rows h.first + a * stride_h and columns w.first + b * stride_w.
struct PlanarPhase {
  InputPhase h, w;
  const TapRun* runs;
  int64_t run_count, first_term;
};

}  // namespace

void planar_backward_input(const Conv2dShape& s, const float* dy, Layout dy_layout, const float* weight, float* dx) {
  if (batch_can_backward_input(s)) return batch_backward_input(s, dy, dy_layout, weight, dx);
  const LiveTaps live_h(s.window.h, s.h_in, s.h_out), live_w(s.window.w, s.w_in, s.w_out);
  const WindowAxis &wh = live_h.axis, &ww = live_w.axis;
  const int64_t row_of_filter = s.window.w.kernel, first_tap = live_h.first * row_of_filter + live_w.first;
  const int64_t c_in = s.c_in_per_group(), c_out = s.c_out_per_group();
  const int64_t phases_w = min_of(ww.stride, s.w_in), phases = min_of(wh.stride, s.h_in) * phases_w;
  if (phases == 0) return;

  // Planes of dy: one phase of rows, one copy of columns.
  const GradientSpan span_h(wh, s.h_in), span_w(ww, s.w_in);
  const Gather rows{span_h.first, 1}, columns{span_w.first, 1};
  PlaneLayout layout{};
  layout.in_rows = s.h_out, layout.in_columns = s.w_out;
  layout.columns = layout.pitch = max_of<int64_t>(1, span_w.size);
  layout.phases = layout.copies = 1;
  layout.phase_rows = &rows, layout.copy_columns = &columns;
  const int64_t most_rows = (s.h_in + wh.stride - 1) / wh.stride;
  const int64_t block_rows = rows_per_block(s.n * s.groups, most_rows, span_h.reach, c_out * layout.pitch);
  const int64_t blocks = (most_rows + block_rows - 1) / block_rows;
  layout.rows = block_rows + span_h.reach;

  const int64_t terms = c_out * wh.kernel * ww.kernel;  // of all phases: together each weight is used once
  Runs runs(terms);
  const Buffer<PlanarPhase> list(phases);
  for (int64_t p = 0; p < phases; p++) {
    PlanarPhase& phase = list.data[p];
    phase.h = InputPhase(wh, s.h_in, p / phases_w), phase.w = InputPhase(ww, s.w_in, p % phases_w);
    phase.runs = runs.runs.data + runs.count, phase.first_term = runs.terms;
    const int64_t first_run = runs.count;
    const bool share = wh.dilation == greatest_common_divisor(wh.dilation, wh.stride) && block_rows > 1;
    for (int64_t k = 0; k < c_out; k++)
      for (int64_t v = 0; v < phase.w.taps; v++)
        for (int64_t u = phase.h.taps - 1; u >= 0; u--)  // downwards in dy
          runs.add(k * layout.channel() + (phase.h.q0 - phase.h.shift(wh, u) - span_h.first) * layout.pitch +
                       phase.w.q0 - phase.w.shift(ww, v) - span_w.first,
                   k * c_in * s.taps() + first_tap + phase.h.tap(u) * row_of_filter + phase.w.tap(v),
                   share && u < phase.h.taps - 1);
    phase.run_count = runs.count - first_run;
  }
  const Buffer<float> packed(s.groups * terms * c_in);  // (group, term, channel)
  parallel_for(s.groups, terms * c_in, [&](int64_t begin, int64_t end) {
    for (int64_t g = begin; g < end; g++) {
      const float* group = weight + g * c_out * c_in * s.taps();
      for (int64_t t = 0; t < runs.terms; t++)
        for (int64_t c = 0; c < c_in; c++)
          packed.data[(g * terms + t) * c_in + c] = group[c * s.taps() + runs.weights.data[t]];
    }
  });

  const int64_t image = s.h_out * s.w_out, pixel = dy_layout == Layout::channels_last ? s.c_out : 1;
  const int64_t work = c_in * terms * block_rows * s.w_out / kLanes + c_out * layout.channel() / kLanes;
  parallel_for(s.n * s.groups * blocks, work, [&](int64_t begin, int64_t end) {
    float* filled = workspace(kPlaneSlot, c_out * layout.channel() + kLanes);
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / (s.groups * blocks), g = task / blocks % s.groups, a0 = task % blocks * block_rows;
      const int64_t k = g * c_out;
      fill_whole_rows(layout, c_out, dy + n * s.c_out * image + (pixel == 1 ? k * image : k), dy_layout, pixel, a0,
                      filled);
      for (int64_t p = 0; p < phases; p++) {
        const PlanarPhase& phase = list.data[p];
        PlanarSum sum{};
        sum.m = c_in, sum.a = packed.data + (g * terms + phase.first_term) * c_in;
        sum.planes = filled, sum.runs = phase.runs, sum.run_count = phase.run_count;
        sum.single_taps = runs.single_taps;
        sum.rows = max_of<int64_t>(0, min_of(block_rows, phase.h.count - a0)), sum.columns = phase.w.count;
        sum.pitch = layout.pitch;
        sum.out_m = s.h_in * s.w_in, sum.out_row = wh.stride * s.w_in, sum.out_column = ww.stride;
        sum.out = dx + (n * s.c_in + g * c_in) * sum.out_m + phase.h.first * s.w_in + phase.w.first + a0 * sum.out_row;
        planar_sum(sum);
      }
    }
  });
}

// ---- backward: weight ---------------------------------------------------------------------------------------------
//
// dw[k][c,t] = sum over images and pixels of dy[k][i,j] * plane_c[offset[t] + i*pitch + j], with dy copied to the same
// pitch: one run of aligned vectors per image (columns past the end are zeros in both). A tile of kWeightRows k times
// kWeightTaps (c,t) keeps its sums in registers over the images of a chunk, then adds up the lanes.
//
// Images are cut into shards, and output channels into ranges, by the shape alone; a task is one shard and one range.
// Each shard sums into its own copy of dw, and the copies are added in order.

namespace {

// A tile is up to kWeightRows filters; with fewer of them, more taps keep enough sums in flight. 6 x 4 sums + 6 of dy +
// 1 of x = 31 registers, 3 x 3 + 3 + 1 = 13.
constexpr int kWeightRows = kRegisters >= 32 ? 6 : 3;
constexpr int taps_of_tile(int rows) {
  const int taps = (kRegisters >= 32 ? 24 : 9) / rows;
  return taps < 8 ? taps : 8;
}
constexpr int kWeightTaps = taps_of_tile(kWeightRows);
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
  with_count<kWeightRows>(k, [&](auto rows) {
    with_count<taps_of_tile(rows.value)>(t, [&](auto taps) { sum_weight_tile<rows.value, taps.value>(tile); });
  });
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
    float* x_planes = workspace(kPlaneSlot, cuts.chunk * x_image + kLanes);
    float* dy_planes = workspace(kGradientSlot, cuts.chunk * dy_image + kLanes);
    float* scratch = workspace(kFillSlot, fill_scratch(layout));

    for (int64_t n0 = n_begin; n0 < n_end; n0 += cuts.chunk) {
      const int64_t images = min_of(cuts.chunk, n_end - n0);
      for (int64_t n = 0; n < images; n++)
        fill_whole_rows(dy_layout, k_end - k, dy + ((n0 + n) * s.c_out + k) * s.h_out * s.w_out, Layout::row_major, 1,
                        0, dy_planes + n * dy_image);
      for (int64_t c = 0; c < c_in; c += cuts.channels) {
        const int64_t c_count = min_of(cuts.channels, c_in - c), block_terms = c_count * s.taps();
        for (int64_t n = 0; n < images; n++) {
          const float* image = x + ((n0 + n) * s.c_in + g * c_in + c) * s.h_in * s.w_in;
          if (s.window.w.stride == 1)
            fill_whole_rows(layout, c_count, image, Layout::row_major, 1, 0, x_planes + n * x_image);
          else
            fill_planes(layout, c_count, image, 0, x_planes + n * x_image, scratch);
        }
        const int64_t most_taps = taps_of_tile(int(next_tile(k_end - k, kWeightRows)));
        for (int64_t t = 0, t_count; t < block_terms; t += t_count) {
          t_count = next_tile(block_terms - t, most_taps);
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

void planar_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  if (batch_can_backward_weight(s)) return batch_backward_weight(s, dy, x, dw);
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

}  // namespace convcore::cpu::CONVCORE_ISA
