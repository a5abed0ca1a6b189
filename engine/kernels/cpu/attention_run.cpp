#include "engine/kernels/cpu/attention_run.h"

#include "engine/core/parallel_for.h"

namespace ink {
namespace {

// A problem of fewer multiplications than this is over before a second thread has woken up.
constexpr int64_t kThreadedWork = int64_t{1} << 20;

int threads_for(const AttentionProblem& problem) {
  int64_t pairs = 0;
  for (const AttentionItem& item : problem.items) pairs += item.cost;
  return pairs * problem.ratio() * problem.head_dim < kThreadedWork ? 1 : thread_count();
}

// Items differ in cost and write to places of their own, so threads take the next one as they get
// free.
void run_items(Runtime& runtime, const AttentionProblem& problem, int64_t bytes,
               AttentionKernel::RunItem* run) {
  if (problem.items.empty()) return;
  const int threads = threads_for(problem);
  const Tensor scratch(runtime, {threads, bytes}, DType::kU8, MemoryTag::kWorkspace);
  auto* memory = static_cast<std::byte*>(scratch.raw());
  const auto count = static_cast<int64_t>(problem.items.size());
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads)
  for (int64_t i = 0; i < count; ++i)
    run(problem, problem.items[static_cast<size_t>(i)], memory + thread_index() * bytes);
}

}  // namespace

void run_attention_forward(const AttentionKernel& kernel, const HeadsView& q, const HeadsView& k,
                           const HeadsView& v, const Documents& documents, Tensor& out_TC,
                           Tensor& lse_HT) {
  const AttentionProblem problem = forward_problem(q, k, v, documents, out_TC, lse_HT);
  run_items(out_TC.runtime(), problem, kernel.forward_bytes(problem), kernel.forward);
}

void run_attention_backward(const AttentionKernel& kernel, const Tensor& dout_TC,
                            const HeadsView& q, const HeadsView& k, const HeadsView& v,
                            const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents,
                            HeadsView& dq, HeadsView& dk, HeadsView& dv) {
  Tensor delta_HT(out_TC.runtime(), lse_HT.shape(), lse_HT.dtype(), MemoryTag::kWorkspace);
  const AttentionProblem problem =
      backward_problem(dout_TC, q, k, v, out_TC, lse_HT, documents, delta_HT, dq, dk, dv);
#pragma omp parallel for schedule(static) num_threads(threads_for(problem))
  for (int64_t t = 0; t < problem.tokens; ++t) kernel.fill_delta(problem, t);
  run_items(out_TC.runtime(), problem, kernel.backward_bytes(problem), kernel.backward);
}

void run_attention_cached(const AttentionKernel& kernel, const HeadsView& q,
                          const KvCacheView& cache, Tensor& out_TC) {
  const AttentionProblem problem = cached_problem(q, cache, out_TC);
  run_items(out_TC.runtime(), problem, kernel.forward_bytes(problem), kernel.forward);
}

}  // namespace ink
