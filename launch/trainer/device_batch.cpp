#include "launch/trainer/device_batch.h"

namespace ink {

Batch to_device(Runtime& runtime, const HostBatch& host, double divisor, int64_t step) {
  Batch batch;
  batch.tokens_T = to_tensor(runtime, host.tokens);
  batch.labels_T = to_tensor(runtime, host.labels);
  if (!host.loss_weight.empty()) batch.loss_weight_T = to_tensor(runtime, host.loss_weight);
  batch.positions_T = to_tensor(runtime, host.positions);
  batch.token_id_T = to_tensor(runtime, host.token_ids);
  batch.documents = {.cu_seqlens = to_tensor(runtime, host.cu_seqlens),
                     .max_seqlen = host.max_seqlen};
  batch.divisor = divisor;
  batch.trained = host.trained;
  batch.tokens = host.real_tokens;
  batch.step = step;
  return batch;
}

namespace {

template <class T>
void refill(Tensor& tensor, const std::vector<T>& values) {
  CHECK(tensor.numel() == static_cast<int64_t>(values.size()), "{} values for {}", values.size(),
        tensor.shape().str());
  tensor.runtime().backend().copy_from_host(tensor.data<T>(), values.data(), tensor.bytes());
}

}  // namespace

void refill(Batch& batch, const HostBatch& host) {
  refill(batch.tokens_T, host.tokens);
  refill(batch.labels_T, host.labels);
  if (batch.loss_weight_T.defined()) refill(batch.loss_weight_T, host.loss_weight);
  refill(batch.positions_T, host.positions);
  refill(batch.token_id_T, host.token_ids);
  refill(batch.documents.cu_seqlens, host.cu_seqlens);
}

}  // namespace ink
