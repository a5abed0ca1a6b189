// AdamW in one pass over all parameters; formula in engine/ops/adamw.h.
//
// Every element of gradient, moments and parameter is read once and all but the gradient are
// written once; a parameter with a master is only written, its master both: 14 bytes an element
// with everything in bf16, 16 with an f32 gradient, 28 with everything in f32, 30 with a bf16
// parameter beside its master. About 20 flops, and 25 integer operations of Philox where anything
// is rounded stochastically. A thread takes 4 elements at a time, 16 bytes of f32 and 8 of 16-bit
// values, so that a warp moves whole sectors of both; with a misaligned operand or odd first
// element it takes one.
//
// Random words as on the CPU: element e takes word e % 4 of philox(key, e / 4, update); m rounds by
// its low half, v by its high half, the parameter by the middle.
#include <type_traits>

#include "engine/kernels/cuda/ranges.cuh"
#include "engine/kernels/cuda/rows.cuh"
#include "engine/ops/adamw.h"

namespace ink {
namespace {

constexpr int kThreads = 256;
constexpr int kPack = 4, kPacks = 2;  // elements of a pack; packs of a thread in flight
constexpr int64_t kPerBlock = 8192;

// master is nullptr when param is the weight itself.
template <class G, class P, class M>
struct UpdateRange {
  int64_t first_block, length;
  const G* grad;
  P* param;
  float* master;
  M* m;
  M* v;
  AdamWOptions options;
  bool packed;
};

struct Factors {
  float gradient, beta1, beta2, decay, step, inverse_bias2, eps;
  int32_t skip;
  uint64_t update;
};

__device__ __forceinline__ Factors factors_of(const AdamWOptions& options, const StepState& state) {
  const double lr = state.lr * options.lr_scale;
  return {.gradient = static_cast<float>(state.grad_factor),
          .beta1 = static_cast<float>(options.beta1),
          .beta2 = static_cast<float>(state.beta2),
          .decay = static_cast<float>(lr * options.weight_decay),
          .step = static_cast<float>(lr / state.bias1),
          .inverse_bias2 = static_cast<float>(1 / state.bias2),
          .eps = static_cast<float>(options.eps),
          .skip = state.skip,
          .update = static_cast<uint64_t>(state.updates)};
}

// bf16 is rounded up with the probability of what it cuts off. Infinity stays, NaN stays quiet.
__device__ __forceinline__ bf16 rounded(float value, uint32_t random) {
  const uint32_t word = __float_as_uint(value), magnitude = word & 0x7fffffffu;
  const uint32_t up = magnitude < 0x7f800000u ? random & 0xffffu : 0u;
  const uint32_t quiet = magnitude > 0x7f800000u ? 0x400000u : 0u;
  bf16 result;
  result.bits = static_cast<uint16_t>(((word + up) | quiet) >> 16);
  return result;
}

// f32 stays as it is; bf16 is rounded by the words, shifted.
template <int N, class T>
__device__ __forceinline__ void store_rounded(T* to, const Floats<N>& values,
                                              const uint32_t (&words)[N], int shift) {
  if constexpr (std::is_same_v<T, bf16>) {
    Pack<bf16, N> pack;
#pragma unroll
    for (int i = 0; i < N; ++i) pack.v[i] = rounded(values.v[i], words[i] >> shift);
    store_pack(to, pack);
  } else {
    store_floats(to, values);
  }
}

// Words of elements [element, element + N); N = 4 begins at a multiple of 4.
template <int N>
__device__ __forceinline__ void draw_words(PhiloxKey key, uint64_t element, uint64_t update,
                                           uint32_t (&words)[N]) {
  const PhiloxBlock block = philox(key, element / 4, update);
  if constexpr (N == 4) {
#pragma unroll
    for (int i = 0; i < N; ++i) words[i] = block.v[i];
  } else {
    const auto lane = static_cast<int>(element % 4);
    const uint32_t low = lane == 0 ? block.v[0] : block.v[1];
    const uint32_t high = lane == 2 ? block.v[2] : block.v[3];
    words[0] = lane < 2 ? low : high;
  }
}

template <int N>
struct Operands {
  Floats<N> g, w, m, v;
};

template <int N, class G, class P, class M, bool kMaster>
__device__ __forceinline__ Operands<N> load(const UpdateRange<G, P, M>& r, int64_t i) {
  Operands<N> in{load_floats<N>(r.grad + i), {}, load_floats<N>(r.m + i), load_floats<N>(r.v + i)};
  if constexpr (kMaster) {
    in.w = load_floats<N>(r.master + i);
  } else {
    in.w = load_floats<N>(r.param + i);
  }
  return in;
}

template <int N, class G, class P, class M, bool kMaster>
__device__ __forceinline__ void update(const UpdateRange<G, P, M>& r, const Factors& f, int64_t i,
                                       Operands<N> x) {
#pragma unroll
  for (int k = 0; k < N; ++k) {
    const float g = x.g.v[k] * f.gradient;
    const float m = f.beta1 * x.m.v[k] + (1 - f.beta1) * g;
    const float v = f.beta2 * x.v.v[k] + (1 - f.beta2) * g * g;
    const float w = x.w.v[k];
    x.w.v[k] = w - (f.decay * w + f.step * m / (sqrtf(v * f.inverse_bias2) + f.eps));
    x.m.v[k] = m;
    x.v.v[k] = v;
  }
  uint32_t words[N] = {};
  if constexpr (std::is_same_v<M, bf16> || (std::is_same_v<P, bf16> && !kMaster))
    draw_words<N>(r.options.key, static_cast<uint64_t>(r.options.first_element + i), f.update,
                  words);
  store_rounded(r.m + i, x.m, words, 0);
  store_rounded(r.v + i, x.v, words, 16);
  if constexpr (kMaster) {
    store_floats(r.master + i, x.w);
    store_floats(r.param + i, x.w);
  } else {
    store_rounded(r.param + i, x.w, words, 8);
  }
}

// Elements [begin, end) one at a time.
template <class G, class P, class M, bool kMaster>
__device__ __forceinline__ void update_singly(const UpdateRange<G, P, M>& r, const Factors& f,
                                              int64_t begin, int64_t end) {
  for (int64_t i = begin + threadIdx.x; i < end; i += kThreads)
    update<1, G, P, M, kMaster>(r, f, i, load<1, G, P, M, kMaster>(r, i));
}

template <class G, class P, class M, bool kMaster>
__global__ void __launch_bounds__(kThreads)
    update_chunks(const UpdateRange<G, P, M>* ranges, int count, const StepState* state) {
  const UpdateRange<G, P, M> range = range_of_block(ranges, count);
  Factors& shared = shared_memory<Factors>();
  if (threadIdx.x == 0) shared = factors_of(range.options, *state);
  __syncthreads();
  const Factors factors = shared;
  if (factors.skip != 0) return;
  const int64_t begin = (int64_t{blockIdx.x} - range.first_block) * kPerBlock;
  const int64_t end = min(begin + kPerBlock, range.length);
  if (!range.packed) return update_singly<G, P, M, kMaster>(range, factors, begin, end);
  constexpr int64_t kStride = int64_t{kThreads} * kPack;
  const int64_t whole = end - end % kPack;  // begin is a multiple of a pack
  for (int64_t i = begin + int64_t{threadIdx.x} * kPack; i < whole; i += kPacks * kStride) {
    Operands<kPack> in[kPacks];
#pragma unroll
    for (int j = 0; j < kPacks; ++j) {
      if (i + j * kStride < whole) in[j] = load<kPack, G, P, M, kMaster>(range, i + j * kStride);
    }
#pragma unroll
    for (int j = 0; j < kPacks; ++j) {
      if (i + j * kStride < whole)
        update<kPack, G, P, M, kMaster>(range, factors, i + j * kStride, in[j]);
    }
  }
  update_singly<G, P, M, kMaster>(range, factors, whole, end);
}

void check(const AdamWItem& item) {
  const int64_t n = item.grad.numel();
  const auto fits = [&](const Tensor& t) { return t.numel() == n && t.contiguous(); };
  CHECK_OP("adamw_update",
           fits(item.grad) && fits(item.param) && fits(item.m) && fits(item.v) &&
               (!item.master.defined() || fits(item.master)),
           "grad has {} elements, param {}, m {}, v {}, or one is strided", n, item.param.numel(),
           item.m.numel(), item.v.numel());
  const auto stored = [](DType dtype) { return dtype == DType::kF32 || dtype == DType::kBF16; };
  CHECK_OP("adamw_update", stored(item.m.dtype()) && item.m.dtype() == item.v.dtype(),
           "m is {}, v is {}, expected f32 or bf16", name_of(item.m.dtype()),
           name_of(item.v.dtype()));
  CHECK_OP("adamw_update",
           item.grad.dtype() == DType::kF32 ||
               (item.grad.dtype() == DType::kBF16 && item.param.dtype() == DType::kBF16),
           "grad is {} beside a param in {}", name_of(item.grad.dtype()),
           name_of(item.param.dtype()));
  CHECK_OP(
      "adamw_update",
      stored(item.param.dtype()) || (item.param.dtype() == DType::kF16 && item.master.defined()),
      "param is {}, expected f32, bf16 or, with a master, f16", name_of(item.param.dtype()));
}

template <class T>
bool aligned(const T* pointer) {
  return reinterpret_cast<uintptr_t>(pointer) % (sizeof(T) * kPack) == 0;
}

template <class G, class P, class M>
UpdateRange<G, P, M> update_range(const AdamWItem& item) {
  UpdateRange<G, P, M> r{.first_block = 0,
                         .length = item.grad.numel(),
                         .grad = item.grad.data<G>(),
                         .param = item.param.data<P>(),
                         .master = item.master.defined() ? item.master.data<float>() : nullptr,
                         .m = item.m.data<M>(),
                         .v = item.v.data<M>(),
                         .options = item.options,
                         .packed = false};
  r.packed = aligned(r.grad) && aligned(r.param) && aligned(r.master) && aligned(r.m) &&
             aligned(r.v) && item.options.first_element % kPack == 0;
  return r;
}

// The items of one combination of types, if there are any, in one launch.
template <class G, class P, class M, bool kMaster>
void update_kind(std::span<const AdamWItem> items, const Tensor& state) {
  RangeList<UpdateRange<G, P, M>> ranges(kPerBlock);
  for (const AdamWItem& item : items) {
    if (item.grad.dtype() == dtype_of<G>::value && item.param.dtype() == dtype_of<P>::value &&
        item.m.dtype() == dtype_of<M>::value && item.master.defined() == kMaster)
      ranges.add(update_range<G, P, M>(item));
  }
  if (ranges.count() == 0) return;
  const Tensor list = ranges.upload(state.runtime());
  launch(cuda_backend(state), "adamw_update",
         {.grid = dim3(blocks_for(ranges.blocks(), 1), 1, 1),
          .block = dim3(kThreads, 1, 1),
          .shared_bytes = static_cast<int64_t>(sizeof(Factors))},
         update_chunks<G, P, M, kMaster>, static_cast<const UpdateRange<G, P, M>*>(list.raw()),
         ranges.count(), static_cast<const StepState*>(state.raw()));
}

template <class M>
void update_moments(std::span<const AdamWItem> items, const Tensor& state) {
  update_kind<float, float, M, false>(items, state);
  update_kind<float, float, M, true>(items, state);
  update_kind<float, bf16, M, false>(items, state);
  update_kind<float, bf16, M, true>(items, state);
  update_kind<float, f16, M, true>(items, state);
  update_kind<bf16, bf16, M, false>(items, state);
  update_kind<bf16, bf16, M, true>(items, state);
}

void update_all(std::span<const AdamWItem> items, const Tensor& state) {
  for (const AdamWItem& item : items) check(item);
  update_moments<float>(items, state);
  update_moments<bf16>(items, state);
}

void update_one(const Tensor& grad, const Tensor& state, const AdamWOptions& options, Tensor& param,
                Tensor& master, Tensor& m, Tensor& v) {
  const AdamWItem item{grad, param, master, m, v, options};
  update_all({&item, 1}, state);
}

REGISTER_KERNEL(adamw_update, kCuda, packs, update_one);
REGISTER_KERNEL(adamw_update_many, kCuda, packs, update_all);

}  // namespace
}  // namespace ink
