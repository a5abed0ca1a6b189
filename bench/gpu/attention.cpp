// Causal attention of grouped queries, forward and backward, head_dim 128: the same number of
// tokens as documents of 2K to 32K, and as a run packs short ones, with empty documents behind them
// and a longest one that is not there. A causal product does half of the work of a full one;
// backward is 2.5 times forward. Beside the candidate that runs by itself, every other one but the
// fallback; flash_wgmma, which no card has run, behind all other rows.
#include "engine/ops/attention.h"

#include <bit>

#include "bench/gpu/bench.h"

namespace ink::bench {
namespace {

constexpr int64_t kHeadDim = 128;
struct Heads {
  const char* model;
  int64_t heads, kv_heads;
};
constexpr Heads kHeads[] = {{"1.8b", 16, 8}, {"7b", 32, 8}};
struct Lengths {
  int64_t each, longest;  // of every document; what kernels are told that none exceeds
};
constexpr Lengths kLengths[] = {{2048, 2048},   {4096, 4096},   {8192, 8192},
                                {16384, 16384}, {32768, 32768}, {384, 4096}};
constexpr Lengths kTinyLengths[] = {{32, 32}, {20, 64}};

// Up to a power of two, as a micro-batch is.
Tensor packed(Runtime& runtime, int64_t count, int64_t length) {
  std::vector<int32_t> edges;
  for (int64_t d = 0; d <= count; ++d) edges.push_back(static_cast<int32_t>(d * length));
  edges.resize(std::bit_ceil(static_cast<uint64_t>(count)) + 1, edges.back());
  return to_tensor(runtime, edges);
}

constexpr std::string_view kLast = "flash_wgmma";

// One pass of attention in one shape.
struct Pass {
  KernelSlotBase& slot;
  const char* name;
  nlohmann::json shape;
  double flops;
  std::function<void(int)> run;
};

void measure(Bench& bench, const Pass& pass, std::string_view label) {
  pass.slot.choose(Device::kCuda, label);
  pass.run(0);
  if (pass.slot.last_label(Device::kCuda) == label)
    bench.measure(fmt::format("{}_{}", pass.name, label), pass.shape, {.flops = pass.flops}, 1,
                  pass.run);
  pass.slot.choose(Device::kCuda, {});
}

// What runs by itself, and every candidate that takes the problem but the fallback; or the last.
void measure(Bench& bench, const Pass& pass, bool last) {
  if (last) return measure(bench, pass, kLast);
  bench.measure(pass.name, pass.shape, {.flops = pass.flops}, 1, pass.run);
  for (const std::string_view label : pass.slot.labels(Device::kCuda)) {
    if (label != "plain" && label != kLast) measure(bench, pass, label);
  }
}

void one_length(Bench& bench, const Heads& h, const Lengths& lengths, int64_t tokens, bool last) {
  Runtime& runtime = bench.runtime();
  const int64_t length = lengths.each;
  const int64_t documents = std::max<int64_t>(1, tokens / length), T = documents * length;
  const Documents layout{packed(runtime, documents, length), lengths.longest};
  const auto random = [&](int64_t heads) -> HeadsView {
    return {bench.random({T, heads * kHeadDim}, DType::kBF16), kHeadDim};
  };
  const HeadsView q = random(h.heads), k = random(h.kv_heads), v = random(h.kv_heads);
  HeadsView dq = random(h.heads), dk = random(h.kv_heads), dv = random(h.kv_heads);
  const Tensor dout = random(h.heads).x_TC;
  Tensor out = random(h.heads).x_TC, lse(runtime, {h.heads, T}, DType::kF32);
  const double flops = 2.0 * static_cast<double>(documents * h.heads * kHeadDim) *
                       static_cast<double>(length) * static_cast<double>(length);
  const auto forward = [&](int) { attention_forward(Device::kCuda, q, k, v, layout, out, lse); };
  const auto backward = [&](int) {
    attention_backward(Device::kCuda, dout, q, k, v, out, lse, layout, dq, dk, dv);
  };
  const nlohmann::json shape{{"model", h.model},           {"length", length},
                             {"longest", lengths.longest}, {"documents", documents},
                             {"heads", h.heads},           {"kv_heads", h.kv_heads},
                             {"head_dim", kHeadDim}};
  measure(bench, {attention_forward, "forward", shape, flops, forward}, last);
  forward(0);  // backward reads what it leaves
  measure(bench, {attention_backward, "backward", shape, 2.5 * flops, backward}, last);
}

void run(Bench& bench) {
  const int64_t tokens = bench.scaled(16384, 64);
  for (const bool last : {false, true}) {
    for (const Heads& h : kHeads) {
      if (bench.settings().tiny) {
        for (const Lengths& lengths : kTinyLengths)
          one_length(bench, {h.model, 2, 1}, lengths, tokens, last);
        continue;
      }
      for (const Lengths& lengths : kLengths) one_length(bench, h, lengths, tokens, last);
    }
  }
}

REGISTER_GPU_FAMILY(attention, run);

}  // namespace
}  // namespace ink::bench
