// The head and its loss with both gradients: 6 * T * C * V flops, logits made once.
#include "engine/ops/lm_loss.h"

#include "bench/gpu/bench.h"
#include "engine/autograd/backward.h"

namespace ink::bench {
namespace {

// Memory that one call takes beyond its inputs and results: the chunk of logits and its gradient.
int64_t workspace_of(Runtime& runtime) {
  return runtime.allocator().report().peak[static_cast<size_t>(MemoryTag::kWorkspace)];
}

void whole(Bench& bench, const char* model, int64_t C) {
  Runtime& runtime = bench.runtime();
  const int64_t T = bench.scaled(16384, 8), V = bench.scaled(92544, 96);
  const Scoped record(runtime.grad_enabled, true);
  const Tensor x_TC = make_leaf(bench.random({T, C}, DType::kBF16), "x", DType::kBF16);
  const Tensor w_VC = make_leaf(bench.random({V, C}, DType::kBF16, 0.02), "w", DType::kF32);
  const Tensor labels_T = bench.random_ids(T, V);
  const LmLossOptions options{.divisor = static_cast<double>(T)};
  const auto step = [&](int) {
    leaf_of(x_TC)->grad = {};
    backward(lm_loss(x_TC, w_VC, labels_T, {}, options).loss);
  };
  step(0);
  runtime.allocator().reset_peaks();
  step(0);
  const nlohmann::json shape{
      {"model", model}, {"T", T}, {"C", C}, {"V", V}, {"workspace_bytes", workspace_of(runtime)}};
  const double flops = 6.0 * static_cast<double>(T) * static_cast<double>(C * V);
  bench.measure("linear_cross_entropy", shape, {.bytes = 0, .flops = flops}, 1, step);
}

void run(Bench& bench) {
  whole(bench, "1.8b", bench.scaled(2048, 32));
  whole(bench, "7b", bench.scaled(4096, 64));
}

REGISTER_GPU_FAMILY(lm_loss, run);

}  // namespace
}  // namespace ink::bench
