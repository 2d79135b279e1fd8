// The kernels of product.h. Each precision is compiled by itself, in product_<precision>.cu.
#pragma once
#include <initializer_list>

#include "cuda/last_block.cuh"
#include "cuda/product.h"
#include "cuda/product_launch.h"
#include "cuda/ptx.cuh"

namespace convcore::cuda {

constexpr int kThreads = 128;              // of every block
constexpr size_t kMostShared = 99 * 1024;  // bytes of a block on compute capability 8.6, 8.9 and 12.0
constexpr size_t kTotalsBytes = 4 * kThreads * sizeof(double);

namespace detail {

// Two shared arrays that take turns. (An array of the two pointers would be put into local memory.)
struct Twice {
  float *even, *odd;
  __device__ Twice(SharedMemory& shared, int count)
      : even(shared.array<float>(count)), odd(shared.array<float>(count)) {}
  __device__ float* of(int64_t stage) const { return stage % 2 == 0 ? even : odd; }
};

// ---- boxes, and tiles of operands -----------------------------------------------------------------------------------

// The first pixel of a box.
struct Place {
  int image, i, j;
};
CONVCORE_DEVICE Place place_of(const Boxes& boxes, int box) {
  const int j = box % boxes.across, rest = box / boxes.across;
  return {rest / boxes.down * boxes.images, rest % boxes.down * boxes.rows, j * boxes.columns};
}

// A pixel of a box or of its patch in one number.
constexpr int kCoordinateBits = 10, kMostCoordinate = (1 << kCoordinateBits) - 1;
CONVCORE_DEVICE int pack_pixel(int at, int rows, int columns) {
  const int line = at / columns;
  return (((line / rows << kCoordinateBits) + line % rows) << kCoordinateBits) + at % columns;
}
CONVCORE_DEVICE Place unpack_pixel(int packed) {
  return {packed >> 2 * kCoordinateBits, packed >> kCoordinateBits & kMostCoordinate, packed & kMostCoordinate};
}

// A tile holds pixels of an operand by what `index_of(row)` says of each: 2 * pixel, + 1 if this block is the one to
// store it; negative for a pixel that is not there, whose channels are zero.

// Calls work(chunk, first row, step of the rows) so that each chunk of each row falls to one thread, the same one for
// every tile of this size.
template <typename Work>
CONVCORE_DEVICE void for_tile(int chunks, const Work& work) {
  const int lanes = chunks < kThreads ? chunks : kThreads, step = kThreads / lanes;
  const int row = int(threadIdx.x) / lanes;
  if (row >= step) return;
  CONVCORE_NO_UNROLL
  for (int chunk = int(threadIdx.x) % lanes; chunk < chunks; chunk += lanes) work(chunk, row, step);
}

template <int kVector, typename IndexOf>
CONVCORE_DEVICE void copy_tile(const Operand& in, int rows, int channels, int first_channel, int pitch,
                               const IndexOf& index_of, float* to) {
  for_tile(channels / kVector, [&](int chunk, int first, int step) {
    const int channel = first_channel + chunk * kVector;
    CONVCORE_NO_UNROLL
    for (int row = first; row < rows; row += step) {
      const int index = index_of(row);
      const bool valid = index >= 0 && channel < in.c;
      async_copy<4 * kVector>(to + row * pitch + chunk * kVector,
                              in.data + (valid ? int64_t(index / 2) * in.c + channel : 0), valid);
    }
  });
}

// What the operand needs, to the part of the tile that this thread copied: its copies are complete.
template <int kKinds, int kVector, typename IndexOf>
CONVCORE_DEVICE void transform_tile(const Operand& in, int rows, int channels, int first_channel, int pitch,
                                    const IndexOf& index_of, bool store, float* tile) {
  for_tile(channels / kVector, [&](int chunk, int first, int step) {
    const int channel = first_channel + chunk * kVector;
    if (channel >= in.c) return;
    const Transform<kVector, kKinds> transform(in, channel);
    constexpr int kAtOnce = kVector > 1 ? 2 : 1;  // rows under way
    CONVCORE_NO_UNROLL
    for (int row0 = first; row0 < rows; row0 += kAtOnce * step) {
      int index[kAtOnce];
      float other[kAtOnce][kVector];
      CONVCORE_UNROLL
      for (int i = 0; i < kAtOnce; i++) {
        const int row = row0 + i * step;
        index[i] = row < rows ? index_of(row) : -1;
        if (index[i] >= 0) transform.fetch(index[i] / 2, other[i]);
      }
      CONVCORE_UNROLL
      for (int i = 0; i < kAtOnce; i++) {
        if (index[i] < 0) continue;  // zero it stays
        float* at = tile + (row0 + i * step) * pitch + chunk * kVector;
        float v[kVector];
        load_floats(at, v);
        transform.apply(other[i], v);
        store_floats(at, v);
        if (store && index[i] % 2 != 0) store_floats(in.stored + int64_t(index[i] / 2) * in.c + channel, v);
      }
    }
  });
}

// `width`: 4 or 1 channels at a time, which the tile's channels are a multiple of.
template <typename IndexOf>
CONVCORE_DEVICE void copy_operand(const Operand& in, int rows, int channels, int first_channel, int pitch,
                                  const IndexOf& index_of, float* to) {
  if (in.fours)
    copy_tile<4>(in, rows, channels, first_channel, pitch, index_of, to);
  else
    copy_tile<1>(in, rows, channels, first_channel, pitch, index_of, to);
}
template <int kKinds, typename IndexOf>
CONVCORE_DEVICE void transform_operand(const Operand& in, int rows, int channels, int first_channel, int pitch,
                                       const IndexOf& index_of, bool store, float* tile) {
  if (in.kind == OperandKind::plain) return;
  if (in.fours)
    transform_tile<kKinds, 4>(in, rows, channels, first_channel, pitch, index_of, store, tile);
  else
    transform_tile<kKinds, 1>(in, rows, channels, first_channel, pitch, index_of, store, tile);
}

// The index of a pixel of the patch of a box, given as by pack_pixel.
CONVCORE_DEVICE int patch_index(const Operand& in, int step_h, int step_w, int images, const Phase& phase,
                                const Place& place, int packed) {
  const Boxes& boxes = phase.boxes;
  const Place in_patch = unpack_pixel(packed);
  const int image = place.image + in_patch.image;
  const int h = place.i * step_h + phase.low_h + in_patch.i, w = place.j * step_w + phase.low_w + in_patch.j;
  if (image >= images || unsigned(h) >= unsigned(in.h) || unsigned(w) >= unsigned(in.w)) return -1;
  // The last boxes have what is left.
  const auto mine = [](int at, int first, int count, int all, int step) {
    return at >= first * step && (at < (first + count) * step || first + count >= all);
  };
  const bool owned =
      mine(h, place.i, boxes.rows, phase.rows, step_h) && mine(w, place.j, boxes.columns, phase.columns, step_w);
  return 2 * ((image * in.h + h) * in.w + w) + int(owned);
}

// How far into the patch a tap is, in pixels.
CONVCORE_DEVICE int tap_offset(const Taps& taps, const Phase& phase, int tap) {
  return (taps.h[tap] - phase.low_h) * phase.boxes.patch_columns + taps.w[tap] - phase.low_w;
}

// ---- the fragments of the tensor cores ------------------------------------------------------------------------------

// An operand split for 3xTF32: x = large + small, up to 2^-21 of x. Rounded by integers, which is cheaper than to_tf32:
// a NaN may become 0 in the large part, and is one in the small part. The tensor cores read the upper 19 bits.
template <int kCount>
CONVCORE_DEVICE void split_tf32(const uint32_t (&x)[kCount], uint32_t (&large)[kCount], uint32_t (&small)[kCount]) {
  CONVCORE_UNROLL
  for (int i = 0; i < kCount; i++) {
    large[i] = (x[i] + 0x1000u) & ~0x1FFFu;
    small[i] = __float_as_uint(__uint_as_float(x[i]) - __uint_as_float(large[i]));
  }
}

// c += a * b over eight k; a and b hold floats.
template <Precision kPrecision>
CONVCORE_DEVICE void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  if constexpr (kPrecision == Precision::tf32x3) {
    uint32_t al[4], as[4], bl[2], bs[2];
    split_tf32(a, al, as);
    split_tf32(b, bl, bs);
    mma_tf32(c, as, bl);  // the small products first
    mma_tf32(c, al, bs);
    mma_tf32(c, al, bl);
  } else {
    uint32_t x[4], y[2];
    CONVCORE_UNROLL
    for (int i = 0; i < 4; i++) x[i] = to_tf32(__uint_as_float(a[i]));
    CONVCORE_UNROLL
    for (int i = 0; i < 2; i++) y[i] = to_tf32(__uint_as_float(b[i]));
    mma_tf32(c, x, y);
  }
}

}  // namespace detail

// ====================================================================================================================
// Taps product
//
// Blocks: boxes of up to kM pixels x tiles of kN output channels, the tiles of a box next to each other.
// FFMA: thread (tm, tn) makes kThreadM pixels x kThreadN channels: pixels tm + i * kM / kThreadM, so that neighbouring
// lanes read neighbouring pixels of the patch, and channels kThreadN * tn + j, which all lanes with the same tn read
// together. A pixel of the patch has a pitch of 4 floats more than its channels, which are a multiple of 8: eight lanes
// that read 16 bytes each of eight neighbours hit all 32 banks. Tensor cores: each of the four warps makes kM / 4
// pixels x kN channels.
// A stage is some channels of some taps; the patch is copied with the first taps of its channels.
// ====================================================================================================================

template <int kM_, int kN_, int kThreadM_, int kThreadN_>
struct TapsTile {
  static constexpr int kM = kM_, kN = kN_;  // pixels, output channels
  static constexpr int kThreadM = kThreadM_, kThreadN = kThreadN_;
};

namespace detail {

struct Row {
  int patch;      // its window's first pixel in the patch
  int out_pixel;  // negative: there is no such pixel
};

}  // namespace detail

template <typename Tile, Precision kPrecision>
struct TapsSize {
  static constexpr bool kTensor = kPrecision != Precision::fp32, kHalf = kPrecision == Precision::bf16;
  static constexpr int kLanesM = Tile::kM / Tile::kThreadM, kLanesN = Tile::kN / Tile::kThreadN;
  static_assert(kLanesM * kLanesN == kThreads);
  static constexpr int kStep = kHalf ? 16 : 8;                           // the channels of a stage: a multiple
  static constexpr int kDepth = !kHalf ? 72 : Tile::kN > 32 ? 48 : 144;  // most products of a stage: taps * channels
  // BF16 reads pairs of floats, 16 lanes at a time from four rows: these want a pitch of 8 modulo 16.
  static constexpr int kPad = kHalf ? 8 : 4;
  static constexpr int kPitch = kDepth + kPad;  // of the filters
  // Groups of lanes whose sums per channel meet in shared memory.
  static constexpr int kRowGroups = kTensor ? kThreads / kWarp : kLanesM > kWarp ? kLanesM / kWarp : 1;
  static constexpr size_t kFixed = 2 * shared_bytes<float>(Tile::kN * kPitch) + shared_bytes<detail::Row>(Tile::kM) +
                                   shared_bytes<float>(kRowGroups * Tile::kN * 2) + kTotalsBytes + 16;
};

namespace detail {

template <typename Size, int kVector, typename Tile>
CONVCORE_DEVICE void copy_filters(const TapsProduct& p, int n0, int first_tap, int taps, int first_channel, float* to) {
  const int chunks_of_tap = p.channels / kVector;
  for_tile(taps * chunks_of_tap, [&](int chunk, int first, int step) {
    const int tap = chunk / chunks_of_tap, channel = first_channel + (chunk - tap * chunks_of_tap) * kVector;
    const int at = p.taps.index[first_tap + tap] * p.in.c + channel;
    CONVCORE_NO_UNROLL
    for (int n = first; n < Tile::kN; n += step) {
      const bool valid = channel < p.in.c && n0 + n < p.c_out;
      async_copy<4 * kVector>(to + n * Size::kPitch + chunk * kVector,
                              p.w + (valid ? int64_t(n0 + n) * p.filter_taps * p.in.c + at : 0), valid);
    }
  });
}

// acc += patch * filters over the channels of one tap, by FFMA. `a`: the pixels of this thread at the tap; `b`: its
// channels' filters.
template <typename Tile>
CONVCORE_DEVICE void multiply_taps_ffma(const float* const (&a)[Tile::kThreadM], const float* b, int channels,
                                        float (&acc)[Tile::kThreadM][Tile::kThreadN]) {
  using Size = TapsSize<Tile, Precision::fp32>;
  const auto four = [&](int k) {
    float4 x[Tile::kThreadM];
    CONVCORE_UNROLL
    for (int i = 0; i < Tile::kThreadM; i++) x[i] = shared_load4(a[i] + k);
    CONVCORE_UNROLL
    for (int j = 0; j < Tile::kThreadN; j++) {
      const float4 y = shared_load4(b + j * Size::kPitch + k);
      CONVCORE_UNROLL
      for (int i = 0; i < Tile::kThreadM; i++) {
        acc[i][j] = fmaf(x[i].x, y.x, acc[i][j]);
        acc[i][j] = fmaf(x[i].y, y.y, acc[i][j]);
        acc[i][j] = fmaf(x[i].z, y.z, acc[i][j]);
        acc[i][j] = fmaf(x[i].w, y.w, acc[i][j]);
      }
    }
  };
  for (int k = 0; k < channels; k += 8) {
    four(k);
    if (k + 4 < channels) four(k + 4);
  }
}

// The same by tensor cores: acc[i][j] is the 16x8 tile of pixels 16 i and channels 8 j of the warp's part. `a`: TF32:
// the row that this lane gives to ldmatrix of tile i, at [2 i]. BF16: its rows g and g + 8, at [2 i] and [2 i + 1].
template <typename Tile, Precision kPrecision>
CONVCORE_DEVICE void multiply_taps_tensor(const float* const (&a)[Tile::kM / 32], const float* b, int channels,
                                          float (&acc)[Tile::kM / 64][Tile::kN / 8][4]) {
  using Size = TapsSize<Tile, kPrecision>;
  const int lane = int(threadIdx.x) % kWarp;
  if constexpr (kPrecision == Precision::bf16) {
    const int g = lane / 4, t = lane % 4;
    const auto pair = [&](const float* row) {
      const float2 v = shared_load2(row);
      return to_bf16x2(v.x, v.y);
    };
    for (int k = 2 * t; k < channels; k += 16) {
      uint32_t y[Tile::kN / 8][2];
      CONVCORE_UNROLL
      for (int j = 0; j < Tile::kN / 8; j++) {
        const float* row = b + (8 * j + g) * Size::kPitch + k;
        y[j][0] = pair(row), y[j][1] = pair(row + 8);
      }
      CONVCORE_UNROLL
      for (int i = 0; i < Tile::kM / 64; i++) {
        const float *row = a[2 * i] + k, *row8 = a[2 * i + 1] + k;
        const uint32_t x[4] = {pair(row), pair(row8), pair(row + 8), pair(row8 + 8)};
        CONVCORE_UNROLL
        for (int j = 0; j < Tile::kN / 8; j++) mma_bf16(acc[i][j], x, y[j]);
      }
    }
  } else {
    // Rows of 16 bytes for ldmatrix: four k of one pixel, or of one channel.
    const int row8 = lane % 8, matrix = lane / 8;
    b += (8 * (matrix / 2) + row8) * Size::kPitch + 4 * (matrix % 2);
    for (int k = 0; k < channels; k += 8) {
      uint32_t y[Tile::kN / 8][2];
      CONVCORE_UNROLL
      for (int j = 0; j < Tile::kN / 8; j += 2) {
        uint32_t both[4];
        ldmatrix4(both, b + 8 * j * Size::kPitch + k);
        y[j][0] = both[0], y[j][1] = both[1], y[j + 1][0] = both[2], y[j + 1][1] = both[3];
      }
      CONVCORE_UNROLL
      for (int i = 0; i < Tile::kM / 64; i++) {
        uint32_t x[4];
        ldmatrix4(x, a[2 * i] + k);
        CONVCORE_UNROLL
        for (int j = 0; j < Tile::kN / 8; j++) multiply_tf32<kPrecision>(acc[i][j], x, y[j]);
      }
    }
  }
}

// ---- what becomes of a result ---------------------------------------------------------------------------------------

// Stores kCount neighbouring channels of a pixel, and adds to their sums.
template <int kCount>
CONVCORE_DEVICE void finish_channels(const TapsProduct& p, int out_pixel, int channel, const float* result, float* a,
                                     float* b) {
  const Epilogue& e = p.epilogue;
  const int left = p.c_out - channel;
  if (out_pixel < 0 || left <= 0) return;
  const int64_t at = int64_t(out_pixel) * p.c_out + channel;
  const auto read = [&](const float* from, float(&v)[kCount]) {
    if (p.out_fours) return load_floats(from, v);
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) v[k] = k < left ? from[k] : 0.0f;
  };
  float v[kCount], other[kCount], x[kCount], mean[kCount];
  CONVCORE_UNROLL
  for (int k = 0; k < kCount; k++) v[k] = result[k];
  const auto add = [&] {
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) v[k] += other[k];
  };
  if (e.bias) read(e.bias + channel, other), add();
  if (e.add.values) {
    if (e.add.same)
      read(e.add.values + at, other);
    else
      shortcut_gradient_at(e.add, p.out_h, p.out_w, out_pixel, channel, other);
    add();
  }
  if (e.x) read(e.x + at, x), read(e.affine.mean + channel, mean);
  if (e.masked) {
    if (e.y) {
      read(e.y + at, other);
    } else {
      float scale[kCount], shift[kCount];
      read(e.affine.scale + channel, scale), read(e.affine.bias + channel, shift);
      CONVCORE_UNROLL
      for (int k = 0; k < kCount; k++) other[k] = fmaf(x[k] - mean[k], scale[k], shift[k]);
    }
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) v[k] = other[k] > 0 ? v[k] : 0.0f;
  }
  if (p.out_fours) {
    store_floats(p.out + at, v);
  } else {
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++)
      if (k < left) p.out[at + k] = v[k];
  }
  if (e.sums == SumsKind::statistics) {
    const bool about = e.statistics.pivot != nullptr;
    if (about) read(e.statistics.pivot + channel, other);
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) {
      const float d = about ? v[k] - other[k] : v[k];
      a[k] += d, b[k] = fmaf(d, d, b[k]);
    }
  } else if (e.sums == SumsKind::gradient) {
    CONVCORE_UNROLL
    for (int k = 0; k < kCount; k++) a[k] += v[k], b[k] = fmaf(v[k], x[k] - mean[k], b[k]);
  }
}

// The sums over the lanes that differ in the bits of `masks` alone.
template <int kCount>
CONVCORE_DEVICE void sum_lanes(int first_mask, int last_mask, float (&v)[kCount]) {
  for (int mask = first_mask; mask <= last_mask; mask *= 2) CONVCORE_UNROLL
  for (int k = 0; k < kCount; k++) v[k] += __shfl_xor_sync(kAllLanes, v[k], mask);
}

// From `sums` (groups, kN, 2) of this block to the batch norm, in the last block.
template <int kN, int kGroups>
CONVCORE_DEVICE void finish_sums(const TapsProduct& p, int box, int n0, const float* sums, double* totals, int* flag) {
  const Epilogue& e = p.epilogue;
  __syncthreads();  // all groups have left their sums
  for (int n = int(threadIdx.x); n < kN; n += kThreads) {
    if (n0 + n >= 2 * channel_pairs(p.c_out)) continue;
    float a = 0, b = 0;
    for (int group = 0; group < kGroups; group++) a += sums[(group * kN + n) * 2], b += sums[(group * kN + n) * 2 + 1];
    float* part = part_of(e.parts, box, p.c_out, n0 + n);
    part[0] = a, part[1] = b;
  }
  if (!last_to_arrive(e.arrivals, unsigned(p.boxes) * unsigned(p.column_tiles), flag)) return;
  if (e.sums == SumsKind::statistics)
    add_parts<kThreads>(e.parts, p.boxes, p.c_out, totals, e.statistics);
  else
    add_parts<kThreads>(e.parts, p.boxes, p.c_out, totals, e.gradient);
}

// ---- a block --------------------------------------------------------------------------------------------------------

template <typename Tile, Precision kPrecision, int kKinds>
CONVCORE_DEVICE void taps_block(const TapsProduct& p, int block) {
  using Size = TapsSize<Tile, kPrecision>;
  const int box = block / p.column_tiles, n0 = (block - box * p.column_tiles) * Tile::kN;
  int number = 0;
  while (number + 1 < p.phases && box >= p.phase[number + 1].first_box) number++;
  const Phase& phase = p.phase[number];
  const Boxes& boxes = phase.boxes;
  const Place place = place_of(boxes, box - phase.first_box);
  const int patch_pixels = boxes.images * boxes.patch_rows * boxes.patch_columns;
  const int pitch = p.pitch;

  SharedMemory shared;
  const Twice patch(shared, p.patch_floats), filters(shared, Tile::kN * Size::kPitch);
  Row* rows = shared.array<Row>(Tile::kM);
  float* sums = shared.array<float>(Size::kRowGroups * Tile::kN * 2);
  double* totals = shared.array<double>(4 * kThreads);
  int* flag = shared.array<int>(1);
  int* indices = shared.array<int>(p.patch_floats / pitch);

  for (int at = int(threadIdx.x); at < patch_pixels; at += kThreads)
    indices[at] = patch_index(p.in, p.step_h, p.step_w, p.images, phase, place,
                              pack_pixel(at, boxes.patch_rows, boxes.patch_columns));
  for (int m = int(threadIdx.x); m < Tile::kM; m += kThreads) {
    const auto [n, i, j] = unpack_pixel(pack_pixel(m, boxes.rows, boxes.columns));
    const bool there =
        n < boxes.images && place.image + n < p.images && place.i + i < phase.rows && place.j + j < phase.columns;
    const int h = phase.out_h0 + (place.i + i) * p.out_step_h, w = phase.out_w0 + (place.j + j) * p.out_step_w;
    rows[m].patch = there ? (n * boxes.patch_rows + i * p.step_h) * boxes.patch_columns + j * p.step_w : 0;
    rows[m].out_pixel = there ? ((place.image + n) * p.out_h + h) * p.out_w + w : -1;
  }
  __syncthreads();

  const int groups = (phase.taps + p.stage_taps - 1) / p.stage_taps;
  const int stages = groups * ((p.in.c + p.channels - 1) / p.channels);
  const auto index_of = [&](int row) { return indices[row]; };
  const auto taps_of = [&](int group) {
    const int left = phase.taps - group * p.stage_taps;
    return left < p.stage_taps ? left : p.stage_taps;
  };
  const auto load = [&](int stage) {
    const int chunk = stage / groups, group = stage - chunk * groups, channel = chunk * p.channels;
    if (group == 0) copy_operand(p.in, patch_pixels, p.channels, channel, pitch, index_of, patch.of(chunk));
    const int first_tap = phase.first_tap + group * p.stage_taps;
    if (p.in.fours)
      copy_filters<Size, 4, Tile>(p, n0, first_tap, taps_of(group), channel, filters.of(stage));
    else
      copy_filters<Size, 1, Tile>(p, n0, first_tap, taps_of(group), channel, filters.of(stage));
  };
  // multiply(pixels at the tap, filters of the tap)
  const auto loop = [&](const auto& multiply) {
    if (stages > 0) load(0);
    async_commit();
    for (int stage = 0; stage < stages; stage++) {
      const int chunk = stage / groups, group = stage - chunk * groups;
      async_wait<0>();
      if (group == 0)
        transform_operand<kKinds>(p.in, patch_pixels, p.channels, chunk * p.channels, pitch, index_of,
                                  p.in.stored != nullptr && n0 == 0, patch.of(chunk));
      __syncthreads();  // the stage is there, and everybody has read the one before, which the next one overwrites
      if (stage + 1 < stages) load(stage + 1);
      async_commit();
      CONVCORE_NO_UNROLL
      for (int tap = 0; tap < taps_of(group); tap++)
        multiply(patch.of(chunk) + tap_offset(p.taps, phase, phase.first_tap + group * p.stage_taps + tap) * pitch,
                 filters.of(stage) + tap * p.channels);
    }
  };
  const bool sum = p.epilogue.sums != SumsKind::none;
  const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
  if constexpr (Size::kTensor) {
    constexpr int kTilesM = Tile::kM / 64, kTilesN = Tile::kN / 8;
    float acc[kTilesM][kTilesN][4] = {};
    int at[2 * kTilesM];
    CONVCORE_UNROLL
    for (int i = 0; i < 2 * kTilesM; i++) {
      const int matrix = lane / 8, m = warp * (Tile::kM / 4) + 16 * (i / 2);
      at[i] = Size::kHalf ? rows[m + 8 * (i % 2) + lane / 4].patch * pitch
                          : rows[m + 8 * (matrix % 2) + lane % 8].patch * pitch + 4 * (matrix / 2);
    }
    loop([&](const float* x, const float* y) {
      const float* a[2 * kTilesM];
      CONVCORE_UNROLL
      for (int i = 0; i < 2 * kTilesM; i++) a[i] = x + at[i];
      multiply_taps_tensor<Tile, kPrecision>(a, y, p.channels, acc);
    });
    float first[2 * kTilesN] = {}, second[2 * kTilesN] = {};
    CONVCORE_UNROLL
    for (int i = 0; i < kTilesM; i++) CONVCORE_UNROLL
    for (int half = 0; half < 2; half++) {
      const int out_pixel = rows[warp * (Tile::kM / 4) + 16 * i + 8 * half + lane / 4].out_pixel;
      CONVCORE_UNROLL
      for (int j = 0; j < kTilesN; j++)
        finish_channels<2>(p, out_pixel, n0 + 8 * j + 2 * (lane % 4), &acc[i][j][2 * half], &first[2 * j],
                           &second[2 * j]);
    }
    if (!sum) return;
    sum_lanes(4, 16, first), sum_lanes(4, 16, second);
    if (lane < 4) CONVCORE_UNROLL
    for (int c = 0; c < 2 * kTilesN; c++) {
      float* to = sums + (warp * Tile::kN + c / 2 * 8 + 2 * lane + c % 2) * 2;
      to[0] = first[c], to[1] = second[c];
    }
  } else {
    constexpr int kM = Tile::kThreadM, kN = Tile::kThreadN;
    const int tm = int(threadIdx.x) % Size::kLanesM, tn = int(threadIdx.x) / Size::kLanesM;
    float acc[kM][kN] = {};
    int at[kM];
    CONVCORE_UNROLL
    for (int i = 0; i < kM; i++) at[i] = rows[tm + i * Size::kLanesM].patch * pitch;
    loop([&](const float* x, const float* y) {
      const float* a[kM];
      CONVCORE_UNROLL
      for (int i = 0; i < kM; i++) a[i] = x + at[i];
      multiply_taps_ffma<Tile>(a, y + tn * kN * Size::kPitch, p.channels, acc);
    });
    float first[kN] = {}, second[kN] = {};
    CONVCORE_UNROLL
    for (int i = 0; i < kM; i++) CONVCORE_UNROLL
    for (int j = 0; j < kN; j += 4)
      finish_channels<4>(p, rows[tm + i * Size::kLanesM].out_pixel, n0 + tn * kN + j, &acc[i][j], &first[j],
                         &second[j]);
    if (!sum) return;
    constexpr int kLanes = Size::kLanesM < kWarp ? Size::kLanesM : kWarp;
    sum_lanes(1, kLanes / 2, first), sum_lanes(1, kLanes / 2, second);
    if (tm % kLanes == 0) CONVCORE_UNROLL
    for (int j = 0; j < kN; j++) {
      float* to = sums + (tm / kLanes * Tile::kN + tn * kN + j) * 2;
      to[0] = first[j], to[1] = second[j];
    }
  }
  finish_sums<Tile::kN, Size::kRowGroups>(p, box, n0, sums, totals, flag);
}

}  // namespace detail

// ====================================================================================================================
// Pixels product
//
// Blocks: splits of the boxes x tiles of kM output channels x column tiles. A column is a tap and a channel; a tile has
// kColumns of them: as many channels as `channels` says, and as many taps as fit. A stage is a box of up to kPixels
// pixels: kM channels of dy, and the patch of `in` with the tile's channels. Groups of threads take turns with the
// pixels of a stage, each group makes the whole tile, and at the end the groups' tiles are added up in order.
// FFMA: thread (tm, tn) of a group makes 8 output channels x the columns tn, tn + 16, ...: 16 lanes read neighbouring
// channels. Tensor cores: a warp makes 16 output channels x all columns.
// ====================================================================================================================

constexpr int kColumns = 144;  // 9 taps x 16 channels: a chunk of a 3x3 filter
constexpr int kPixels = 64;    // of a stage, at most
constexpr int kRegularChannels = 16;

template <int kM_>
struct PixelsTile {
  static constexpr int kM = kM_;  // output channels
};

template <typename Tile, Precision kPrecision>
struct PixelsSize {
  static constexpr bool kTensor = kPrecision != Precision::fp32;
  static constexpr int kStep = !kTensor ? 1 : kPrecision == Precision::bf16 ? 16 : 8;  // pixels at a time
  static constexpr int kLanesN = 16, kGroupThreads = kTensor ? Tile::kM / 16 * kWarp : Tile::kM / 8 * kLanesN;
  static constexpr int kGroups = kThreads / kGroupThreads;
  // The lanes of a warp read fragments at (pixel t, channel g), BF16 at (pixel 2 t, channel g): a pitch of 8 or 24
  // modulo 32, or half of that, spreads them over all banks. The patch's pitch is so for 16, 32, 64 and 144 channels.
  static constexpr int kPad = kPrecision == Precision::bf16 ? 4 : 8;
  static constexpr int kPitch = Tile::kM + kPad;
  static constexpr int kTileFloats = kGroups > 1 ? Tile::kM* kColumns : 1;
  static constexpr size_t kFixed = 2 * shared_bytes<float>(kPixels * kPitch) + 2 * shared_bytes<int>(kPixels) +
                                   shared_bytes<int>(kColumns) + shared_bytes<float>(kTileFloats);
};

namespace detail {

// The columns of a 3x3 filter with 16 channels at stride 1, pixels in rows of eight: the column of tap (r, s) is at an
// offset of the row r, and everything else is known to the compiler. `patch`: at the channel; pixels k to k + 3 are
// next to each other.
template <typename Tile>
CONVCORE_DEVICE void multiply_regular_pixels_ffma(const float* x, const float* patch, const int* offsets, int pixels,
                                                  int row_floats, float (&acc)[8][9]) {
  using Size = PixelsSize<Tile, Precision::fp32>;
  constexpr int kPitch = kRegularChannels + Size::kPad;
  for (int k = int(threadIdx.x) / Size::kGroupThreads * 4; k < pixels; k += Size::kGroups * 4) {
    const float* from = patch + offsets[k];
    float a[4][8];
    CONVCORE_UNROLL
    for (int i = 0; i < 4; i++) {
      const float* row = x + (k + i) * Size::kPitch;
      const float4 low = shared_load4(row), high = shared_load4(row + 4);
      a[i][0] = low.x, a[i][1] = low.y, a[i][2] = low.z, a[i][3] = low.w;
      a[i][4] = high.x, a[i][5] = high.y, a[i][6] = high.z, a[i][7] = high.w;
    }
    CONVCORE_UNROLL
    for (int r = 0; r < 3; r++) {
      float b[6];
      CONVCORE_UNROLL
      for (int q = 0; q < 6; q++) b[q] = shared_load1(from + r * row_floats + q * kPitch);
      CONVCORE_UNROLL
      for (int i = 0; i < 4; i++) CONVCORE_UNROLL
      for (int s = 0; s < 3; s++) CONVCORE_UNROLL
      for (int m = 0; m < 8; m++) acc[m][3 * r + s] = fmaf(a[i][m], b[i + s], acc[m][3 * r + s]);
    }
  }
}

// `x`: dy at the first pixel and this thread's channels; `offsets`: where the pixels are in the patch; `columns`: where
// the thread's columns are from there.
template <typename Tile>
CONVCORE_DEVICE void multiply_pixels_ffma(const float* x, const float* patch, const int* offsets, int pixels,
                                          const int (&columns)[9], float (&acc)[8][9]) {
  using Size = PixelsSize<Tile, Precision::fp32>;
  for (int k = int(threadIdx.x) / Size::kGroupThreads; k < pixels; k += Size::kGroups) {
    const float* from = patch + offsets[k];
    const float4 low = shared_load4(x + k * Size::kPitch), high = shared_load4(x + k * Size::kPitch + 4);
    const float a[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    CONVCORE_UNROLL
    for (int j = 0; j < 9; j++) {
      const float b = shared_load1(from + columns[j]);
      CONVCORE_UNROLL
      for (int i = 0; i < 8; i++) acc[i][j] = fmaf(a[i], b, acc[i][j]);
    }
  }
}

// column(from, j): where column 8 j + g is of a pixel at `from`. kNext: floats from a pixel to the next one in groups
// of eight; 0: it is anywhere.
template <typename Tile, Precision kPrecision, int kNext, typename Column>
CONVCORE_DEVICE void multiply_pixels_tensor(const float* dy, const float* patch, const int* offsets, int pixels,
                                            const Column& column, float (&acc)[18][4]) {
  using Size = PixelsSize<Tile, kPrecision>;
  const int lane = int(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4, warp = int(threadIdx.x) / kWarp;
  const float* x = dy + warp % (Tile::kM / 16) * 16 + g;
  const auto x_at = [&](int k, int m) { return shared_load1(x + k * Size::kPitch + m); };
  for (int k0 = warp / (Tile::kM / 16) * Size::kStep; k0 < pixels; k0 += Size::kGroups * Size::kStep) {
    if constexpr (kPrecision == Precision::bf16) {
      const int k = k0 + 2 * t;
      uint32_t a[4];
      CONVCORE_UNROLL
      for (int q = 0; q < 4; q++) {
        const int kk = k + 8 * (q / 2), m = 8 * (q % 2);
        a[q] = to_bf16x2(x_at(kk, m), x_at(kk + 1, m));
      }
      const float *from = patch + offsets[k], *from8 = patch + offsets[k + 8];
      const float* from1 = kNext ? from + kNext : patch + offsets[k + 1];
      const float* from9 = kNext ? from8 + kNext : patch + offsets[k + 9];
      CONVCORE_UNROLL
      for (int j = 0; j < 18; j++) {
        const uint32_t b[2] = {to_bf16x2(shared_load1(column(from, j)), shared_load1(column(from1, j))),
                               to_bf16x2(shared_load1(column(from8, j)), shared_load1(column(from9, j)))};
        mma_bf16(acc[j], a, b);
      }
    } else {
      const int k = k0 + t;
      const uint32_t a[4] = {__float_as_uint(x_at(k, 0)), __float_as_uint(x_at(k, 8)), __float_as_uint(x_at(k + 4, 0)),
                             __float_as_uint(x_at(k + 4, 8))};
      const float *from = patch + offsets[k], *from4 = kNext ? from + 4 * kNext : patch + offsets[k + 4];
      CONVCORE_UNROLL
      for (int j = 0; j < 18; j++) {
        const uint32_t b[2] = {__float_as_uint(shared_load1(column(from, j))),
                               __float_as_uint(shared_load1(column(from4, j)))};
        multiply_tf32<kPrecision>(acc[j], a, b);
      }
    }
  }
}

template <typename Tile, Precision kPrecision>
CONVCORE_DEVICE void pixels_block(const PixelsProduct& p, int block) {
  using Size = PixelsSize<Tile, kPrecision>;
  const Boxes& boxes = p.phase.boxes;
  const int column_tile = block % p.column_tiles, rest = block / p.column_tiles;
  const int m0 = rest % p.row_tiles * Tile::kM, split = rest / p.row_tiles;
  const int first_channel = column_tile / p.tap_tiles * p.channels;
  const int first_tap = column_tile % p.tap_tiles * p.tile_taps;
  const int begin = split * p.boxes_per_split;
  const int end = begin + p.boxes_per_split < p.boxes ? begin + p.boxes_per_split : p.boxes;
  const int pitch = p.pitch, patch_pixels = boxes.images * boxes.patch_rows * boxes.patch_columns;
  const int in_box = boxes.images * boxes.rows * boxes.columns;
  constexpr int kTurn = Size::kStep * Size::kGroups;
  const int pixels = (in_box + kTurn - 1) / kTurn * kTurn;

  SharedMemory shared;
  const Twice dy(shared, kPixels * Size::kPitch), patch(shared, p.patch_floats);
  int* offsets = shared.array<int>(kPixels);
  int* box_pixels = shared.array<int>(kPixels);
  int* columns = shared.array<int>(kColumns);  // where they are in the patch
  float* tile = shared.array<float>(Size::kTileFloats);
  int* patch_places = shared.array<int>(p.patch_floats / pitch);
  for (int m = int(threadIdx.x); m < kPixels; m += kThreads) {
    const int packed = pack_pixel(m, boxes.rows, boxes.columns);
    const auto [n, i, j] = unpack_pixel(packed);
    box_pixels[m] = m < in_box ? packed : -1;
    offsets[m] = m < in_box ? ((n * boxes.patch_rows + i * p.step_h) * boxes.patch_columns + j * p.step_w) * pitch : 0;
  }
  for (int at = int(threadIdx.x); at < patch_pixels; at += kThreads)
    patch_places[at] = pack_pixel(at, boxes.patch_rows, boxes.patch_columns);

  // Any place will do for columns that are none.
  for (int n = int(threadIdx.x); n < kColumns; n += kThreads) {
    const int tap = n / p.channels;
    const bool there = tap < p.tile_taps && first_tap + tap < p.taps.count;
    columns[n] = there ? tap_offset(p.taps, p.phase, first_tap + tap) * pitch + n - tap * p.channels : 0;
  }
  __syncthreads();

  const auto loop = [&](const auto& multiply) {
    const auto with = [&](int box, const auto& work) {  // work(index of dy's pixels, index of the patch's pixels)
      const Place place = place_of(boxes, box);
      work(
          [&, place](int row) {
            const int packed = box_pixels[row];
            const Place in_box = unpack_pixel(packed);
            const int image = place.image + in_box.image, i = place.i + in_box.i, j = place.j + in_box.j;
            const bool there = packed >= 0 && image < p.images && i < p.phase.rows && j < p.phase.columns;
            return there ? 2 * ((image * p.phase.rows + i) * p.phase.columns + j) : -1;
          },
          [&, place](int row) {
            return patch_index(p.in, p.step_h, p.step_w, p.images, p.phase, place, patch_places[row]);
          });
    };
    const auto load = [&](int box) {
      with(box, [&](const auto& of_box, const auto& of_patch) {
        copy_operand(p.dy, pixels, Tile::kM, m0, Size::kPitch, of_box, dy.of(box));
        copy_operand(p.in, patch_pixels, p.channels, first_channel, pitch, of_patch, patch.of(box));
      });
    };
    if (begin < end) load(begin);
    async_commit();
    for (int box = begin; box < end; box++) {
      async_wait<0>();
      with(box, [&](const auto& of_box, const auto& of_patch) {
        transform_operand<kGradient>(p.dy, pixels, Tile::kM, m0, Size::kPitch, of_box, false, dy.of(box));
        transform_operand<kAffine>(p.in, patch_pixels, p.channels, first_channel, pitch, of_patch, false,
                                   patch.of(box));
      });
      __syncthreads();  // the stage is there, and everybody has read the one before, which the next one overwrites
      if (box + 1 < end) load(box + 1);
      async_commit();
      multiply(dy.of(box), patch.of(box));
    }
  };
  float* part = p.parts + int64_t(split) * p.dy.c * p.taps.count * p.in.c;
  const auto store = [&](int m, int n, float value) {
    const int tap = n / p.channels, channel = first_channel + n - tap * p.channels;
    if (m0 + m >= p.dy.c || tap >= p.tile_taps || first_tap + tap >= p.taps.count || channel >= p.in.c) return;
    part[(int64_t(m0 + m) * p.taps.count + first_tap + tap) * p.in.c + channel] = value;
  };
  // each(work): work(m, n, value) for what this thread made.
  const auto finish = [&](const auto& each) {
    if constexpr (Size::kGroups == 1) {
      each(store);
    } else {
      for (int turn = 0; turn < Size::kGroups; turn++) {
        if (int(threadIdx.x) / Size::kGroupThreads == turn)
          each([&](int m, int n, float value) {
            float& at = tile[m * kColumns + n];
            at = turn == 0 ? value : at + value;
          });
        __syncthreads();
      }
      for (int at = int(threadIdx.x); at < Size::kTileFloats; at += kThreads)
        store(at / kColumns, at % kColumns, tile[at]);
    }
  };
  if constexpr (Size::kTensor) {
    float acc[18][4] = {};
    const int lane = int(threadIdx.x) % kWarp, row = p.regular_row * pitch;
    loop([&](const float* x, const float* y) {
      if (row > 0) {
        constexpr int kPitch = kRegularChannels + Size::kPad;
        multiply_pixels_tensor<Tile, kPrecision, kPitch>(
            x, y + lane / 4, offsets, pixels,
            [&](const float* from, int j) { return from + j / 6 * row + j / 2 % 3 * kPitch + j % 2 * 8; }, acc);
      } else {
        int mine[18];
        CONVCORE_UNROLL
        for (int j = 0; j < 18; j++) mine[j] = columns[8 * j + lane / 4];
        multiply_pixels_tensor<Tile, kPrecision, 0>(
            x, y, offsets, pixels, [&](const float* from, int j) { return from + mine[j]; }, acc);
      }
    });
    const int first_m = int(threadIdx.x) / kWarp % (Tile::kM / 16) * 16 + lane / 4;
    finish([&](const auto& work) {
      CONVCORE_UNROLL
      for (int j = 0; j < 18; j++) CONVCORE_UNROLL
      for (int q = 0; q < 4; q++) work(first_m + 8 * (q / 2), 8 * j + 2 * (lane % 4) + q % 2, acc[j][q]);
    });
  } else {
    float acc[8][9] = {};
    const int tm = int(threadIdx.x) % Size::kGroupThreads / Size::kLanesN;
    const int tn = int(threadIdx.x) % Size::kLanesN;
    loop([&](const float* x, const float* y) {
      if (p.regular_row > 0) {
        multiply_regular_pixels_ffma<Tile>(x + 8 * tm, y + tn, offsets, pixels, p.regular_row * pitch, acc);
      } else {
        int mine[9];
        CONVCORE_UNROLL
        for (int j = 0; j < 9; j++) mine[j] = columns[tn + j * Size::kLanesN];
        multiply_pixels_ffma<Tile>(x + 8 * tm, y, offsets, pixels, mine, acc);
      }
    });
    finish([&](const auto& work) {
      CONVCORE_UNROLL
      for (int j = 0; j < 9; j++) CONVCORE_UNROLL
      for (int i = 0; i < 8; i++) work(8 * tm + i, tn + j * Size::kLanesN, acc[i][j]);
    });
  }
}

// Blocks on a multiprocessor: four leave 128 registers per thread, which BF16 on tiles of 256 pixels exceeds.
template <typename Tile, Precision kPrecision>
constexpr int kTapsBlocks = kPrecision == Precision::bf16 && Tile::kM == 256 ? 3 : 4;

template <typename Tile, Precision kPrecision>
CONVCORE_KERNEL_OF(kThreads, (kTapsBlocks<Tile, kPrecision>))
taps_product(const __grid_constant__ TapsProduct p) {
  taps_block<Tile, kPrecision, kAffine | kResidual | kGradient>(p, int(blockIdx.x));
}

template <typename Tile, Precision kPrecision>
CONVCORE_KERNEL_OF(kThreads, 3)
pixels_product(const __grid_constant__ PixelsProduct p) {
  pixels_block<Tile, kPrecision>(p, int(blockIdx.x));
}

// The first `taps_blocks` blocks do the one, the others the other: on small layers neither fills a large GPU.
template <typename First, typename Second, Precision kPrecision>
CONVCORE_KERNEL_OF(kThreads, 3)
both_products(const __grid_constant__ TapsProduct p, const __grid_constant__ PixelsProduct q, int taps_blocks) {
  const auto block = int(blockIdx.x);
  if (block < taps_blocks)
    taps_block<First, kPrecision, kGradient>(p, block);
  else
    pixels_block<Second, kPrecision>(q, block - taps_blocks);
}

}  // namespace detail

// ---- sizes of boxes and stages, and launch --------------------------------------------------------------------------

namespace {

int64_t blocks_of(int64_t count, int64_t size) { return (count + size - 1) / size; }

int64_t patch_pixels(const Boxes& b) { return int64_t(b.images) * b.patch_rows * b.patch_columns; }

// The boxes of at most `most_pixels` pixels, with patches of at most `most_patch`, that cover a phase with the fewest;
// of several such, those with rows of a multiple of eight pixels (they meet all banks), then with the smallest patch.
void choose_boxes(Phase* phase, int images, int step_h, int step_w, int64_t most_pixels, int64_t most_patch) {
  const int span_h = phase->high_h - phase->low_h + 1, span_w = phase->high_w - phase->low_w + 1;
  constexpr int kMost = detail::kMostCoordinate;
  int64_t best = -1, best_patch = 0;
  bool best_even = false;
  for (int columns = 1; columns <= phase->columns && columns <= most_pixels; columns++) {
    Boxes b{1, 0, columns, 0, int(blocks_of(phase->columns, columns)), 0, 0};
    const auto set_rows = [&](int64_t rows) {
      b.rows = int(rows), b.down = int(blocks_of(phase->rows, rows));
      if (phase->taps == 0) return true;
      b.patch_rows = (b.rows - 1) * step_h + span_h, b.patch_columns = (columns - 1) * step_w + span_w;
      return b.patch_rows <= kMost && b.patch_columns <= kMost && patch_pixels(b) <= most_patch;
    };
    int64_t rows = most_pixels / columns < phase->rows ? most_pixels / columns : phase->rows;
    while (!set_rows(rows) && rows > 1) rows--;
    if (!set_rows(blocks_of(phase->rows, b.down))) continue;  // as many boxes, none smaller than the others need be
    const int64_t patch = patch_pixels(b);
    if (b.down == 1 && b.across == 1) {
      int64_t most = most_pixels / (b.rows * columns);
      if (patch > 0 && most > most_patch / patch) most = most_patch / patch;
      if (most > kMost) most = kMost;
      if (most > images) most = images;
      b.images = most > 1 ? int(most) : 1;
    }
    const int64_t count = blocks_of(images, b.images) * b.down * b.across;
    const bool even = columns % 8 == 0, same = count == best && even == best_even;
    if (best >= 0 && (count > best || (count == best && best_even && !even))) continue;
    if (same && b.images * patch >= best_patch) continue;
    best = count, best_even = even, best_patch = b.images * patch, phase->boxes = b;
  }
}

int64_t boxes_of(const Phase& phase, int images) {
  return blocks_of(images, phase.boxes.images) * phase.boxes.down * phase.boxes.across;
}

bool aligned(std::initializer_list<const void*> pointers) {
  uintptr_t bits = 0;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return bits % 16 == 0;
}

void set_fours(Operand* in) {
  in->fours = in->c % 4 == 0 && aligned({in->data, in->mean, in->scale, in->bias, in->slope, in->x, in->stored}) &&
              (!in->residual.same || aligned({in->residual.values}));
}

struct Launch {
  unsigned blocks;
  size_t shared;
};

// Pixels of a patch that shared memory has room for beside `fixed` bytes: two stages, and a number of each pixel.
int64_t room_for_patch(size_t fixed, int pitch) {
  constexpr int64_t kRounding = 64;  // each array to 16 bytes
  return (int64_t(kMostShared) - int64_t(fixed) - kRounding) / (2 * 4 * pitch + 4);
}
int64_t span_of(const Phase& phase) {
  return int64_t(phase.high_h - phase.low_h + 1) * (phase.high_w - phase.low_w + 1);
}
constexpr int kPatchFloats = 5120;  // of the pixels of a box, about: leaves shared memory for several blocks

template <typename Tile, Precision kPrecision>
Launch prepare_taps(TapsProduct* p) {
  using Size = TapsSize<Tile, kPrecision>;
  set_fours(&p->in);
  p->in.fours = p->in.fours && aligned({p->w});
  const Epilogue& e = p->epilogue;
  p->out_fours = p->c_out % 4 == 0 && aligned({p->out, e.bias, e.add.same ? e.add.values : nullptr, e.y, e.x,
                                               e.affine.mean, e.affine.scale, e.affine.bias, e.statistics.pivot});
  int taps = 1;
  for (int i = 0; i < p->phases; i++) taps = p->phase[i].taps > taps ? p->phase[i].taps : taps;
  // As many taps as there are, then as many channels as give few stages and leave room for the patch.
  const int unit = !Size::kTensor && p->in.c <= 4 ? 4 : Size::kStep;
  p->stage_taps = taps < Size::kDepth / unit ? taps : Size::kDepth / unit;
  int channels = Size::kDepth / p->stage_taps;
  if (channels > kPatchFloats / Tile::kM) channels = kPatchFloats / Tile::kM;
  const int all = int(blocks_of(p->in.c > 0 ? p->in.c : 1, unit)) * unit;  // of no channels there is no stage
  if (channels > all) channels = all;
  channels = channels / unit * unit;
  int64_t span = 1, room = 0, largest = 1;
  for (int i = 0; i < p->phases; i++) span = span_of(p->phase[i]) > span ? span_of(p->phase[i]) : span;
  for (;; channels -= unit) {
    p->channels = channels;
    p->pitch = channels == 4 ? 12 : channels + Size::kPad;
    room = room_for_patch(Size::kFixed, p->pitch);
    if (room >= span || channels == unit) break;
  }
  p->boxes = 0;
  for (int i = 0; i < p->phases; i++) {
    Phase& phase = p->phase[i];
    phase.first_box = p->boxes;
    choose_boxes(&phase, p->images, p->step_h, p->step_w, Tile::kM, room);
    p->boxes += int(boxes_of(phase, p->images));
    if (patch_pixels(phase.boxes) > largest) largest = patch_pixels(phase.boxes);
  }
  p->patch_floats = int(largest * p->pitch);
  p->column_tiles = int(blocks_of(p->c_out, Tile::kN));
  if (e.sums != SumsKind::none)
    p->epilogue.parts = workspace(kSumsWorkspace, int64_t(p->boxes) * channel_pairs(p->c_out) * 4);
  return {unsigned(p->boxes) * unsigned(p->column_tiles),
          Size::kFixed + 2 * shared_bytes<float>(p->patch_floats) + shared_bytes<int>(largest)};
}

// Channels and taps of a column tile: what gives the fewest tiles, of those whose patch finds room.
void choose_columns(PixelsProduct* p, size_t fixed, int pad) {
  int64_t best = -1;
  for (int channels : {1, 2, 4, 8, 16, 32, 64, kColumns}) {
    if ((p->in.fours && channels % 4 != 0) || room_for_patch(fixed, channels + pad) < span_of(p->phase)) continue;
    const int taps = kColumns / channels;
    const int64_t tiles = blocks_of(p->in.c, channels) * blocks_of(p->taps.count, taps);
    if (best >= 0 && tiles >= best) continue;
    best = tiles, p->channels = channels, p->tile_taps = taps;
  }
  p->tap_tiles = int(blocks_of(p->taps.count, p->tile_taps));
  p->column_tiles = int(best);
}

// Of the taps of a 3x3 filter whose columns are next to each other: pixels of the patch from one row to the next. Else
// 0.
int filter_row(const PixelsProduct& p) {
  const Taps& t = p.taps;
  if (t.count != 9) return 0;
  const int step = t.h[3] - t.h[0];
  for (int i = 0; i < 9; i++)
    if (t.h[i] != t.h[0] + i / 3 * step || t.w[i] != t.w[0] + i % 3) return 0;
  return step * p.phase.boxes.patch_columns;
}

// Splits of the pixels: as many as give a block to every multiprocessor of a large GPU, with enough pixels each to be
// worth a part. By the shape alone: the bits must not depend on the GPU.
constexpr int64_t kWantedBlocks = 264, kLeastPixels = 256;

template <typename Tile, Precision kPrecision>
Launch prepare_pixels(PixelsProduct* p) {
  using Size = PixelsSize<Tile, kPrecision>;
  set_fours(&p->in);
  set_fours(&p->dy);
  // The shape alone decides how the pixels are split: also where the memory is not aligned.
  const bool fours = p->in.fours;
  p->in.fours = p->in.c % 4 == 0;
  // Neither does the precision.
  using Widest = PixelsSize<Tile, Precision::fp32>;
  choose_columns(p, Widest::kFixed, Widest::kPad);
  p->in.fours = fours;
  choose_boxes(&p->phase, p->images, p->step_h, p->step_w, kPixels,
               room_for_patch(Widest::kFixed, p->channels + Widest::kPad));
  p->pitch = p->channels + Size::kPad;
  p->regular_row =
      p->channels == kRegularChannels && p->step_w == 1 && p->phase.boxes.columns % 8 == 0 ? filter_row(*p) : 0;
  p->boxes = int(boxes_of(p->phase, p->images));
  p->row_tiles = int(blocks_of(p->dy.c, Tile::kM));
  const int64_t box = int64_t(p->phase.boxes.images) * p->phase.boxes.rows * p->phase.boxes.columns;
  const int64_t wanted = blocks_of(kWantedBlocks, int64_t(p->column_tiles) * p->row_tiles);
  int64_t per_split = blocks_of(p->boxes, wanted);
  if (per_split * box < kLeastPixels) per_split = blocks_of(kLeastPixels, box);
  p->boxes_per_split = int(per_split);
  const int64_t splits = p->boxes == 0 ? 1 : blocks_of(p->boxes, per_split), pixels = patch_pixels(p->phase.boxes);
  p->patch_floats = int(pixels * p->pitch);
  return {unsigned(splits * p->row_tiles * p->column_tiles),
          Size::kFixed + 2 * shared_bytes<float>(p->patch_floats) + shared_bytes<int>(pixels)};
}

template <typename Tile, Precision kPrecision>
void launch_taps(const char* name, TapsProduct p) {
  const Launch l = prepare_taps<Tile, kPrecision>(&p);
  launch(name, detail::taps_product<Tile, kPrecision>, dim3(l.blocks), kThreads, l.shared, p);
}

template <typename Tile, Precision kPrecision>
void launch_pixels(const char* name, PixelsProduct p, float* parts) {
  const Launch l = prepare_pixels<Tile, kPrecision>(&p);
  p.parts = parts;
  launch(name, detail::pixels_product<Tile, kPrecision>, dim3(l.blocks), kThreads, l.shared, p);
}

template <typename First, typename Second, Precision kPrecision>
void launch_both(const char* name, TapsProduct p, PixelsProduct q, float* parts) {
  static_assert(sizeof(TapsProduct) + sizeof(PixelsProduct) + 8 <= 4096, "the parameters of a kernel");
  const Launch a = prepare_taps<First, kPrecision>(&p), b = prepare_pixels<Second, kPrecision>(&q);
  q.parts = parts;
  launch(name, detail::both_products<First, Second, kPrecision>, dim3(a.blocks + b.blocks), kThreads,
         a.shared > b.shared ? a.shared : b.shared, p, q, int(a.blocks));
}

// The tiles for so many output channels: work(taps tile, pixels tile).
template <typename Work>
void with_tiles(int c_out, const Work& work) {
  if (c_out <= 16) return work(TapsTile<256, 16, 4, 8>(), PixelsTile<16>());
  if (c_out <= 32) return work(TapsTile<128, 32, 4, 8>(), PixelsTile<32>());
  work(TapsTile<64, 64, 4, 8>(), PixelsTile<64>());
}

// Fewer results than this, and large tiles would leave most of the GPU without a block.
constexpr int64_t kFewResults = 64 * 4096;

}  // namespace

template <Precision kPrecision>
void Products<kPrecision>::taps(const char* name, const TapsProduct& p) {
  if constexpr (kPrecision == Precision::fp32)
    if (pixels_of(p) * p.c_out < kFewResults && p.in.kind == OperandKind::plain)
      return launch_taps<TapsTile<32, 32, 2, 4>, kPrecision>(name, p);
  with_tiles(p.c_out, [&](auto tile, auto) { launch_taps<decltype(tile), kPrecision>(name, p); });
}

template <Precision kPrecision>
void Products<kPrecision>::pixels(const char* name, const PixelsProduct& q, int widest, const TapsProduct* p,
                                  float* parts) {
  with_tiles(widest, [&](auto first, auto second) {
    using First = decltype(first);
    using Second = decltype(second);
    if (p)
      launch_both<First, Second, kPrecision>(name, *p, q, parts);
    else
      launch_pixels<Second, kPrecision>(name, q, parts);
  });
}

template <Precision kPrecision>
int64_t Products<kPrecision>::splits(const PixelsProduct& given, int widest) {
  PixelsProduct p = given;
  int64_t splits = 1;
  with_tiles(widest, [&](auto, auto tile) {
    const Launch launch = prepare_pixels<decltype(tile), kPrecision>(&p);
    splits = launch.blocks / unsigned(p.row_tiles * p.column_tiles);
  });
  return splits;
}

}  // namespace convcore::cuda
