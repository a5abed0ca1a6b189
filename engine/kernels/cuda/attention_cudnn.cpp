// Needs a card (cuDNN): left out of the host implementation of CUDA, never run there.
//
// Attention by cuDNN 9 through the header-only cudnn-frontend: causal, packed documents as ragged
// batches, grouped heads; bf16 and f16, head_dim up to 128, sm_90 and newer, where its kernels use
// instructions that flash_mma does not. One graph per shape, built at first use and kept for the
// rank; a shape that cuDNN refuses is remembered, and the own kernels take it: the log says why.
#include <array>
#include <map>
#include <memory>
#include <unordered_map>

#include "engine/kernels/cuda/attention_cudnn_graph.h"
#include "engine/kernels/cuda/attention_ragged.h"
#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/cudnn_messages.h"
#include "engine/kernels/tuning.h"
#include "engine/tensor/cuda_backend.h"

namespace ink::cudnn {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;

constexpr int kLowestCapability = 90;
// A plan is compiled: half a second, and code on the card. A run has a shape or two; where each
// token has its own (generation whose angles move with the length), the own kernels take the rest.
constexpr size_t kMostPlans = 64;

using Pointers = std::unordered_map<int64_t, void*>;

// Handle and graphs of a rank. What cuDNN refuses is another kernel's, and the reason goes to the
// log; memory that runs out in it ends the run.
class Cudnn {
 public:
  explicit Cudnn(CudaBackend& backend) : backend_(backend) {
    absent_ = too_old(cudnnGetVersion(), backend.capability(), false);
    if (!absent_.empty()) return;
    if (const cudnnStatus_t made = cudnnCreate(&handle_); made != CUDNN_STATUS_SUCCESS) {
      handle_ = nullptr;
      absent_ = refusal_of(
          backend, fmt::format("cudnnCreate: {}\n{}", cudnnGetErrorString(made), last_error()));
      return;
    }
    (void)cudnnSetStream(handle_, backend.stream());
  }
  ~Cudnn() {
    plans_.clear();
    if (handle_ != nullptr) (void)cudnnDestroy(handle_);
  }
  Cudnn(const Cudnn&) = delete;
  Cudnn& operator=(const Cudnn&) = delete;

  [[nodiscard]] bool takes(const GraphKey& key, Runtime& runtime) {
    const Plan& plan = plan_of(key);
    if (plan.graph != nullptr) return true;
    if (KernelTuning* tuning = tuning_of(runtime))
      tuning->refuse({key.backward ? attention_backward.name() : attention_forward.name(), "cudnn",
                      plan.refusal});
    return false;
  }

  void run(const GraphKey& key, Pointers& pointers, Runtime& runtime, const char* op) {
    Graph* const found = plan_of(key).graph.get();
    CHECK(found != nullptr, "[{}] cuDNN has no plan for this shape", op);
    const Tensor workspace(runtime, {found->get_workspace_size()}, DType::kU8,
                           MemoryTag::kWorkspace);
    auto status = found->execute(handle_, pointers, workspace.raw());
    if (status.is_bad())
      throw InternalError(
          fmt::format("[{}] cuDNN: {}", op, refusal_of(backend_, status.get_message())));
  }

 private:
  struct Plan {
    std::shared_ptr<Graph> graph;  // null: refused
    std::string refusal;
  };

  const Plan& plan_of(const GraphKey& key) {
    const auto found = plans_.find(key);
    if (found != plans_.end()) return found->second;
    return plans_.emplace(key, make_plan(key)).first->second;
  }

  Plan make_plan(const GraphKey& key) {
    if (handle_ == nullptr) return {nullptr, absent_};
    if (key.backward) {
      std::string reason = too_old(cudnnGetVersion(), backend_.capability(), true);
      if (!reason.empty()) return {nullptr, std::move(reason)};
    }
    if (plans_.size() >= kMostPlans)
      return {nullptr, fmt::format("there are plans for {} shapes already", kMostPlans)};
    std::shared_ptr<Graph> graph = attention_graph(key);
    auto status = graph->build(handle_, {fe::HeurMode_t::A});
    if (status.is_bad()) return {nullptr, refusal_of(backend_, status.get_message())};
    const int64_t needed = graph->get_workspace_size(), most = most_attention_workspace(key);
    if (needed > most)
      return {nullptr, fmt::format("cuDNN needs {} MiB of workspace, {} are taken at most",
                                   needed >> 20, most >> 20)};
    return {std::move(graph), {}};
  }

  static std::string last_error() {
    std::array<char, 1024> text{};
    cudnnGetLastErrorString(text.data(), text.size());
    return text.data();
  }

  CudaBackend& backend_;
  cudnnHandle_t handle_ = nullptr;
  std::string absent_;  // why there is no handle
  std::map<GraphKey, Plan> plans_;
};

GraphKey key_of(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Tensor& out_TC,
                const Documents& documents) {
  return {.documents = documents.cu_seqlens.numel() - 1,
          .longest = documents.max_seqlen,
          .tokens = q.x_TC.rows(),
          .heads = q.heads(),
          .kv_heads = k.heads(),
          .dim = q.head_dim,
          .row = {.q = q.x_TC.row_stride(),
                  .k = k.x_TC.row_stride(),
                  .v = v.x_TC.row_stride(),
                  .out = out_TC.row_stride()},
          .dtype = q.x_TC.dtype()};
}

GraphKey key_of(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k, const HeadsView& v,
                const Tensor& out_TC, const Documents& documents, const HeadsView& dq,
                const HeadsView& dk, const HeadsView& dv) {
  GraphKey key = key_of(q, k, v, out_TC, documents);
  key.row.dout = dout_TC.row_stride();
  key.row.dq = dq.x_TC.row_stride();
  key.row.dk = dk.x_TC.row_stride();
  key.row.dv = dv.x_TC.row_stride();
  key.backward = true;
  const KernelTuning* tuning = tuning_of(q.x_TC.runtime());
  key.deterministic = tuning != nullptr && !tuning->measure;
  return key;
}

// What does not need a graph to be known.
bool may_take(const GraphKey& key, std::initializer_list<Tensor> tensors) {
  if (!is_asked(key)) return false;
  constexpr int64_t kMostOffset = (int64_t{1} << 31) - 1;  // offsets are i32
  for (const Tensor& x_TC : tensors) {
    if (!heads_on_16_bytes(x_TC, key.dim) || key.tokens * x_TC.row_stride() > kMostOffset)
      return false;
  }
  return cuda_backend(*tensors.begin()).capability() >= kLowestCapability;
}

// Lengths and, for every name with its distance between tokens, offsets.
RaggedBounds add_bounds(const Documents& documents,
                        std::initializer_list<std::pair<Name, int64_t>> rows, Pointers& pointers) {
  std::vector<int64_t> strides;
  for (const auto& [name, stride] : rows) strides.push_back(stride);
  RaggedBounds bounds = ragged_bounds(documents, strides);
  pointers[kLengths] = bounds.lengths.raw();
  int32_t* offsets = bounds.offsets.data<int32_t>();
  for (const auto& [name, stride] : rows) {
    pointers[name + kOffset] = offsets;
    offsets += documents.cu_seqlens.numel();
  }
  return bounds;
}

void forward(const HeadsView& q, const HeadsView& k, const HeadsView& v, const Documents& documents,
             Tensor& out_TC, Tensor& lse_HT) {
  const GraphKey key = key_of(q, k, v, out_TC, documents);
  const Tensor stats_TH(out_TC.runtime(), {key.tokens, key.heads}, DType::kF32,
                        MemoryTag::kWorkspace);
  Pointers pointers{{kQ, q.x_TC.raw()},
                    {kK, k.x_TC.raw()},
                    {kV, v.x_TC.raw()},
                    {kOut, out_TC.raw()},
                    {kStats, stats_TH.raw()}};
  const RaggedBounds bounds = add_bounds(
      documents,
      {{kQ, key.row.q}, {kK, key.row.k}, {kV, key.row.v}, {kOut, key.row.out}, {kStats, key.heads}},
      pointers);
  CudaBackend& backend = cuda_backend(out_TC);
  backend.resource<Cudnn>().run(key, pointers, out_TC.runtime(), "attention_forward");
  backend.launched("attention_forward");
  transpose_statistics(stats_TH, lse_HT);
}

void backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k, const HeadsView& v,
              const Tensor& out_TC, const Tensor& lse_HT, const Documents& documents, HeadsView& dq,
              HeadsView& dk, HeadsView& dv) {
  const GraphKey key = key_of(dout_TC, q, k, v, out_TC, documents, dq, dk, dv);
  Tensor stats_TH(out_TC.runtime(), {key.tokens, key.heads}, DType::kF32, MemoryTag::kWorkspace);
  transpose_statistics(lse_HT, stats_TH);
  Pointers pointers{{kQ, q.x_TC.raw()},   {kK, k.x_TC.raw()},     {kV, v.x_TC.raw()},
                    {kOut, out_TC.raw()}, {kDout, dout_TC.raw()}, {kStats, stats_TH.raw()},
                    {kDq, dq.x_TC.raw()}, {kDk, dk.x_TC.raw()},   {kDv, dv.x_TC.raw()}};
  const RaggedBounds bounds = add_bounds(documents,
                                         {{kQ, key.row.q},
                                          {kK, key.row.k},
                                          {kV, key.row.v},
                                          {kOut, key.row.out},
                                          {kDout, key.row.dout},
                                          {kStats, key.heads},
                                          {kDq, key.row.dq},
                                          {kDk, key.row.dk},
                                          {kDv, key.row.dv}},
                                         pointers);
  CudaBackend& backend = cuda_backend(out_TC);
  backend.resource<Cudnn>().run(key, pointers, out_TC.runtime(), "attention_backward");
  backend.launched("attention_backward");
}

bool takes_forward(const HeadsView& q, const HeadsView& k, const HeadsView& v,
                   const Documents& documents, Tensor& out_TC, Tensor&) {
  const GraphKey key = key_of(q, k, v, out_TC, documents);
  return may_take(key, {q.x_TC, k.x_TC, v.x_TC, out_TC}) &&
         cuda_backend(out_TC).resource<Cudnn>().takes(key, out_TC.runtime());
}

bool takes_backward(const Tensor& dout_TC, const HeadsView& q, const HeadsView& k,
                    const HeadsView& v, const Tensor& out_TC, const Tensor&,
                    const Documents& documents, HeadsView& dq, HeadsView& dk, HeadsView& dv) {
  const GraphKey key = key_of(dout_TC, q, k, v, out_TC, documents, dq, dk, dv);
  return may_take(key, {q.x_TC, k.x_TC, v.x_TC, out_TC, dout_TC, dq.x_TC, dk.x_TC, dv.x_TC}) &&
         dk.x_TC.contiguous() && dv.x_TC.contiguous() &&
         cuda_backend(out_TC).resource<Cudnn>().takes(key, out_TC.runtime());
}

REGISTER_KERNEL(attention_forward, kCuda, cudnn, forward, .priority = 20,
                .supports = takes_forward);
REGISTER_KERNEL(attention_backward, kCuda, cudnn, backward, .priority = 20,
                .supports = takes_backward);

}  // namespace
}  // namespace ink::cudnn
