// The instructions that C++ has no word for, each with its twin for the tests on the CPU. The only inline assembly.
//
// Fragments of mma (PTX ISA, "Matrix fragments for mma"): lane l has group g = l / 4 and t = l % 4.
//
//   m16n8k8 (TF32)    A 16x8:  a0 (g, t)  a1 (g + 8, t)  a2 (g, t + 4)  a3 (g + 8, t + 4)
//                     B 8x8:   b0 (t, g)  b1 (t + 4, g)                                      (row k, column n)
//   m16n8k16 (BF16)   A 16x16: a0 (g, 2t..)  a1 (g + 8, 2t..)  a2 (g, 2t + 8..)  a3 (g + 8, 2t + 8..)   two values
//   each,
//                     B 16x8:  b0 (2t.., g)  b1 (2t + 8.., g)                                the lower index in the
//                     lower half
//   both              C 16x8:  c0 (g, 2t)  c1 (g, 2t + 1)  c2 (g + 8, 2t)  c3 (g + 8, 2t + 1)
#pragma once
#include "cuda/device.cuh"

namespace convcore::cuda {

// ---- copies to shared memory that run beside the computation
// ----------------------------------------------------------

// Starts the copy of kSize bytes (4, 8 or 16, aligned to that) to shared memory; zeros where `valid` is false. Then
// `from` is not read, but must point to something.
template <int kSize>
CONVCORE_DEVICE void async_copy(void* shared, const void* from, bool valid) {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::async_copy(shared, from, kSize, valid ? kSize : 0);
#else
  const unsigned to = unsigned(__cvta_generic_to_shared(shared));
  const int bytes = valid ? kSize : 0;
  if constexpr (kSize == 16)
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
  else
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(to), "l"(from), "n"(kSize), "r"(bytes)
                 : "memory");
#endif
}

CONVCORE_DEVICE void async_commit() {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::async_commit();
#else
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until at most the last kLeft groups of this thread are still under way.
template <int kLeft>
CONVCORE_DEVICE void async_wait() {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::async_wait(kLeft, cuda_host::copy_now);
#else
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
#endif
}

// ---- TF32: float32 with 10 bits of mantissa
// --------------------------------------------------------------------------

// The nearest TF32 number, ties away from zero; its lower 13 bits are zero.
CONVCORE_DEVICE uint32_t to_tf32(float x) {
#ifdef CONVCORE_CUDA_HOST
  const uint32_t bits = __float_as_uint(x);
  if ((bits & 0x7F800000u) == 0x7F800000u) return bits & ~0x1FFFu;  // infinity; NaN stays one where its upper bits tell
  return (bits + 0x1000u) & ~0x1FFFu;
#else
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
#endif
}

#ifdef CONVCORE_CUDA_HOST
// Multiplies as the hardware does, in any precision above: the order of its sums is not specified.
template <int kK, typename Value>
static void host_mma(float (&c)[4], const uint32_t* a, int a_count, const uint32_t* b, int b_count, Value value) {
  struct Lane {
    uint32_t a[4], b[2];
  } mine{};
  for (int i = 0; i < a_count; i++) mine.a[i] = a[i];
  for (int i = 0; i < b_count; i++) mine.b[i] = b[i];
  const Lane* all = cuda_host::exchange(mine);
  const int lane = int(threadIdx.x) % kWarp, g = lane / 4, t = lane % 4;
  for (int i = 0; i < 4; i++) {
    const int row = g + (i / 2) * 8, column = 2 * t + i % 2;
    double sum = c[i];
    for (int k = 0; k < kK; k++) sum += double(value(all, 0, row, k)) * double(value(all, 1, column, k));
    c[i] = float(sum);
  }
}
#endif

// c += a * b with 16x8x8 TF32 matrices.
CONVCORE_DEVICE void mma_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef CONVCORE_CUDA_HOST
  host_mma<8>(c, a, 4, b, 2, [](const auto* all, int operand, int row, int k) {
    // Of A: (row, k); of B: (k, n) with n in `row`.
    const auto& lane = all[(row % 8) * 4 + k % 4];
    const uint32_t bits = operand == 0 ? lane.a[row / 8 + 2 * (k / 4)] : lane.b[k / 4];
    return __uint_as_float(bits & ~0x1FFFu);  // the hardware does not read the lower bits
  });
#else
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- BF16
// ---------------------------------------------------------------------------------------------------------------

// Two floats as BF16, rounded to nearest even, `low` in the lower half.
CONVCORE_DEVICE uint32_t to_bf16x2(float low, float high) {
#ifdef CONVCORE_CUDA_HOST
  const auto round = [](float x) -> uint32_t {
    const uint32_t bits = __float_as_uint(x);
    if (x != x) return 0x7FFFu;
    return (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  };
  return round(low) | round(high) << 16;
#else
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
  return bits;
#endif
}

// c += a * b with 16x8x16 BF16 matrices.
CONVCORE_DEVICE void mma_bf16(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#ifdef CONVCORE_CUDA_HOST
  host_mma<16>(c, a, 4, b, 2, [](const auto* all, int operand, int row, int k) {
    const auto& lane = all[(row % 8) * 4 + k % 8 / 2];
    const uint32_t pair = operand == 0 ? lane.a[row / 8 + 2 * (k / 8)] : lane.b[k / 8];
    return __uint_as_float(k % 2 ? pair & 0xFFFF0000u : pair << 16);
  });
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// ---- ldmatrix: four 8x8 matrices of 16-bit values (or 8x4 of 32-bit ones) from shared memory
// ------------------------------

// Lane l gives the address of a row of 16 bytes: row l % 8 of matrix l / 8. Lane l gets from matrix m, in out[m], the
// 32 bits at row l / 4, bytes 4 * (l % 4).
CONVCORE_DEVICE void ldmatrix4(uint32_t (&out)[4], const void* row) {
#ifdef CONVCORE_CUDA_HOST
  cuda_host::note_shared_access(row, 16);
  const void* const* rows = cuda_host::exchange(row);
  const int lane = int(threadIdx.x) % kWarp;
  for (int m = 0; m < 4; m++) out[m] = static_cast<const uint32_t*>(rows[8 * m + lane / 4])[lane % 4];
#else
  const unsigned at = unsigned(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(at)
               : "memory");
#endif
}

}  // namespace convcore::cuda
