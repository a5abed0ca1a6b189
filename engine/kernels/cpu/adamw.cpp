// AdamW in one pass over a flat range; formula in engine/ops/adamw.h.
//
// Random words: element e takes word e % 4 of philox(key, e / 4, update); m rounds by its low half,
// v by its high half, the parameter by the middle. Shared bits leave each of the three unbiased.
#include "engine/ops/adamw.h"

#include <cstring>
#include <type_traits>

#include "engine/kernels/cpu/philox_lanes.h"
#include "engine/kernels/cpu/vector_math.h"

namespace ink {
namespace {

constexpr int64_t kChunk = 1024;  // elements whose random words are made at a time

struct Factors {
  float gradient, beta1, beta2, decay, step, inverse_bias2, eps;
};

Factors factors_of(const AdamWOptions& options, const StepState& state) {
  const double lr = state.lr * options.lr_scale;
  return {.gradient = static_cast<float>(state.grad_factor),
          .beta1 = static_cast<float>(options.beta1),
          .beta2 = static_cast<float>(state.beta2),
          .decay = static_cast<float>(lr * options.weight_decay),
          .step = static_cast<float>(lr / state.bias1),
          .inverse_bias2 = static_cast<float>(1 / state.bias2),
          .eps = static_cast<float>(options.eps)};
}

// f32 stays; bf16 is rounded up with the probability of what it cuts off. Infinity stays, NaN stays
// quiet; selects instead of branches, so that the loop vectorises.
inline void store_rounded(float value, uint32_t, float& to) { to = value; }
inline void store_rounded(float value, uint32_t random, bf16& to) {
  const uint32_t word = std::bit_cast<uint32_t>(value), magnitude = word & 0x7fffffffu;
  const uint32_t up = magnitude < 0x7f800000u ? random & 0xffffu : 0u;
  const uint32_t quiet = magnitude > 0x7f800000u ? 0x400000u : 0u;
  to.bits = static_cast<uint16_t>(((word + up) | quiet) >> 16);
}

// What one chunk reads and writes. master is nullptr when param is the weight itself.
template <class G, class P, class M>
struct Range {
  const G* grad;
  P* param;
  float* master;
  M* m;
  M* v;
  int64_t count;
  const uint32_t* words;
};

// Is anything rounded stochastically?
template <class P, class M, bool kMaster>
constexpr bool kRandom = std::is_same_v<M, bf16> || (std::is_same_v<P, bf16> && !kMaster);

template <class G, class P, class M, bool kMaster>
inline void update_range(const Range<G, P, M>& at, const Factors& f) {
#pragma omp simd
  for (int64_t i = 0; i < at.count; ++i) {
    const float g = static_cast<float>(at.grad[i]) * f.gradient;
    const float m = f.beta1 * static_cast<float>(at.m[i]) + (1 - f.beta1) * g;
    const float v = f.beta2 * static_cast<float>(at.v[i]) + (1 - f.beta2) * g * g;
    const float w = kMaster ? at.master[i] : static_cast<float>(at.param[i]);
    const float next = w - (f.decay * w + f.step * m / (std::sqrt(v * f.inverse_bias2) + f.eps));
    const uint32_t bits = kRandom<P, M, kMaster> ? at.words[i] : 0;
    store_rounded(m, bits, at.m[i]);
    store_rounded(v, bits >> 16, at.v[i]);
    if constexpr (kMaster) {
      at.master[i] = next;
      at.param[i] = static_cast<P>(next);
    } else {
      store_rounded(next, bits >> 8, at.param[i]);
    }
  }
}

struct Draw {
  PhiloxKey key;
  uint64_t update;
};

// Words of elements [first, first + count); returns the place of element `first`.
template <class Isa>
inline const uint32_t* draw_words(const Draw& draw, int64_t first, int64_t count,
                                  uint32_t* buffer) {
  const int64_t block = first / 4, skip = first % 4;
  constexpr auto* kWords = std::is_same_v<Isa, Avx512> ? philox_words_avx512 : philox_words;
  kWords(draw.key, static_cast<uint64_t>(block), 1, draw.update, 0, (skip + count + 3) / 4, buffer);
  return buffer + skip;
}

template <class Isa, class G, class P, class M, bool kMaster>
void update_all(const Tensor& grad, const AdamWOptions& options, const StepState& state,
                Tensor& param, Tensor& master, Tensor& m, Tensor& v) {
  const Factors factors = factors_of(options, state);
  const Draw draw{options.key, static_cast<uint64_t>(state.updates)};
  const int64_t n = grad.numel(), global = options.first_element;
  for_spans(1, n, true, [&](int64_t, int64_t begin, int64_t length) {
    const Range<G, P, M> whole{
        grad.data<G>(), param.data<P>(), kMaster ? master.data<float>() : nullptr,
        m.data<M>(),    v.data<M>(),     0,
        nullptr};
    Isa::run([=] {
      uint32_t words[kChunk + 8];
      for (int64_t first = begin; first < begin + length; first += kChunk) {
        Range<G, P, M> chunk = whole;
        chunk.count = std::min(kChunk, begin + length - first);
        chunk.grad += first;
        chunk.param += first;
        if constexpr (kMaster) chunk.master += first;
        chunk.m += first;
        chunk.v += first;
        if constexpr (kRandom<P, M, kMaster>)
          chunk.words = draw_words<Isa>(draw, global + first, chunk.count, words);
        update_range<G, P, M, kMaster>(chunk, factors);
      }
    });
  });
}

// f32 and bf16 are the storage types of parameters and moments.
template <class F>
void visit_storage(const char* what, DType dtype, const F& f) {
  if (dtype == DType::kF32) return f.template operator()<float>();
  CHECK_OP("adamw_update", dtype == DType::kBF16, "{} is {}, expected f32 or bf16", what,
           name_of(dtype));
  f.template operator()<bf16>();
}

// A parameter with a master may be f16 too: it is a plain rounding.
template <class F>
void visit_mastered(DType dtype, const F& f) {
  if (dtype == DType::kF16) return f.template operator()<f16>();
  visit_storage("param", dtype, f);
}

// f32, or the type of a parameter in bf16.
template <class P, class F>
void visit_gradient(DType dtype, const F& f) {
  if constexpr (std::is_same_v<P, bf16>) {
    if (dtype == DType::kBF16) return f.template operator()<bf16>();
  }
  CHECK_OP("adamw_update", dtype == DType::kF32, "grad is {} beside a param in {}", name_of(dtype),
           name_of(dtype_of<P>::value));
  f.template operator()<float>();
}

void check_range(const Tensor& grad, const Tensor& param, const Tensor& master, const Tensor& m,
                 const Tensor& v) {
  const int64_t n = grad.numel();
  CHECK_OP("adamw_update", param.numel() == n && m.numel() == n && v.numel() == n,
           "grad has {} elements, param {}, m {}, v {}", n, param.numel(), m.numel(), v.numel());
  CHECK_OP("adamw_update", !master.defined() || master.numel() == n,
           "grad has {} elements, master {}", n, master.numel());
  CHECK_OP("adamw_update", m.dtype() == v.dtype(), "m is {}, v is {}", name_of(m.dtype()),
           name_of(v.dtype()));
  CHECK_OP("adamw_update", all_contiguous(grad, param, m, v), "a tensor is strided");
}

template <class Isa>
void update(const Tensor& grad, const Tensor& state_tensor, const AdamWOptions& options,
            Tensor& param, Tensor& master, Tensor& m, Tensor& v) {
  check_range(grad, param, master, m, v);
  StepState state;
  std::memcpy(&state, state_tensor.raw(), sizeof state);
  if (state.skip) return;
  visit_storage("m", m.dtype(), [&]<class M>() {
    if (master.defined()) {
      visit_mastered(param.dtype(), [&]<class P>() {
        visit_gradient<P>(grad.dtype(), [&]<class G>() {
          update_all<Isa, G, P, M, true>(grad, options, state, param, master, m, v);
        });
      });
    } else {
      visit_storage("param", param.dtype(), [&]<class P>() {
        visit_gradient<P>(grad.dtype(), [&]<class G>() {
          update_all<Isa, G, P, M, false>(grad, options, state, param, master, m, v);
        });
      });
    }
  });
}

// By the candidate that adamw_update takes, item after item.
void update_each(std::span<const AdamWItem> items, const Tensor& state) {
  for (AdamWItem item : items)
    adamw_update(Device::kCpu, item.grad, state, item.options, item.param, item.master, item.m,
                 item.v);
}

REGISTER_KERNEL(adamw_update, kCpu, plain, update<Plain>);
REGISTER_KERNEL(adamw_update, kCpu, avx2, update<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(adamw_update, kCpu, avx512, update<Avx512>, .priority = 20, .supports = on_avx512);
REGISTER_KERNEL(adamw_update_many, kCpu, plain, update_each);

}  // namespace
}  // namespace ink
