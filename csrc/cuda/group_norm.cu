// group_norm and layer_norm: a row is one group of one sample, for a team of threads (teams.cuh). Formulas:
// ops/group_norm.h.
//
//   forward          mean, then the squared deviations from it, then y: x three times (twice from the caches), y once
//   backward input   sums of g and g (x - mean), g = dy * weight, then dx: dy and x twice (once from the caches), dx
//   once backward weight  sums over the samples: channel_sums.cuh where a channel has one value (layer_norm), else
//                    plane_sums.cuh: dy and x once
//
// Accesses are of 16 bytes where a channel's values are a multiple of four, or where there is one of each.
#include "ops/group_norm.h"

#include "cuda/images.cuh"
#include "cuda/plane_sums.cuh"
#include "cuda/table.h"
#include "cuda/teams.cuh"

namespace convcore::cuda {
namespace {

struct Groups {
  int64_t length, channels, plane;  // of a group
  Divisor by_plane, by_groups;
  explicit Groups(const GroupNormShape& s)
      : length(s.per_group()), channels(s.channels), plane(s.plane), by_plane(s.plane), by_groups(s.groups) {}
  // The first channel of the group of row `row`.
  __device__ int64_t first_channel(int64_t row) const {
    int64_t group;
    by_groups.divide(row, &group);
    return group * channels;
  }
  // A number per channel for the kLanes values from `i` on of a group, or `otherwise`. `of_group`: of its first
  // channel.
  template <int kLanes>
  __device__ Lanes<float, kLanes> numbers(const float* of_group, int64_t i, float otherwise) const {
    if (!of_group) return all_lanes<kLanes>(otherwise);
    if (plane == 1) return load_lanes<kLanes>(of_group + i);
    return all_lanes<kLanes>(of_group[by_plane.quotient(i)]);
  }
};

// Sums of at most kFloatTerms floats, and of those sums in double.
struct LongSum {
  double total = 0;
  float sum = 0;
  int terms = 0;
  __device__ void add(float value) {
    sum += value;
    if (++terms == kFloatTerms) total += double(sum), sum = 0, terms = 0;
  }
  __device__ double value() const { return total + double(sum); }
};

// f(i) for the vectors of a row that are this thread's.
template <int kLanes, bool kBlock, typename F>
CONVCORE_DEVICE void for_each_vector(const Team<kBlock>& team, int64_t length, F f) {
  for (int64_t i = team.rank() * kLanes; i < length; i += Team<kBlock>::kSize * kLanes) f(i);
}

// The sums over the row of what terms(i, &a, &b) gives for its vectors. Four of a thread's vectors are read before they
// are added: their loads are under way together.
template <int kLanes, bool kBlock, typename Terms>
CONVCORE_DEVICE void sum_row(const Team<kBlock>& team, int64_t length, Terms terms, double* sum_a, double* sum_b) {
  constexpr int kAtOnce = 4;
  constexpr int64_t kStep = Team<kBlock>::kSize * kLanes;
  LongSum a, b;
  int64_t i = team.rank() * kLanes;
  for (; i + (kAtOnce - 1) * kStep < length; i += kAtOnce * kStep) {
    float x[kAtOnce], y[kAtOnce];
    CONVCORE_UNROLL
    for (int v = 0; v < kAtOnce; v++) terms(i + v * kStep, &x[v], &y[v]);
    a.add((x[0] + x[1]) + (x[2] + x[3]));
    b.add((y[0] + y[1]) + (y[2] + y[3]));
  }
  for (; i < length; i += kStep) {
    float x, y;
    terms(i, &x, &y);
    a.add(x);
    b.add(y);
  }
  *sum_a = team.sum(a.value());
  *sum_b = team.sum(b.value());
}

template <int kLanes, bool kBlock>
CONVCORE_KERNEL(kTeamThreads)
group_norm_rows(int64_t rows, Groups groups, double eps, const float* x, const float* weight, const float* bias,
                float* y, float* means, float* rstds) {
  SharedMemory shared;
  const Team<kBlock> team(shared.array<double>(kTeamThreads / kWarp));
  const int64_t length = groups.length;
  for (int64_t row = team.first_row(); row < rows; row += team.row_step()) {
    const float* from = x + row * length;
    double total, squares, unused;
    sum_row<kLanes>(
        team, length,
        [&](int64_t i, float* a, float* b) {
          const auto v = load_lanes<kLanes>(from + i);
          *a = *b = 0;
          CONVCORE_UNROLL
          for (int l = 0; l < kLanes; l++) *a += v.at[l];
        },
        &total, &unused);
    const float mean = float(total / double(length));
    sum_row<kLanes>(
        team, length,
        [&](int64_t i, float* a, float* b) {
          const auto v = load_lanes<kLanes>(from + i);
          *a = *b = 0;
          CONVCORE_UNROLL
          for (int l = 0; l < kLanes; l++) *a += (v.at[l] - mean) * (v.at[l] - mean);
        },
        &squares, &unused);
    const float rstd = float(1.0 / sqrt(squares / double(length) + eps));
    if (team.rank() == 0) means[row] = mean, rstds[row] = rstd;
    if (!y) continue;
    const int64_t channel = groups.first_channel(row);
    for_each_vector<kLanes>(team, length, [&](int64_t i) {
      auto v = load_lanes<kLanes>(from + i);
      const auto w = groups.numbers<kLanes>(weight ? weight + channel : nullptr, i, 1.0f);
      const auto b = groups.numbers<kLanes>(bias ? bias + channel : nullptr, i, 0.0f);
      CONVCORE_UNROLL
      for (int l = 0; l < kLanes; l++) v.at[l] = fmaf(v.at[l] - mean, w.at[l] * rstd, b.at[l]);
      store_lanes(y + row * length + i, v);
    });
  }
}

// dx = rstd (g - center - (x - mean) slope), center = mean(g), slope = rstd^2 mean(g (x - mean))
template <int kLanes, bool kBlock>
CONVCORE_KERNEL(kTeamThreads)
group_norm_rows_backward(int64_t rows, Groups groups, const float* dy, const float* x, const float* means,
                         const float* rstds, const float* weight, float* dx) {
  SharedMemory shared;
  const Team<kBlock> team(shared.array<double>(kTeamThreads / kWarp));
  const int64_t length = groups.length;
  for (int64_t row = team.first_row(); row < rows; row += team.row_step()) {
    const float mean = means[row], rstd = rstds[row];
    const int64_t channel = groups.first_channel(row);
    const float* of_group = weight ? weight + channel : nullptr;
    double gradients, products;
    sum_row<kLanes>(
        team, length,
        [&](int64_t i, float* a, float* b) {
          const auto g = load_lanes<kLanes>(dy + row * length + i), v = load_lanes<kLanes>(x + row * length + i);
          const auto w = groups.numbers<kLanes>(of_group, i, 1.0f);
          *a = *b = 0;
          CONVCORE_UNROLL
          for (int l = 0; l < kLanes; l++) {
            *a += g.at[l] * w.at[l];
            *b += g.at[l] * w.at[l] * (v.at[l] - mean);
          }
        },
        &gradients, &products);
    const double count = double(length);
    const float center = float(gradients / count);
    const float slope = float(products / count * double(rstd) * double(rstd));
    for_each_vector<kLanes>(team, length, [&](int64_t i) {
      const auto g = load_lanes<kLanes>(dy + row * length + i);
      auto v = load_lanes<kLanes>(x + row * length + i);
      const auto w = groups.numbers<kLanes>(of_group, i, 1.0f);
      CONVCORE_UNROLL
      for (int l = 0; l < kLanes; l++) v.at[l] = rstd * (g.at[l] * w.at[l] - center - (v.at[l] - mean) * slope);
      store_lanes(dx + row * length + i, v);
    });
  }
}

bool by_fours(const GroupNormShape& s) { return s.per_group() % 4 == 0 && (s.plane == 1 || s.plane % 4 == 0); }

void forward(const GroupNormShape& s, double eps, const float* x, const float* weight, const float* bias, float* y,
             float* mean, float* rstd) {
  const Groups groups(s);
  const bool per_value = s.plane == 1;
  const auto run = [&](auto of_warps, auto of_blocks) {
    launch_teams("group_norm", of_warps, of_blocks, s.n * s.groups, s.per_group(), groups, eps, x, weight, bias, y,
                 mean, rstd);
  };
  if (by_fours(s) && aligned16(x, y, per_value ? weight : nullptr, per_value ? bias : nullptr))
    run(group_norm_rows<4, false>, group_norm_rows<4, true>);
  else
    run(group_norm_rows<1, false>, group_norm_rows<1, true>);
}

void backward_input(const GroupNormShape& s, const float* dy, const float* x, const float* mean, const float* rstd,
                    const float* weight, float* dx) {
  const Groups groups(s);
  const auto run = [&](auto of_warps, auto of_blocks) {
    launch_teams("group_norm backward input", of_warps, of_blocks, s.n * s.groups, s.per_group(), groups, dy, x, mean,
                 rstd, weight, dx);
  };
  if (by_fours(s) && aligned16(dy, x, dx, s.plane == 1 ? weight : nullptr))
    run(group_norm_rows_backward<4, false>, group_norm_rows_backward<4, true>);
  else
    run(group_norm_rows_backward<1, false>, group_norm_rows_backward<1, true>);
}

// The terms of dbias and dweight for a value of one channel of one sample.
struct WeightTerms {
  int64_t groups;
  Divisor channels;
  const float *dy, *x, *mean, *rstd;
  bool products;  // else dweight is not wanted, and x not read
  __device__ void operator()(int64_t n, int64_t channel, int64_t offset, float* a, float* b) const {
    const float g = dy[offset];
    *a = g, *b = 0;
    if (!products) return;
    const int64_t group = n * groups + channels.quotient(channel);
    *b = g * ((x[offset] - mean[group]) * rstd[group]);
  }
};
struct WeightTermsOfRows {  // of a matrix (n, channels)
  WeightTerms terms;
  int64_t c;
  __device__ void operator()(int64_t row, int64_t column, float* a, float* b) const {
    terms(row, column, row * c + column, a, b);
  }
};
struct StoreGradients {
  float *dweight, *dbias;
  __device__ void operator()(int64_t channel, double sum, double products) const {
    if (dbias) dbias[channel] = float(sum);
    if (dweight) dweight[channel] = float(products);
  }
};

void backward_weight(const GroupNormShape& s, const float* dy, const float* x, const float* mean, const float* rstd,
                     float* dweight, float* dbias) {
  const WeightTerms terms{s.groups, Divisor(s.channels), dy, x, mean, rstd, dweight != nullptr};
  const StoreGradients done{dweight, dbias};
  const int64_t c = s.all_channels();
  if (s.plane == 1)
    channel_sums("group_norm backward weight", s.n, c, WeightTermsOfRows{terms, c}, done);
  else
    plane_sums("group_norm backward weight", s.n, c, s.plane, terms, done);
}

}  // namespace

GroupNormKernels group_norm_kernels() { return {forward, backward_input, backward_weight}; }

}  // namespace convcore::cuda
