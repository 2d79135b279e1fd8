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

// Weights in panels of kTileVecs vectors of channels: panel p holds (terms, width) floats, zeros past the last channel.
struct PackedWeights {
  int64_t terms, channels;
  Buffer<float> data;

  PackedWeights(int64_t terms_, int64_t channels_)
      : terms(terms_), channels(channels_), data(terms * pitch_of(channels)) {}
  int64_t panels() const { return (channels + kTileVecs * kLanes - 1) / (kTileVecs * kLanes); }
  int64_t vecs(int64_t panel) const {
    return min_of<int64_t>(kTileVecs, pitch_of(channels) / kLanes - panel * kTileVecs);
  }
  float* panel(int64_t p) const { return data.data + p * kTileVecs * kLanes * terms; }
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

template <int R, int V>
void sum_tile(const DirectSum& s, int64_t panel, const float* plane, float* out) {
  const float* w = s.w.panel(panel);
  const int64_t k = panel * kTileVecs * kLanes, last = min_of<int64_t>(kLanes, s.w.channels - k - (V - 1) * kLanes);
  Tile<R, V> tile;
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) {
    const Vec start = s.bias ? load_partial(s.bias + k + v * kLanes, v == V - 1 ? last : kLanes) : Vec{};
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) tile.acc[r][v] = start;
  }
  const int64_t* offsets = s.offsets;
  tile.multiply_add(
      s.w.terms, [&](int r, int64_t t) { return plane[offsets[t] + r]; },
      [&](int64_t t) { return w + t * (V * kLanes); });
#pragma GCC unroll 32
  for (int r = 0; r < R; r++, out += s.out_pixel) {
#pragma GCC unroll 8
    for (int v = 0; v < V - 1; v++) store(out + k + v * kLanes, tile.acc[r][v]);
    if (last == kLanes)
      store(out + k + (V - 1) * kLanes, tile.acc[r][V - 1]);
    else
      store_partial(out + k + (V - 1) * kLanes, tile.acc[r][V - 1], last);
  }
}

void direct_sum(const DirectSum& s) {
  for (int64_t panel = 0; panel < s.w.panels(); panel++)
    with_count<kTileVecs>(s.w.vecs(panel), [&](auto v) {
      constexpr int kMost = kAccumulators / v.value;
      for (int64_t i = 0; i < s.rows; i++)
        for (int64_t j = 0, pixels; j < s.columns; j += pixels) {
          pixels = next_tile(s.columns - j, kMost);
          with_count<kMost>(pixels, [&](auto r) {
            sum_tile<r.value, v.value>(s, panel, s.planes + i * s.pitch + j, s.out + i * s.out_row + j * s.out_pixel);
          });
        }
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

  PackedWeights packed(terms, s.c_out);
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
// over dy by the taps that reach them.

namespace {

void backward_input_phase(const Conv2dShape& s, const InputPhase& h, const InputPhase& w, const Source& dy,
                          const float* weight, float* dx) {
  const int64_t taps = h.taps * w.taps, terms = s.c_out * taps;
  const int64_t out_row = s.window.h.stride * s.w_in * s.c_in, out_pixel = s.window.w.stride * s.c_in;
  if (taps == 0) {  // no output sees these pixels
    parallel_for(s.n * h.count, w.count * s.c_in / kLanes, [&](int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; row++) {
        const int64_t n = row / h.count, a = row % h.count;
        float* to = dx + ((n * s.h_in + h.first) * s.w_in + w.first) * s.c_in + a * out_row;
        for (int64_t j = 0; j < w.count; j++) memset(to + j * out_pixel, 0, size_t(s.c_in) * sizeof(float));
      }
    });
    return;
  }

  // The weights of these taps, as rows (k, tap) of all input channels.
  PackedWeights packed(terms, s.c_in);
  const int64_t panel_width = kTileVecs * kLanes;
  parallel_for(packed.panels(), terms * panel_width, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) {
      const int64_t c0 = p * panel_width, width = packed.vecs(p) * kLanes;
      float* to = packed.panel(p);
      for (int64_t k = 0; k < s.c_out; k++)
        for (int64_t u = 0; u < h.taps; u++)
          for (int64_t v = 0; v < w.taps; v++, to += width) {
            const float* from = weight + (k * s.c_in + c0) * s.taps() + h.tap(u) * s.window.w.kernel + w.tap(v);
            for (int64_t c = 0; c < width; c++) to[c] = c0 + c < s.c_in ? from[c * s.taps()] : 0.0f;
          }
    }
  });

  const Gather rows{h.q0 - h.max_shift, 1}, columns{w.q0 - w.max_shift, 1};
  PlaneLayout layout{};
  layout.in_rows = s.h_out, layout.in_columns = s.w_out;
  layout.columns = w.count + w.max_shift, layout.pitch = pitch_of(layout.columns);
  layout.phases = layout.copies = 1;
  layout.phase_rows = &rows, layout.copy_columns = &columns;
  const int64_t block_rows = rows_per_block(s.n, h.count, h.max_shift, s.c_out * layout.pitch);
  const int64_t blocks = (h.count + block_rows - 1) / block_rows;
  layout.rows = block_rows + h.max_shift;
  const Buffer<int64_t> offsets(terms);
  for (int64_t t = 0; t < terms; t++) {
    const int64_t k = t / taps, u = t % taps / w.taps, v = t % w.taps;
    offsets.data[t] = k * layout.channel() + layout.offset(0, 0, h.max_shift - h.shift(s.window.h, u)) + w.max_shift -
                      w.shift(s.window.w, v);
  }

  const int64_t work = s.c_in * block_rows * w.count * terms / kLanes + s.c_out * layout.channel() / kLanes;
  parallel_for(s.n * blocks, work, [&](int64_t begin, int64_t end) {
    float* planes = workspace(kPlaneSlot, s.c_out * layout.channel());
    float* scratch = workspace(kFillSlot, fill_scratch(dy, layout));
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / blocks, a0 = task % blocks * block_rows;
      fill_planes(dy, layout, n, a0, planes, scratch);
      direct_sum({packed, nullptr, planes, offsets.data, min_of(block_rows, h.count - a0), w.count, layout.pitch,
                  dx + ((n * s.h_in + h.first) * s.w_in + w.first) * s.c_in + a0 * out_row, out_row, out_pixel});
    }
  });
}

}  // namespace

void direct_backward_input(const Conv2dShape& s, const float* dy, Layout dy_layout, const float* w, float* dx) {
  const Source source{dy, dy_layout, s.c_out, s.h_out, s.w_out};
  for (int64_t h0 = 0; h0 < min_of(s.window.h.stride, s.h_in); h0++)
    for (int64_t w0 = 0; w0 < min_of(s.window.w.stride, s.w_in); w0++)
      backward_input_phase(s, InputPhase(s.window.h, s.h_in, h0), InputPhase(s.window.w, s.w_in, w0), source, w, dx);
}

}  // namespace convcore::cpu::CONVCORE_ISA
