#include "parallel/slice_batch.h"

namespace ink {

Batch slice_batch(const Batch& batch, const MeshShape& shape, const MeshCoordinates& at) {
  const int parts = 2 * shape.head * shape.context;
  if (parts == 2) return batch;
  const int64_t length = batch.tokens_T.numel();
  if (length % parts != 0) {
    throw Error(
        ExitCode::kConfig, "data.max_length",
        fmt::format(
            "{} tokens of a micro-batch are not a multiple of 2 * sequence {} * ring {} = {}",
            length, shape.head, shape.context, parts));
  }
  const int64_t chunk = length / parts;
  const std::vector<int> chunks = sequence_chunks(shape, at);
  const auto cut = [&](const Tensor& field) {
    if (!field.defined()) return field;
    Tensor out(field.runtime(), {chunk * static_cast<int64_t>(chunks.size())}, field.dtype());
    for (size_t i = 0; i < chunks.size(); ++i) {
      Tensor part = out.slice(static_cast<int64_t>(i) * chunk, chunk);
      copy(part, field.slice(chunks[i] * chunk, chunk));
    }
    return out;
  };
  Batch mine = batch;
  mine.tokens_T = cut(batch.tokens_T);
  mine.labels_T = cut(batch.labels_T);
  mine.loss_weight_T = cut(batch.loss_weight_T);
  mine.positions_T = cut(batch.positions_T);
  mine.token_id_T = cut(batch.token_id_T);
  mine.document_T = cut(batch.document_T);
  return mine;
}

}  // namespace ink
