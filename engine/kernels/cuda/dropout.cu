// Dropout by counter, with the CPU's masks: element (t, c) is drawn from word c % 4 of philox(key,
// token id of t, step * 2^32 + c / 4) and kept when its upper 23 bits, as a uniform, are at least
// p. One read and one write an element; about 25 integer operations an element beside them.
#include "engine/kernels/cuda/elements.cuh"
#include "engine/kernels/cuda/rows.cuh"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/step_state.h"

namespace ink {
namespace {

// How every element is drawn. The step is that of `state` where there is one.
struct Draw {
  PhiloxKey key;
  uint64_t step;
  const StepState* state;
  uint32_t threshold;  // of the upper 23 bits
  float scale;
};

// factors = scale or 0 for N columns from c on, c a multiple of 4; base = step * 2^32.
template <int N>
__device__ __forceinline__ Floats<N> factors_of(const Draw& draw, uint64_t base, uint64_t token,
                                                int64_t c) {
  Floats<N> factors;
#pragma unroll
  for (int first = 0; first < N; first += 4) {
    const PhiloxBlock words =
        philox(draw.key, token, base + static_cast<uint64_t>((c + first) / 4));
#pragma unroll
    for (int i = 0; i < 4; ++i)
      factors.v[first + i] = (words.v[i] >> 9) >= draw.threshold ? draw.scale : 0.0f;
  }
  return factors;
}

template <class T, bool kPacked>
__global__ void drop(int64_t rows, int64_t cols, Draw draw, const int64_t* token, Matrix<const T> x,
                     Matrix<T> y) {
  constexpr int N = kPackOf16Bytes<T>;
  const uint64_t step =
      draw.state == nullptr ? draw.step : static_cast<uint64_t>(draw.state->batch.step);
  for_elements<N>(rows, cols, [&](int64_t t, int64_t c) {
    Floats<N> factors = factors_of<N>(draw, step << 32, static_cast<uint64_t>(token[t]), c);
    if constexpr (kPacked) {
      const Floats<N> in = load_floats<N>(x.row(t) + c);
#pragma unroll
      for (int i = 0; i < N; ++i) factors.v[i] *= in.v[i];
      store_floats(y.row(t) + c, factors);
    } else {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        if (c + i < cols) y.row(t)[c + i] = from_float<T>(to_float(x.row(t)[c + i]) * factors.v[i]);
      }
    }
  });
}

// uniform_open(word) >= p for the words whose upper 23 bits are at least this.
uint32_t keep_from(float p) {
  return static_cast<uint32_t>(std::ceil(double{p} * 8388608.0 - 0.5));
}

void apply(const Tensor& x, const Tensor& token_id, float p, const DropoutKey& key, Tensor& y) {
  const void* state = key.step_state.defined() ? key.step_state.raw() : nullptr;
  const Draw draw{key.key, static_cast<uint64_t>(key.step), static_cast<const StepState*>(state),
                  keep_from(p), 1.0f / (1.0f - p)};
  visit_device_float(x.dtype(), [&]<class T>() {
    constexpr int kPack = kPackOf16Bytes<T>;
    launch(cuda_backend(y), "dropout_apply", elementwise_launch({x.rows(), x.cols()}, kPack),
           packed_rows(kPack, x, y) ? drop<T, true> : drop<T, false>, x.rows(), x.cols(), draw,
           token_id.data<int64_t>(), matrix<const T>(x), matrix<T>(y));
  });
}

REGISTER_KERNEL(dropout_apply, kCuda, packed, apply);

}  // namespace
}  // namespace ink
