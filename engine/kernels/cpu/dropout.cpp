// Dropout by counter: element (t, c) is drawn from word c % 4 of philox(key, token id of t,
// step * 2^32 + c / 4) and kept when its upper 23 bits, as a uniform, are at least p.
#include <cstring>

#include "engine/kernels/cpu/philox_lanes.h"
#include "engine/kernels/cpu/vector_math.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/step_state.h"

namespace ink {
namespace {

constexpr int64_t kChunk = 512;  // channels whose words are made at a time

// uniform_open(word) >= p for the words whose upper 23 bits are at least this.
uint32_t keep_from(float p) {
  return static_cast<uint32_t>(std::ceil(double{p} * 8388608.0 - 0.5));
}

// How a row is drawn.
struct Draw {
  PhiloxKey key;
  uint64_t token, step;
  uint32_t threshold;
};

template <class T>
inline void drop_row(const T* x, const Draw& draw, compute_t<T> scale, int64_t C, T* y) {
  uint32_t words[kChunk];
  compute_t<T> factors[kChunk];
  const uint32_t threshold = draw.threshold;
  for (int64_t first = 0; first < C; first += kChunk) {
    const int64_t count = std::min(kChunk, C - first);
    philox_words(draw.key, draw.token, 0, draw.step + static_cast<uint64_t>(first / 4), 1,
                 (count + 3) / 4, words);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i)
      factors[i] = static_cast<compute_t<T>>(static_cast<int32_t>((words[i] >> 9) >= threshold));
#pragma omp simd
    for (int64_t i = 0; i < count; ++i)
      y[first + i] = narrow<T>(widen(x[first + i]) * (factors[i] * scale));
  }
}

uint64_t step_of(const DropoutKey& key) {
  if (!key.step_state.defined()) return static_cast<uint64_t>(key.step);
  StepState state;
  std::memcpy(&state, key.step_state.raw(), sizeof state);
  return static_cast<uint64_t>(state.batch.step);
}

template <class Isa>
void apply(const Tensor& x, const Tensor& token_id, float p, const DropoutKey& key, Tensor& y) {
  const int64_t C = x.cols();
  const int64_t* ids = token_id.data<int64_t>();
  const uint64_t step = step_of(key);
  visit_float(x.dtype(), [&]<class T>() {
    const compute_t<T> scale = 1 / (1 - static_cast<compute_t<T>>(p));
    for_spans(x.rows(), C, false, [&](int64_t t, int64_t, int64_t) {
      const Draw draw{key.key, static_cast<uint64_t>(ids[t]), step << 32, keep_from(p)};
      const T* row = at<T>(x, t, 0);
      T* out = at<T>(y, t, 0);
      Isa::run([=] { drop_row(row, draw, scale, C, out); });
    });
  });
}

REGISTER_KERNEL(dropout_apply, kCpu, plain, apply<Plain>);
REGISTER_KERNEL(dropout_apply, kCpu, avx2, apply<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(dropout_apply, kCpu, avx512, apply<Avx512>, .priority = 20, .supports = on_avx512);

}  // namespace
}  // namespace ink
