#include "ops/conv2d_algorithm.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <set>
#include <shared_mutex>

namespace convcore {
namespace {

constexpr ConvAlgorithm kAlgorithms[] = {ConvAlgorithm::planar, ConvAlgorithm::direct, ConvAlgorithm::gemm,
                                         ConvAlgorithm::winograd, ConvAlgorithm::winograd2x2};
constexpr ConvPass kPasses[] = {ConvPass::forward, ConvPass::backward_input, ConvPass::backward_weight};

// ---- the choice by the shape --------------------------------------------------------------------------------------

// Channels as lanes pay from here on: with fewer, too many lanes of the widest vector stay empty.
constexpr int64_t kManyChannels = 12;

// Square filters of so many taps along an axis, with this stride along both; the padding is smaller than the filter.
bool is_square(const Conv2dShape& s, int64_t kernel, int64_t stride) {
  const auto axis = [&](const WindowAxis& w) {
    return w.kernel == kernel && w.stride == stride && w.dilation == 1 && w.pad_before < kernel && w.pad_after < kernel;
  };
  return axis(s.window.h) && axis(s.window.w) && s.groups == 1;
}

bool is_3x3_stride_1(const Conv2dShape& s) { return is_square(s, 3, 1); }
bool is_3x3(const Conv2dShape& s) { return is_3x3_stride_1(s) || is_square(s, 3, 2); }
bool is_5x5(const Conv2dShape& s) { return is_square(s, 5, 1); }

bool is_1x1(const Conv2dShape& s) {
  const auto axis = [](const WindowAxis& w) { return w.kernel == 1 && w.pad_before == 0 && w.pad_after == 0; };
  return axis(s.window.h) && axis(s.window.w) && s.groups == 1;
}

// 1x1 filters as a matrix product: from here on its larger tiles of pixels beat the direct kernel's rows. The direct
// kernel cuts the gradient of the weights by images as well, and stays ahead unless that gradient is large and the
// images are few pixels.
constexpr int64_t kProductChannels = 32, kProductWeights = 1 << 17, kProductPixels = 1 << 11;

bool product_pays(const Conv2dShape& s, ConvPass pass) {
  return std::min(s.c_in, s.c_out) >= kProductChannels &&
         (pass != ConvPass::backward_weight ||
          (s.c_in * s.c_out >= kProductWeights && s.n * s.h_out * s.w_out < kProductPixels));
}

bool can(ConvAlgorithm algorithm, const Conv2dShape& s, ConvPass pass) {
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return s.groups == 1;
    case ConvAlgorithm::gemm:
      return is_1x1(s);
    case ConvAlgorithm::winograd:
      return is_3x3_stride_1(s) || is_5x5(s) || (is_3x3(s) && pass != ConvPass::backward_weight);
    case ConvAlgorithm::winograd2x2:
      return is_3x3(s) && pass != ConvPass::backward_weight;
    default:
      return true;
  }
}

// The same in words.
const char* what_it_needs(ConvAlgorithm algorithm) {
  switch (algorithm) {
    case ConvAlgorithm::direct:
      return "groups = 1";
    case ConvAlgorithm::gemm:
      return "1x1 filters without padding, groups = 1";
    default:
      return "3x3 filters with stride 1 or 2, or 5x5 with stride 1 (by 'winograd'), dilation 1, less padding than "
             "taps, groups = 1";
  }
}

// The direct kernel keeps whole padded rows of all channels; with a far-flung filter on a small image they are mostly
// padding, and the planar kernel, which copies what each tap needs, is the better one.
bool mostly_padding(const Conv2dShape& s) {
  return s.window.h.extent() > 2 * (s.h_in + 8) || s.window.w.extent() > 2 * (s.w_in + 8);
}

// The cheapest of direct, Winograd with large and with small tiles, for forward and backward to the input: by the
// multiplications per pair of channels, those of tiles that are partly empty included, each with its measured price.
// The transform of the filters costs as much as some tiles do, more where the filters do not fit the L2 cache. (Fitted
// to 3x3 with stride 1, 16, 64, 128 and 512 channels, images of 1x1 to 10x10, batches of 1 to 64, two threads with
// AVX-512: on average 3 % slower than the best of the three.)
ConvAlgorithm cheapest_winograd(const Conv2dShape& s, ConvPass pass) {
  const int64_t stride = s.window.h.stride, taps = s.window.h.kernel;
  // Of a multiplication; in tiles of 4x4 it is 1, and with stride 2, where the filters have 81 values for 16 results,
  // more where these do not fit the cache.
  constexpr double kDirectPrice = 2.5;
  const double small_price = stride == 1 ? 0.8 : 1, far_price = stride == 1 ? 1 : 1.5;
  constexpr double kCachedFilters = 4, kFarFilters = 16;  // tiles that the transform of the filters costs
  constexpr int64_t kCachedFloats = 1 << 18;
  const bool forward = pass == ConvPass::forward;
  const int64_t h = forward ? s.h_out : (s.h_in + stride - 1) / stride;  // what is cut into tiles
  const int64_t w = forward ? s.w_out : (s.w_in + stride - 1) / stride;
  const auto values = [&](int64_t tile) {  // of an input tile
    const int64_t axis = stride * tile + taps - stride;
    return axis * axis;
  };
  const auto tiles = [&](int64_t tile) { return double(s.n * ((h + tile - 1) / tile) * ((w + tile - 1) / tile)); };
  const bool far = values(4) * s.c_in * s.c_out > kCachedFloats;
  const double filters = far ? kFarFilters : kCachedFilters;
  const double direct = kDirectPrice * double(taps * taps) * double(s.n * h * w);
  const double small = double(values(2)) * (small_price * tiles(2) + filters);
  if (taps == 5) return direct <= small ? ConvAlgorithm::direct : ConvAlgorithm::winograd;
  const double large = double(values(4)) * ((far ? far_price : 1) * tiles(4) + filters);
  if (direct <= large && direct <= small) return ConvAlgorithm::direct;
  return small < large ? ConvAlgorithm::winograd2x2 : ConvAlgorithm::winograd;
}

// The gradient of the weights by Winograd pays when its tiles (of 4x4, of 2x2 for 5x5 filters) are not mostly empty,
// and enough of them share one inverse transform.
bool winograd_weight_pays(const Conv2dShape& s) {
  constexpr double kTileUse = 0.4;
  constexpr int64_t kManyTiles = 16;
  const int64_t tile = 7 - s.window.h.kernel;
  const int64_t tiles = (s.h_out + tile - 1) / tile * ((s.w_out + tile - 1) / tile);
  return s.n * tiles >= kManyTiles && double(s.h_out * s.w_out) >= kTileUse * double(tile * tile * tiles);
}

ConvAlgorithm choose_by_shape(const Conv2dShape& s, ConvPass pass) {
  if (std::min(s.c_in, s.c_out) >= kManyChannels && can(ConvAlgorithm::winograd, s, pass)) {
    if (pass != ConvPass::backward_weight) return cheapest_winograd(s, pass);
    return winograd_weight_pays(s) ? ConvAlgorithm::winograd : ConvAlgorithm::direct;
  }
  if (is_1x1(s) && product_pays(s, pass)) return ConvAlgorithm::gemm;
  const int64_t lanes = pass == ConvPass::backward_input ? s.c_in : s.c_out;  // the channels that are lanes
  if (can(ConvAlgorithm::direct, s, pass) && lanes >= kManyChannels && !mostly_padding(s)) return ConvAlgorithm::direct;
  return ConvAlgorithm::planar;
}

// ---- the measured choices -----------------------------------------------------------------------------------------

using Key = std::array<int64_t, 17>;  // every number that tells two convolutions apart

Key key_of(const Conv2dShape& s, ConvPass pass) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  return {int64_t(pass), s.n,         s.c_in,     s.h_in,   s.w_in,   s.c_out,      s.groups,    h.kernel,  h.stride,
          h.pad_before,  h.pad_after, h.dilation, w.kernel, w.stride, w.pad_before, w.pad_after, w.dilation};
}

struct Measured {
  std::shared_mutex mutex;
  std::map<Key, ConvAlgorithm> choices;
  std::atomic<bool> any{false};  // nearly always false: then nobody takes the lock
};

Measured& measured() {
  static Measured& table = *new Measured;
  return table;
}

ConvAlgorithm measured_choice(const Conv2dShape& s, ConvPass pass) {  // or automatic
  Measured& table = measured();
  if (!table.any) return ConvAlgorithm::automatic;
  const std::shared_lock lock(table.mutex);
  const auto found = table.choices.find(key_of(s, pass));
  return found == table.choices.end() ? ConvAlgorithm::automatic : found->second;
}

// ---- CONVCORE_VERBOSE=1: every choice on stderr, once ---------------------------------------------------------------

bool verbose() {
  static const bool on = [] {
    const char* value = std::getenv("CONVCORE_VERBOSE");
    return value && std::string(value) == "1";
  }();
  return on;
}

std::string by(int64_t h, int64_t w) { return std::to_string(h) + "x" + std::to_string(w); }

// "128x16x32x32 -> 16, 3x3, padding 1,1,1,1"
std::string describe(const Conv2dShape& s) {
  const WindowAxis &h = s.window.h, &w = s.window.w;
  std::string text =
      by(s.n, s.c_in) + "x" + by(s.h_in, s.w_in) + " -> " + std::to_string(s.c_out) + ", " + by(h.kernel, w.kernel);
  if (h.stride != 1 || w.stride != 1) text += ", stride " + by(h.stride, w.stride);
  if (h.pad_before || h.pad_after || w.pad_before || w.pad_after) {
    text += ", padding ";
    for (const int64_t pixels : {h.pad_before, h.pad_after, w.pad_before, w.pad_after})
      text += (text.back() == ' ' ? "" : ",") + std::to_string(pixels);
  }
  if (h.dilation != 1 || w.dilation != 1) text += ", dilation " + by(h.dilation, w.dilation);
  if (s.groups != 1) text += ", groups " + std::to_string(s.groups);
  return text;
}

// "convcore: conv2d forward 128x16x32x32 -> 16, 3x3: winograd (automatic)"
void say(const char* op, const char* pass, const Conv2dShape& s, const char* algorithm, const char* why) {
  static std::mutex& mutex = *new std::mutex;
  static std::set<std::string>& said = *new std::set<std::string>;
  const std::string text =
      std::string("convcore: ") + op + " " + pass + " " + describe(s) + ": " + algorithm + " (" + why + ")\n";
  const std::lock_guard lock(mutex);
  if (said.insert(text).second) std::fputs(text.c_str(), stderr);
}

}  // namespace

bool few_input_channels(const Conv2dShape& s) { return s.c_in < kManyChannels; }

std::vector<ConvAlgorithm> possible_algorithms(const Conv2dShape& s, ConvPass pass) {
  std::vector<ConvAlgorithm> found;
  for (const ConvAlgorithm a : kAlgorithms)
    if (can(a, s, pass)) found.push_back(a);
  return found;
}

static void expect_possible(const char* op, const Conv2dShape& s, ConvPass pass, ConvAlgorithm algorithm) {
  if (!can(algorithm, s, pass))
    fail(op, "the algorithm cannot compute this convolution", std::string(what_it_needs(algorithm)) + ", or 'auto'",
         algorithm_name(algorithm));
}

ConvAlgorithm choose_algorithm(const char* op, const Conv2dShape& s, ConvPass pass, ConvAlgorithm wanted) {
  if (current_device() == Device::cuda) return ConvAlgorithm::direct;  // the plug-in has kernels of its own
  const char* why = "asked";
  ConvAlgorithm algorithm = wanted;
  const bool winograd = wanted == ConvAlgorithm::winograd || wanted == ConvAlgorithm::winograd2x2;
  if (winograd && pass == ConvPass::backward_weight && can(wanted, s, ConvPass::forward))
    algorithm = can(ConvAlgorithm::winograd, s, pass) ? ConvAlgorithm::winograd : ConvAlgorithm::direct;
  if (algorithm == ConvAlgorithm::automatic) algorithm = measured_choice(s, pass), why = "measured";
  if (algorithm == ConvAlgorithm::automatic) algorithm = choose_by_shape(s, pass), why = "automatic";
  expect_possible(op, s, pass, algorithm);
  if (verbose() && s.n > 0) say(op, pass_name(pass), s, algorithm_name(algorithm), why);
  return algorithm;
}

void show_pooled(const char* op, const Conv2dShape& s) {
  if (verbose() && s.n > 0) say(op, "all passes", s, "pooled, with ReLU and max pooling", "the only one");
}

void set_measured_choices(const std::vector<MeasuredChoice>& choices) {
  std::map<Key, ConvAlgorithm> table;
  for (const MeasuredChoice& c : choices) {
    expect_possible("conv2d", c.shape, c.pass, c.algorithm);
    table[key_of(c.shape, c.pass)] = c.algorithm;
  }
  const std::unique_lock lock(measured().mutex);
  measured().choices.swap(table);
  measured().any = !measured().choices.empty();
}

const char* pass_name(ConvPass pass) {
  switch (pass) {
    case ConvPass::backward_input:
      return "backward_input";
    case ConvPass::backward_weight:
      return "backward_weight";
    default:
      return "forward";
  }
}

ConvPass parse_pass(const char* op, const std::string& name) {
  for (const ConvPass pass : kPasses)
    if (name == pass_name(pass)) return pass;
  fail(op, "pass is not known", "'forward', 'backward_input' or 'backward_weight'", "'" + name + "'");
}

ConvAlgorithm parse_algorithm(const char* op, const std::string& name) {
  std::string known = "'auto'";
  if (name == algorithm_name(ConvAlgorithm::automatic)) return ConvAlgorithm::automatic;
  for (const ConvAlgorithm a : kAlgorithms) {
    if (name == algorithm_name(a)) return a;
    known += std::string(", '") + algorithm_name(a) + "'";
  }
  fail(op, "algo is not known", known, "'" + name + "'");
}

const char* algorithm_name(ConvAlgorithm algorithm) {
  switch (algorithm) {
    case ConvAlgorithm::planar:
      return "planar";
    case ConvAlgorithm::direct:
      return "direct";
    case ConvAlgorithm::gemm:
      return "gemm";
    case ConvAlgorithm::winograd:
      return "winograd";
    case ConvAlgorithm::winograd2x2:
      return "winograd2x2";
    default:
      return "auto";
  }
}

}  // namespace convcore
