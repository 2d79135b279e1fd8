// conv2d with vectors of output channels, for channels-last results: any kernel size, stride, dilation and padding.
//
//   y[i][j][k..] = b[k..] + sum_t planes[offset[t] + i*pitch + j] * w[t][k..],   t over input channels and taps
//
// A tile is up to kAccumulators / V pixels of one row times V vectors of channels. Per term it loads V vectors of
// weights and broadcasts one float per pixel. The pixels come from planes (planes.h) in which neighbouring pixels are
// neighbouring floats, so that a tile's broadcasts differ by constants only; no alignment is needed, so there is one
// copy of the image per phase of the stride, not one per tap. Channels-last images are turned into planes block by
// block on the way: one load and one store more per vector, against kh * kw * c_out FMAs.
//
// 64 channels: 6 pixels x 4 vectors, 10 loads for 24 FMAs. 32: 12 x 2, 14 for 24. 16: 24 x 1, 25 for 24.
#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/conv2d/planes.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kAccumulators = kTileRows * kTileVecs;

// Terms summed in registers at once. Their weights, 32 KiB at most, stay in L1 for all tiles of a block of rows; and
// sums of sums have a smaller rounding error than one long chain.
constexpr int64_t kTermBlock = 128;

// Weights in panels of kTileVecs vectors of channels: panel p holds (terms, width) floats, zeros past the last channel.
struct PackedWeights {
  int64_t terms, channels;
  float* data;  // floats(terms, channels)

  static int64_t floats(int64_t terms, int64_t channels) { return terms * pitch_of(channels); }
  int64_t panels() const { return (channels + kTileVecs * kLanes - 1) / (kTileVecs * kLanes); }
  int64_t vecs(int64_t panel) const {
    return min_of<int64_t>(kTileVecs, pitch_of(channels) / kLanes - panel * kTileVecs);
  }
  float* panel(int64_t p) const { return data + p * kTileVecs * kLanes * terms; }
};

// What a block of output rows is computed from.
struct DirectSum {
  const PackedWeights& w;
  const float* bias;  // (channels) or null
  const float* planes;
  const int64_t* offsets;  // (terms)
  int64_t rows, columns, pitch;
  float* out;  // element (i, j, k) at i*out_row + j*out_pixel + k
  int64_t out_row, out_pixel;
};

// Terms t0 .. t0 + count - 1 of R pixels and one panel of V vectors. The first block of terms begins with the bias, the
// others add to `out`.
template <int R, int V>
void sum_tile(const DirectSum& s, int64_t panel, int64_t t0, int64_t count, const float* plane, float* out) {
  const float* w = s.w.panel(panel) + t0 * (V * kLanes);
  const int64_t k = panel * kTileVecs * kLanes, last = min_of<int64_t>(kLanes, s.w.channels - k - (V - 1) * kLanes);
  Tile<R, V> tile;
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) {
    const Vec start = s.bias && t0 == 0 ? load_partial(s.bias + k + v * kLanes, v == V - 1 ? last : kLanes) : Vec{};
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) tile.acc[r][v] = start;
  }
  const int64_t* offsets = s.offsets + t0;
  tile.multiply_add(
      count, [&](int r, int64_t t) { return plane[offsets[t] + r]; }, [&](int64_t t) { return w + t * (V * kLanes); });
  out += k;
#pragma GCC unroll 32
  for (int r = 0; r < R; r++, out += s.out_pixel) {
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      float* to = out + v * kLanes;
      const bool whole = v < V - 1 || last == kLanes;
      Vec total = tile.acc[r][v];
      if (t0 > 0) total += whole ? load(to) : load_partial(to, last);
      if (whole)
        store(to, total);
      else
        store_partial(to, total, last);
    }
  }
}

void direct_sum(const DirectSum& s) {
  for (int64_t panel = 0; panel < s.w.panels(); panel++)
    with_count<kTileVecs>(s.w.vecs(panel), [&](auto v) {
      constexpr int kMost = kAccumulators / v.value;
      int64_t t0 = 0;
      do {
        const int64_t count = s.w.terms == 0 ? 0 : next_tile(s.w.terms - t0, kTermBlock);
        for (int64_t i = 0; i < s.rows; i++)
          for (int64_t j = 0, pixels; j < s.columns; j += pixels) {
            pixels = next_tile(s.columns - j, kMost);
            with_count<kMost>(pixels, [&](auto r) {
              sum_tile<r.value, v.value>(s, panel, t0, count, s.planes + i * s.pitch + j,
                                         s.out + i * s.out_row + j * s.out_pixel);
            });
          }
        t0 += count;
      } while (t0 < s.w.terms);
    });
}

// Images in either order of memory, as row-major planes.
struct Source {
  const float* data;
  Layout layout;
  int64_t channels, rows, columns;
};

// Fills the planes of one image from row `row0` of the output on. The source rows that they need are turned into
// row-major order first, when they are not; `scratch` holds those and the scratch of fill_planes.
int64_t fill_scratch(const Source& x, const PlaneLayout& layout) {
  const int64_t turned = x.layout == Layout::channels_last ? x.channels * x.rows * x.columns : 0;
  return turned + fill_scratch(layout);
}

void fill_planes(const Source& x, const PlaneLayout& layout, int64_t n, int64_t row0, float* planes, float* scratch) {
  const float* image = x.data + n * x.channels * x.rows * x.columns;
  if (x.layout == Layout::row_major) return fill_planes(layout, x.channels, image, row0, planes, scratch);

  // Source rows first .. end - 1 are read by this block.
  int64_t first = x.rows, end = 0;
  for (int64_t e = 0; e < layout.phases; e++) {
    const Gather g = layout.phase_rows[e];
    first = min_of(first, g.first + row0 * g.step);
    end = max_of(end, g.first + (row0 + layout.rows - 1) * g.step + 1);
  }
  first = max_of<int64_t>(0, min_of(first, x.rows)), end = max_of(first, min_of(end, x.rows));
  const int64_t pixels = (end - first) * x.columns;
  transpose_matrix(pixels, x.channels, image + first * x.columns * x.channels, x.channels, scratch, pixels);

  PlaneLayout part = layout;  // the same planes, filled from rows first .. end - 1 alone
  Buffer<Gather> phase_rows(layout.phases);
  for (int64_t e = 0; e < layout.phases; e++)
    phase_rows.data[e] = {layout.phase_rows[e].first - first, layout.phase_rows[e].step};
  part.in_rows = end - first, part.phase_rows = phase_rows.data;
  fill_planes(part, x.channels, scratch, row0, planes, scratch + x.channels * x.rows * x.columns);
}

}  // namespace

// ---- forward ------------------------------------------------------------------------------------------------------

void direct_forward(const Conv2dShape& s, const float* x, Layout x_layout, const float* w, const float* b, float* y) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const Phases ph(wh), pw(ww);
  const int64_t terms = s.c_in * s.taps();
  const Source source{x, x_layout, s.c_in, s.h_in, s.w_in};

  const Buffer<float> packed_data(PackedWeights::floats(terms, s.c_out));
  const PackedWeights packed{terms, s.c_out, packed_data.data};
  const int64_t panel_width = kTileVecs * kLanes;
  parallel_for(packed.panels(), terms * panel_width, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      const int64_t k = p * panel_width, width = packed.vecs(p) * kLanes, count = min_of(width, s.c_out - k);
      if (count < width) memset(packed.panel(p), 0, size_t(terms * width) * sizeof(float));
      transpose_matrix(count, terms, w + k * terms, terms, packed.panel(p), width);
    }
  });

  const Buffer<Gather> phase_rows(ph.count), phase_columns(pw.count);
  for (int64_t e = 0; e < ph.count; e++) phase_rows.data[e] = {e * wh.dilation % wh.stride - wh.pad_before, wh.stride};
  for (int64_t e = 0; e < pw.count; e++)
    phase_columns.data[e] = {e * ww.dilation % ww.stride - ww.pad_before, ww.stride};
  PlaneLayout layout{};
  layout.in_rows = s.h_in, layout.in_columns = s.w_in;
  layout.columns = s.w_out + pw.max_shift, layout.pitch = pitch_of(layout.columns);
  layout.phases = ph.count, layout.copies = pw.count;
  layout.phase_rows = phase_rows.data, layout.copy_columns = phase_columns.data;
  const int64_t block_rows =
      rows_per_block(s.n, s.h_out, ph.max_shift, s.c_in * layout.phases * layout.copies * layout.pitch);
  const int64_t blocks = (s.h_out + block_rows - 1) / block_rows;
  layout.rows = block_rows + ph.max_shift;
  const Buffer<int64_t> offsets(terms);
  for (int64_t t = 0; t < terms; t++) {
    const int64_t c = t / s.taps(), r = t % s.taps() / ww.kernel, i = t % ww.kernel;
    offsets.data[t] = c * layout.channel() + layout.offset(r % ph.period, i % pw.period, r * wh.dilation / wh.stride) +
                      i * ww.dilation / ww.stride;
  }

  const int64_t work = s.c_out * block_rows * s.w_out * terms / kLanes + s.c_in * layout.channel() / kLanes;
  parallel_for(s.n * blocks, work, [&](int64_t begin, int64_t end) {
    float* planes = workspace(kPlaneSlot, s.c_in * layout.channel());
    float* scratch = workspace(kFillSlot, fill_scratch(source, layout));
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / blocks, i0 = task % blocks * block_rows;
      fill_planes(source, layout, n, i0, planes, scratch);
      direct_sum({packed, b, planes, offsets.data, min_of(block_rows, s.h_out - i0), s.w_out, layout.pitch,
                  y + (n * s.h_out + i0) * s.w_out * s.c_out, s.w_out * s.c_out, s.c_out});
    }
  });
}

// ---- backward: input ----------------------------------------------------------------------------------------------
//
// Phase by phase, as in planar.cpp: the rows and columns of dx with one residue modulo the stride are a stride-1 sum
// over dy by the taps that reach them. All phases read the same planes of dy, which are filled once per block of rows.

namespace {

// One phase: rows h.first + a * stride_h and columns w.first + b * stride_w of dx.
struct DirectPhase {
  InputPhase h, w;
  PackedWeights weights;
  int64_t* offsets;  // (terms)
  int64_t taps() const { return h.taps * w.taps; }
};

// The weights that reach a phase, as rows (k, tap) of all input channels.
void pack_phase(const Conv2dShape& s, const DirectPhase& phase, const float* weight, int64_t panel) {
  const int64_t c0 = panel * kTileVecs * kLanes, width = phase.weights.vecs(panel) * kLanes;
  float* to = phase.weights.panel(panel);
  for (int64_t k = 0; k < s.c_out; k++)
    for (int64_t u = 0; u < phase.h.taps; u++)
      for (int64_t v = 0; v < phase.w.taps; v++, to += width) {
        const float* from = weight + (k * s.c_in + c0) * s.taps() + phase.h.tap(u) * s.window.w.kernel + phase.w.tap(v);
        for (int64_t c = 0; c < width; c++) to[c] = c0 + c < s.c_in ? from[c * s.taps()] : 0.0f;
      }
}

}  // namespace

void direct_backward_input(const Conv2dShape& s, const float* dy, Layout dy_layout, const float* weight, float* dx) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const int64_t phases_w = min_of(ww.stride, s.w_in), phases = min_of(wh.stride, s.h_in) * phases_w;
  if (phases == 0) return;
  const Source source{dy, dy_layout, s.c_out, s.h_out, s.w_out};

  // Planes of dy: one phase of rows, one copy of columns.
  const GradientSpan span_h(wh, s.h_in), span_w(ww, s.w_in);
  const Gather rows{span_h.first, 1}, columns{span_w.first, 1};
  PlaneLayout layout{};
  layout.in_rows = s.h_out, layout.in_columns = s.w_out;
  layout.columns = max_of<int64_t>(1, span_w.size), layout.pitch = pitch_of(layout.columns);
  layout.phases = layout.copies = 1;
  layout.phase_rows = &rows, layout.copy_columns = &columns;
  const int64_t most_rows = (s.h_in + wh.stride - 1) / wh.stride;
  const int64_t block_rows = rows_per_block(s.n, most_rows, span_h.reach, s.c_out * layout.pitch);
  const int64_t blocks = (most_rows + block_rows - 1) / block_rows;
  layout.rows = block_rows + span_h.reach;

  const Buffer<DirectPhase> list(phases);
  const Buffer<float> packed(PackedWeights::floats(s.c_out * s.taps(), s.c_in));
  const Buffer<int64_t> offsets(s.c_out * s.taps());
  int64_t used = 0;  // terms of the phases so far: together each weight is used once
  for (int64_t p = 0; p < phases; p++) {
    DirectPhase& phase = list.data[p];
    phase.h = InputPhase(wh, s.h_in, p / phases_w), phase.w = InputPhase(ww, s.w_in, p % phases_w);
    const int64_t taps = phase.taps(), terms = s.c_out * taps;
    phase.weights = {terms, s.c_in, packed.data + PackedWeights::floats(used, s.c_in)};
    phase.offsets = offsets.data + used;
    used += terms;
    for (int64_t t = 0; t < terms; t++) {
      const int64_t k = t / taps, u = t % taps / phase.w.taps, v = t % phase.w.taps;
      phase.offsets[t] = k * layout.channel() + (phase.h.q0 - phase.h.shift(wh, u) - span_h.first) * layout.pitch +
                         phase.w.q0 - phase.w.shift(ww, v) - span_w.first;
    }
  }
  const int64_t panels = list.data[0].weights.panels();
  parallel_for(phases * panels, s.c_out * s.taps() * kTileVecs * kLanes / phases, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) pack_phase(s, list.data[i / panels], weight, i % panels);
  });

  const int64_t out_row = wh.stride * s.w_in * s.c_in, out_pixel = ww.stride * s.c_in;
  const int64_t work =
      s.c_in * s.c_out * s.taps() * block_rows * s.w_out / kLanes + s.c_out * layout.channel() / kLanes;
  parallel_for(s.n * blocks, work, [&](int64_t begin, int64_t end) {
    float* planes = workspace(kPlaneSlot, s.c_out * layout.channel());
    float* scratch = workspace(kFillSlot, fill_scratch(source, layout));
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / blocks, a0 = task % blocks * block_rows;
      fill_planes(source, layout, n, a0, planes, scratch);
      for (int64_t p = 0; p < phases; p++) {
        const DirectPhase& phase = list.data[p];
        const int64_t count = max_of<int64_t>(0, min_of(block_rows, phase.h.count - a0));
        float* out = dx + ((n * s.h_in + phase.h.first) * s.w_in + phase.w.first) * s.c_in + a0 * out_row;
        direct_sum({phase.weights, nullptr, planes, phase.offsets, count, phase.w.count, layout.pitch, out, out_row,
                    out_pixel});
      }
    }
  });
}

}  // namespace convcore::cpu::CONVCORE_ISA
