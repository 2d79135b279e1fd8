// conv2d with vectors of output channels, for channels-last results: any kernel size, stride, dilation and padding.
//
//   y[i][j][k..] = b[k..] + sum_{tap, c} x[tap's pixel of (i, j)][c] * w[tap][c][k..]
//
// A tile is up to kAccumulators / V pixels of one row times V vectors of output channels. Per term it loads V vectors
// of weights and broadcasts one float per pixel. The image is copied block by block, with its padding, as pixels of
// kPixel channels: neighbouring pixels of a tile are kPixel floats apart, so that its broadcasts differ by constants
// only (an address per pixel would need more integer registers than there are). Columns with different residues modulo
// the stride ("phases") lie apart, so that this holds for every stride. A copied line costs a load and a store and
// takes part in about taps * c_out / stride^2 FMAs.
//
// 64 channels: 6 pixels x 4 vectors, 10 loads for 24 FMAs. 32: 12 x 2, 14 for 24. 16: 24 x 1, 25 for 24.
//
// Few input channels are copied as they come, pixel behind pixel: a row of taps then reads one stretch of floats, long
// enough to be one sum.
#include "core/threads.h"
#include "cpu/conv2d/geometry.h"
#include "cpu/conv2d/kernels.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kAccumulators = kTileRows * kTileVecs;
constexpr int64_t kPanel = kTileVecs * kLanes;
constexpr int64_t kPixel = 16;  // channels of a copied pixel, on every instruction set

// Terms summed in registers at once: 3x3 taps of a pixel. Their weights, 36 KiB at most, stay in L1 for all tiles of a
// block; and sums of sums have a smaller rounding error than one long chain.
constexpr int64_t kTermBlock = 144;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Place i of a copied axis is place first + i * step of the image; zeros where that is outside.
struct Gather {
  int64_t first, step;
};

// Copied pixels, in the order (image, channel block, row phase, row, column phase, column, kPixel).
struct PixelLayout {
  int64_t channels, row_phases, rows, column_phases, columns;
  const Gather *phase_rows, *phase_columns;
  int64_t row() const { return column_phases * columns * kPixel; }
  int64_t blocks() const { return ceil_div(channels, kPixel); }
  int64_t block_channels(int64_t block) const { return min_of(kPixel, channels - block * kPixel); }
  int64_t image() const { return blocks() * row_phases * rows * row(); }
  int64_t offset(int64_t block, int64_t row_phase, int64_t i, int64_t column_phase, int64_t j) const {
    return ((block * row_phases + row_phase) * rows + i) * row() + (column_phase * columns + j) * kPixel;
  }
};

struct Images {  // in either order of memory
  const float* data;
  Layout layout;
  int64_t channels, rows, columns;
};

// Pixels `step` floats apart become pixels of kPixel, of which the first `channels` are written (and perhaps more).
void copy_pixels(const float* from, int64_t step, int64_t count, int64_t channels, float* to) {
  if (channels == kPixel) {
    for (int64_t j = 0; j < count; j++, from += step, to += kPixel)
#pragma GCC unroll 4
      for (int64_t c = 0; c < kPixel; c += kLanes) store(to + c, load(from + c));
    return;
  }
  for (int64_t j = 0; j < count; j++, from += step, to += kPixel)
    for (int64_t c = 0; c < channels; c += kLanes)
      store(to + c, load_partial(from + c, min_of<int64_t>(kLanes, channels - c)));
}

void fill_zeros(float* to, int64_t floats) {
  for (int64_t i = 0; i < floats; i += kLanes) store(to + i, Vec{});
}

// One copied row of all column phases. Column j of the image is at from + j * step; null is a row outside.
void fill_row(const Images& x, const PixelLayout& layout, const float* from, int64_t step, int64_t channels,
              float* to) {
  if (!from) return fill_zeros(to, layout.row());
  for (int64_t f = 0; f < layout.column_phases; f++, to += layout.columns * kPixel) {
    const Gather g = layout.phase_columns[f];
    const int64_t begin = min_of(layout.columns, g.first < 0 ? ceil_div(-g.first, g.step) : 0);
    const int64_t end =
        max_of(begin, g.first < x.columns ? min_of(layout.columns, ceil_div(x.columns - g.first, g.step)) : 0);
    fill_zeros(to, begin * kPixel);
    copy_pixels(from + (g.first + begin * g.step) * step, g.step * step, end - begin, channels, to + begin * kPixel);
    fill_zeros(to + end * kPixel, (layout.columns - end) * kPixel);
  }
}

// The rows of one image from row `row0` of the output on. `turned` holds a row of pixels: x.columns * kPixel floats.
void fill_pixels(const Images& x, const PixelLayout& layout, int64_t n, int64_t row0, float* to, float* turned) {
  const int64_t plane = x.rows * x.columns;
  const float* image = x.data + n * x.channels * plane;
  for (int64_t e = 0; e < layout.row_phases; e++)
    for (int64_t a = 0; a < layout.rows; a++) {
      const int64_t i = layout.phase_rows[e].first + (row0 + a) * layout.phase_rows[e].step;
      const bool inside = 0 <= i && i < x.rows;
      for (int64_t block = 0; block < layout.blocks(); block++) {
        const int64_t c = block * kPixel, channels = layout.block_channels(block);
        const float* from = nullptr;
        int64_t step = x.channels;
        if (inside && x.layout == Layout::channels_last) {
          from = image + i * x.columns * x.channels + c;
        } else if (inside) {
          transpose_matrix(channels, x.columns, image + c * plane + i * x.columns, plane, turned, kPixel);
          from = turned, step = kPixel;
        }
        fill_row(x, layout, from, step, channels, to + layout.offset(block, e, a, 0, 0));
      }
    }
}

// Weights in panels of kTileVecs vectors of output channels. Panel p holds (terms, width) floats, zeros past the last
// channel. The terms are in the order (channel block, tap, channel of the block).
struct PackedWeights {
  int64_t c_in, taps, c_out;
  float* data;  // floats()

  int64_t terms() const { return c_in * taps; }
  int64_t vecs() const { return ceil_div(c_out, kLanes); }
  int64_t floats() const { return terms() * vecs() * kLanes; }
  int64_t panels() const { return ceil_div(vecs(), kTileVecs); }
  int64_t vecs(int64_t panel) const { return min_of<int64_t>(kTileVecs, vecs() - panel * kTileVecs); }
  float* panel(int64_t p) const { return data + p * kPanel * terms(); }
  int64_t place(int64_t c, int64_t tap) const {
    const int64_t first = c / kPixel * kPixel;
    return first * taps + tap * min_of(kPixel, c_in - first) + c - first;
  }
};

struct Reach {  // one tap and channel block, or one row of taps: where the terms of pixel (0, 0) lie, and how many
  int64_t offset, terms;
};

// What a block of output rows is computed from.
struct DirectSum {
  const PackedWeights& w;
  const float* bias;     // (c_out) or null
  const Reach* reaches;  // (channel blocks of the pixels, taps), or (rows of taps)
  int64_t reach_count;
  const float* pixels;
  int64_t pixels_image, pixels_row, pixels_step;  // the last: between neighbours of a row of the output
  int64_t images, rows, columns;
  float* out;  // element (n, i, j, k) at n*out_image + i*out_row + j*out_pixel + k
  int64_t out_image, out_row, out_pixel;
};

// Reaches first .. end - 1, whose terms begin at `term`, for R pixels and one panel of V vectors. The first reaches
// begin with the bias, the others add to `out`. kStep: pixels_step, or 0 when that is known at run time only.
template <int R, int V, int kStep>
__attribute__((noinline)) void sum_tile(const DirectSum& s, int64_t panel, int64_t first, int64_t end, int64_t term,
                                        const float* pixels, float* out) {
  const int64_t k = panel * kPanel, last = min_of<int64_t>(kLanes, s.w.c_out - k - (V - 1) * kLanes);
  const bool adds = first > 0;
  Tile<R, V> tile;
#pragma GCC unroll 8
  for (int v = 0; v < V; v++) {
    const Vec start = s.bias && !adds ? load_partial(s.bias + k + v * kLanes, v == V - 1 ? last : kLanes) : Vec{};
#pragma GCC unroll 32
    for (int r = 0; r < R; r++) tile.acc[r][v] = start;
  }
  const float* w = s.w.panel(panel) + term * (V * kLanes);
  const int64_t step = kStep > 0 ? kStep : s.pixels_step;
  for (int64_t i = first; i < end; i++) {
    const float* x = pixels + s.reaches[i].offset;
    const int64_t terms = s.reaches[i].terms;
    tile.multiply_add(
        terms, [&](int r, int64_t t) { return x[r * step + t]; }, [&](int64_t t) { return w + t * (V * kLanes); });
    w += terms * (V * kLanes);
  }
  out += k;
#pragma GCC unroll 32
  for (int r = 0; r < R; r++, out += s.out_pixel) {
#pragma GCC unroll 8
    for (int v = 0; v < V; v++) {
      float* to = out + v * kLanes;
      const bool whole = v < V - 1 || last == kLanes;
      Vec total = tile.acc[r][v];
      if (adds) total += whole ? load(to) : load_partial(to, last);
      if (whole)
        store(to, total);
      else
        store_partial(to, total, last);
    }
  }
}

template <int kStep>
void direct_sum(const DirectSum& s) {
  for (int64_t panel = 0; panel < s.w.panels(); panel++)
    with_count<kTileVecs>(s.w.vecs(panel), [&](auto v) {
      // With a step of any size each pixel of a tile takes an integer register.
      constexpr int kFit = kAccumulators / v.value, kMost = kStep > 0 || kFit < kTileRows ? kFit : kTileRows;
      int64_t first = 0, term = 0;
      do {
        int64_t end = s.reach_count;
        if (end > first)
          end = first + next_tile(end - first, max_of<int64_t>(1, kTermBlock / max_of<int64_t>(1, s.reaches[0].terms)));
        for (int64_t n = 0; n < s.images; n++)
          for (int64_t i = 0; i < s.rows; i++)
            for (int64_t j = 0, count; j < s.columns; j += count) {
              count = next_tile(s.columns - j, kMost);
              const float* pixels = s.pixels + n * s.pixels_image + i * s.pixels_row + j * s.pixels_step;
              float* out = s.out + n * s.out_image + i * s.out_row + j * s.out_pixel;
              with_count<kMost>(
                  count, [&](auto r) { sum_tile<r.value, v.value, kStep>(s, panel, first, end, term, pixels, out); });
            }
        for (; first < end; first++) term += s.reaches[first].terms;
      } while (first < s.reach_count);
    });
}

// Output computed from one filling of the pixels: some rows of an image, or some whole images. Few enough for L2, and
// with few images so few that there is work for eight threads. Depends on the shape alone.
struct Cut {
  int64_t rows, row_blocks, images, tasks;

  Cut(int64_t n, int64_t h_out, int64_t max_shift, int64_t floats_per_row) {
    constexpr int64_t kTasks = 8;
    rows = rows_per_block(n, h_out, max_shift, floats_per_row);
    row_blocks = ceil_div(h_out, rows);
    const int64_t fit = kBlockFloats / max_of<int64_t>(1, (h_out + max_shift) * floats_per_row);
    images = row_blocks > 1 ? 1 : max_of<int64_t>(1, min_of(fit, n / kTasks));
    tasks = row_blocks * ceil_div(n, images);
  }
};

}  // namespace

// ---- forward ------------------------------------------------------------------------------------------------------

namespace {

// w (c_out, c_in, taps), transposed in registers, kLanes terms and output channels at a time.
void pack_weights(const PackedWeights& packed, const float* w, int64_t panel) {
  const int64_t k0 = panel * kPanel, width = packed.vecs(panel) * kLanes, terms = packed.terms();
  float* to = packed.panel(panel);
  for (int64_t t = 0; t < terms; t += kLanes) {
    const int64_t count = min_of<int64_t>(kLanes, terms - t);
    for (int64_t k = 0; k < width; k += kLanes) {
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int r = 0; r < kLanes; r++)
        block[r] = k0 + k + r < packed.c_out ? load_partial(w + (k0 + k + r) * terms + t, count) : Vec{};
      transpose(block);
      for (int64_t r = 0; r < count; r++)
        store(to + packed.place((t + r) / packed.taps, (t + r) % packed.taps) * width + k, block[r]);
    }
  }
}

void pack_weights(const PackedWeights& packed, const float* w) {
  parallel_for(packed.panels(), packed.terms() * kPanel / 4, [&](int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; p++) pack_weights(packed, w, p);
  });
}

// Rows of x with their padding, pixel behind pixel: rows first_row .. of `columns` pixels, `left` of them before the
// image. `to` has kLanes floats to spare.
void fill_dense_rows(const Images& x, int64_t n, int64_t first_row, int64_t rows, int64_t left, int64_t columns,
                     float* to) {
  const int64_t plane = x.rows * x.columns, row = columns * x.channels, begin = min_of(left, columns);
  const int64_t count = min_of(x.columns, columns - begin);
  const float* image = x.data + n * x.channels * plane;
  fill_zeros(to, rows * row);
  for (int64_t a = 0; a < rows; a++) {
    const int64_t i = first_row + a;
    if (i < 0 || i >= x.rows) continue;
    float* pixels = to + a * row + begin * x.channels;
    if (x.layout == Layout::channels_last)
      memcpy(pixels, image + i * x.columns * x.channels, size_t(count * x.channels) * sizeof(float));
    else
      transpose_matrix(x.channels, count, image + i * x.columns, plane, pixels, x.channels);
  }
}

constexpr int64_t kFewChannels = 12;  // less than that: a copied pixel of kPixel floats would be mostly empty

// For few input channels and columns without dilation.
void forward_by_rows(const Conv2dShape& s, const Images& images, const PackedWeights& packed, const float* b,
                     float* y) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const int64_t columns = (s.w_out - 1) * ww.stride + ww.kernel, row = columns * s.c_in;
  const Buffer<Reach> reaches(wh.kernel);
  for (int64_t r = 0; r < wh.kernel; r++) reaches.data[r] = {r * wh.dilation * row, ww.kernel * s.c_in};
  const Cut cut(s.n, s.h_out, wh.extent() / wh.stride, wh.stride * row);
  const int64_t image_rows = (cut.rows - 1) * wh.stride + wh.extent(), image = image_rows * row;
  const int64_t work = cut.images * (s.c_out * cut.rows * s.w_out * packed.terms() / kLanes + image / kLanes);
  parallel_for(cut.tasks, work, [&](int64_t begin, int64_t end) {
    float* pixels = workspace(kPlaneSlot, cut.images * image + kLanes);
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / cut.row_blocks * cut.images, i = task % cut.row_blocks * cut.rows;
      const int64_t count = min_of(cut.images, s.n - n), rows = min_of(cut.rows, s.h_out - i);
      for (int64_t m = 0; m < count; m++)
        fill_dense_rows(images, n + m, i * wh.stride - wh.pad_before, (rows - 1) * wh.stride + wh.extent(),
                        ww.pad_before, columns, pixels + m * image);
      const int64_t out_row = s.w_out * s.c_out;
      direct_sum<0>({packed, b, reaches.data, wh.kernel, pixels, image, wh.stride * row, ww.stride * s.c_in, count,
                     rows, s.w_out, y + (n * s.h_out + i) * out_row, s.h_out * out_row, out_row, s.c_out});
    }
  });
}

}  // namespace

void direct_forward(const Conv2dShape& s, const float* x, Layout x_layout, const float* w, const float* b, float* y) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const Phases ph(wh), pw(ww);
  const Images images{x, x_layout, s.c_in, s.h_in, s.w_in};

  PackedWeights packed{s.c_in, s.taps(), s.c_out, nullptr};
  const Buffer<float> packed_data(packed.floats());
  packed.data = packed_data.data;
  pack_weights(packed, w);
  if (s.c_in < kFewChannels && ww.dilation == 1) return forward_by_rows(s, images, packed, b, y);

  const Buffer<Gather> phase_rows(ph.count), phase_columns(pw.count);
  for (int64_t e = 0; e < ph.count; e++) phase_rows.data[e] = {e * wh.dilation % wh.stride - wh.pad_before, wh.stride};
  for (int64_t e = 0; e < pw.count; e++)
    phase_columns.data[e] = {e * ww.dilation % ww.stride - ww.pad_before, ww.stride};
  PixelLayout layout{s.c_in, ph.count, 0, pw.count, s.w_out + pw.max_shift, phase_rows.data, phase_columns.data};
  const Cut cut(s.n, s.h_out, ph.max_shift, layout.blocks() * ph.count * layout.row());
  layout.rows = cut.rows + ph.max_shift;
  const Buffer<Reach> reaches(layout.blocks() * s.taps());
  for (int64_t n = 0; n < layout.blocks() * s.taps(); n++) {
    const int64_t block = n / s.taps(), r = n % s.taps() / ww.kernel, i = n % s.taps() % ww.kernel;
    reaches.data[n] = {
        layout.offset(block, r % ph.period, r * wh.dilation / wh.stride, i % pw.period, i * ww.dilation / ww.stride),
        layout.block_channels(block)};
  }

  const int64_t work = cut.images * (s.c_out * cut.rows * s.w_out * packed.terms() / kLanes + layout.image() / kLanes);
  parallel_for(cut.tasks, work, [&](int64_t begin, int64_t end) {
    float* pixels = workspace(kPlaneSlot, cut.images * layout.image());
    float* turned = workspace(kFillSlot, s.w_in * kPixel);
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / cut.row_blocks * cut.images, i = task % cut.row_blocks * cut.rows;
      const int64_t count = min_of(cut.images, s.n - n);
      for (int64_t m = 0; m < count; m++) fill_pixels(images, layout, n + m, i, pixels + m * layout.image(), turned);
      const int64_t out_row = s.w_out * s.c_out;
      direct_sum<kPixel>({packed, b, reaches.data, layout.blocks() * s.taps(), pixels, layout.image(), layout.row(),
                          kPixel, count, min_of(cut.rows, s.h_out - i), s.w_out, y + (n * s.h_out + i) * out_row,
                          s.h_out * out_row, out_row, s.c_out});
    }
  });
}

// ---- backward: input ----------------------------------------------------------------------------------------------
//
// Phase by phase, as in planar.cpp: the rows and columns of dx with one residue modulo the stride are a stride-1 sum
// over dy by the taps that reach them. All phases read the same pixels of dy, which are copied once per block of rows.

namespace {

// One phase: rows h.first + a * stride_h and columns w.first + b * stride_w of dx.
struct DirectPhase {
  InputPhase h, w;
  PackedWeights weights;
  Reach* reaches;  // (channel blocks of dy, taps)
};

// The weights that reach a phase. Their "input" channels are those of dy.
void pack_phase(const Conv2dShape& s, const DirectPhase& phase, const float* weight, int64_t panel) {
  const PackedWeights& packed = phase.weights;
  const int64_t c0 = panel * kPanel, width = packed.vecs(panel) * kLanes;
  float* to = packed.panel(panel);
  for (int64_t k0 = 0; k0 < s.c_out; k0 += kPixel)
    for (int64_t u = 0; u < phase.h.taps; u++)
      for (int64_t v = 0; v < phase.w.taps; v++)
        for (int64_t k = k0; k < min_of(s.c_out, k0 + kPixel); k++, to += width) {
          const float* from =
              weight + (k * s.c_in + c0) * s.taps() + phase.h.tap(u) * s.window.w.kernel + phase.w.tap(v);
          for (int64_t c = 0; c < width; c++) to[c] = c0 + c < s.c_in ? from[c * s.taps()] : 0.0f;
        }
}

}  // namespace

void direct_backward_input(const Conv2dShape& s, const float* dy, Layout dy_layout, const float* weight, float* dx) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const int64_t phases_w = min_of(ww.stride, s.w_in), phases = min_of(wh.stride, s.h_in) * phases_w;
  if (phases == 0) return;
  const Images images{dy, dy_layout, s.c_out, s.h_out, s.w_out};

  const GradientSpan span_h(wh, s.h_in), span_w(ww, s.w_in);
  const Gather rows{span_h.first, 1}, columns{span_w.first, 1};
  PixelLayout layout{s.c_out, 1, 0, 1, max_of<int64_t>(1, span_w.size), &rows, &columns};
  const int64_t most_rows = ceil_div(s.h_in, wh.stride);
  const Cut cut(s.n, most_rows, span_h.reach, layout.blocks() * layout.row());
  layout.rows = cut.rows + span_h.reach;

  const Buffer<DirectPhase> list(phases);
  const Buffer<float> packed(PackedWeights{s.c_out, s.taps(), s.c_in, nullptr}.floats());
  const Buffer<Reach> reaches(layout.blocks() * s.taps());
  int64_t used = 0, used_floats = 0;  // by the phases so far: together each tap is used once
  for (int64_t p = 0; p < phases; p++) {
    DirectPhase& phase = list.data[p];
    phase.h = InputPhase(wh, s.h_in, p / phases_w), phase.w = InputPhase(ww, s.w_in, p % phases_w);
    const int64_t taps = phase.h.taps * phase.w.taps;
    phase.weights = {s.c_out, taps, s.c_in, packed.data + used_floats};
    phase.reaches = reaches.data + used;
    used += layout.blocks() * taps, used_floats += phase.weights.floats();
    for (int64_t i = 0; i < layout.blocks() * taps; i++) {
      const int64_t block = i / taps, u = i % taps / phase.w.taps, v = i % phase.w.taps;
      phase.reaches[i] = {layout.offset(block, 0, phase.h.q0 - phase.h.shift(wh, u) - span_h.first, 0,
                                        phase.w.q0 - phase.w.shift(ww, v) - span_w.first),
                          layout.block_channels(block)};
    }
  }
  const int64_t panels = list.data[0].weights.panels();
  parallel_for(phases * panels, s.c_out * s.taps() * kPanel / phases, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) pack_phase(s, list.data[i / panels], weight, i % panels);
  });

  const int64_t image = s.h_in * s.w_in * s.c_in, out_row = wh.stride * s.w_in * s.c_in, out_pixel = ww.stride * s.c_in;
  const int64_t work =
      cut.images * (s.c_in * s.c_out * s.taps() * cut.rows * s.w_out / kLanes + layout.image() / kLanes);
  parallel_for(cut.tasks, work, [&](int64_t begin, int64_t end) {
    float* pixels = workspace(kPlaneSlot, cut.images * layout.image());
    float* turned = workspace(kFillSlot, s.w_out * kPixel);
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / cut.row_blocks * cut.images, a0 = task % cut.row_blocks * cut.rows;
      const int64_t count = min_of(cut.images, s.n - n);
      for (int64_t m = 0; m < count; m++) fill_pixels(images, layout, n + m, a0, pixels + m * layout.image(), turned);
      for (int64_t p = 0; p < phases; p++) {
        const DirectPhase& phase = list.data[p];
        const int64_t phase_rows = max_of<int64_t>(0, min_of(cut.rows, phase.h.count - a0));
        float* out = dx + n * image + (phase.h.first * s.w_in + phase.w.first) * s.c_in + a0 * out_row;
        direct_sum<kPixel>({phase.weights, nullptr, phase.reaches, layout.blocks() * phase.weights.taps, pixels,
                            layout.image(), layout.row(), kPixel, count, phase_rows, phase.w.count, out, image, out_row,
                            out_pixel});
      }
    }
  });
}

}  // namespace convcore::cpu::CONVCORE_ISA
