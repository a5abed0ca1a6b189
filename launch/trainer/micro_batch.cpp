#include "launch/trainer/micro_batch.h"

#include <algorithm>
#include <bit>
#include <chrono>

#include "engine/autograd/backward.h"
#include "engine/core/trace.h"
#include "launch/trainer/device_batch.h"

namespace ink {
namespace {

// Blocks come from the pools of recordings.
class GraphPools {
 public:
  explicit GraphPools(Allocator& allocator) : allocator_(allocator) {
    allocator_.use_graph_pools(true);
  }
  ~GraphPools() { allocator_.use_graph_pools(false); }
  GraphPools(const GraphPools&) = delete;
  GraphPools& operator=(const GraphPools&) = delete;

 private:
  Allocator& allocator_;
};

int64_t document_count(const HostBatch& host) {
  return static_cast<int64_t>(host.cu_seqlens.size()) - 1;
}

}  // namespace

MicroBatch::MicroBatch(Runtime& runtime, const Decoder& model, const ParameterTable& table,
                       MicroBatchOptions options)
    : runtime_(runtime),
      model_(model),
      table_(table),
      options_(options),
      pooled_(options.graphs && runtime.device() == Device::kCuda),
      recording_(pooled_) {}

void MicroBatch::run(const HostBatch& host, const LmLossOptions& loss_options, int64_t step,
                     Reducer* reducer, Tensor& loss) {
  if (!pooled_) {
    Batch batch = to_device(runtime_, in_shape(host), loss_options.divisor, step);
    batch.step_state = loss_options.step_state;
    copy(loss, compute(batch, loss_options, reducer));
    return;
  }
  load(host, loss_options, step);
  const GraphPools pools(runtime_.allocator());
  const Recording* recording = recorded(loss_options, reducer);
  if (recording == nullptr) {
    copy(loss, compute(inputs_, loss_options, reducer));
    return;
  }
  recording->graph->launch();
  ++launches_;
  set_gradients(recording->gradients_after);
  scores_ = recording->scores;
  copy(loss, recording->loss);
}

void MicroBatch::between(const std::function<void()>& work) {
  if (!pooled_) return work();
  const GraphPools pools(runtime_.allocator());
  work();
}

Tensor MicroBatch::compute(const Batch& batch, const LmLossOptions& loss_options,
                           Reducer* reducer) {
  if (reducer != nullptr) reducer->arm();
  LmLoss out;
  {
    const TraceRange range("forward");
    out = model_.loss(batch, options_.rope_length, options_.seed, loss_options);
  }
  if (options_.keep_scores)
    scores_ = {.loss = {}, .token_loss_T = out.token_loss_T, .correct_T = out.correct_T};
  const TraceRange range("backward");
  const auto start = std::chrono::steady_clock::now();
  backward(out.loss);
  backward_seconds_ +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return out.loss.detach();
}

HostBatch MicroBatch::in_shape(HostBatch host) const {
  if (runtime_.device() == Device::kCpu) return host;
  const uint64_t documents = std::bit_ceil(static_cast<uint64_t>(document_count(host)));
  host.cu_seqlens.resize(documents + 1, host.cu_seqlens.back());
  if (options_.max_length > 0) host.max_seqlen = static_cast<int32_t>(options_.max_length);
  return host;
}

// Into the memory of the micro-batch before, or, when it does not fit there, into new memory, which
// makes recordings useless.
void MicroBatch::load(const HostBatch& host, const LmLossOptions& loss_options, int64_t step) {
  const HostBatch padded = in_shape(host);
  const bool fits = inputs_.tokens_T.defined() && inputs_.tokens_T.numel() == host.size() &&
                    inputs_.loss_weight_T.defined() == !host.loss_weight.empty() &&
                    padded.max_seqlen == inputs_.documents.max_seqlen;
  if (!fits) {
    recordings_.clear();
    cu_seqlens_.clear();
    inputs_ = to_device(runtime_, padded, loss_options.divisor, step);
    inputs_.step_state = loss_options.step_state;
    cu_seqlens_[document_count(padded)] = inputs_.documents.cu_seqlens;
    return;
  }
  Tensor& borders = cu_seqlens_[document_count(padded)];
  if (!borders.defined()) borders = to_tensor(runtime_, padded.cu_seqlens);
  inputs_.documents.cu_seqlens = borders;
  refill(inputs_, padded);
}

MicroBatch::Recording* MicroBatch::recorded(const LmLossOptions& loss_options, Reducer* reducer) {
  if (!recording_) return nullptr;
  Recording& recording = recordings_[{.documents = inputs_.documents.cu_seqlens.numel() - 1,
                                      .reduced = reducer != nullptr,
                                      .gradients = gradients()}];
  if (!std::exchange(recording.seen, true)) return nullptr;
  if (!recording.graph) record(recording, loss_options, reducer);
  if (recording_) return &recording;
  recordings_.clear();
  return nullptr;
}

// Device work is only noted down here, but the host's view of the gradients changes as if it were
// done.
void MicroBatch::record(Recording& recording, const LmLossOptions& loss_options, Reducer* reducer) {
  const std::vector<bool> before = gradients();
  try {
    recording.graph = runtime_.backend().record(
        [&] { recording.loss = compute(inputs_, loss_options, reducer); });
    recording.scores = scores_;
    recording.gradients_after = gradients();
    recording_ = recording.graph != nullptr;
  } catch (const InternalError& error) {
    recording_ = false;
    note_ = fmt::format("micro-batches are not recorded as CUDA graphs: {}", error.what());
    for (const auto& parameter : table_.all()) parameter->leaf()->open_uses = 0;
  }
  set_gradients(before);
}

std::vector<bool> MicroBatch::gradients() const {
  std::vector<bool> there;
  for (const auto& parameter : table_.all()) there.push_back(parameter->leaf()->has_grad);
  return there;
}

void MicroBatch::set_gradients(const std::vector<bool>& there) {
  for (size_t i = 0; i < there.size(); ++i) table_.all()[i]->leaf()->has_grad = there[i];
}

}  // namespace ink
