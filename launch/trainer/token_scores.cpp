#include "launch/trainer/token_scores.h"

#include <cstring>

namespace ink {
namespace {

// Sources of the trained tokens, -1 elsewhere.
void append_sources(const HostBatch& batch, std::vector<int32_t>& sources) {
  for (size_t d = 0; d + 1 < batch.cu_seqlens.size(); ++d) {
    for (int32_t t = batch.cu_seqlens[d]; t < batch.cu_seqlens[d + 1]; ++t)
      sources.push_back(batch.labels[static_cast<size_t>(t)] >= 0 ? batch.source_ids[d] : -1);
  }
}

std::byte* at_element(const Tensor& tensor, int64_t element) {
  return static_cast<std::byte*>(tensor.raw()) + element * size_of(tensor.dtype());
}

double loss_at(std::span<const std::byte> bytes, size_t element, bool wide) {
  if (wide) {
    double value = 0;
    std::memcpy(&value, bytes.data() + element * sizeof value, sizeof value);
    return value;
  }
  float value = 0;
  std::memcpy(&value, bytes.data() + element * sizeof value, sizeof value);
  return double{value};
}

}  // namespace

TokenScores::TokenScores(Runtime& runtime, std::span<const HostBatch> micro_batches, DType loss) {
  for (const HostBatch& batch : micro_batches) {
    begins_.push_back(static_cast<int64_t>(sources_.size()));
    append_sources(batch, sources_);
  }
  const auto tokens = static_cast<int64_t>(sources_.size());
  losses_T_ = Tensor(runtime, {tokens}, loss, MemoryTag::kWorkspace);
  correct_T_ = Tensor(runtime, {tokens}, DType::kI32, MemoryTag::kWorkspace);
}

void TokenScores::keep(size_t micro_batch, const LmLoss& scores) {
  DeviceBackend& backend = losses_T_.runtime().backend();
  const int64_t begin = begins_[micro_batch];
  backend.copy(at_element(losses_T_, begin), scores.token_loss_T.raw(),
               scores.token_loss_T.bytes());
  backend.copy(at_element(correct_T_, begin), scores.correct_T.raw(), scores.correct_T.bytes());
}

void TokenScores::read_later() {
  DeviceBackend& backend = losses_T_.runtime().backend();
  losses_ = backend.read_later(losses_T_.raw(), losses_T_.bytes());
  correct_ = backend.read_later(correct_T_.raw(), correct_T_.bytes());
}

std::vector<TypeScore> TokenScores::sums(std::span<const int64_t> type_of_source, int64_t types) {
  const bool wide = losses_T_.dtype() == DType::kF64;
  const std::span<const std::byte> losses = losses_->wait(), correct = correct_->wait();
  std::vector<TypeScore> sums(static_cast<size_t>(types));
  for (size_t t = 0; t < sources_.size(); ++t) {
    if (sources_[t] < 0) continue;
    int32_t right = 0;
    std::memcpy(&right, correct.data() + t * sizeof right, sizeof right);
    TypeScore& sum = sums[static_cast<size_t>(type_of_source[static_cast<size_t>(sources_[t])])];
    sum.loss += loss_at(losses, t, wide);
    sum.correct += right;
    sum.tokens += 1;
  }
  return sums;
}

}  // namespace ink
