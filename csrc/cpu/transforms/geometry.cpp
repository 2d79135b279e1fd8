// Crops, mirrors, turns and sizes: line by line, a vector of pixels at a time.
#include "cpu/elementwise.h"
#include "cpu/transforms/kernels.h"

namespace convcore::cpu::CONVCORE_ISA {

static void fill_line(float* y, int64_t count, float value) {
  for (int64_t j = 0; j < count; j++) y[j] = value;
}

static void copy_line(float* y, const float* x, int64_t count) { memcpy(y, x, size_t(count) * sizeof(float)); }

void image_crop(const ImageShape& s, const ImageBox& box, const float* fill, const float* x, float* y) {
  // The columns of y from `begin` to `end` - 1 come from x.
  const int64_t begin = min_of(max_of<int64_t>(-box.left, 0), box.w);
  const int64_t end = max_of(min_of(s.w - box.left, box.w), begin);
  for (int64_t c = 0; c < s.c; c++)
    for (int64_t i = 0; i < box.h; i++, y += box.w) {
      const int64_t row = i + box.top;
      if (row < 0 || row >= s.h) {
        fill_line(y, box.w, fill[c]);
        continue;
      }
      fill_line(y, begin, fill[c]);
      if (end > begin) copy_line(y + begin, x + (c * s.h + row) * s.w + (begin + box.left), end - begin);
      fill_line(y + end, box.w - end, fill[c]);
    }
}

// y[j] = x[count - 1 - j]
static void reverse_line(int64_t count, const float* x, float* y) {
  int64_t j = 0;
  for (; j + kLanes <= count; j += kLanes) store(y + j, reversed(load(x + (count - kLanes - j))));
  for (; j < count; j++) y[j] = x[count - 1 - j];
}

void image_flip(const ImageShape& s, bool horizontal, const float* x, float* y) {
  for (int64_t c = 0; c < s.c; c++)
    for (int64_t i = 0; i < s.h; i++) {
      const float* from = x + (c * s.h + i) * s.w;
      if (horizontal)
        reverse_line(s.w, from, y + (c * s.h + i) * s.w);
      else
        copy_line(y + (c * s.h + s.h - 1 - i) * s.w, from, s.w);
    }
}

void image_quarter_turns(const ImageShape& s, int64_t turns, const float* x, float* y) {
  const int64_t plane = s.h * s.w;
  for (int64_t c = 0; c < s.c; c++, x += plane, y += plane) {
    if (turns == 2) {
      reverse_line(plane, x, y);
      continue;
    }
    // A column of x becomes a line of y: of one turn the last column the first line, of three the other way round.
    for (int64_t i = 0; i < s.w; i++) {
      const float* from = turns == 1 ? x + (s.w - 1 - i) : x + (s.h - 1) * s.w + i;
      const int64_t step = turns == 1 ? s.w : -s.w;
      for (int64_t j = 0; j < s.h; j++) y[i * s.h + j] = from[step * j];
    }
  }
}

// A pixel that a pixel of the result is mixed of: where it lies in its plane, and its share; 0 and 0 outside.
struct Corner {
  IntVec index;
  Vec share;
};

CONVCORE_INLINE Corner corner(const ImageShape& s, IntVec row, IntVec column, Vec share) {
  const IntVec zero{}, rows = splat_int(int32_t(s.h)), columns = splat_int(int32_t(s.w));
  const IntVec inside = (row >= zero) & (row < rows) & (column >= zero) & (column < columns);
  return {select_int(inside, row * columns + column, zero), select(inside, share, Vec{})};
}

void image_rotate(const ImageShape& s, float cosine, float sine, const float* fill, const float* x, float* y) {
  const float middle_i = 0.5f * float(s.h - 1), middle_j = 0.5f * float(s.w - 1);
  const Vec one = splat(1.0f);
  for (int64_t i = 0; i < s.h; i++) {
    const float di = float(i) - middle_i;
    for_each_vector(s.w, [&](int64_t j, int64_t lanes) {
      const Vec dj = __builtin_convertvector(lane_numbers() + splat_int(int32_t(j)), Vec) - splat(middle_j);
      const Vec row = dj * splat(sine) + splat(cosine * di + middle_i);
      const Vec column = dj * splat(cosine) + splat(middle_j - sine * di);
      const Vec upper = floor(row), left = floor(column), down = row - upper, right = column - left;
      const IntVec i0 = __builtin_convertvector(upper, IntVec), j0 = __builtin_convertvector(left, IntVec);
      const Corner a = corner(s, i0, j0, (one - down) * (one - right)), b = corner(s, i0, j0 + 1, (one - down) * right);
      const Corner c = corner(s, i0 + 1, j0, down * (one - right)), d = corner(s, i0 + 1, j0 + 1, down * right);
      const Vec outside = one - a.share - b.share - c.share - d.share;
      for (int64_t channel = 0; channel < s.c; channel++) {
        const float* plane = x + channel * s.h * s.w;
        Vec sum = outside * splat(fill[channel]);
        sum += a.share * gather(plane, a.index);
        sum += b.share * gather(plane, b.index);
        sum += c.share * gather(plane, c.index);
        sum += d.share * gather(plane, d.index);
        store_lanes(y + (channel * s.h + i) * s.w + j, sum, lanes);
      }
    });
  }
}

// y[j] = sum over t of weights[t][j] * x[first[j] + t]
static void resize_line(const ResizeTaps& taps, const float* x, float* y) {
  for_each_vector(taps.size, [&](int64_t j, int64_t lanes) {
    const IntVec first = lanes == kLanes ? load_int(taps.first + j) : load_int_partial(taps.first + j, lanes);
    Vec sum{};
    for (int64_t t = 0; t < taps.taps; t++)
      sum += load_lanes(taps.weights + t * taps.size + j, lanes) * gather(x, first + splat_int(int32_t(t)));
    store_lanes(y + j, sum, lanes);
  });
}

void image_resize(const ImageShape& s, const ImageBox& box, const ResizeTaps& rows, const ResizeTaps& columns,
                  const float* x, float* scratch, float* y) {
  const int64_t w = columns.size;
  for (int64_t c = 0; c < s.c; c++) {
    const float* from = x + (c * s.h + box.top) * s.w + box.left;
    for (int64_t i = 0; i < box.h; i++) resize_line(columns, from + i * s.w, scratch + i * w);
    for (int64_t i = 0; i < rows.size; i++, y += w) {
      const float* lines = scratch + rows.first[i] * w;
      for_each_vector(w, [&](int64_t j, int64_t lanes) {
        Vec sum{};
        for (int64_t t = 0; t < rows.taps; t++)
          sum += splat(rows.weights[t * rows.size + i]) * load_lanes(lines + t * w + j, lanes);
        store_lanes(y + j, sum, lanes);
      });
    }
  }
}

void image_fill(const ImageShape& s, const ImageBox& box, const float* value, float* x) {
  for (int64_t c = 0; c < s.c; c++)
    for (int64_t i = 0; i < box.h; i++) fill_line(x + (c * s.h + box.top + i) * s.w + box.left, box.w, value[c]);
}

}  // namespace convcore::cpu::CONVCORE_ISA
