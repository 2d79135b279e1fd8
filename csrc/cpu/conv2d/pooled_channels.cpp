// Convolution + ReLU + 2x2 max pooling for many output channels, on channels-last images.
//
// Forward: lanes are output channels. A tile is two rows by up to 2 * kPairs columns of the convolution, the four
// results of each pooling window among them. Per input channel and row of the filter up to kTaps vectors of weights
// stay in registers while the input pixels of the row pass by, one broadcast each, which serves every tap that reaches
// it:
//
//   acc[row][q - t] += x[row][q] * w[t]     q < columns + taps - 1
//
// 10 columns x 5 taps: 28 broadcasts and 5 loads for 100 FMAs; 20 sums + 5 weights + 2 = 27 registers.
//
// Backward, one filter at a time: an output that passed the ReLU adds dy times the patch of x under its winner to the
// filter's gradient, and dy times the filter to the patch of dx. The filter and its gradient stay in registers, R
// kernel rows by V vectors of (column, channel) of each, and only the living outputs are visited, less than a quarter
// of what the gradients of the convolution would visit. Per output 2 * R * V FMAs and loads and R * V stores: 5 x 2 is
// 10 cycles for what the dense gradients would do in 40. Patches of x are copied once, so that they lie aligned, and
// those of dx are folded to pixels at the end, unless the channels fill whole vectors: then patches lie aligned in the
// images.
#include "cpu/conv2d/pooled.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kPairs = kRegisters >= 32 ? 5 : 2;  // pooled pixels of a forward tile, four sums each
constexpr int kTaps = kRegisters >= 32 ? 5 : 3;   // of a row of the filter at once
// Rows of the filter by vectors of a row, of the filter and of its gradient in registers.
constexpr int kPatchRows = kRegisters >= 32 ? 5 : 3;
constexpr int patch_vecs(int rows) { return kRegisters < 32 ? 2 : rows <= 3 ? 4 : rows == 4 ? 3 : 2; }
constexpr int kWordBits = 32;  // outputs of a channel whose life is kept in one word

int64_t outputs(const ConvPoolShape& s) { return s.h_out * s.w_out; }
int64_t panels(const ConvPoolShape& s) { return ceil_div(s.c_out, kLanes); }
int64_t channels_in(const ConvPoolShape& s, int64_t panel) { return min_of<int64_t>(kLanes, s.c_out - panel * kLanes); }

// ---- input --------------------------------------------------------------------------------------------------------

// One image, channels last, as the windows see it.
struct Pixels {
  const float* data;
  int64_t row, pixel;  // floats from one to the next
};

bool padded(const ConvPoolShape& s) { return s.pad_top || s.pad_left || s.pad_bottom || s.pad_right; }
int64_t padded_floats(const ConvPoolShape& s) { return padded(s) ? seen_rows(s) * seen_columns(s) * s.c_in : 0; }

// The image itself, or its copy with a border of zeros.
Pixels pad(const ConvPoolShape& s, const float* image, float* to) {
  if (!padded(s)) return {image, s.w_in * s.c_in, s.c_in};
  const int64_t columns = seen_columns(s), end = min_of(s.w_in, columns - s.pad_left);
  memset(to, 0, size_t(padded_floats(s)) * sizeof(float));
  for (int64_t h = 0; end > 0 && h < min_of(s.h_in, seen_rows(s) - s.pad_top); h++)
    memcpy(to + ((h + s.pad_top) * columns + s.pad_left) * s.c_in, image + h * s.w_in * s.c_in,
           size_t(end * s.c_in) * sizeof(float));
  return {to, columns * s.c_in, s.c_in};
}

// A row of the filter over all input channels is contiguous in x: its place in dw and in a patch.
int64_t patch_floats(const ConvPoolShape& s) { return s.kw * s.c_in; }
int64_t patch_pitch(const ConvPoolShape& s) { return whole_vectors(patch_floats(s)); }
bool patches_in_place(const ConvPoolShape& s) { return s.c_in % kLanes == 0; }
int64_t copied_patch_floats(const ConvPoolShape& s) {
  return patches_in_place(s) ? 0 : seen_rows(s) * 2 * s.w_out * 2 * patch_pitch(s);
}
int64_t image_floats(const ConvPoolShape& s) { return s.h_in * s.w_in * s.c_in; }

// Row `row` of the patch at (row, column) is kw * c_in floats from data + row * row_step + column * pixel on, and zeros
// up to whole vectors. With `dx`, the same row of the patch of dx, cleared, lies right behind it: one place serves
// both. V vectors, or any number with V = 0.
template <int V>
Pixels cut_patches(const ConvPoolShape& s, const Pixels& x, bool dx, float* to) {
  const int64_t vecs = V ? V : patch_pitch(s) / kLanes, last = patch_floats(s) - (vecs - 1) * kLanes;
  const int64_t pixel = (dx ? 2 : 1) * vecs * kLanes;
  float* next = to;
  for (int64_t row = 0; row < seen_rows(s); row++) {
    const float* from = x.data + row * x.row;
    for (int64_t column = 0; column < 2 * s.w_out; column++, from += x.pixel, next += pixel) {
#pragma GCC unroll 4
      for (int64_t v = 0; v < vecs - 1; v++) store(next + v * kLanes, load(from + v * kLanes));
      store(next + (vecs - 1) * kLanes, load_partial(from + (vecs - 1) * kLanes, last));
      if (!dx) continue;
#pragma GCC unroll 4
      for (int64_t v = vecs; v < 2 * vecs; v++) store(next + v * kLanes, Vec{});
    }
  }
  return {to, 2 * s.w_out * pixel, pixel};
}

Pixels cut_patches(const ConvPoolShape& s, const Pixels& x, bool dx, float* to) {
  if (patches_in_place(s)) return x;
  switch (patch_pitch(s) / kLanes) {
    case 1:
      return cut_patches<1>(s, x, dx, to);
    case 2:
      return cut_patches<2>(s, x, dx, to);
    case 3:
      return cut_patches<3>(s, x, dx, to);
    default:
      return cut_patches<0>(s, x, dx, to);
  }
}

// ---- weights ------------------------------------------------------------------------------------------------------

// The largest number of taps up to kTaps that divides the kernel's width: 5, 3, 1 of the usual widths, 1 of 7.
int64_t taps_at_once(int64_t kw) {
  for (int64_t taps = kTaps; taps > 1; taps--)
    if (kw % taps == 0) return taps;
  return 1;
}

// Forward: (panel, kernel row, taps at once, input channel, tap, output channel) and the bias. Backward: (output
// channel, kernel row, patch). Zeros past the last channel and the end of a patch.
int64_t filter_floats(const ConvPoolShape& s) { return s.kh * patch_pitch(s); }
struct PackedChannels {
  float *forward, *bias, *backward;
  int64_t floats;
  PackedChannels(const ConvPoolShape& s, float* packed) {
    Parts parts{packed, 0};
    forward = parts.take(panels(s) * s.kh * s.c_in * s.kw * kLanes);
    bias = parts.take(panels(s) * kLanes);
    backward = parts.take(panels(s) * kLanes * filter_floats(s));
    floats = parts.used;
  }
};

int64_t packed_floats(const ConvPoolShape& s) { return PackedChannels(s, nullptr).floats; }

// Floats from the first channel of a tap to the next, and where that first one lies.
int64_t channel_floats(const ConvPoolShape& s) { return taps_at_once(s.kw) * kLanes; }
int64_t tap_place(const ConvPoolShape& s, int64_t tap) {
  const int64_t at_once = taps_at_once(s.kw);
  return (tap / at_once * s.c_in * at_once + tap % at_once) * kLanes;
}

// kLanes taps by kLanes output channels at a time, turned in registers.
void pack_forward(const ConvPoolShape& s, const float* w, float* to) {
  const int64_t taps = s.kh * s.kw, terms = s.c_in * taps, channel = channel_floats(s);
  for (int64_t k = 0; k < s.c_out; k += kLanes, to += terms * kLanes)
    for (int64_t c = 0; c < s.c_in; c++)
      for (int64_t first = 0; first < taps; first += kLanes) {
        const int64_t count = min_of<int64_t>(kLanes, taps - first), filters = min_of<int64_t>(kLanes, s.c_out - k);
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; l++)
          block[l] = l < filters ? load_partial(w + (k + l) * terms + c * taps + first, count) : Vec{};
        transpose(block);
        for (int64_t l = 0; l < count; l++) store(to + tap_place(s, first + l) + c * channel, block[l]);
      }
}

// The rows of the filters, from `forward`.
void pack_backward(const ConvPoolShape& s, const float* forward, float* to) {
  const int64_t panel_floats = s.kh * s.kw * s.c_in * kLanes, channel = channel_floats(s);
  for (int64_t panel = 0; panel < panels(s); panel++, forward += panel_floats, to += kLanes * filter_floats(s))
    for (int64_t r = 0; r < s.kh; r++) {
      int64_t t = 0, c = 0;
      const float* from = forward + tap_place(s, r * s.kw);
      for (int64_t v = 0; v < patch_pitch(s); v += kLanes) {
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; l++, from += channel) {
          block[l] = t < s.kw ? load(from) : Vec{};
          if (++c < s.c_in || t == s.kw) continue;
          c = 0, t++;
          from = forward + tap_place(s, min_of(r * s.kw + t, s.kh * s.kw - 1)) - channel;
        }
        transpose(block);
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; l++) store(to + l * filter_floats(s) + r * patch_pitch(s) + v, block[l]);
      }
    }
}

void pack(const ConvPoolShape& s, const float* w, const float* b, float* packed) {
  const PackedChannels to(s, packed);
  pack_forward(s, w, to.forward);
  for (int64_t k = 0; k < panels(s) * kLanes; k++) to.bias[k] = b && k < s.c_out ? b[k] : 0;
  pack_backward(s, to.forward, to.backward);
}

// ---- forward ------------------------------------------------------------------------------------------------------

// P pooled pixels of one panel, K taps of a kernel row at a time.
template <int P, int K>
void pool_pixels(const ConvPoolShape& s, const Pixels& x, const float* w, Vec bias, float* y, int64_t y_pixel,
                 int64_t lanes, PoolMask* mask) {
  Vec left0[P], right0[P], left1[P], right1[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; p++) left0[p] = right0[p] = left1[p] = right1[p] = bias;
  for (int64_t r = 0; r < s.kh; r++)
    for (int64_t t = 0; t < s.kw; t += K) {
      const float* top = x.data + r * x.row + t * x.pixel;
      for (int64_t c = 0; c < s.c_in; c++, top++, w += K * kLanes) {
        Vec taps[K];
#pragma GCC unroll 8
        for (int k = 0; k < K; k++) taps[k] = load(w + k * kLanes);
#pragma GCC unroll 16
        for (int q = 0; q < 2 * P + K - 1; q++)
#pragma GCC unroll 2
          for (int e = 0; e < 2; e++) {
            const Vec pixel = splat(top[e * x.row + q * x.pixel]);
#pragma GCC unroll 8
            for (int k = 0; k < K; k++) {
              const int column = q - k;
              if (column < 0 || column >= 2 * P) continue;
              Vec(&sums)[P] = e == 0 ? (column % 2 == 0 ? left0 : right0) : (column % 2 == 0 ? left1 : right1);
              sums[column / 2] += pixel * taps[k];
            }
          }
      }
    }
  pool_windows(left0, right0, left1, right1, mask,
               [&](int p, Vec pooled) { store_partial(y + p * y_pixel, pooled, lanes); });
}

struct ForwardScratch {
  float *padded, *y;
  int64_t floats;
  ForwardScratch(const ConvPoolShape& s, float* workspace) {
    Parts parts{workspace, 0};
    padded = parts.take(padded_floats(s));
    y = parts.take(outputs(s) * kLanes);
    floats = parts.used;
  }
};

// Masks: (panel, output).
int64_t masks(const ConvPoolShape& s) { return panels(s) * outputs(s); }
int64_t mask_bytes(const ConvPoolShape& s) { return masks(s) * int64_t(sizeof(PoolMask)); }

// One panel of one image; y: its first channel of the first pixel.
void pool_panel(const ConvPoolShape& s, const Pixels& x, const float* w, const float* bias, float* y, int64_t y_pixel,
                int64_t lanes, PoolMask* mask) {
  const Vec start = load(bias);
  with_count<kTaps>(taps_at_once(s.kw), [&](auto taps) {
    for (int64_t j = 0, pairs; j < s.w_out; j += pairs) {
      pairs = next_tile(s.w_out - j, kPairs);
      with_count<kPairs>(pairs, [&](auto count) {
        for (int64_t i = 0; i < s.h_out; i++) {
          const Pixels from{x.data + 2 * i * x.row + 2 * j * x.pixel, x.row, x.pixel};
          const int64_t out = i * s.w_out + j;
          pool_pixels<count.value, taps.value>(s, from, w, start, y + out * y_pixel, y_pixel, lanes, mask + out);
        }
      });
    }
  });
}

void forward(const ConvPoolShape& s, const float* x, const float* packed, float* y, void* mask, float* workspace) {
  const PackedChannels weights(s, const_cast<float*>(packed));
  const ForwardScratch scratch(s, workspace);
  const int64_t panel_floats = s.kh * s.c_in * s.kw * kLanes, out = outputs(s);
  for (int64_t n = 0; n < s.n; n++) {
    const Pixels image = pad(s, x + n * s.h_in * s.w_in * s.c_in, scratch.padded);
    float* image_y = y + n * out * s.c_out;
    for (int64_t panel = 0; panel < panels(s); panel++) {
      const int64_t k = panel * kLanes, lanes = channels_in(s, panel);
      const float *w = weights.forward + panel * panel_floats, *bias = weights.bias + k;
      PoolMask* panel_mask = static_cast<PoolMask*>(mask) + n * masks(s) + panel * out;
      if (s.y_layout == Layout::channels_last) {
        pool_panel(s, image, w, bias, image_y + k, s.c_out, lanes, panel_mask);
      } else {
        pool_panel(s, image, w, bias, scratch.y, kLanes, kLanes, panel_mask);
        transpose_matrix(out, lanes, scratch.y, kLanes, image_y + k * out, out);
      }
    }
  }
}

// ---- backward -----------------------------------------------------------------------------------------------------

// Partial gradients: (filter, kernel row, patch), then the bias.
int64_t gradient_floats(const ConvPoolShape& s) { return s.c_out * filter_floats(s) + panels(s) * kLanes; }

int64_t words(const ConvPoolShape& s) { return ceil_div(outputs(s), kWordBits); }

struct BackwardScratch {
  float *x, *dx;  // with padding
  float* patches;
  float* dy;        // (output, lane): gradients of one panel that pass the ReLU
  int32_t* places;  // (output, lane): where the winner's patch begins
  int32_t* alive;   // (word, lane): which outputs pass the ReLU
  int64_t floats;
  BackwardScratch(const ConvPoolShape& s, float* workspace) {
    Parts parts{workspace, 0};
    x = parts.take(padded_floats(s));
    dx = parts.take(padded_floats(s));
    patches = parts.take(copied_patch_floats(s));
    dy = parts.take(outputs(s) * kLanes);
    places = reinterpret_cast<int32_t*>(parts.take(outputs(s) * kLanes));
    alive = reinterpret_cast<int32_t*>(parts.take(words(s) * kLanes));
    floats = parts.used;
  }
};

int64_t workspace_floats(const ConvPoolShape& s) {
  return max_of(ForwardScratch(s, nullptr).floats, BackwardScratch(s, nullptr).floats);
}

// Sorts out one panel: which outputs live, their gradients and the places of their winners. dy: the panel's first
// channel.
void read_masks(const ConvPoolShape& s, const float* dy, int64_t lanes, const PoolMask* mask, const Pixels& patches,
                const BackwardScratch& to, float* db) {
  const int64_t out = outputs(s);
  if (s.y_layout == Layout::row_major) {
    transpose_matrix(lanes, out, dy, out, to.dy, kLanes);
    for (int64_t p = 0; lanes < kLanes && p < out; p++)
      memset(to.dy + p * kLanes + lanes, 0, size_t(kLanes - lanes) * 4);
  }
  Vec bias = load(db);
  IntVec alive{}, bit = splat_int(1);
  int32_t* word = to.alive;
  int64_t p = 0;
  for (int64_t i = 0; i < s.h_out; i++)
    for (int64_t j = 0; j < s.w_out; j++, p++) {
      const PoolMask m = mask[p];
      const LaneMask lives = mask_of_bits(m.alive);
      const Vec d = s.y_layout == Layout::row_major ? load(to.dy + p * kLanes) : load_partial(dy + p * s.c_out, lanes);
      const Vec passed = select(lives, d, Vec{});
      bias += passed;
      store(to.dy + p * kLanes, passed);
      alive |= select_int(lives, bit, IntVec{});
      bit <<= 1;
      if (p % kWordBits == kWordBits - 1 || p == out - 1) {  // the word is full
        store_int(word, alive);
        alive = IntVec{}, bit = splat_int(1), word += kLanes;
      }
      IntVec place = splat_int(int32_t(2 * i * patches.row + 2 * j * patches.pixel));
      place += select_int(mask_of_bits(m.second), splat_int(int32_t(patches.row)), IntVec{});
      place += select_int(mask_of_bits(m.right), splat_int(int32_t(patches.pixel)), IntVec{});
      store_int(to.places + p * kLanes, place);
    }
  store(db, bias);
}

// What the living outputs of one filter add to its gradient and, where dx is wanted, to the patches of dx. dy and
// places: of the first output of a word.
struct FilterSums {
  const float* dy;
  const int32_t* places;
  const float* w;
  float* dw;
  int64_t w_row;
  const float* x;
  float* dx;
  int64_t x_row;
};

// R kernel rows by V vectors, of the outputs of one word.
template <int R, int V, bool kInput>
void add_outputs(const FilterSums& f, uint32_t alive) {
  Vec w[R][V], dw[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) {
      dw[r][v] = load(f.dw + r * f.w_row + v * kLanes);
      if (kInput) w[r][v] = load(f.w + r * f.w_row + v * kLanes);
    }
  for (; alive; alive &= alive - 1) {
    const int64_t p = int64_t(__builtin_ctz(alive)) * kLanes, place = f.places[p];
    const Vec d = splat(f.dy[p]);
    const float* x = f.x + place;
    float* dx = f.dx + place;
#pragma GCC unroll 8
    for (int r = 0; r < R; r++, x += f.x_row, dx += f.x_row)
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) {
        dw[r][v] += d * load(x + v * kLanes);
        if (kInput) store(dx + v * kLanes, load(dx + v * kLanes) + d * w[r][v]);
      }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store(f.dw + r * f.w_row + v * kLanes, dw[r][v]);
}

// The filters of the panel whose masks were read. w and dw: of its first filter.
template <bool kInput>
void add_panel(const ConvPoolShape& s, const BackwardScratch& scratch, int64_t filters, const float* w, float* dw,
               const Pixels& patches, float* dpatches) {
  const int64_t pitch = patch_pitch(s), vecs = pitch / kLanes, filter = filter_floats(s), word_count = words(s);
  for (int64_t r = 0, rows; r < s.kh; r += rows) {
    rows = next_tile(s.kh - r, kPatchRows);
    with_count<kPatchRows>(rows, [&](auto row_count) {
      constexpr int kRows = row_count.value, kVecs = patch_vecs(kRows);
      for (int64_t v = 0, count; v < vecs; v += count) {
        count = next_tile(vecs - v, kVecs);
        const int64_t in_w = r * pitch + v * kLanes, in_x = r * patches.row + v * kLanes;
        with_count<kVecs>(count, [&](auto vec_count) {
          for (int64_t l = 0; l < filters; l++)
            for (int64_t word = 0; word < word_count; word++) {
              const int64_t first = word * kWordBits * kLanes + l;
              const FilterSums sums{scratch.dy + first,
                                    scratch.places + first,
                                    w + l * filter + in_w,
                                    dw + l * filter + in_w,
                                    pitch,
                                    patches.data + in_x,
                                    dpatches + in_x,
                                    patches.row};
              add_outputs<kRows, vec_count.value, kInput>(sums, uint32_t(scratch.alive[word * kLanes + l]));
            }
        });
      }
    });
  }
}

// The image or, with padding, its copy in which the gradient is summed.
Pixels gradient_image(const ConvPoolShape& s, float* dx, float* copy) {
  return padded(s) ? Pixels{copy, seen_columns(s) * s.c_in, s.c_in} : Pixels{dx, s.w_in * s.c_in, s.c_in};
}

// Adds the patches of dx, `pixel` floats apart, to its pixels. V vectors of a patch, of less than a vector of channels:
// they are summed in registers that move on by one pixel at a time.
template <int V>
void fold_rows(const ConvPoolShape& s, const float* dpatches, int64_t pixel, float* dx, int64_t dx_row) {
  const IntVec next = lane_numbers() + splat_int(int32_t(s.c_in));
  const int64_t last = patch_floats(s) - (V - 1) * kLanes, tail = (s.kw - 1) * s.c_in;  // beyond the last pixel
  for (int64_t row = 0; row < seen_rows(s); row++, dx += dx_row) {
    Vec sums[V + 1] = {};
    for (int64_t column = 0; column < 2 * s.w_out; column++, dpatches += pixel) {
#pragma GCC unroll 4
      for (int v = 0; v < V - 1; v++) sums[v] += load(dpatches + v * kLanes);
      sums[V - 1] += load_partial(dpatches + (V - 1) * kLanes, last);
      store_partial(dx + column * s.c_in, sums[0], s.c_in);
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sums[v] = __builtin_shuffle(sums[v], sums[v + 1], next);
    }
#pragma GCC unroll 4
    for (int v = 0; v < V; v++)
      if (tail > v * kLanes)
        store_partial(dx + 2 * s.w_out * s.c_in + v * kLanes, sums[v], min_of<int64_t>(kLanes, tail - v * kLanes));
  }
}

// The same in memory. Column by column, so that a row's pixels are written when its next patch, one pixel on, is added.
void fold_columns(const ConvPoolShape& s, const float* dpatches, int64_t pixel, float* dx, int64_t dx_row) {
  const int64_t pitch = patch_pitch(s), last = patch_floats(s) - (pitch - kLanes), row_floats = 2 * s.w_out * pixel;
  for (int64_t column = 0; column < 2 * s.w_out; column++)
    for (int64_t row = 0; row < seen_rows(s); row++) {
      const float* from = dpatches + row * row_floats + column * pixel;
      float* to = dx + row * dx_row + column * s.c_in;
      int64_t v = 0;
      for (; v < pitch - kLanes; v += kLanes) store(to + v, load(to + v) + load(from + v));
      store_partial(to + v, load_partial(to + v, last) + load(from + v), last);
    }
}

constexpr int kFoldVecs = 4;
bool folds_in_registers(const ConvPoolShape& s) { return s.c_in < kLanes && patch_pitch(s) <= kFoldVecs * kLanes; }
void fold_patches(const ConvPoolShape& s, const float* dpatches, int64_t pixel, float* dx, int64_t dx_row) {
  if (!folds_in_registers(s)) return fold_columns(s, dpatches, pixel, dx, dx_row);
  with_count<kFoldVecs>(patch_pitch(s) / kLanes,
                        [&](auto vecs) { fold_rows<vecs.value>(s, dpatches, pixel, dx, dx_row); });
}

// Whether every pixel of the image that the gradient is summed in is written without being read.
bool overwrites_input_gradient(const ConvPoolShape& s) {
  const bool seen = padded(s) || (seen_rows(s) == s.h_in && seen_columns(s) == s.w_in);
  return seen && !patches_in_place(s) && folds_in_registers(s);
}

// Takes the padding off dx; what no window saw is zero.
void crop(const ConvPoolShape& s, const float* from, float* dx) {
  const int64_t rows = max_of<int64_t>(0, min_of(s.h_in, seen_rows(s) - s.pad_top));
  const int64_t columns = max_of<int64_t>(0, min_of(s.w_in, seen_columns(s) - s.pad_left));
  for (int64_t h = 0; h < s.h_in; h++, dx += s.w_in * s.c_in) {
    const int64_t seen = h < rows ? columns * s.c_in : 0;
    if (seen > 0)
      memcpy(dx, from + ((h + s.pad_top) * seen_columns(s) + s.pad_left) * s.c_in, size_t(seen) * sizeof(float));
    memset(dx + seen, 0, size_t(s.w_in * s.c_in - seen) * sizeof(float));
  }
}

// The gradients of one image; dx is null where it is not wanted.
template <bool kInput>
void add_image(const ConvPoolShape& s, const float* dy, const PoolMask* mask, const float* x, const float* filters,
               float* dx, float* gradient, const BackwardScratch& scratch) {
  const int64_t out = outputs(s);
  const bool in_place = patches_in_place(s);
  const Pixels patches = cut_patches(s, pad(s, x, scratch.x), kInput, scratch.patches);
  const Pixels dx_image = gradient_image(s, dx, scratch.dx);
  float* dx_pixels = const_cast<float*>(dx_image.data);
  float* dpatches = in_place ? dx_pixels : scratch.patches + patch_pitch(s);
  if (kInput && !overwrites_input_gradient(s))
    memset(dx_pixels, 0, size_t(padded(s) ? padded_floats(s) : image_floats(s)) * sizeof(float));
  for (int64_t panel = 0; panel < panels(s); panel++) {
    const int64_t k = panel * kLanes, lanes = channels_in(s, panel);
    read_masks(s, dy + k * (s.y_layout == Layout::row_major ? out : 1), lanes, mask + panel * out, patches, scratch,
               gradient + s.c_out * filter_floats(s) + k);
    add_panel<kInput>(s, scratch, lanes, filters + k * filter_floats(s), gradient + k * filter_floats(s), patches,
                      dpatches);
  }
  if (!kInput) return;
  if (!in_place) fold_patches(s, dpatches, patches.pixel, dx_pixels, dx_image.row);
  if (padded(s)) crop(s, dx_pixels, dx);
}

void backward(const ConvPoolShape& s, const float* dy, const void* mask, const float* x, const float* packed, float* dx,
              float* gradient, float* workspace) {
  const float* filters = PackedChannels(s, const_cast<float*>(packed)).backward;
  const BackwardScratch scratch(s, workspace);
  const int64_t in = image_floats(s), out = outputs(s) * s.c_out;
  for (int64_t n = 0; n < s.n; n++) {
    const PoolMask* image_mask = static_cast<const PoolMask*>(mask) + n * masks(s);
    if (dx)
      add_image<true>(s, dy + n * out, image_mask, x + n * in, filters, dx + n * in, gradient, scratch);
    else
      add_image<false>(s, dy + n * out, image_mask, x + n * in, filters, nullptr, gradient, scratch);
  }
}

void sum_gradients(const ConvPoolShape& s, const float* const* gradients, int64_t count, float* dw, float* db) {
  const auto total = [&](int64_t i) {
    Vec sum = load(gradients[0] + i);
    for (int64_t shard = 1; shard < count; shard++) sum += load(gradients[shard] + i);
    return sum;
  };
  for (int64_t k = 0; k < s.c_out; k++)
    for (int64_t r = 0; r < s.kh; r++) {
      float* to = dw + (k * s.c_in * s.kh + r) * s.kw;
      int64_t c = 0, t = 0;
      for (int64_t v = 0; v < patch_floats(s); v += kLanes) {
        float values[kLanes];
        store(values, total(k * filter_floats(s) + r * patch_pitch(s) + v));
        for (int64_t l = 0; l < min_of<int64_t>(kLanes, patch_floats(s) - v); l++) {
          to[c * s.kh * s.kw + t] = values[l];
          if (++c == s.c_in) c = 0, t++;
        }
      }
    }
  for (int64_t k = 0; k < s.c_out; k += kLanes)
    store_partial(db + k, total(s.c_out * filter_floats(s) + k), min_of<int64_t>(kLanes, s.c_out - k));
}

}  // namespace

ConvPoolKernels pooled_channels_kernels() {
  return {packed_floats, pack, mask_bytes, workspace_floats, forward, gradient_floats, backward, sum_gradients};
}

}  // namespace convcore::cpu::CONVCORE_ISA
