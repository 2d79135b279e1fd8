// Loops over the pixels of channels-last images, for kernels that must know where in its image an element lies.
//
// Grid: as elementwise.cuh. A thread takes four neighbouring channels of a pixel as one access of 16 bytes where the
// channels are a multiple of four and the arrays aligned, else one channel; then those a grid apart. Which pixel and
// channel that is takes three divisions by numbers that are known at the launch, made as multiplications: a 64-bit
// division would be some fifty instructions, more than all the rest of such a kernel, and it would then run at the
// speed of the instructions, not of the memory.
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

// Division by a number that is known at the launch: quotient = (high half of n * multiplier + n) >> shift, for n < 2^31
// (T. Granlund, P. L. Montgomery, "Division by invariant integers using multiplication", PLDI 1994). Larger numbers
// are divided as such.
class Divisor {
 public:
  Divisor() = default;
  explicit Divisor(int64_t by) : by_(by) {
    if (by < 1 || by > kMost) return;
    while ((int64_t(1) << shift_) < by) shift_++;
    multiplier_ = uint32_t(((uint64_t(1) << 32) * ((uint64_t(1) << shift_) - uint64_t(by))) / uint64_t(by) + 1);
  }

  __device__ int64_t quotient(int64_t n) const {
    if (n > kMost || n < 0 || multiplier_ == 0) return n / by_;
    const auto small = uint32_t(n);
    return int64_t((__umulhi(small, multiplier_) + small) >> shift_);
  }
  // Returns the quotient.
  __device__ int64_t divide(int64_t n, int64_t* remainder) const {
    const int64_t q = quotient(n);
    *remainder = n - q * by_;
    return q;
  }

 private:
  static constexpr int64_t kMost = 0x7FFFFFFF;
  int64_t by_ = 1;
  uint32_t multiplier_ = 0;
  int shift_ = 0;
};

// Neighbouring numbers that are read and written as one.
template <typename T, int kCount>
struct alignas(sizeof(T) * kCount) Lanes {
  T at[kCount];
};
template <int kCount, typename T>
CONVCORE_DEVICE Lanes<T, kCount> load_lanes(const T* p) {
  return *reinterpret_cast<const Lanes<T, kCount>*>(p);
}
template <typename T, int kCount>
CONVCORE_DEVICE void store_lanes(T* p, const Lanes<T, kCount>& v) {
  *reinterpret_cast<Lanes<T, kCount>*>(p) = v;
}
template <int kCount, typename T>
CONVCORE_DEVICE Lanes<T, kCount> all_lanes(T value) {
  Lanes<T, kCount> v;
  CONVCORE_UNROLL
  for (int l = 0; l < kCount; l++) v.at[l] = value;
  return v;
}

// Whether all of these arrays (null ones too) may be accessed by 16 bytes.
template <typename... T>
bool aligned16(const T*... arrays) {
  return ((reinterpret_cast<uintptr_t>(arrays) | ...) % 16) == 0;
}

struct Images {
  int64_t n, h, w, c;
  int64_t count() const { return n * h * w * c; }
};

struct PixelAt {
  int64_t n, h, w, c;  // c: the first channel
  int64_t offset;      // of that channel in memory
};

namespace detail {

struct ImagesDivisors {
  Divisor h, w, c;  // c: channels divided by the lanes
};

constexpr int kPixelBlocks = 3;  // at a time: 24 warps, each with some loads of 512 bytes under way, fill the memory

template <int kLanes, typename Function>
CONVCORE_KERNEL_OF(kElementThreads, kPixelBlocks)
pixels(int64_t count, ImagesDivisors by, Function function) {
  for (int64_t i = int64_t(blockIdx.x) * kElementThreads + threadIdx.x; i < count;
       i += int64_t(gridDim.x) * kElementThreads) {
    PixelAt p;
    const int64_t pixel = by.c.divide(i, &p.c), row = by.w.divide(pixel, &p.w);
    p.n = by.h.divide(row, &p.h);
    p.c *= kLanes, p.offset = i * kLanes;
    function.template make<kLanes>(p);
  }
}

template <int kLanes, typename Function>
void launch_pixels(const char* name, const Images& s, const Function& function) {
  const int64_t count = s.count() / kLanes;
  launch(name, pixels<kLanes, Function>, dim3(element_blocks(count)), kElementThreads, 0, count,
         ImagesDivisors{Divisor(s.h), Divisor(s.w), Divisor(s.c / kLanes)}, function);
}

}  // namespace detail

// function.make<kLanes>(PixelAt) for every element, kLanes channels at a time: 4 where `aligned` and the channels are
// a multiple of it.
template <typename Function>
void for_pixels(const char* name, const Images& s, bool aligned, const Function& function) {
  if (s.count() == 0) return;
  if (aligned && s.c % 4 == 0)
    detail::launch_pixels<4>(name, s, function);
  else
    detail::launch_pixels<1>(name, s, function);
}

}  // namespace convcore::cuda
