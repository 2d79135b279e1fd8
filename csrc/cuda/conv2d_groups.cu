// conv2d with groups, and with more taps than the products of product.h take. Formula: ops/conv2d.h.
//
// A pass to images (forward; backward to the input) makes a strip of kStrip neighbouring pixels per thread and keeps
// the filters of its block's channels in shared memory.
//
//   depthwise    one input channel and one output channel per group: a thread makes four channels (one, where they are
//                no multiple of four) by accesses of 16 bytes. For filters three or five wide a strip's pixels of a row
//                are read once and used by all taps of that row: 3 x 6 reads for 4 x 9 multiply-adds of four channels.
//   others       a thread makes one channel; a weight that it reads from shared memory serves the strip.
//
//   Grid: x over strips, y over the channels of a block. Block: `lanes` channels (or fours) x as many strips as fill
//   it. Bytes: x and y once, where the caches hold the rows that neighbouring strips share; operations: 2 * pixels *
//   c_out * taps * channels per group. Depthwise is bound by memory (a 3x3 filter: 18 operations for 8 bytes).
//
// Backward weight: a column is a pair (output channel, channel of its group). A thread sums kTapsAtOnce taps of a
// column over the pixels of some rows of images; a block is 32 columns x 8 rows at a time, its threads are added in
// order, and so are the blocks (parts.cuh). Grid: x over columns, y over pieces of the image rows, by the shape alone,
// z over taps. Bytes: dy and x once per kTapsAtOnce taps.
#include "cuda/conv2d_groups.h"

#include "cuda/channel_sums.cuh"
#include "cuda/images.cuh"
#include "cuda/parts.cuh"

namespace convcore::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kStrip = 4;
constexpr int64_t kMostStripBlocks = 132 * 8 * 4;
constexpr int64_t kSharedFloats = 48 * 1024 / 4;

// Along one axis: where tap r of pixel `at` of the result lies in what is read; -1: nowhere.
template <bool kBackward>
struct TapAxis {
  int64_t stride, pad, dilation, in;
  Divisor by_stride;
  TapAxis(const WindowAxis& w, int64_t in_)
      : stride(w.stride), pad(w.pad_before), dilation(w.dilation), in(in_), by_stride(w.stride) {}
  __device__ int64_t position(int64_t at, int64_t r) const {
    int64_t p = at * stride - pad + r * dilation;
    if constexpr (kBackward) {
      const int64_t shifted = at + pad - r * dilation;
      if (shifted < 0) return -1;
      int64_t rest;
      p = by_stride.divide(shifted, &rest);
      if (rest != 0) return -1;
    }
    return p >= 0 && p < in ? p : -1;
  }
};

// The result's strips of pixels.
struct Strips {
  int64_t count, h, w;  // h, w: of the result
  Divisor by_row, by_h;
  Strips(int64_t n, int64_t h_, int64_t w_)
      : count(n * h_ * ((w_ + kStrip - 1) / kStrip)), h(h_), w(w_), by_row((w_ + kStrip - 1) / kStrip), by_h(h_) {}
  __device__ void locate(int64_t strip, int64_t* n, int64_t* i, int64_t* j) const {
    const int64_t row = by_row.divide(strip, j);
    *j *= kStrip;
    *n = by_h.divide(row, i);
  }
};

dim3 strip_grid(const Strips& strips, int per_block, int64_t channel_blocks) {
  const int64_t wanted = (strips.count + per_block - 1) / per_block;
  const int64_t most = (kMostStripBlocks + channel_blocks - 1) / channel_blocks;
  return dim3(unsigned(wanted < most ? wanted : most), unsigned(channel_blocks));
}

// ---- depthwise ------------------------------------------------------------------------------------------------------

struct Depthwise {
  int64_t c, kernel_h, kernel_w;
  int lanes;     // threads along the channels
  bool flipped;  // the filters are read from their end: backward, stride 1
  __device__ int64_t taps() const { return kernel_h * kernel_w; }
};

// The filters of `width` channels from `first` on, as (taps, width).
CONVCORE_DEVICE void load_filters(const Depthwise& d, int64_t first, int width, const float* w, float* filters) {
  const auto taps = int(d.taps());
  for (int i = int(threadIdx.x); i < taps * width; i += kThreads) {
    const int channel = i % width, tap = i / width;
    filters[i] = first + channel < d.c ? w[(first + channel) * taps + (d.flipped ? taps - 1 - tap : tap)] : 0.0f;
  }
  __syncthreads();
}

template <int kLanes>
CONVCORE_DEVICE Lanes<float, kLanes> load_filter(const float* filter) {
  if constexpr (kLanes == 4) {
    const float4 v = shared_load4(filter);
    return {{v.x, v.y, v.z, v.w}};
  }
  return load_lanes<kLanes>(filter);
}

template <int kLanes>
CONVCORE_DEVICE void add_product(const Lanes<float, kLanes>& a, const Lanes<float, kLanes>& b,
                                 Lanes<float, kLanes>* sum) {
  CONVCORE_UNROLL
  for (int l = 0; l < kLanes; l++) sum->at[l] = fmaf(a.at[l], b.at[l], sum->at[l]);
}

// One row of the filter for a strip whose first tap is at column `first` of `row`.
template <int kLanes, int kWidth, int kStride>
CONVCORE_DEVICE void add_filter_row(const float* row, int64_t first, int64_t w_in, int64_t c, const float* filter,
                                    int pitch, Lanes<float, kLanes>* sums) {
  constexpr int kPixels = (kStrip - 1) * kStride + kWidth;
  Lanes<float, kLanes> pixels[kPixels];
  CONVCORE_UNROLL
  for (int p = 0; p < kPixels; p++)
    pixels[p] =
        first + p >= 0 && first + p < w_in ? load_lanes<kLanes>(row + (first + p) * c) : all_lanes<kLanes>(0.0f);
  CONVCORE_UNROLL
  for (int q = 0; q < kWidth; q++) {
    const auto weight = load_filter<kLanes>(filter + q * pitch);
    CONVCORE_UNROLL
    for (int p = 0; p < kStrip; p++) add_product<kLanes>(weight, pixels[p * kStride + q], &sums[p]);
  }
}

// kWidth: of the filter, at a stride of kStride and without dilation; 0: any, and any stride and dilation.
template <int kLanes, int kWidth, int kStride, bool kBackward>
CONVCORE_KERNEL(kThreads)
depthwise_strips(Depthwise d, Strips strips, TapAxis<kBackward> rows, TapAxis<kBackward> columns, const float* x,
                 const float* w, const float* b, float* y) {
  SharedMemory shared;
  const int width = d.lanes * kLanes;
  float* filters = shared.array<float>(int(d.taps()) * width);
  const int64_t first = int64_t(blockIdx.y) * width, channel = first + int(threadIdx.x) % d.lanes * kLanes;
  load_filters(d, first, width, w, filters);
  const int at_once = kThreads / d.lanes, own = int(threadIdx.x) / d.lanes;
  if (channel >= d.c || own >= at_once) return;
  const float* filter0 = filters + int(threadIdx.x) % d.lanes * kLanes;
  const auto bias = b ? load_lanes<kLanes>(b + channel) : all_lanes<kLanes>(0.0f);
  for (int64_t strip = int64_t(blockIdx.x) * at_once + own; strip < strips.count;
       strip += int64_t(gridDim.x) * at_once) {
    int64_t n, i, j;
    strips.locate(strip, &n, &i, &j);
    Lanes<float, kLanes> sums[kStrip];
    CONVCORE_UNROLL
    for (int p = 0; p < kStrip; p++) sums[p] = bias;
    const float* filter = filter0;
    for (int64_t r = 0; r < d.kernel_h; r++, filter += d.kernel_w * width) {
      const int64_t h = rows.position(i, r);
      if (h < 0) continue;
      const float* row = x + (n * rows.in + h) * columns.in * d.c + channel;
      if constexpr (kWidth > 0) {
        add_filter_row<kLanes, kWidth, kStride>(row, j * kStride - columns.pad, columns.in, d.c, filter, width, sums);
      } else {
        for (int64_t q = 0; q < d.kernel_w; q++) {
          const auto weight = load_filter<kLanes>(filter + q * width);
          CONVCORE_UNROLL
          for (int p = 0; p < kStrip; p++) {
            const int64_t v = columns.position(j + p, q);
            if (v >= 0) add_product<kLanes>(weight, load_lanes<kLanes>(row + v * d.c), &sums[p]);
          }
        }
      }
    }
    float* to = y + ((n * strips.h + i) * strips.w + j) * d.c + channel;
    CONVCORE_UNROLL
    for (int p = 0; p < kStrip; p++)
      if (j + p < strips.w) store_lanes(to + p * d.c, sums[p]);
  }
}

// ---- groups of more channels ---------------------------------------------------------------------------------------

constexpr int kGroupLanes = 32, kGroupStrips = kThreads / kGroupLanes;

// Seen from the result: `c` channels in groups of `per_group`, each of which reads `in_per_group` channels of `c_in`.
struct Grouped {
  int64_t c, per_group, c_in, in_per_group, kernel_w, taps;
  int64_t channels_at_once, taps_at_once;  // of the filters, in shared memory
};

template <bool kBackward>
CONVCORE_DEVICE float group_weight(const Grouped& d, const float* w, int64_t channel, int64_t in, int64_t tap) {
  const int64_t group = channel / d.per_group, local = channel % d.per_group;
  if (kBackward) return w[((group * d.in_per_group + in) * d.per_group + local) * d.taps + tap];
  return w[(channel * d.in_per_group + in) * d.taps + tap];
}

template <bool kBackward>
CONVCORE_KERNEL(kThreads)
group_strips(Grouped d, Strips strips, TapAxis<kBackward> rows, TapAxis<kBackward> columns, const float* x,
             const float* w, const float* b, float* y) {
  SharedMemory shared;
  float* filters = shared.array<float>(int(d.channels_at_once * d.taps_at_once) * kGroupLanes);
  const int lane = int(threadIdx.x) % kGroupLanes;
  const int64_t first = int64_t(blockIdx.y) * kGroupLanes, channel = first + lane;
  const int64_t in0 = channel / d.per_group * d.in_per_group;
  for (int64_t some = int64_t(blockIdx.x) * kGroupStrips; some < strips.count;
       some += int64_t(gridDim.x) * kGroupStrips) {
    const int64_t strip = some + int(threadIdx.x) / kGroupLanes;
    const bool own = strip < strips.count && channel < d.c;
    int64_t n = 0, i = 0, j = 0;
    if (own) strips.locate(strip, &n, &i, &j);
    float sums[kStrip];
    CONVCORE_UNROLL
    for (int p = 0; p < kStrip; p++) sums[p] = own && b ? b[channel] : 0.0f;
    for (int64_t c0 = 0; c0 < d.in_per_group; c0 += d.channels_at_once)
      for (int64_t t0 = 0; t0 < d.taps; t0 += d.taps_at_once) {
        const int64_t channels = d.in_per_group - c0 < d.channels_at_once ? d.in_per_group - c0 : d.channels_at_once;
        const int64_t taps = d.taps - t0 < d.taps_at_once ? d.taps - t0 : d.taps_at_once;
        __syncthreads();  // before the last filters are overwritten
        for (int k = int(threadIdx.x); k < int(channels * taps) * kGroupLanes; k += kThreads) {
          const int64_t of = first + k % kGroupLanes, c = k / kGroupLanes % channels, tap = k / kGroupLanes / channels;
          filters[k] = of < d.c ? group_weight<kBackward>(d, w, of, c0 + c, t0 + tap) : 0.0f;
        }
        __syncthreads();
        if (!own) continue;
        for (int64_t t = 0; t < taps; t++) {
          const int64_t h = rows.position(i, (t0 + t) / d.kernel_w);
          if (h < 0) continue;
          const float *from[kStrip], *filter = filters + t * channels * kGroupLanes + lane;
          CONVCORE_UNROLL
          for (int p = 0; p < kStrip; p++) {
            const int64_t v = columns.position(j + p, (t0 + t) % d.kernel_w);
            from[p] = v < 0 ? nullptr : x + ((n * rows.in + h) * columns.in + v) * d.c_in + in0 + c0;
          }
          for (int64_t c = 0; c < channels; c++) {
            const float weight = filter[c * kGroupLanes];
            CONVCORE_UNROLL
            for (int p = 0; p < kStrip; p++)
              if (from[p]) sums[p] = fmaf(weight, from[p][c], sums[p]);
          }
        }
      }
    if (!own) continue;
    CONVCORE_UNROLL
    for (int p = 0; p < kStrip; p++)
      if (j + p < strips.w) y[((n * strips.h + i) * strips.w + j + p) * d.c + channel] = sums[p];
  }
}

// ---- a pass to images ----------------------------------------------------------------------------------------------

template <int kLanes, int kWidth, int kStride, bool kBackward>
void launch_depthwise(const char* name, Depthwise d, const Strips& strips, const TapAxis<kBackward>& rows,
                      const TapAxis<kBackward>& columns, const float* x, const float* w, const float* b, float* y) {
  const int64_t vectors = d.c / kLanes;
  d.lanes = int(vectors < kWarp ? vectors : kWarp);
  const int64_t width = d.lanes * kLanes, blocks = (d.c + width - 1) / width;
  launch(name, depthwise_strips<kLanes, kWidth, kStride, kBackward>, strip_grid(strips, kThreads / d.lanes, blocks),
         kThreads, shared_bytes<float>(d.kernel_h * d.kernel_w * width), d, strips, rows, columns, x, w, b, y);
}

template <bool kBackward>
void pass(const char* name, const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  const WindowAxis &wh = s.window.h, &ww = s.window.w;
  const int64_t h_in = kBackward ? s.h_out : s.h_in, w_in = kBackward ? s.w_out : s.w_in;
  const Strips strips(s.n, kBackward ? s.h_in : s.h_out, kBackward ? s.w_in : s.w_out);
  if (strips.count == 0 || s.c_out == 0 || s.c_in == 0) return;
  const TapAxis<kBackward> rows(wh, h_in), columns(ww, w_in);
  const bool one_each = s.c_in == s.groups && s.c_out == s.groups;
  if (one_each && s.taps() * 4 * kWarp <= kSharedFloats) {
    Depthwise d{s.c_in, wh.kernel, ww.kernel, 0, false};
    if (s.c_in % 4 != 0 || !aligned16(x, b, y))
      return launch_depthwise<1, 0, 0, kBackward>(name, d, strips, rows, columns, x, w, b, y);
    const bool near =
        wh.dilation == 1 && ww.dilation == 1 && wh.stride == ww.stride && (ww.kernel == 3 || ww.kernel == 5);
    if (near && ww.stride == 1) {
      // Backward, at stride 1, is forward with the filters turned and the rest of the padding.
      WindowAxis h = wh, v = ww;
      if (kBackward)
        d.flipped = true, h.pad_before = wh.kernel - 1 - wh.pad_before, v.pad_before = ww.kernel - 1 - ww.pad_before;
      const TapAxis<false> of_rows(h, h_in), of_columns(v, w_in);
      return ww.kernel == 3 ? launch_depthwise<4, 3, 1, false>(name, d, strips, of_rows, of_columns, x, w, b, y)
                            : launch_depthwise<4, 5, 1, false>(name, d, strips, of_rows, of_columns, x, w, b, y);
    }
    if constexpr (!kBackward)
      if (near && ww.stride == 2)
        return ww.kernel == 3 ? launch_depthwise<4, 3, 2, false>(name, d, strips, rows, columns, x, w, b, y)
                              : launch_depthwise<4, 5, 2, false>(name, d, strips, rows, columns, x, w, b, y);
    return launch_depthwise<4, 0, 0, kBackward>(name, d, strips, rows, columns, x, w, b, y);
  }
  constexpr int64_t kMostChannels = 256;
  Grouped d{s.c_out, s.c_out_per_group(), s.c_in, s.c_in_per_group(), ww.kernel, s.taps(), 0, 0};
  if (kBackward) d = {s.c_in, s.c_in_per_group(), s.c_out, s.c_out_per_group(), ww.kernel, s.taps(), 0, 0};
  d.channels_at_once = d.in_per_group < kMostChannels ? d.in_per_group : kMostChannels;
  const int64_t fit = kSharedFloats / (kGroupLanes * d.channels_at_once);
  d.taps_at_once = fit < d.taps ? fit : d.taps;
  launch(name, group_strips<kBackward>, strip_grid(strips, kGroupStrips, (d.c + kGroupLanes - 1) / kGroupLanes),
         kThreads, shared_bytes<float>(d.channels_at_once * d.taps_at_once * kGroupLanes), d, strips, rows, columns, x,
         w, b, y);
}

// ---- the gradient of the weights -----------------------------------------------------------------------------------

constexpr int kTapsAtOnce = 9;
constexpr int64_t kWeightBlocks = 132 * 8, kMostWeightPieces = 256;

struct Columns {
  int64_t count, c_in_per_group, c_out_per_group;
  int c_in, c_out;
  int h_out, w_out, w_in, stride, pad, dilation;  // the latter along the width
  int taps, kernel_w;
};

// parts (pieces, columns, taps)
CONVCORE_KERNEL_OF(kSumThreads, 2)
sum_taps(Columns d, int64_t image_rows, TapAxis<false> rows, const float* dy, const float* x, float* parts) {
  SharedMemory shared;
  float* shares = shared.array<float>(kSumThreads);
  const int64_t column = int64_t(blockIdx.x) * kSumColumns + int(threadIdx.x) % kSumColumns;
  const int64_t k = column / d.c_in_per_group;
  const int64_t channel = k / d.c_out_per_group * d.c_in_per_group + column % d.c_in_per_group;
  const int tap0 = int(blockIdx.z) * kTapsAtOnce;
  const int64_t end = column < d.count ? image_rows * (int64_t(blockIdx.y) + 1) / gridDim.y : 0;
  double totals[kTapsAtOnce] = {};
  for (int64_t row = image_rows * blockIdx.y / gridDim.y + int(threadIdx.x) / kSumColumns; row < end; row += kSumRows) {
    const int64_t n = row / d.h_out, i = row % d.h_out;
    const float* from[kTapsAtOnce];  // of each tap: its row in x (null: none)
    int shift[kTapsAtOnce];          // its column at j = 0
    CONVCORE_UNROLL
    for (int t = 0; t < kTapsAtOnce; t++) {
      const int tap = tap0 + t;
      const int64_t h = tap < d.taps ? rows.position(i, tap / d.kernel_w) : -1;
      from[t] = h < 0 ? nullptr : x + (n * rows.in + h) * d.w_in * d.c_in + channel;
      shift[t] = tap % d.kernel_w * d.dilation - d.pad;
    }
    const float* gradients = dy + row * d.w_out * d.c_out + k;
    for (int j0 = 0; j0 < d.w_out; j0 += kFloatTerms) {
      float sums[kTapsAtOnce] = {};
      const int j1 = d.w_out - j0 < kFloatTerms ? d.w_out : j0 + kFloatTerms;
      for (int j = j0; j < j1; j++) {
        const float g = gradients[int64_t(j) * d.c_out];
        CONVCORE_UNROLL
        for (int t = 0; t < kTapsAtOnce; t++) {
          const int v = j * d.stride + shift[t];
          if (from[t] && unsigned(v) < unsigned(d.w_in)) sums[t] = fmaf(g, from[t][int64_t(v) * d.c_in], sums[t]);
        }
      }
      CONVCORE_UNROLL
      for (int t = 0; t < kTapsAtOnce; t++) totals[t] += double(sums[t]);
    }
  }
  CONVCORE_UNROLL
  for (int t = 0; t < kTapsAtOnce; t++) {
    __syncthreads();  // before the shares of the last tap are overwritten
    shares[threadIdx.x] = float(totals[t]);
    __syncthreads();
    if (threadIdx.x >= kSumColumns || column >= d.count || tap0 + t >= d.taps) continue;
    double sum = totals[t];
    for (int r = 1; r < kSumRows; r++) sum += double(shares[r * kSumColumns + int(threadIdx.x)]);
    parts[(blockIdx.y * d.count + column) * d.taps + tap0 + t] = float(sum);
  }
}

struct StoreWeight {
  float* dw;
  __device__ void operator()(int64_t at, float sum) const { dw[at] = sum; }
};

}  // namespace

void conv2d_groups_forward(const Conv2dShape& s, const float* x, const float* w, const float* b, float* y) {
  pass<false>("conv2d groups", s, x, w, b, y);
}

void conv2d_groups_backward_input(const Conv2dShape& s, const float* dy, const float* w, float* dx) {
  pass<true>("conv2d groups backward input", s, dy, w, nullptr, dx);
}

void conv2d_groups_backward_weight(const Conv2dShape& s, const float* dy, const float* x, float* dw) {
  const WindowAxis& width = s.window.w;
  const Columns d{s.c_out * s.c_in_per_group(),
                  s.c_in_per_group(),
                  s.c_out_per_group(),
                  int(s.c_in),
                  int(s.c_out),
                  int(s.h_out),
                  int(s.w_out),
                  int(s.w_in),
                  int(width.stride),
                  int(width.pad_before),
                  int(width.dilation),
                  int(s.taps()),
                  int(width.kernel)};
  if (d.count == 0) return;
  const int64_t image_rows = s.n * s.h_out, taps = s.taps();
  const unsigned groups = blocks_for(d.count, kSumColumns), chunks = blocks_for(taps, kTapsAtOnce);
  const int64_t wanted = (kWeightBlocks + int64_t(groups) * chunks - 1) / (int64_t(groups) * chunks);
  const int64_t most = (image_rows + kSumRows - 1) / kSumRows;
  int64_t pieces = wanted < most ? wanted : most;
  pieces = pieces < 1 ? 1 : pieces < kMostWeightPieces ? pieces : kMostWeightPieces;
  float* parts = workspace(kPartsWorkspace, pieces * d.count * taps);
  launch("conv2d groups backward weight", sum_taps, dim3(groups, unsigned(pieces), chunks), kSumThreads,
         shared_bytes<float>(kSumThreads), d, image_rows, TapAxis<false>(s.window.h, s.h_in), dy, x, parts);
  add_parts("conv2d groups backward weight", pieces, d.count * taps, parts, StoreWeight{dw});
}

}  // namespace convcore::cuda
