// The kernels of product.h.
#include "cuda/product.h"

#include "cuda/elementwise.cuh"
#include "cuda/ptx.cuh"

namespace convcore::cuda {

namespace detail {

// Two shared arrays that take turns. (An array of the two pointers would be put into local memory.)
template <typename T>
struct Twice {
  T *even, *odd;
  template <typename Shared>
  __device__ Twice(Shared& shared, int count)
      : even(shared.template array<T>(count)), odd(shared.template array<T>(count)) {}
  __device__ T* of(int64_t stage) const { return stage % 2 == 0 ? even : odd; }
};

// One pixel of the product: its image, and where its window begins.
struct Row {
  int image;      // first pixel of the image in `in`
  int h, w;       // of the window, before the shift of a tap; h is far outside where there is no such pixel
  int out_pixel;  // of `out`
};
constexpr int kNowhere = -(1 << 28);

CONVCORE_DEVICE Row locate(const TapImages& in, const PixelGrid& grid, int64_t pixel) {
  if (pixel >= grid.pixels) return {0, kNowhere, kNowhere, -1};
  const int per_image = grid.rows * grid.columns;
  const int image = int(pixel / per_image), inside = int(pixel - int64_t(image) * per_image);
  const int i = inside / grid.columns, j = inside - i * grid.columns;
  return {image * in.h * in.w, i * in.step_h, j * in.step_w, image};
}

// Starts the copy of kVector channels of what a pixel meets at a tap.
template <int kVector>
CONVCORE_DEVICE void copy_tap(float* to, const TapImages& in, const Row& row, int shift_h, int shift_w, int channel,
                              bool wanted) {
  const int h = row.h + shift_h, w = row.w + shift_w;
  const bool valid = wanted && unsigned(h) < unsigned(in.h) && unsigned(w) < unsigned(in.w);
  const int64_t at = valid ? int64_t(row.image + h * in.w + w) * in.c + channel : 0;
  async_copy<4 * kVector>(to, in.data + at, valid);
}

// ---- the fragments of the tensor cores
// ---------------------------------------------------------------------------------

// An operand split for 3xTF32: x = large + small, up to 2^-22 of x.
template <int kCount>
CONVCORE_DEVICE void split_tf32(const uint32_t (&x)[kCount], uint32_t (&large)[kCount], uint32_t (&small)[kCount]) {
  CONVCORE_UNROLL
  for (int i = 0; i < kCount; i++) {
    large[i] = to_tf32(__uint_as_float(x[i]));
    small[i] = to_tf32(__uint_as_float(x[i]) - __uint_as_float(large[i]));
  }
}

// c += a * b over eight k; a and b hold floats.
template <Precision kPrecision>
CONVCORE_DEVICE void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  uint32_t al[4], as[4], bl[2], bs[2];
  split_tf32(a, al, as);
  split_tf32(b, bl, bs);
  if constexpr (kPrecision == Precision::tf32x3) {
    mma_tf32(c, as, bl);  // the small products first
    mma_tf32(c, al, bs);
  }
  mma_tf32(c, al, bl);
}

}  // namespace detail

// ====================================================================================================================
// Taps product
//
// Grid: x over tiles of kM pixels, y over tiles of kN output channels. Block: kThreads threads.
// FFMA: thread (tm, tn) makes 8 pixels x 8 channels: pixels tm + i * kM / 8, so that neighbouring lanes read
// neighbouring rows of the tile, and channels 8 * tn + j, which all lanes with the same tn read together. Rows of a
// tile have a pitch of kK + 4 floats: eight lanes that read 16 bytes each in eight rows hit all 32 banks. Tensor cores:
// each of the four warps makes kM / 4 pixels x kN channels.
// ====================================================================================================================

template <int kM_, int kN_, int kK_, int kThreadM_, int kThreadN_>
struct TapsTile {
  static constexpr int kM = kM_, kN = kN_, kK = kK_;  // pixels, output channels, and products per stage
  static constexpr int kThreadM = kThreadM_, kThreadN = kThreadN_;
};

template <typename Tile, Precision kPrecision>
struct TapsSize {
  static constexpr bool kTensor = kPrecision != Precision::fp32;
  static constexpr int kLanesM = Tile::kM / Tile::kThreadM, kLanesN = Tile::kN / Tile::kThreadN;
  static constexpr int kThreads = kTensor ? 128 : kLanesM * kLanesN;
  // BF16 reads pairs of floats, 16 lanes at a time from four rows: these want a pitch of 8 modulo 16.
  static constexpr int kPitch = Tile::kK + (kPrecision == Precision::bf16 ? 8 : 4);
  static constexpr size_t kShared = 2 * shared_bytes<float>(Tile::kM * kPitch) +
                                    2 * shared_bytes<float>(Tile::kN * kPitch) + shared_bytes<detail::Row>(Tile::kM);
};

namespace detail {

template <typename Tile, Precision kPrecision, int kVector>
CONVCORE_DEVICE void load_taps_stage(const TapsProduct& p, const Row* rows, int64_t n0, int k0, float* a, float* b) {
  using Size = TapsSize<Tile, kPrecision>;
  constexpr int kChunks = Tile::kK / kVector;  // of a row
  const int depth = p.taps.count * p.in.c;
  const int chunk = int(threadIdx.x) % kChunks, first = int(threadIdx.x) / kChunks;
  const int k = k0 + chunk * kVector;
  const bool inside = k < depth;
  const int tap = inside ? k / p.in.c : 0, channel = inside ? k - tap * p.in.c : 0;
  const int shift_h = p.taps.h[tap], shift_w = p.taps.w[tap];
  for (int row = first; row < Tile::kM; row += Size::kThreads / kChunks)
    copy_tap<kVector>(a + row * Size::kPitch + chunk * kVector, p.in, rows[row], shift_h, shift_w, channel, inside);
  for (int row = first; row < Tile::kN; row += Size::kThreads / kChunks) {
    const bool valid = inside && n0 + row < p.c_out;
    async_copy<4 * kVector>(b + row * Size::kPitch + chunk * kVector, p.w + (valid ? (n0 + row) * depth + k : 0),
                            valid);
  }
}

// acc += tile a * tile b, by FFMA.
template <typename Tile>
CONVCORE_DEVICE void multiply_taps_ffma(const float* a, const float* b, float (&acc)[Tile::kThreadM][Tile::kThreadN]) {
  using Size = TapsSize<Tile, Precision::fp32>;
  const int tm = int(threadIdx.x) % Size::kLanesM, tn = int(threadIdx.x) / Size::kLanesM;
  CONVCORE_UNROLL
  for (int k = 0; k < Tile::kK; k += 4) {
    float4 x[Tile::kThreadM];
    CONVCORE_UNROLL
    for (int i = 0; i < Tile::kThreadM; i++) x[i] = shared_load4(a + (tm + i * Size::kLanesM) * Size::kPitch + k);
    CONVCORE_UNROLL
    for (int j = 0; j < Tile::kThreadN; j++) {
      const float4 y = shared_load4(b + (tn * Tile::kThreadN + j) * Size::kPitch + k);
      CONVCORE_UNROLL
      for (int i = 0; i < Tile::kThreadM; i++) {
        acc[i][j] = fmaf(x[i].x, y.x, acc[i][j]);
        acc[i][j] = fmaf(x[i].y, y.y, acc[i][j]);
        acc[i][j] = fmaf(x[i].z, y.z, acc[i][j]);
        acc[i][j] = fmaf(x[i].w, y.w, acc[i][j]);
      }
    }
  }
}

// The same by tensor cores: acc[i][j] is the 16x8 tile of pixels 16 i and channels 8 j of the warp's part.
template <typename Tile, Precision kPrecision>
CONVCORE_DEVICE void multiply_taps_tensor(const float* a, const float* b,
                                          float (&acc)[Tile::kM / 64][Tile::kN / 8][4]) {
  constexpr int kPitch = TapsSize<Tile, kPrecision>::kPitch;
  const int lane = int(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
  a += int(threadIdx.x) / kWarp * (Tile::kM / 4) * kPitch;
  if constexpr (kPrecision == Precision::bf16) {
    const auto pair = [&](const float* row) {
      const float2 v = *reinterpret_cast<const float2*>(row);
      return to_bf16x2(v.x, v.y);
    };
    CONVCORE_UNROLL
    for (int k = 0; k < Tile::kK; k += 16) {
      uint32_t y[Tile::kN / 8][2];
      CONVCORE_UNROLL
      for (int j = 0; j < Tile::kN / 8; j++) {
        const float* row = b + (8 * j + g) * kPitch + k + 2 * t;
        y[j][0] = pair(row), y[j][1] = pair(row + 8);
      }
      CONVCORE_UNROLL
      for (int i = 0; i < Tile::kM / 64; i++) {
        const float* row = a + (16 * i + g) * kPitch + k + 2 * t;
        const uint32_t x[4] = {pair(row), pair(row + 8 * kPitch), pair(row + 8), pair(row + 8 * kPitch + 8)};
        CONVCORE_UNROLL
        for (int j = 0; j < Tile::kN / 8; j++) mma_bf16(acc[i][j], x, y[j]);
      }
    }
  } else {
    // Rows of 16 bytes for ldmatrix: four k of one pixel, or of one channel.
    const int row8 = lane % 8, matrix = lane / 8;
    CONVCORE_UNROLL
    for (int k = 0; k < Tile::kK; k += 8) {
      uint32_t y[Tile::kN / 8][2];
      CONVCORE_UNROLL
      for (int j = 0; j < Tile::kN / 8; j += 2) {
        uint32_t both[4];
        ldmatrix4(both, b + (8 * j + 8 * (matrix / 2) + row8) * kPitch + k + 4 * (matrix % 2));
        y[j][0] = both[0], y[j][1] = both[1], y[j + 1][0] = both[2], y[j + 1][1] = both[3];
      }
      CONVCORE_UNROLL
      for (int i = 0; i < Tile::kM / 64; i++) {
        uint32_t x[4];
        ldmatrix4(x, a + (16 * i + 8 * (matrix % 2) + row8) * kPitch + k + 4 * (matrix / 2));
        CONVCORE_UNROLL
        for (int j = 0; j < Tile::kN / 8; j++) multiply_tf32<kPrecision>(acc[i][j], x, y[j]);
      }
    }
  }
}

// Stores kCount neighbouring channels of a pixel.
template <int kCount>
CONVCORE_DEVICE void store_channels(const TapsProduct& p, int out_pixel, int64_t channel, const float* values) {
  if (out_pixel < 0) return;
  const int64_t at = int64_t(out_pixel) * p.c_out + channel;
  CONVCORE_UNROLL
  for (int j = 0; j < kCount; j++) {
    if (channel + j >= p.c_out) return;
    float v = values[j];
    if (p.bias) v += p.bias[channel + j];
    if (p.add) v += p.add[at + j];
    if (p.relu && v <= 0) v = 0;  // NaN passes
    p.out[at + j] = v;
  }
}

template <typename Tile, Precision kPrecision, int kVector>
CONVCORE_KERNEL((TapsSize<Tile, kPrecision>::kThreads))
taps_product(const __grid_constant__ TapsProduct p) {
  using Size = TapsSize<Tile, kPrecision>;
  SharedMemory shared;
  const Twice<float> a(shared, Tile::kM * Size::kPitch), b(shared, Tile::kN * Size::kPitch);
  Row* rows = shared.array<Row>(Tile::kM);
  const int64_t m0 = int64_t(blockIdx.x) * Tile::kM, n0 = int64_t(blockIdx.y) * Tile::kN;
  for (int m = int(threadIdx.x); m < Tile::kM; m += Size::kThreads) {
    Row row = locate(p.in, p.grid, m0 + m);
    if (row.out_pixel >= 0) {
      const int inside = int((m0 + m) % (int64_t(p.grid.rows) * p.grid.columns));
      const int i = inside / p.grid.columns, j = inside % p.grid.columns;
      row.out_pixel = (row.out_pixel * p.out_h + p.out_h0 + i * p.out_step_h) * p.out_w + p.out_w0 + j * p.out_step_w;
    }
    rows[m] = row;
  }
  __syncthreads();

  const int depth = p.taps.count * p.in.c, stages = (depth + Tile::kK - 1) / Tile::kK;
  const auto loop = [&](auto multiply) {
    if (stages > 0) load_taps_stage<Tile, kPrecision, kVector>(p, rows, n0, 0, a.of(0), b.of(0));
    async_commit();
    for (int stage = 0; stage < stages; stage++) {
      if (stage + 1 < stages)
        load_taps_stage<Tile, kPrecision, kVector>(p, rows, n0, (stage + 1) * Tile::kK, a.of(stage + 1),
                                                   b.of(stage + 1));
      async_commit();
      async_wait<1>();
      __syncthreads();
      multiply(a.of(stage), b.of(stage));
      __syncthreads();  // before the next stage but one overwrites these tiles
    }
  };
  if constexpr (Size::kTensor) {
    float acc[Tile::kM / 64][Tile::kN / 8][4] = {};
    loop([&](const float* x, const float* y) { multiply_taps_tensor<Tile, kPrecision>(x, y, acc); });
    const int lane = int(threadIdx.x) % kWarp, warp = int(threadIdx.x) / kWarp;
    CONVCORE_UNROLL
    for (int i = 0; i < Tile::kM / 64; i++) CONVCORE_UNROLL
    for (int j = 0; j < Tile::kN / 8; j++) CONVCORE_UNROLL
    for (int half = 0; half < 2; half++) {
      const Row& row = rows[warp * (Tile::kM / 4) + 16 * i + 8 * half + lane / 4];
      store_channels<2>(p, row.out_pixel, n0 + 8 * j + 2 * (lane % 4), &acc[i][j][2 * half]);
    }
  } else {
    float acc[Tile::kThreadM][Tile::kThreadN] = {};
    loop([&](const float* x, const float* y) { multiply_taps_ffma<Tile>(x, y, acc); });
    const int tm = int(threadIdx.x) % Size::kLanesM, tn = int(threadIdx.x) / Size::kLanesM;
    CONVCORE_UNROLL
    for (int i = 0; i < Tile::kThreadM; i++)
      store_channels<Tile::kThreadN>(p, rows[tm + i * Size::kLanesM].out_pixel, n0 + tn * Tile::kThreadN, acc[i]);
  }
}

}  // namespace detail

// ====================================================================================================================
// Pixels product
//
// Grid: x over tiles of kN columns (tap, channel), y over tiles of kM output channels, z over splits of the pixels.
// Block: kGroups groups of threads; each group takes its share of the pixels of a stage and makes the whole tile from
// it, in 8x8 outputs per thread; at the end the groups' tiles are added up in shared memory, in order. Tensor cores: a
// warp is a group.
// ====================================================================================================================

template <int kM_, int kN_, int kPixels_>
struct PixelsTile {
  static constexpr int kM = kM_, kN = kN_, kPixels = kPixels_;  // output channels, columns, and pixels per stage
};

template <typename Tile, Precision kPrecision>
struct PixelsSize {
  static constexpr bool kTensor = kPrecision != Precision::fp32;
  static constexpr int kLanesM = Tile::kM / 8, kLanesN = Tile::kN / 8;
  static constexpr int kThreads = 128;
  static constexpr int kGroupThreads = kTensor ? kWarp : kLanesM * kLanesN;
  static constexpr int kGroups = kThreads / kGroupThreads;
  // The lanes of a warp read fragments at (pixel t, channel g): a pitch of 8 or 24 modulo 32 spreads them over all
  // banks.
  static constexpr int kPitchA = Tile::kM + 8, kPitchB = Tile::kN + 8;
  static constexpr size_t kShared =
      2 * shared_bytes<float>(Tile::kPixels * kPitchA) + 2 * shared_bytes<float>(Tile::kPixels * kPitchB) +
      2 * shared_bytes<detail::Row>(Tile::kPixels) + shared_bytes<float>(Tile::kM * Tile::kN);
};

namespace detail {

// What a thread copies of each stage: the same columns every time.
struct PixelsColumn {
  int shift_h, shift_w, channel;
  bool inside;
};

template <typename Tile, Precision kPrecision, int kVector>
CONVCORE_DEVICE void load_pixels_stage(const PixelsProduct& p, const Row* rows, const PixelsColumn* columns, int64_t m0,
                                       int64_t pixel0, int64_t pixel_end, float* a, float* b) {
  using Size = PixelsSize<Tile, kPrecision>;
  // dy: always in single floats unless its channels come in fours as well.
  const auto copy_dy = [&](auto vector) {
    constexpr int kChunks = Tile::kM / decltype(vector)::value;
    for (int at = int(threadIdx.x); at < Tile::kPixels * kChunks; at += Size::kThreads) {
      const int row = at / kChunks, m = at % kChunks * decltype(vector)::value;
      const bool valid = pixel0 + row < pixel_end && m0 + m < p.c_out;
      async_copy<4 * decltype(vector)::value>(a + row * Size::kPitchA + m,
                                              p.dy + (valid ? (pixel0 + row) * p.c_out + m0 + m : 0), valid);
    }
  };
  if (p.c_out % 4 == 0)
    copy_dy(std::integral_constant<int, 4>());
  else
    copy_dy(std::integral_constant<int, 1>());
  constexpr int kChunks = Tile::kN / kVector;
  constexpr int kRowsAtOnce = Size::kThreads / kChunks > 0 ? Size::kThreads / kChunks : 1;
  constexpr int kColumns = kChunks > Size::kThreads ? kChunks / Size::kThreads : 1;
  for (int row = int(threadIdx.x) / kChunks; row < Tile::kPixels; row += kRowsAtOnce) {
    CONVCORE_UNROLL
    for (int q = 0; q < kColumns; q++) {
      const int chunk = int(threadIdx.x) % kChunks + q * Size::kThreads;
      const PixelsColumn& column = columns[q];
      copy_tap<kVector>(b + row * Size::kPitchB + chunk * kVector, p.in, rows[row], column.shift_h, column.shift_w,
                        column.channel, column.inside);
    }
  }
}

template <typename Tile>
CONVCORE_DEVICE void multiply_pixels_ffma(const float* a, const float* b, float (&acc)[8][8]) {
  using Size = PixelsSize<Tile, Precision::fp32>;
  const int thread = int(threadIdx.x) % Size::kGroupThreads, group = int(threadIdx.x) / Size::kGroupThreads;
  const int tm = thread % Size::kLanesM, tn = thread / Size::kLanesM;
  for (int k = group; k < Tile::kPixels; k += Size::kGroups) {
    float x[8], y[8];
    CONVCORE_UNROLL
    for (int half = 0; half < 2; half++) {  // channels 4 tm + i, and the same in the second half of the tile
      const float4 u = shared_load4(a + k * Size::kPitchA + half * (Tile::kM / 2) + 4 * tm);
      const float4 v = shared_load4(b + k * Size::kPitchB + half * (Tile::kN / 2) + 4 * tn);
      x[4 * half] = u.x, x[4 * half + 1] = u.y, x[4 * half + 2] = u.z, x[4 * half + 3] = u.w;
      y[4 * half] = v.x, y[4 * half + 1] = v.y, y[4 * half + 2] = v.z, y[4 * half + 3] = v.w;
    }
    CONVCORE_UNROLL
    for (int i = 0; i < 8; i++) CONVCORE_UNROLL
    for (int j = 0; j < 8; j++) acc[i][j] = fmaf(x[i], y[j], acc[i][j]);
  }
}

template <typename Tile, Precision kPrecision>
CONVCORE_DEVICE void multiply_pixels_tensor(const float* a, const float* b,
                                            float (&acc)[Tile::kM / 16][Tile::kN / 8][4]) {
  using Size = PixelsSize<Tile, kPrecision>;
  constexpr int kStep = kPrecision == Precision::bf16 ? 16 : 8;
  const int lane = int(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4, warp = int(threadIdx.x) / kWarp;
  constexpr int kPerWarp = Tile::kPixels / Size::kGroups;
  static_assert(kPerWarp == kStep, "a warp takes one fragment of pixels per stage");
  const auto x_at = [&](int k, int m) { return a[k * Size::kPitchA + m]; };
  const auto y_at = [&](int k, int n) { return b[k * Size::kPitchB + n]; };
  if constexpr (kStep == 16) {
    const int k = warp * kPerWarp;
    CONVCORE_UNROLL
    for (int i = 0; i < Tile::kM / 16; i++) {
      const int m = 16 * i + g;
      uint32_t x[4];
      CONVCORE_UNROLL
      for (int q = 0; q < 4; q++) {
        const int kk = k + 2 * t + 8 * (q / 2), mm = m + 8 * (q % 2);
        x[q] = to_bf16x2(x_at(kk, mm), x_at(kk + 1, mm));
      }
      CONVCORE_UNROLL
      for (int j = 0; j < Tile::kN / 8; j++) {
        const int n = 8 * j + g;
        const uint32_t y[2] = {to_bf16x2(y_at(k + 2 * t, n), y_at(k + 2 * t + 1, n)),
                               to_bf16x2(y_at(k + 2 * t + 8, n), y_at(k + 2 * t + 9, n))};
        mma_bf16(acc[i][j], x, y);
      }
    }
  } else {
    const int k = warp * kPerWarp;
    CONVCORE_UNROLL
    for (int i = 0; i < Tile::kM / 16; i++) {
      const int m = 16 * i + g;
      const uint32_t x[4] = {__float_as_uint(x_at(k + t, m)), __float_as_uint(x_at(k + t, m + 8)),
                             __float_as_uint(x_at(k + t + 4, m)), __float_as_uint(x_at(k + t + 4, m + 8))};
      CONVCORE_UNROLL
      for (int j = 0; j < Tile::kN / 8; j++) {
        const int n = 8 * j + g;
        const uint32_t y[2] = {__float_as_uint(y_at(k + t, n)), __float_as_uint(y_at(k + t + 4, n))};
        multiply_tf32<kPrecision>(acc[i][j], x, y);
      }
    }
  }
}

// Adds the parts in the order of the splits; one thread per element of the gradient.
struct SumParts {
  const float* parts;  // (splits, c_out, taps, c)
  int64_t splits, stride;
  int taps, c;
  bool taps_first;
  float* dw;
  __device__ void operator()(int64_t at) const {
    float sum = parts[at];
    for (int64_t split = 1; split < splits; split++) sum += parts[split * stride + at];
    const int64_t channel = at % c, tap = at / c % taps, k = at / c / taps;
    dw[taps_first ? at : (k * c + channel) * taps + tap] = sum;
  }
};

template <typename Tile, Precision kPrecision, int kVector>
CONVCORE_KERNEL(128)
pixels_product(const __grid_constant__ PixelsProduct p) {
  using Size = PixelsSize<Tile, kPrecision>;
  SharedMemory shared;
  const Twice<float> a(shared, Tile::kPixels * Size::kPitchA), b(shared, Tile::kPixels * Size::kPitchB);
  const Twice<Row> rows(shared, Tile::kPixels);
  float* tile = shared.array<float>(Tile::kM * Tile::kN);
  const int64_t m0 = int64_t(blockIdx.y) * Tile::kM, n0 = int64_t(blockIdx.x) * Tile::kN;
  const int64_t begin = int64_t(blockIdx.z) * p.pixels_per_split;
  const int64_t end = begin + p.pixels_per_split < p.grid.pixels ? begin + p.pixels_per_split : p.grid.pixels;
  const int depth = p.taps.count * p.in.c;

  constexpr int kChunks = Tile::kN / kVector, kColumns = kChunks > Size::kThreads ? kChunks / Size::kThreads : 1;
  PixelsColumn columns[kColumns];
  CONVCORE_UNROLL
  for (int q = 0; q < kColumns; q++) {
    const int64_t n = n0 + (int(threadIdx.x) % kChunks + q * Size::kThreads) * kVector;
    const bool inside = n < depth;
    const int tap = inside ? int(n) / p.in.c : 0;
    columns[q] = {p.taps.h[tap], p.taps.w[tap], inside ? int(n) - tap * p.in.c : 0, inside};
  }
  const int64_t stages = (end - begin + Tile::kPixels - 1) / Tile::kPixels;
  // The rows of a stage are located one stage before its tiles are loaded.
  const auto locate_stage = [&](int64_t stage) {
    for (int row = int(threadIdx.x); row < Tile::kPixels; row += Size::kThreads) {
      const int64_t pixel = begin + stage * Tile::kPixels + row;
      rows.of(stage)[row] = locate(p.in, p.grid, pixel < end ? pixel : p.grid.pixels);
    }
  };
  const auto load = [&](int64_t stage) {
    load_pixels_stage<Tile, kPrecision, kVector>(p, rows.of(stage), columns, m0, begin + stage * Tile::kPixels, end,
                                                 a.of(stage), b.of(stage));
  };
  const auto loop = [&](auto multiply) {
    locate_stage(0);
    locate_stage(1);
    __syncthreads();
    if (stages > 0) load(0);
    async_commit();
    for (int64_t stage = 0; stage < stages; stage++) {
      if (stage + 1 < stages) load(stage + 1);
      async_commit();
      async_wait<1>();
      __syncthreads();
      locate_stage(stage + 2);  // behind the barrier: everybody has read these rows for the load of `stage`
      multiply(a.of(stage), b.of(stage));
      __syncthreads();  // before the next stage but one overwrites these tiles
    }
  };
  const int group = int(threadIdx.x) / Size::kGroupThreads;
  if constexpr (Size::kTensor) {
    float acc[Tile::kM / 16][Tile::kN / 8][4] = {};
    loop([&](const float* x, const float* y) { multiply_pixels_tensor<Tile, kPrecision>(x, y, acc); });
    const int lane = int(threadIdx.x) % kWarp;
    for (int turn = 0; turn < Size::kGroups; turn++) {
      if (turn == group) {
        CONVCORE_UNROLL
        for (int i = 0; i < Tile::kM / 16; i++) CONVCORE_UNROLL
        for (int j = 0; j < Tile::kN / 8; j++) CONVCORE_UNROLL
        for (int q = 0; q < 4; q++) {
          const int at = (16 * i + lane / 4 + 8 * (q / 2)) * Tile::kN + 8 * j + 2 * (lane % 4) + q % 2;
          tile[at] = turn == 0 ? acc[i][j][q] : tile[at] + acc[i][j][q];
        }
      }
      __syncthreads();
    }
  } else {
    float acc[8][8] = {};
    loop([&](const float* x, const float* y) { multiply_pixels_ffma<Tile>(x, y, acc); });
    const int thread = int(threadIdx.x) % Size::kGroupThreads;
    const int tm = thread % Size::kLanesM, tn = thread / Size::kLanesM;
    for (int turn = 0; turn < Size::kGroups; turn++) {
      if (turn == group) {
        CONVCORE_UNROLL
        for (int i = 0; i < 8; i++) CONVCORE_UNROLL
        for (int j = 0; j < 8; j++) {
          const int at = (i / 4 * (Tile::kM / 2) + 4 * tm + i % 4) * Tile::kN + j / 4 * (Tile::kN / 2) + 4 * tn + j % 4;
          tile[at] = turn == 0 ? acc[i][j] : tile[at] + acc[i][j];
        }
      }
      __syncthreads();
    }
  }
  float* part = p.parts + int64_t(blockIdx.z) * p.c_out * depth;
  for (int at = int(threadIdx.x); at < Tile::kM * Tile::kN; at += Size::kThreads) {
    const int64_t m = m0 + at / Tile::kN, n = n0 + at % Tile::kN;
    if (m < p.c_out && n < depth) part[m * depth + n] = tile[at];
  }
}

}  // namespace detail

// ---- choice of the tile, and launch ---------------------------------------------------------------------------------

namespace {

template <typename Tile, Precision kPrecision>
void launch_taps(const char* name, const TapsProduct& p) {
  using Size = TapsSize<Tile, kPrecision>;
  const dim3 grid(blocks_for(p.grid.pixels, Tile::kM), blocks_for(p.c_out, Tile::kN));
  const bool fours =
      p.in.c % 4 == 0 && reinterpret_cast<uintptr_t>(p.in.data) % 16 == 0 && reinterpret_cast<uintptr_t>(p.w) % 16 == 0;
  if (fours)
    launch(name, detail::taps_product<Tile, kPrecision, 4>, grid, Size::kThreads, Size::kShared, p);
  else
    launch(name, detail::taps_product<Tile, kPrecision, 1>, grid, Size::kThreads, Size::kShared, p);
}

template <Precision kPrecision>
void launch_taps_tensor(const char* name, const TapsProduct& p) {
  if (p.c_out <= 16) return launch_taps<TapsTile<256, 16, 16, 8, 8>, kPrecision>(name, p);
  if (p.c_out <= 32) return launch_taps<TapsTile<256, 32, 16, 8, 8>, kPrecision>(name, p);
  launch_taps<TapsTile<128, 64, 16, 8, 8>, kPrecision>(name, p);
}

// Fewer pixels than this, and large tiles would leave most of the GPU without a block.
constexpr int64_t kFewPixels = 8192;

void launch_taps_fp32(const char* name, const TapsProduct& p) {
  if (p.grid.pixels < kFewPixels) return launch_taps<TapsTile<32, 32, 16, 4, 4>, Precision::fp32>(name, p);
  if (p.c_out <= 16) return launch_taps<TapsTile<256, 16, 8, 8, 8>, Precision::fp32>(name, p);
  if (p.c_out <= 32) return launch_taps<TapsTile<256, 32, 8, 8, 8>, Precision::fp32>(name, p);
  launch_taps<TapsTile<128, 64, 16, 8, 8>, Precision::fp32>(name, p);
}

// Splits of the pixels: as many as give some blocks to every multiprocessor of a large GPU, with enough pixels each to
// be worth a part. By the shape alone: the bits must not depend on the GPU.
constexpr int64_t kWantedBlocks = 264, kLeastPixels = 256;

template <typename Tile, Precision kPrecision>
void launch_pixels(const char* name, PixelsProduct p, bool taps_first, float* dw) {
  using Size = PixelsSize<Tile, kPrecision>;
  const int64_t depth = int64_t(p.taps.count) * p.in.c;
  const unsigned columns = blocks_for(depth, Tile::kN), rows = blocks_for(p.c_out, Tile::kM);
  const int64_t wanted = blocks_for(kWantedBlocks, int64_t(columns) * rows);
  int64_t per_split = (p.grid.pixels + wanted - 1) / wanted;
  if (per_split < kLeastPixels) per_split = kLeastPixels;
  per_split = (per_split + Tile::kPixels - 1) / Tile::kPixels * Tile::kPixels;
  const unsigned splits = p.grid.pixels == 0 ? 1 : blocks_for(p.grid.pixels, per_split);
  const bool direct = splits == 1 && taps_first;
  p.pixels_per_split = per_split;
  p.parts = direct ? dw : workspace(kPartsWorkspace, int64_t(splits) * p.c_out * depth);
  const dim3 grid(columns, rows, splits);
  const bool fours = p.in.c % 4 == 0 && reinterpret_cast<uintptr_t>(p.in.data) % 16 == 0 &&
                     reinterpret_cast<uintptr_t>(p.dy) % 16 == 0;
  if (fours)
    launch(name, detail::pixels_product<Tile, kPrecision, 4>, grid, Size::kThreads, Size::kShared, p);
  else
    launch(name, detail::pixels_product<Tile, kPrecision, 1>, grid, Size::kThreads, Size::kShared, p);
  if (direct) return;
  for_positions(name, p.c_out * depth,
                detail::SumParts{p.parts, int64_t(splits), p.c_out * depth, p.taps.count, p.in.c, taps_first, dw});
}

template <Precision kPrecision>
void launch_pixels_of(const char* name, const PixelsProduct& p, bool taps_first, float* dw) {
  constexpr int kPixels = kPrecision == Precision::bf16 ? 64 : 32;
  if (p.c_out <= 16) return launch_pixels<PixelsTile<16, 128, kPixels>, kPrecision>(name, p, taps_first, dw);
  if (p.c_out <= 32) return launch_pixels<PixelsTile<32, 64, kPixels>, kPrecision>(name, p, taps_first, dw);
  launch_pixels<PixelsTile<64, 64, kPixels>, kPrecision>(name, p, taps_first, dw);
}

}  // namespace

void taps_product(const char* name, const TapsProduct& p) {
  if (p.grid.pixels == 0 || p.c_out == 0) return;
  switch (precision()) {
    case Precision::tf32:
      return launch_taps_tensor<Precision::tf32>(name, p);
    case Precision::tf32x3:
      return launch_taps_tensor<Precision::tf32x3>(name, p);
    case Precision::bf16:
      return launch_taps_tensor<Precision::bf16>(name, p);
    default:
      return launch_taps_fp32(name, p);
  }
}

void pixels_product(const char* name, PixelsProduct p, bool taps_first, float* dw) {
  if (p.c_out == 0 || p.taps.count * p.in.c == 0) return;
  switch (precision()) {
    case Precision::tf32:
      return launch_pixels_of<Precision::tf32>(name, p, taps_first, dw);
    case Precision::tf32x3:
      return launch_pixels_of<Precision::tf32x3>(name, p, taps_first, dw);
    case Precision::bf16:
      return launch_pixels_of<Precision::bf16>(name, p, taps_first, dw);
    default:
      return launch_pixels_of<Precision::fp32>(name, p, taps_first, dw);
  }
}

}  // namespace convcore::cuda
