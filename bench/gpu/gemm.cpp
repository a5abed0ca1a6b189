// The products of a training step: y = x W^T, dx = dy W and dW += dy^T x in f32, for every linear
// of InternLM2 1.8B and 7B; for their heads the logits of a chunk and the gradients of a group
// (engine/ops/lm_loss_chunk.h).
#include "bench/gpu/bench.h"
#include "engine/io/cache_directory.h"
#include "engine/io/choice_file.h"
#include "engine/kernels/tuning.h"
#include "engine/ops/linear.h"

namespace ink::bench {
namespace {

struct Layer {
  const char* name;
  int64_t tokens, inputs, outputs;
  int64_t forward_tokens = tokens;
};

constexpr int64_t kTokens = 4096, kLogitTokens = 512, kHeadTokens = 1536;
constexpr Layer kLayers[] = {{"1.8b.wqkv", kTokens, 2048, 4096},
                             {"1.8b.wo", kTokens, 2048, 2048},
                             {"1.8b.w1", kTokens, 2048, 8192},
                             {"1.8b.w2", kTokens, 8192, 2048},
                             {"1.8b.head", kHeadTokens, 2048, 92544, kLogitTokens},
                             {"7b.wqkv", kTokens, 4096, 6144},
                             {"7b.wo", kTokens, 4096, 4096},
                             {"7b.w1", kTokens, 4096, 14336},
                             {"7b.w2", kTokens, 14336, 4096},
                             {"7b.head", kHeadTokens, 4096, 92544, kLogitTokens}};

// Algorithms measured by an earlier run are used, as training does.
void use_measured_algorithms(Runtime& runtime) {
  KernelTuning* tuning = tuning_of(runtime);
  const ChoiceFile file(cache_directory(), "kernels", tuning->machine());
  std::string notice;
  tuning->adopt(file.load(notice));
  tuning->on_measured = [file](const std::string& key, const std::string& value) {
    try {
      file.add({{key, value}});
    } catch (const Error&) {  // the next run measures again; nothing else is lost
    }
  };
}

struct Operands {
  Tensor x_TI, w_OI, y_TO;
};

void products(Bench& bench, const Layer& layer, int64_t T, int64_t I, int64_t O) {
  const int64_t F = std::min(T, bench.scaled(layer.forward_tokens, T));
  const double per_token = 2.0 * static_cast<double>(I * O);
  const double flops = per_token * static_cast<double>(T);
  const double bytes = 2.0 * static_cast<double>(T * I + O * I + T * O);
  std::vector<Operands> sets;
  for (int i = 0; i < bench.sets(bytes); ++i)
    sets.push_back({bench.random({T, I}, DType::kBF16), bench.random({O, I}, DType::kBF16, 0.02),
                    bench.random({T, O}, DType::kBF16)});
  Tensor dw_OI = bench.random({O, I}, DType::kF32);
  const auto of = [&](int set) -> Operands& { return sets[static_cast<size_t>(set)]; };
  const auto count = static_cast<int>(sets.size());
  nlohmann::json shape{{"layer", layer.name}, {"T", F}, {"I", I}, {"O", O}};
  bench.measure("forward", shape, {.bytes = 0, .flops = per_token * static_cast<double>(F)}, count,
                [&](int set) {
                  Tensor y_TO = of(set).y_TO.slice(0, F);
                  linear_forward(Device::kCuda, of(set).x_TI.slice(0, F), of(set).w_OI, {}, y_TO);
                });
  shape["T"] = T;
  bench.measure("dx", shape, {.bytes = 0, .flops = flops}, count, [&](int set) {
    linear_backward_input(Device::kCuda, of(set).y_TO, of(set).w_OI, WriteMode::kOverwrite,
                          of(set).x_TI);
  });
  // Algorithms are tried where the result is overwritten, as in the first micro-batch of a step.
  linear_backward_weight(Device::kCuda, of(0).y_TO, of(0).x_TI, WriteMode::kOverwrite, dw_OI);
  bench.measure("dw", shape, {.bytes = 0, .flops = flops}, count, [&](int set) {
    linear_backward_weight(Device::kCuda, of(set).y_TO, of(set).x_TI, WriteMode::kAccumulate,
                           dw_OI);
  });
}

void run(Bench& bench) {
  if (!bench.settings().tiny) use_measured_algorithms(bench.runtime());
  for (const Layer& layer : kLayers)
    products(bench, layer, bench.scaled(layer.tokens, 16), bench.scaled(layer.inputs, 32),
             bench.scaled(layer.outputs, 48));
}

REGISTER_GPU_FAMILY(gemm, run);

}  // namespace
}  // namespace ink::bench
