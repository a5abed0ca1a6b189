// Norms, RoPE, SwiGLU, embedding, cross-entropy, AdamW and the small kernels, in the shapes of
// InternLM2 1.8B and 7B with 16384 tokens, against what a copy on the same card reaches. Bytes are
// those that must pass: every input read once, every result written once.
#include <set>

#include "bench/gpu/bench.h"
#include "engine/autograd/backward.h"
#include "engine/ops/adamw.h"
#include "engine/ops/elementwise.h"
#include "engine/ops/embedding.h"
#include "engine/ops/lm_loss.h"
#include "engine/ops/rms_norm.h"
#include "engine/ops/rope.h"
#include "engine/ops/swiglu.h"

namespace ink::bench {
namespace {

constexpr Device kCard = Device::kCuda;
constexpr DType kType = DType::kBF16;
constexpr double kTypeBytes = 2;

// The widths of a model that memory-bound kernels see.
struct Widths {
  const char* model;
  int64_t hidden, intermediate, kv_heads, queries_per_group;
};
constexpr int64_t kHeadDim = 128, kVocabulary = 92544;
constexpr Widths kModels[] = {{"1.8b", 2048, 8192, 8, 2}, {"7b", 4096, 14336, 8, 4}};

int64_t tokens_of(const Bench& bench) { return bench.scaled(16384, 48); }

// One set of tensors of the same dtype and shape.
std::vector<Tensor> matrices(Bench& bench, int count, int64_t rows, int64_t cols) {
  std::vector<Tensor> set;
  for (int i = 0; i < count; ++i) set.push_back(bench.random({rows, cols}, kType));
  return set;
}

// A kernel over `count` matrices [T, cols] of which each passes through memory once.
template <class F>
void over_matrices(Bench& bench, const std::string& kernel, const char* model, int count,
                   int64_t cols, F run) {
  const int64_t T = tokens_of(bench);
  const double bytes = count * kTypeBytes * static_cast<double>(T * cols);
  std::vector<std::vector<Tensor>> sets;
  for (int i = 0; i < bench.sets(bytes); ++i) sets.push_back(matrices(bench, count, T, cols));
  bench.measure(kernel, {{"model", model}, {"tokens", T}, {"columns", cols}, {"dtype", "bf16"}},
                {.bytes = bytes}, static_cast<int>(sets.size()),
                [&](int set) { run(sets[static_cast<size_t>(set)]); });
}

void copies(Bench& bench) {
  for (const int64_t mebibytes : {256, 1024}) {
    const int64_t count = bench.scaled(mebibytes << 18, 1 << 12);
    Tensor from = bench.random({count}, DType::kF32), to(bench.runtime(), {count}, DType::kF32);
    bench.measure("device_copy", {{"bytes", from.bytes()}},
                  {.bytes = 2.0 * static_cast<double>(from.bytes())}, 1,
                  [&](int) { copy(to, from); });
  }
}

void norms(Bench& bench) {
  for (const Widths& m : kModels) {
    const int64_t C = bench.scaled(m.hidden, 64), T = tokens_of(bench);
    const Tensor w = bench.random({C}, DType::kF32);
    Tensor rstd = bench.random({T}, DType::kF32), dw = bench.random({C}, DType::kF32);
    over_matrices(bench, "rms_norm_forward", m.model, 2, C, [&](std::vector<Tensor>& t) {
      rms_norm_forward(kCard, t[0], w, 1e-5f, t[1], rstd);
    });
    over_matrices(bench, "add_rms_norm_forward", m.model, 4, C, [&](std::vector<Tensor>& t) {
      add_rms_norm_forward(kCard, t[0], t[1], w, 1e-5f, t[2], t[3], rstd);
    });
    over_matrices(bench, "rms_norm_apply", m.model, 2, C,
                  [&](std::vector<Tensor>& t) { rms_norm_apply(kCard, t[0], w, rstd, t[1]); });
    over_matrices(bench, "rms_norm_backward_input", m.model, 4, C, [&](std::vector<Tensor>& t) {
      rms_norm_backward_input(kCard, t[0], t[1], t[2], w, rstd, t[3]);
    });
    over_matrices(bench, "rms_norm_backward", m.model, 4, C, [&](std::vector<Tensor>& t) {
      rms_norm_backward(kCard, t[0], t[1], t[2], w, rstd, WriteMode::kAccumulate, dw, t[3]);
    });
  }
}

// A fused wqkv is read, q, k and v are written, the table is read.
void ropes(Bench& bench) {
  const int64_t T = tokens_of(bench);
  std::vector<int32_t> positions(static_cast<size_t>(T));
  for (size_t t = 0; t < positions.size(); ++t) positions[t] = static_cast<int32_t>(t % 4096);
  const Tensor positions_T = to_tensor(bench.runtime(), positions);
  Tensor table = rope_table(positions_T, kHeadDim, {.theta = 1e6});
  const auto table_bytes = static_cast<double>(table.bytes());
  bench.measure("rope_angles", {{"tokens", T}, {"head_dim", kHeadDim}}, {.bytes = table_bytes}, 1,
                [&](int) { rope_angles(kCard, positions_T, {.theta = 1e6}, table); });
  for (const Widths& m : kModels) {
    const int64_t kv_cols = m.kv_heads * kHeadDim, q_cols = m.queries_per_group * kv_cols;
    const int64_t cols = q_cols + 2 * kv_cols;
    const double bytes = 2 * kTypeBytes * static_cast<double>(T * cols) + table_bytes;
    const auto random = [&](int64_t columns) { return bench.random({T, columns}, kType); };
    std::vector<Tensor> fused;
    std::vector<Qkv> apart;
    for (int i = 0; i < bench.sets(bytes); ++i) {
      fused.push_back(random(cols));
      apart.push_back({random(q_cols), random(kv_cols), random(kv_cols)});
    }
    const nlohmann::json shape{{"model", m.model}, {"tokens", T}, {"columns", cols}};
    const auto sets = static_cast<int>(fused.size());
    bench.measure("rope_split", shape, {.bytes = bytes}, sets, [&](int set) {
      rope_split(kCard, table, fused[static_cast<size_t>(set)], apart[static_cast<size_t>(set)]);
    });
    bench.measure("rope_join", shape, {.bytes = bytes}, sets, [&](int set) {
      rope_join(kCard, table, apart[static_cast<size_t>(set)], fused[static_cast<size_t>(set)]);
    });
  }
}

void swiglus(Bench& bench) {
  for (const Widths& m : kModels) {
    const int64_t cols = bench.scaled(m.intermediate, 96);
    over_matrices(bench, "swiglu_forward", m.model, 3, cols,
                  [&](std::vector<Tensor>& t) { swiglu_forward(kCard, t[0], t[1], t[2]); });
    over_matrices(bench, "swiglu_backward", m.model, 5, cols, [&](std::vector<Tensor>& t) {
      Tensor none;
      swiglu_backward(kCard, t[0], t[1], t[2], t[3], t[4], none);
    });
  }
}

// Backward adds into an f32 table: rows of dy once, every named row read and written.
void embeddings(Bench& bench) {
  const int64_t T = tokens_of(bench), V = bench.scaled(kVocabulary, 211);
  const Tensor ids = bench.random_ids(T, V);
  const std::vector<int32_t> values = to_vector<int32_t>(ids);
  const auto named = static_cast<double>(std::set<int32_t>(values.begin(), values.end()).size());
  for (const Widths& m : kModels) {
    const int64_t C = bench.scaled(m.hidden, 64);
    const nlohmann::json shape{
        {"model", m.model}, {"tokens", T}, {"vocabulary", V}, {"columns", C}, {"named", named}};
    const double rows = static_cast<double>(T * C), table = static_cast<double>(V * C);
    const Tensor w = bench.random({V, C}, kType), dy = bench.random({T, C}, kType);
    Tensor y = bench.random({T, C}, kType), dw = bench.random({V, C}, DType::kF32);
    bench.measure("embedding_forward", shape, {.bytes = 2 * kTypeBytes * rows}, 1,
                  [&](int) { embedding_forward(kCard, ids, w, y); });
    bench.measure("embedding_backward_accumulate", shape,
                  {.bytes = kTypeBytes * rows + 8 * named * static_cast<double>(C)}, 1,
                  [&](int) { embedding_backward(kCard, dy, ids, WriteMode::kAccumulate, dw); });
    bench.measure("embedding_backward_overwrite", shape, {.bytes = kTypeBytes * rows + 4 * table},
                  1, [&](int) { embedding_backward(kCard, dy, ids, WriteMode::kOverwrite, dw); });
  }
}

// One chunk of the loss: f32 logits read, bf16 gradients written.
void cross_entropies(Bench& bench) {
  const int64_t V = bench.scaled(kVocabulary, 521), R = bench.scaled(512, 6);
  const Tensor labels = bench.random_ids(R, V);
  const LmLossOptions options{.divisor = static_cast<double>(R)};
  const double bytes = (4 + kTypeBytes) * static_cast<double>(R * V);
  Tensor loss(bench.runtime(), {R}, DType::kF32), correct(bench.runtime(), {R}, DType::kI32);
  Tensor logits = bench.random({R, V}, DType::kF32), dlogits(bench.runtime(), {R, V}, kType);
  bench.measure("cross_entropy", {{"rows", R}, {"vocabulary", V}}, {.bytes = bytes}, 1, [&](int) {
    cross_entropy(kCard, labels, {}, options, logits, dlogits, loss, correct);
  });
}

struct StateTypes {
  const char* name;
  DType param, state, grad;
  bool master;
  double bytes;  // per parameter: what is read and what is written
};

// The parameters of eight layers of the 7B model, one tensor per matrix.
void adamws(Bench& bench) {
  constexpr StateTypes kKinds[] = {{"f32 states", kType, DType::kF32, DType::kF32, true, 30},
                                   {"bf16 states", kType, kType, kType, false, 14}};
  const int64_t count = bench.scaled(int64_t{4096} * 14336, 5000), tensors = bench.scaled(8, 3);
  const StepState now{.updates = 1, .lr = 1e-6, .bias1 = 0.1, .bias2 = 0.05};
  const Tensor state = step_state_tensor(bench.runtime(), now);
  for (const StateTypes& kind : kKinds) {
    std::vector<AdamWItem> items;
    for (int64_t i = 0; i < tensors; ++i) {
      items.push_back({.grad = bench.random({count}, kind.grad),
                       .param = bench.random({count}, kind.param),
                       .master = kind.master ? bench.random({count}, DType::kF32) : Tensor(),
                       .m = bench.random({count}, kind.state, 1e-3),
                       .v = zeros(bench.runtime(), {count}, kind.state),
                       .options = {.weight_decay = 0.1, .key = {1, 2}}});
    }
    bench.measure("adamw_update_many",
                  {{"states", kind.name}, {"parameters", count * tensors}, {"tensors", tensors}},
                  {.bytes = kind.bytes * static_cast<double>(count * tensors)}, 1,
                  [&](int) { adamw_update_many(kCard, items, state); });
  }
}

void small_kernels(Bench& bench) {
  const Widths& m = kModels[1];
  const int64_t C = bench.scaled(m.hidden, 64), T = tokens_of(bench);
  over_matrices(bench, "add_forward", m.model, 3, C,
                [&](std::vector<Tensor>& t) { add_forward(kCard, t[0], t[1], t[2]); });
  const Tensor token_ids = zeros(bench.runtime(), {T}, DType::kI64);
  over_matrices(bench, "dropout_apply", m.model, 2, C, [&](std::vector<Tensor>& t) {
    dropout_apply(kCard, t[0], token_ids, 0.1f, {.key = {1, 2}, .step = 3}, t[1]);
  });
  const double elements = static_cast<double>(T * C);
  const Tensor f32 = bench.random({T, C}, DType::kF32);
  Tensor bf16 = bench.random({T, C}, kType), sum(bench.runtime(), {}, DType::kF64);
  const nlohmann::json shape{{"tokens", T}, {"columns", C}};
  bench.measure("cast_f32_to_bf16", shape, {.bytes = 6 * elements}, 1,
                [&](int) { cast(kCard, f32, bf16); });
  bench.measure("sum_squares_f32", shape, {.bytes = 4 * elements}, 1,
                [&](int) { sum_squares(kCard, f32, WriteMode::kOverwrite, sum); });
}

REGISTER_GPU_FAMILY(copy, copies);
REGISTER_GPU_FAMILY(norm, norms);
REGISTER_GPU_FAMILY(rope, ropes);
REGISTER_GPU_FAMILY(swiglu, swiglus);
REGISTER_GPU_FAMILY(embedding, embeddings);
REGISTER_GPU_FAMILY(cross_entropy, cross_entropies);
REGISTER_GPU_FAMILY(adamw, adamws);
REGISTER_GPU_FAMILY(small, small_kernels);

}  // namespace
}  // namespace ink::bench
