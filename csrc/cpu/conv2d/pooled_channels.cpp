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
// Gradient of the weights, one filter at a time: an output that passed the ReLU adds dy times the patch of x under its
// winner. The filter's gradient stays in registers, R kernel rows by V vectors of (column, channel), and only the
// living outputs are visited, half of a quarter of what the gradient of the convolution would visit. Patches are copied
// once, so that they lie aligned, unless the channels fill whole vectors.
//
// Gradient of the input: lanes are two neighbouring pixels by half a vector of channels. The window of pixels that the
// filters of one pooled pixel reach, kh + 1 rows by kw + 1 columns, stays in registers while its living outputs add dy
// times their filter to it, and moves on by two pixels, which is one vector. A winner's place in the window is a matter
// of which copy of the filter is added: there is one for each column, and rows of zeros before and after it for the
// row.
#include "cpu/conv2d/pooled.h"
#include "cpu/tile.h"
#include "cpu/transpose.h"

namespace convcore::cpu::CONVCORE_ISA {
namespace {

constexpr int kPairs = kRegisters >= 32 ? 5 : 2;  // pooled pixels of a forward tile, four sums each
constexpr int kTaps = 5;                          // of a row of the filter at once
constexpr int kPatchRows = 5, kPatchVecs = kRegisters >= 32 ? 4 : 2;
constexpr int kWindowRows = kRegisters >= 32 ? 5 : 3;  // rows of the filter whose window stays in registers
constexpr int kHalf = kLanes / 2;                      // channels of a group of dx
constexpr int kWordBits = 32;                          // outputs of a channel whose life is kept in one word

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
  return patches_in_place(s) ? 0 : seen_rows(s) * 2 * s.w_out * patch_pitch(s);
}

// Row `row` of the patch at (row, column) is kw * c_in floats from data + row * row_step + column * pixel on, and zeros
// up to whole vectors.
Pixels cut_patches(const ConvPoolShape& s, const Pixels& x, float* to) {
  if (patches_in_place(s)) return x;
  const int64_t pitch = patch_pitch(s), last = patch_floats(s) - (pitch - kLanes);
  float* next = to;
  for (int64_t row = 0; row < seen_rows(s); row++)
    for (int64_t column = 0; column < 2 * s.w_out; column++, next += pitch) {
      const float* from = x.data + row * x.row + column * x.pixel;
      for (int64_t v = 0; v < pitch - kLanes; v += kLanes) store(next + v, load(from + v));
      store(next + pitch - kLanes, load_partial(from + pitch - kLanes, last));
    }
  return {to, 2 * s.w_out * pitch, pitch};
}

// ---- weights ------------------------------------------------------------------------------------------------------

// The filters are cut into parts of at most R x K taps for dx. A part begins at an even column, so that its window
// begins at a whole vector.
struct FilterPart {
  int64_t r0, rows, t0, taps;
  int64_t vecs() const { return taps / 2 + 1; }  // of a row of the window, taps + 1 pixels
  int64_t row_floats() const { return vecs() * kLanes; }
  int64_t copy_floats() const { return (rows + 1) * row_floats(); }
};

struct FilterParts {
  int64_t row_count, column_count, kh, kw;
  explicit FilterParts(const ConvPoolShape& s)
      : row_count(ceil_div(s.kh, kWindowRows)),
        column_count(s.kw <= kTaps ? 1 : ceil_div(s.kw, kTaps - 1)),
        kh(s.kh),
        kw(s.kw) {}
  int64_t count() const { return row_count * column_count; }
  FilterPart at(int64_t part) const {
    const int64_t a = part / column_count, b = part % column_count, r0 = a * kh / row_count;
    const int64_t t0 = b * (kTaps - 1), t1 = b == column_count - 1 ? kw : t0 + kTaps - 1;
    return {r0, (a + 1) * kh / row_count - r0, t0, t1 - t0};
  }
};

// The largest number of taps up to kTaps that divides the kernel's width: 5, 3, 1 of the usual widths, 1 of 7.
int64_t taps_at_once(int64_t kw) {
  for (int64_t taps = kTaps; taps > 1; taps--)
    if (kw % taps == 0) return taps;
  return 1;
}

int64_t groups(const ConvPoolShape& s) { return ceil_div(s.c_in, kHalf); }

// Forward: (panel, kernel row, taps at once, input channel, tap, output channel) and the bias, zeros past the last
// channel.
// Backward, for each part of the filters and group of input channels: (output channel, column of the winner) copies of
// a row of zeros and the rows of the filter; a row of zeros at the end.
struct PackedChannels {
  float *forward, *bias, *backward;
  int64_t floats;
  PackedChannels(const ConvPoolShape& s, float* packed) {
    Parts parts{packed, 0};
    forward = parts.take(panels(s) * s.kh * s.c_in * s.kw * kLanes);
    bias = parts.take(panels(s) * kLanes);
    const FilterParts filters(s);
    int64_t backward_floats = 0;
    for (int64_t p = 0; p < filters.count(); p++) backward_floats += groups(s) * group_floats(s, filters.at(p));
    backward = parts.take(backward_floats);
    floats = parts.used;
  }
  static int64_t group_floats(const ConvPoolShape& s, const FilterPart& part) {
    return panels(s) * kLanes * 2 * part.copy_floats() + part.row_floats();
  }
};

int64_t packed_floats(const ConvPoolShape& s) { return PackedChannels(s, nullptr).floats; }

int64_t forward_place(const ConvPoolShape& s, int64_t at_once, int64_t c, int64_t tap) {
  return (tap / at_once * s.c_in * at_once + c * at_once + tap % at_once) * kLanes;
}

// kLanes taps by kLanes output channels at a time, turned in registers.
void pack_forward(const ConvPoolShape& s, const float* w, float* to) {
  const int64_t taps = s.kh * s.kw, terms = s.c_in * taps, at_once = taps_at_once(s.kw);
  for (int64_t k = 0; k < s.c_out; k += kLanes, to += terms * kLanes)
    for (int64_t first = 0; first < terms; first += kLanes) {
      const int64_t count = min_of<int64_t>(kLanes, terms - first), filters = min_of<int64_t>(kLanes, s.c_out - k);
      Vec block[kLanes];
#pragma GCC unroll 16
      for (int l = 0; l < kLanes; l++)
        block[l] = l < filters ? load_partial(w + (k + l) * terms + first, count) : Vec{};
      transpose(block);
      for (int64_t l = 0; l < count; l++) {
        const int64_t c = (first + l) / taps, tap = (first + l) % taps;
        store(to + forward_place(s, at_once, c, tap), block[l]);
      }
    }
}

// The copies of one part of the filters for the input channels [c0, c0 + count): the left ones from `forward`, the
// right ones from them. A row of a copy is (tap, channel of the group).
void pack_backward(const ConvPoolShape& s, const FilterPart& part, const float* forward, int64_t c0, int64_t count,
                   float* to) {
  const int64_t at_once = taps_at_once(s.kw), panel_floats = s.kh * s.kw * s.c_in * kLanes;
  const int64_t copy = part.copy_floats(), row = part.row_floats();
  for (int64_t panel = 0; panel < panels(s); panel++, forward += panel_floats)
    for (int64_t r = 0; r < part.rows; r++)
      for (int64_t v = 0; v < part.vecs(); v++) {
        Vec block[kLanes];
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; l++) {
          const int64_t t = 2 * v + l / kHalf, c = c0 + l % kHalf, tap = (part.r0 + r) * s.kw + part.t0 + t;
          block[l] = t < part.taps && l % kHalf < count ? load(forward + forward_place(s, at_once, c, tap)) : Vec{};
        }
        transpose(block);
        float* left = to + 2 * panel * kLanes * copy + (r + 1) * row + v * kLanes;
#pragma GCC unroll 16
        for (int l = 0; l < kLanes; l++) {
          store(left + 2 * l * copy, block[l]);
          // One pixel to the right. What leaves the row are zeros on the row of zeros or the row that comes next.
          store(left + (2 * l + 1) * copy + kHalf, block[l]);
        }
      }
}

void pack(const ConvPoolShape& s, const float* w, const float* b, float* packed) {
  const PackedChannels to(s, packed);
  pack_forward(s, w, to.forward);
  for (int64_t k = 0; k < panels(s) * kLanes; k++) to.bias[k] = b && k < s.c_out ? b[k] : 0;
  const FilterParts filters(s);
  float* backward = to.backward;
  for (int64_t p = 0; p < filters.count(); p++)
    for (int64_t g = 0; g < groups(s); g++) {
      const FilterPart part = filters.at(p);
      memset(backward, 0, size_t(PackedChannels::group_floats(s, part)) * sizeof(float));
      pack_backward(s, part, to.forward, g * kHalf, min_of<int64_t>(kHalf, s.c_in - g * kHalf), backward);
      backward += PackedChannels::group_floats(s, part);
    }
}

// ---- forward ------------------------------------------------------------------------------------------------------

// P pooled pixels of one panel, K taps of a kernel row at a time.
template <int P, int K>
void pool_pixels(const ConvPoolShape& s, const Pixels& x, const float* w, Vec bias, float* y, int64_t y_pixel,
                 int64_t lanes, PoolMask* mask) {
  Vec acc[2][2 * P];
#pragma GCC unroll 16
  for (int q = 0; q < 2 * P; q++) acc[0][q] = acc[1][q] = bias;
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
            for (int k = 0; k < K; k++)
              if (q - k >= 0 && q - k < 2 * P) acc[e][q - k] += pixel * taps[k];
          }
      }
    }
#pragma GCC unroll 8
  for (int p = 0; p < P; p++) {
    const Vec pooled = pool_and_rectify(acc[0][2 * p], acc[0][2 * p + 1], acc[1][2 * p], acc[1][2 * p + 1], mask + p);
    store_partial(y + p * y_pixel, pooled, lanes);
  }
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
    for (int64_t i = 0; i < s.h_out; i++)
      for (int64_t j = 0, pairs; j < s.w_out; j += pairs, mask += pairs, y += pairs * y_pixel) {
        pairs = next_tile(s.w_out - j, kPairs);
        const Pixels from{x.data + 2 * i * x.row + 2 * j * x.pixel, x.row, x.pixel};
        with_count<kPairs>(pairs, [&](auto count) {
          pool_pixels<count.value, taps.value>(s, from, w, start, y, y_pixel, lanes, mask);
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
int64_t filter_floats(const ConvPoolShape& s) { return s.kh * patch_pitch(s); }
int64_t gradient_floats(const ConvPoolShape& s) { return s.c_out * filter_floats(s) + panels(s) * kLanes; }

int64_t words(const ConvPoolShape& s) { return ceil_div(outputs(s), kWordBits); }
int64_t window_pairs(const ConvPoolShape& s) { return s.w_out + s.kw / 2 + 1; }
int64_t window_floats(const ConvPoolShape& s) { return seen_rows(s) * window_pairs(s) * kLanes; }

struct BackwardScratch {
  float *padded, *patches;
  float* dy;                 // (output, lane): gradients of one panel that pass the ReLU
  int32_t *places, *copies;  // (output, lane): where the winner's patch begins; which copy of the filter is added
  int32_t* alive;            // (word, lane): which outputs pass the ReLU
  float* dx;                 // (group, row, pair of pixels, lane)
  int64_t floats;
  BackwardScratch(const ConvPoolShape& s, float* workspace) {
    Parts parts{workspace, 0};
    padded = parts.take(padded_floats(s));
    patches = parts.take(copied_patch_floats(s));
    dy = parts.take(outputs(s) * kLanes);
    places = reinterpret_cast<int32_t*>(parts.take(outputs(s) * kLanes));
    copies = reinterpret_cast<int32_t*>(parts.take(outputs(s) * kLanes));
    alive = reinterpret_cast<int32_t*>(parts.take(words(s) * kLanes));
    dx = parts.take(groups(s) * window_floats(s));
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
  IntVec alive{}, bit{};
  for (int64_t p = 0; p < out; p++) {
    const PoolMask m = mask[p];
    const LaneMask lives = mask_of_bits(m.alive);
    const Vec d = s.y_layout == Layout::row_major ? load(to.dy + p * kLanes) : load_partial(dy + p * s.c_out, lanes);
    const Vec passed = select(lives, d, Vec{});
    bias += passed;
    store(to.dy + p * kLanes, passed);
    bit = p % kWordBits == 0 ? splat_int(1) : bit << 1;
    alive = p % kWordBits == 0 ? IntVec{} : alive;
    alive |= select_int(lives, bit, IntVec{});
    if (p % kWordBits == kWordBits - 1 || p == out - 1) store_int(to.alive + p / kWordBits * kLanes, alive);
    const int64_t i = p / s.w_out, j = p % s.w_out;
    IntVec place = splat_int(int32_t(2 * i * patches.row + 2 * j * patches.pixel));
    place += select_int(mask_of_bits(m.row), splat_int(int32_t(patches.row)), IntVec{});
    place += select_int(mask_of_bits(m.column), splat_int(int32_t(patches.pixel)), IntVec{});
    store_int(to.places + p * kLanes, place);
  }
  store(db, bias);
}

// R kernel rows by V vectors of the gradient of one filter, over the living outputs of one word. dy and places: the
// filter's lane of the first output.
template <int R, int V>
void add_patches(uint32_t alive, const float* dy, const int32_t* places, const float* patches, int64_t row, float* dw,
                 int64_t dw_row) {
  Vec sums[R][V];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) sums[r][v] = load(dw + r * dw_row + v * kLanes);
  for (; alive; alive &= alive - 1) {
    const int64_t p = int64_t(__builtin_ctz(alive)) * kLanes;
    const Vec d = splat(dy[p]);
    const float* patch = patches + places[p];
#pragma GCC unroll 8
    for (int r = 0; r < R; r++, patch += row)
#pragma GCC unroll 4
      for (int v = 0; v < V; v++) sums[r][v] += d * load(patch + v * kLanes);
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V; v++) store(dw + r * dw_row + v * kLanes, sums[r][v]);
}

// The gradient of one filter, lane l of the panel that was sorted out.
void add_weight_gradient(const ConvPoolShape& s, const BackwardScratch& from, int64_t l, const Pixels& patches,
                         float* dw) {
  const int64_t pitch = patch_pitch(s), vecs = pitch / kLanes;
  for (int64_t word = 0; word < words(s); word++) {
    const uint32_t alive = uint32_t(from.alive[word * kLanes + l]);
    const int64_t first = word * kWordBits * kLanes + l;
    for (int64_t r = 0, rows; r < s.kh; r += rows) {
      rows = next_tile(s.kh - r, kPatchRows);
      for (int64_t v = 0, count; v < vecs; v += count) {
        count = next_tile(vecs - v, kPatchVecs);
        with_count<kPatchRows>(rows, [&](auto row_count) {
          with_count<kPatchVecs>(count, [&](auto vec_count) {
            add_patches<row_count.value, vec_count.value>(alive, from.dy + first, from.places + first,
                                                          patches.data + r * patches.row + v * kLanes, patches.row,
                                                          dw + r * pitch + v * kLanes, pitch);
          });
        });
      }
    }
  }
}

// One pooled row of one part of the filters (R rows, vectors of windows V) and one group of input channels. `copies`
// and dy: of the row's first output; to: the window of the first output.
template <int R, int V>
void add_windows(const ConvPoolShape& s, const PoolMask* mask, const float* dy, const int32_t* copies,
                 const float* filters, float* to, int64_t to_row) {
  Vec window[R + 1][V] = {};
  for (int64_t j = 0; j < s.w_out; j++, dy += kLanes, copies += kLanes, to += kLanes) {
    for (uint32_t alive = mask[j].alive; alive; alive &= alive - 1) {
      const int l = __builtin_ctz(alive);
      const Vec d = splat(dy[l]);
      const float* filter = filters + copies[l];
#pragma GCC unroll 8
      for (int r = 0; r <= R; r++)
#pragma GCC unroll 4
        for (int v = 0; v < V; v++) window[r][v] += d * load(filter + (r * V + v) * kLanes);
    }
    // The first vector of each row is complete as far as this row of outputs goes; the others move up.
#pragma GCC unroll 8
    for (int r = 0; r <= R; r++) {
      store(to + r * to_row, load(to + r * to_row) + window[r][0]);
#pragma GCC unroll 4
      for (int v = 0; v < V - 1; v++) window[r][v] = window[r][v + 1];
      window[r][V - 1] = Vec{};
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r <= R; r++)
#pragma GCC unroll 4
    for (int v = 0; v < V - 1; v++)
      store(to + r * to_row + v * kLanes, load(to + r * to_row + v * kLanes) + window[r][v]);
}

// Which copy of a part of the filters each output of a panel adds, as a place in the copies of the panel.
void choose_copies(const ConvPoolShape& s, const FilterPart& part, const PoolMask* mask, int32_t* copies) {
  const IntVec first = lane_numbers() * splat_int(int32_t(2 * part.copy_floats()));
  const IntVec row = splat_int(int32_t(part.row_floats())), column = splat_int(int32_t(part.copy_floats()));
  for (int64_t p = 0; p < outputs(s); p++) {
    // The row of zeros before the filter moves it down by one.
    const IntVec down = select_int(mask_of_bits(mask[p].row), IntVec{}, row);
    const IntVec right = select_int(mask_of_bits(mask[p].column), column, IntVec{});
    store_int(copies + p * kLanes, first + down + right);
  }
}

// Adds a panel's part of the gradient of the input to scratch.dx.
void add_input_gradient(const ConvPoolShape& s, const BackwardScratch& scratch, int64_t panel, const PoolMask* mask,
                        const float* filters) {
  const int64_t row = window_pairs(s) * kLanes;
  const FilterParts parts(s);
  for (int64_t p = 0; p < parts.count(); p++) {
    const FilterPart part = parts.at(p);
    choose_copies(s, part, mask, scratch.copies);
    for (int64_t g = 0; g < groups(s); g++, filters += PackedChannels::group_floats(s, part)) {
      const float* copies = filters + panel * kLanes * 2 * part.copy_floats();
      float* to = scratch.dx + g * window_floats(s) + part.r0 * row + part.t0 / 2 * kLanes;
      with_count<kWindowRows>(part.rows, [&](auto rows) {
        with_count<kTaps / 2 + 1>(part.vecs(), [&](auto vecs) {
          for (int64_t i = 0; i < s.h_out; i++)
            add_windows<rows.value, vecs.value>(s, mask + i * s.w_out, scratch.dy + i * s.w_out * kLanes,
                                                scratch.copies + i * s.w_out * kLanes, copies, to + 2 * i * row, row);
        });
      });
    }
  }
}

// Takes the padding off dx; what no window saw is zero. Channels of a group lie kHalf floats per pixel in the windows,
// c_in in dx.
void crop_to_input(const ConvPoolShape& s, const float* windows, float* dx) {
  const int64_t rows = max_of<int64_t>(0, min_of(s.h_in, seen_rows(s) - s.pad_top));
  const int64_t columns = max_of<int64_t>(0, min_of(s.w_in, seen_columns(s) - s.pad_left));
  for (int64_t h = 0; h < s.h_in; h++, dx += s.w_in * s.c_in) {
    const int64_t seen = h < rows ? columns : 0;
    memset(dx + seen * s.c_in, 0, size_t((s.w_in - seen) * s.c_in) * sizeof(float));
    for (int64_t g = 0; g < groups(s); g++) {
      const float* from =
          windows + g * window_floats(s) + (h + s.pad_top) * window_pairs(s) * kLanes + s.pad_left * kHalf;
      const int64_t c0 = g * kHalf, count = min_of<int64_t>(kHalf, s.c_in - c0);
      if (groups(s) == 1) {  // two pixels in one store
        const IntVec lanes = lane_numbers();
        const IntVec packed = select_int(lanes < splat_int(int32_t(count)), lanes, lanes + (kHalf - int32_t(count)));
        for (int64_t w = 0; w < seen; w += 2, from += kLanes) {
          const Vec two = w + 1 < seen ? load(from) : load_partial(from, kHalf);
          store_partial(dx + w * count, __builtin_shuffle(two, packed), w + 1 < seen ? 2 * count : count);
        }
      } else {
        for (int64_t w = 0; w < seen; w++, from += kHalf)
          store_partial(dx + w * s.c_in + c0, load_partial(from, count), count);
      }
    }
  }
}

void backward(const ConvPoolShape& s, const float* dy, const void* mask, const float* x, const float* packed, float* dx,
              float* gradient, float* workspace) {
  const PackedChannels weights(s, const_cast<float*>(packed));
  const BackwardScratch scratch(s, workspace);
  const int64_t in = s.h_in * s.w_in * s.c_in, out = outputs(s);
  for (int64_t n = 0; n < s.n; n++) {
    const Pixels image = pad(s, x + n * in, scratch.padded), patches = cut_patches(s, image, scratch.patches);
    if (dx) memset(scratch.dx, 0, size_t(groups(s) * window_floats(s)) * sizeof(float));
    for (int64_t panel = 0; panel < panels(s); panel++) {
      const int64_t k = panel * kLanes, lanes = channels_in(s, panel);
      const float* panel_dy = dy + n * out * s.c_out + k * (s.y_layout == Layout::row_major ? out : 1);
      const PoolMask* panel_mask = static_cast<const PoolMask*>(mask) + n * masks(s) + panel * out;
      read_masks(s, panel_dy, lanes, panel_mask, patches, scratch, gradient + s.c_out * filter_floats(s) + k);
      for (int64_t l = 0; l < lanes; l++)
        add_weight_gradient(s, scratch, l, patches, gradient + (k + l) * filter_floats(s));
      if (dx) add_input_gradient(s, scratch, panel, panel_mask, weights.backward);
    }
    if (dx) crop_to_input(s, scratch.dx, dx + n * in);
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
