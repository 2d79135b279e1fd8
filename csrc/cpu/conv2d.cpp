// conv2d on planes (cpu/planar.h): one algorithm for any kernel size, stride, dilation, padding and groups.
//
// Cost: n * c_out * h_out * w_out * c_in/groups * kh * kw multiply-adds for each of the three passes. The backward pass
// with stride multiplies no zeros: dx is computed phase by phase, each from the taps that reach it.
#include "ops/conv2d.h"

#include "core/allocator.h"
#include "core/threads.h"
#include "cpu/planar.h"
#include "cpu/tile.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kPlaneSlot = 0, kScratchSlot = 1;  // workspaces of the calling thread

float* workspace(int slot, int64_t floats) {
  return static_cast<float*>(thread_workspace(slot, size_t(floats + kPlaneSlack) * sizeof(float)));
}

// Planes with their slack cleared: a tile may read past the last pixel, and must find numbers there.
float* plane_workspace(int64_t floats) {
  float* planes = workspace(kPlaneSlot, floats);
  memset(planes + floats, 0, size_t(kPlaneSlack) * sizeof(float));
  return planes;
}

template <typename T>
struct Buffer {  // shared by the threads of one call
  std::shared_ptr<void> block;
  T* data;
  explicit Buffer(int64_t count) : block(allocate(size_t(count) * sizeof(T))), data(static_cast<T*>(block.get())) {}
};

PlaneLayout input_planes(const Conv2dShape& s) {
  return {PhaseAxis(s.window.h, s.h_in, s.h_out), PhaseAxis(s.window.w, s.w_in, s.w_out)};
}

void tap_offsets(const Conv2dShape& s, const PlaneLayout& layout, int64_t* offsets) {
  for (int64_t r = 0; r < s.window.h.kernel; r++)
    for (int64_t i = 0; i < s.window.w.kernel; i++) offsets[r * s.window.w.kernel + i] = layout.offset(r, i);
}

// With few images a single one is cut by channels as well, so that threads find work. The cut depends on the shape only.
int64_t channel_cuts(int64_t n, int64_t channels) {
  constexpr int64_t kEnoughImages = 8;
  return n >= kEnoughImages ? 1 : max_of<int64_t>(1, (channels + 2 * kTileRows - 1) / (2 * kTileRows));
}

}  // namespace

// ---- forward ------------------------------------------------------------------------------------------------------

static void conv2d_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  const PlaneLayout layout = input_planes(s);
  const int64_t c_in = s.c_in_per_group(), c_out = s.c_out_per_group(), pixels = s.h_out * s.w_out;
  const int64_t cuts = channel_cuts(s.n, c_out);
  const Buffer<int64_t> offsets(s.taps());
  tap_offsets(s, layout, offsets.data);

  const int64_t work = c_out / cuts * pixels * c_in * s.taps() / kLanes + c_in * layout.channel();
  parallel_for(s.n * s.groups * cuts, work, [&](int64_t begin, int64_t end) {
    float* planes = plane_workspace(c_in * layout.channel());
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / (s.groups * cuts), g = task / cuts % s.groups, cut = task % cuts;
      const int64_t k = g * c_out + c_out * cut / cuts, k_end = g * c_out + c_out * (cut + 1) / cuts;
      fill_planes(layout, c_in, x + (n * s.c_in + g * c_in) * s.h_in * s.w_in, planes);
      PlanarSum sum{};
      sum.m = k_end - k, sum.channels = c_in, sum.taps = s.taps();
      sum.a = w + k * c_in * s.taps(), sum.a_row = c_in * s.taps();
      sum.bias = b ? b + k : nullptr;
      sum.planes = planes, sum.plane_stride = layout.channel(), sum.offsets = offsets.data;
      sum.rows = s.h_out, sum.columns = s.w_out, sum.pitch = layout.pitch();
      sum.out = y + (n * s.c_out + k) * pixels, sum.out_m = pixels, sum.out_row = s.w_out, sum.out_column = 1;
      planar_sum(sum, workspace(kScratchSlot, planar_scratch(sum)));
    }
  });
}

// ---- backward: input ----------------------------------------------------------------------------------------------
//
// dx[h] with h = h0 + a * stride gets dy[q0 + a - shift(r)] for the taps r whose r * dilation has the residue of
// h0 + pad modulo the stride. So each h0 < stride is a plane of its own, a stride-1 sum over dy with those taps.

namespace {

// One axis of one phase of dx.
struct InputPhase {
  int64_t first, count;  // rows h = first + a * stride, a < count
  int64_t residue, q0;   // (first + pad) mod and div stride
};

InputPhase input_phase(const WindowAxis& w, int64_t in, int64_t first) {
  const int64_t padded = first + w.pad_before;
  return {first, (in - first + w.stride - 1) / w.stride, padded % w.stride, padded / w.stride};
}

bool reaches(const WindowAxis& w, int64_t residue, int64_t r) { return r * w.dilation % w.stride == residue; }

// dy with a border of zeros wide enough for every shift: along each axis, position q of dy lies at margin + q.
struct BorderedAxis {
  int64_t margin, size;
  BorderedAxis(const WindowAxis& w, int64_t in, int64_t out)
      : margin((w.kernel - 1) * w.dilation / w.stride),
        size(margin + max_of(out, in == 0 ? 0 : (in - 1 + w.pad_before) / w.stride + 1)) {}
};

void fill_bordered(const BorderedAxis& h, const BorderedAxis& w, int64_t channels, int64_t h_out, int64_t w_out,
                   const float* dy, float* planes) {
  for (int64_t k = 0; k < channels; k++)
    for (int64_t row = 0; row < h.size; row++, planes += w.size) {
      const int64_t i = row - h.margin;
      memset(planes, 0, size_t(w.size) * sizeof(float));
      if (0 <= i && i < h_out)
        memcpy(planes + w.margin, dy + (k * h_out + i) * w_out, size_t(w_out) * sizeof(float));
    }
}

}  // namespace

static void conv2d_backward_input(const Conv2dShape& s, const float* dy, const float* w, float* dx) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const int64_t c_in = s.c_in_per_group(), c_out = s.c_out_per_group(), taps = s.taps();
  const BorderedAxis rows(wh, s.h_in, s.h_out), columns(ww, s.w_in, s.w_out);
  const int64_t plane = rows.size * columns.size;
  const int64_t phases_h = min_of(wh.stride, s.h_in), phases_w = min_of(ww.stride, s.w_in);
  const int64_t phases = phases_h * phases_w;
  if (phases == 0) return;

  // For each phase: its taps' offsets into bordered dy, and the weights in the order (group, c, k, tap).
  const Buffer<float> packed(s.c_out * c_in * taps);
  const Buffer<int64_t> offsets(taps), tap_begin(phases + 1), tap_of(taps);
  int64_t used = 0;
  for (int64_t p = 0; p < phases; p++) {
    const InputPhase ph = input_phase(wh, s.h_in, p / phases_w), pw = input_phase(ww, s.w_in, p % phases_w);
    tap_begin.data[p] = used;
    for (int64_t r = 0; r < wh.kernel; r++)
      for (int64_t i = 0; i < ww.kernel; i++)
        if (reaches(wh, ph.residue, r) && reaches(ww, pw.residue, i)) {
          offsets.data[used] = (rows.margin + ph.q0 - r * wh.dilation / wh.stride) * columns.size + columns.margin +
                               pw.q0 - i * ww.dilation / ww.stride;
          tap_of.data[used++] = r * ww.kernel + i;
        }
  }
  tap_begin.data[phases] = used;
  parallel_for(s.c_in, c_out * taps, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; c++) {
      const int64_t g = c / c_in;
      for (int64_t p = 0; p < phases; p++) {
        const int64_t t0 = tap_begin.data[p], count = tap_begin.data[p + 1] - t0;
        float* to = packed.data + s.c_in * c_out * t0 + c * c_out * count;
        for (int64_t k = 0; k < c_out; k++) {
          const float* from = w + ((g * c_out + k) * c_in + c % c_in) * taps;
          for (int64_t t = 0; t < count; t++) *to++ = from[tap_of.data[t0 + t]];
        }
      }
    }
  });

  const int64_t cuts = channel_cuts(s.n, c_in);
  const int64_t work = c_in / cuts * c_out * taps * s.h_out * s.w_out / kLanes + c_out * plane;
  parallel_for(s.n * s.groups * cuts, work, [&](int64_t begin, int64_t end) {
    float* planes = plane_workspace(c_out * plane);
    for (int64_t task = begin; task < end; task++) {
      const int64_t n = task / (s.groups * cuts), g = task / cuts % s.groups, cut = task % cuts;
      const int64_t c = g * c_in + c_in * cut / cuts, c_end = g * c_in + c_in * (cut + 1) / cuts;
      fill_bordered(rows, columns, c_out, s.h_out, s.w_out, dy + (n * s.c_out + g * c_out) * s.h_out * s.w_out, planes);
      for (int64_t p = 0; p < phases; p++) {
        const InputPhase ph = input_phase(wh, s.h_in, p / phases_w), pw = input_phase(ww, s.w_in, p % phases_w);
        const int64_t t0 = tap_begin.data[p], count = tap_begin.data[p + 1] - t0;
        PlanarSum sum{};
        sum.m = c_end - c, sum.channels = c_out, sum.taps = count;
        sum.a = packed.data + s.c_in * c_out * t0 + c * c_out * count, sum.a_row = c_out * count;
        sum.planes = planes, sum.plane_stride = plane, sum.offsets = offsets.data + t0;
        sum.rows = ph.count, sum.columns = pw.count, sum.pitch = columns.size;
        sum.out = dx + ((n * s.c_in + c) * s.h_in + ph.first) * s.w_in + pw.first;
        sum.out_m = s.h_in * s.w_in, sum.out_row = wh.stride * s.w_in, sum.out_column = ww.stride;
        planar_sum(sum, workspace(kScratchSlot, planar_scratch(sum)));
      }
    }
  });
}

// ---- backward: weight, bias ---------------------------------------------------------------------------------------
//
// dw[k][c,t] = sum over images and pixels of dy[k][i,j] * plane_c[offset[t] + i*pitch + j]. Vectors run along a row; a
// tile of kWeightRows k times kWeightTaps (c,t) keeps its sums in registers over all images of a chunk, and only then
// adds up the lanes. Tiles are the parallel tasks: each weight is summed by one thread, in the order of the images.

namespace {

constexpr int kWeightRows = kRegisters >= 32 ? 4 : 3;            // 4 x 6 sums + 4 of dy + 1 of x = 29 registers,
constexpr int kWeightTaps = kRegisters >= 32 ? 6 : 3;            // 3 x 3 + 3 + 1 = 13
constexpr int64_t kChunkFloats = int64_t(1) << 18;  // planes of one chunk of images: 1 MiB, L2 of a core or two

struct WeightTile {
  const float* dy;            // first k of the tile
  int64_t dy_k, dy_n;         // floats from k to k, from image to image
  const float* planes;        // of the group
  int64_t planes_n;           // floats from image to image
  const int64_t* offsets;     // of the tile's taps, channel included
  int64_t n, rows, columns, pitch;
  float* dw;                  // (k, taps of the group)
  int64_t dw_k;
  bool add;                   // a later chunk goes on from dw
};

template <int K, int T>
void sum_weight_tile(const WeightTile& tile) {
  Vec acc[K][T];
#pragma GCC unroll 8
  for (int k = 0; k < K; k++)
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) acc[k][t] = Vec{};

  const int64_t whole = tile.columns / kLanes * kLanes, rest = tile.columns - whole;
  for (int64_t n = 0; n < tile.n; n++) {
    const float* dy = tile.dy + n * tile.dy_n;
    const float* x[T];
#pragma GCC unroll 8
    for (int t = 0; t < T; t++) x[t] = tile.planes + n * tile.planes_n + tile.offsets[t];
    for (int64_t i = 0; i < tile.rows; i++) {
      for (int64_t j = 0; j < whole; j += kLanes) {
        Vec d[K];
#pragma GCC unroll 8
        for (int k = 0; k < K; k++) d[k] = load(dy + k * tile.dy_k + j);
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
          const Vec v = load(x[t] + j);
#pragma GCC unroll 8
          for (int k = 0; k < K; k++) acc[k][t] += d[k] * v;
        }
      }
      if (rest) {
        Vec d[K];
#pragma GCC unroll 8
        for (int k = 0; k < K; k++) d[k] = load_partial(dy + k * tile.dy_k + whole, rest);
#pragma GCC unroll 8
        for (int t = 0; t < T; t++) {
          const Vec v = load_partial(x[t] + whole, rest);
#pragma GCC unroll 8
          for (int k = 0; k < K; k++) acc[k][t] += d[k] * v;
        }
      }
      dy += tile.columns;
#pragma GCC unroll 8
      for (int t = 0; t < T; t++) x[t] += tile.pitch;
    }
  }
  for (int k = 0; k < K; k++)
    for (int t = 0; t < T; t++) {
      float* dw = tile.dw + k * tile.dw_k + t;
      *dw = sum(acc[k][t]) + (tile.add ? *dw : 0.0f);
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

}  // namespace

static void conv2d_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  const PlaneLayout layout = input_planes(s);
  const int64_t c_in = s.c_in_per_group(), c_out = s.c_out_per_group(), terms = c_in * s.taps();
  const int64_t image_planes = s.c_in * layout.channel(), pixels = s.h_out * s.w_out;
  const int64_t chunk = max_of<int64_t>(1, min_of(s.n, kChunkFloats / max_of<int64_t>(1, image_planes)));
  if (s.n == 0) memset(dw, 0, size_t(s.c_out * terms) * sizeof(float));

  const Buffer<int64_t> offsets(terms);
  for (int64_t c = 0; c < c_in; c++) {
    tap_offsets(s, layout, offsets.data + c * s.taps());
    for (int64_t t = 0; t < s.taps(); t++) offsets.data[c * s.taps() + t] += c * layout.channel();
  }
  const Buffer<float> planes(chunk * image_planes + kPlaneSlack);
  memset(planes.data + chunk * image_planes, 0, size_t(kPlaneSlack) * sizeof(float));

  // Rows without a gap between them count as one long row.
  const bool joined = layout.pitch() == s.w_out;
  const int64_t k_tiles = (c_out + kWeightRows - 1) / kWeightRows, t_tiles = (terms + kWeightTaps - 1) / kWeightTaps;
  for (int64_t n0 = 0; n0 < s.n; n0 += chunk) {
    const int64_t images = min_of(chunk, s.n - n0);
    parallel_for(images * s.c_in, 2 * layout.channel(), [&](int64_t begin, int64_t end) {
      fill_planes(layout, end - begin, x + (n0 * s.c_in + begin) * s.h_in * s.w_in,
                  planes.data + begin * layout.channel());
    });
    const int64_t work = images * pixels * kWeightRows * kWeightTaps / kLanes;
    parallel_for(s.groups * k_tiles * t_tiles, work, [&](int64_t begin, int64_t end) {
      for (int64_t task = begin; task < end; task++) {
        const int64_t g = task / (k_tiles * t_tiles), kt = task / t_tiles % k_tiles, tt = task % t_tiles;
        const int64_t k = c_out * kt / k_tiles, k_end = c_out * (kt + 1) / k_tiles;
        const int64_t t = terms * tt / t_tiles, t_end = terms * (tt + 1) / t_tiles;
        WeightTile tile{};
        tile.dy = dy + (n0 * s.c_out + g * c_out + k) * pixels, tile.dy_k = pixels, tile.dy_n = s.c_out * pixels;
        tile.planes = planes.data + g * c_in * layout.channel(), tile.planes_n = image_planes;
        tile.offsets = offsets.data + t;
        tile.n = images, tile.rows = joined ? 1 : s.h_out, tile.columns = joined ? pixels : s.w_out;
        tile.pitch = layout.pitch();
        tile.dw = dw + (g * c_out + k) * terms + t, tile.dw_k = terms, tile.add = n0 > 0;
        sum_weight_tile(k_end - k, t_end - t, tile);
      }
    });
  }
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
  return {conv2d_forward, conv2d_backward_input, conv2d_backward_weight, conv2d_backward_bias};
}

}  // namespace convcore::cpu::CONVCORE_ISA
