// Attention and rotary embedding of the 100M model: 12 heads, 4 kv heads, head_dim 64, packed
// documents. GFLOP/s counts the products a causal mask needs (forward 2, backward 5 per pair of
// query and key), so what a kernel computes outside of the mask or twice shows as loss.
#include <benchmark/benchmark.h>

#include <vector>

#include "engine/core/philox.h"
#include "engine/ops/attention.h"
#include "engine/ops/rope.h"

namespace ink {
namespace {

Tensor random_tensor(Runtime& runtime, const Shape& shape, DType dtype) {
  Tensor tensor(runtime, shape, dtype);
  const PhiloxKey key = philox_key(1, "attention_bench");
  visit_float(dtype, [&]<class T>() {
    for (int64_t i = 0; i < tensor.numel(); ++i)
      tensor.data<T>()[i] = static_cast<T>(philox_normal(key, static_cast<uint64_t>(i)));
  });
  return tensor;
}

struct Case {
  AttentionShape shape;
  int64_t documents, length;
  DType dtype;

  [[nodiscard]] int64_t tokens() const { return documents * length; }
  [[nodiscard]] int64_t width() const {
    return (shape.heads + 2 * shape.kv_heads) * shape.head_dim;
  }
  [[nodiscard]] HeadsView random(Runtime& runtime, int64_t heads) const {
    return {random_tensor(runtime, {tokens(), heads * shape.head_dim}, dtype), shape.head_dim};
  }
  [[nodiscard]] double product_flops() const {
    return 2.0 * static_cast<double>(shape.heads * shape.head_dim * documents) *
           static_cast<double>(length * (length + 1) / 2);
  }
};

// documents, length, head_dim, bf16
Case case_of(const benchmark::State& state) {
  return {{12, 4, state.range(2)},
          state.range(0),
          state.range(1),
          state.range(3) != 0 ? DType::kBF16 : DType::kF32};
}

Documents documents_of(Runtime& runtime, const Case& c) {
  std::vector<int32_t> bounds;
  for (int64_t d = 0; d <= c.documents; ++d) bounds.push_back(static_cast<int32_t>(d * c.length));
  return {to_tensor(runtime, bounds), c.length};
}

void report(benchmark::State& state, double flops) {
  state.counters["GFLOP/s"] = benchmark::Counter(
      flops * 1e-9 * static_cast<double>(state.iterations()), benchmark::Counter::kIsRate);
}

void attention_forward_pass(benchmark::State& state) {
  const Case c = case_of(state);
  Runtime runtime;
  const HeadsView q = c.random(runtime, c.shape.heads), k = c.random(runtime, c.shape.kv_heads),
                  v = c.random(runtime, c.shape.kv_heads);
  const Documents documents = documents_of(runtime, c);
  runtime.grad_enabled = false;
  for (auto _ : state)
    benchmark::DoNotOptimize(attention(q.x_TC, k.x_TC, v.x_TC, c.shape, documents).raw());
  report(state, 2 * c.product_flops());
  state.SetLabel(attention_forward.last_label(Device::kCpu));
}

void attention_backward_pass(benchmark::State& state) {
  const Case c = case_of(state);
  Runtime runtime;
  const HeadsView q = c.random(runtime, c.shape.heads), k = c.random(runtime, c.shape.kv_heads),
                  v = c.random(runtime, c.shape.kv_heads);
  const Documents documents = documents_of(runtime, c);
  Tensor out(runtime, {c.tokens(), c.shape.heads * c.shape.head_dim}, c.dtype);
  Tensor lse(runtime, {c.shape.heads, c.tokens()}, DType::kF32);
  attention_forward(Device::kCpu, q, k, v, documents, out, lse);
  const Tensor dout = random_tensor(runtime, out.shape(), c.dtype);
  HeadsView dq = c.random(runtime, c.shape.heads), dk = c.random(runtime, c.shape.kv_heads),
            dv = c.random(runtime, c.shape.kv_heads);
  for (auto _ : state)
    attention_backward(Device::kCpu, dout, q, k, v, out, lse, documents, dq, dk, dv);
  report(state, 5 * c.product_flops());
  state.SetLabel(attention_backward.last_label(Device::kCpu));
}

// One new token for each of `documents` sequences of `length` tokens; bytes are those of the cache.
void attention_decode(benchmark::State& state) {
  const Case c = case_of(state);
  Runtime runtime;
  constexpr int64_t kBlock = 64;
  const int64_t per_sequence = c.length / kBlock, columns = c.shape.kv_heads * c.shape.head_dim;
  std::vector<int32_t> table, lengths, bounds = {0};
  for (int64_t s = 0; s < c.documents; ++s) {
    for (int64_t b = 0; b < per_sequence; ++b)
      table.push_back(static_cast<int32_t>(b * c.documents + s));
    lengths.push_back(static_cast<int32_t>(c.length));
    bounds.push_back(bounds.back() + 1);
  }
  const KvCacheView cache{random_tensor(runtime, {c.tokens(), columns}, c.dtype),
                          random_tensor(runtime, {c.tokens(), columns}, c.dtype),
                          to_tensor<int32_t>(runtime, table, {c.documents, per_sequence}),
                          to_tensor(runtime, lengths),
                          to_tensor(runtime, bounds),
                          kBlock};
  const Tensor q = random_tensor(runtime, {c.documents, c.shape.heads * c.shape.head_dim}, c.dtype);
  const HeadsView heads{q, c.shape.head_dim};
  Tensor out = empty_like(q);
  for (auto _ : state) attention_cached(Device::kCpu, heads, cache, out);
  state.SetBytesProcessed(state.iterations() * (cache.k.bytes() + cache.v.bytes()));
  state.SetLabel(attention_cached.last_label(Device::kCpu));
}

void rope_fused(benchmark::State& state) {
  const Case c = case_of(state);
  Runtime runtime;
  const Tensor qkv = random_tensor(runtime, {c.tokens(), c.width()}, c.dtype);
  std::vector<int32_t> positions;
  for (int64_t t = 0; t < c.tokens(); ++t) positions.push_back(static_cast<int32_t>(t % c.length));
  const Tensor table = rope_table(to_tensor(runtime, positions), c.shape.head_dim, {});
  Qkv parts{c.random(runtime, c.shape.heads).x_TC, c.random(runtime, c.shape.kv_heads).x_TC,
            c.random(runtime, c.shape.kv_heads).x_TC};
  for (auto _ : state) rope_split(Device::kCpu, table, qkv, parts);
  state.SetBytesProcessed(state.iterations() * 2 * qkv.bytes());
  state.SetLabel(rope_split.last_label(Device::kCpu));
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"documents", "length", "head_dim", "bf16"})->UseRealTime();
  for (const int64_t half : {0, 1}) {
    bench->Args({2, 512, 64, half});
    bench->Args({1, 2048, 128, half});
  }
}

BENCHMARK(attention_forward_pass)->Apply(shapes);
BENCHMARK(attention_backward_pass)->Apply(shapes);
BENCHMARK(attention_decode)->Apply(shapes);
BENCHMARK(rope_fused)->Apply(shapes);

}  // namespace
}  // namespace ink
