// Loss and accuracy of a step by type of text: what the forward pass knows of every trained token,
// kept on the device, read when the step is finished, added up by the source of its document.
//
// Made by TrainStep for one step where somebody asks (train.compat.log_line).
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "data/loader/host_batch.h"
#include "engine/ops/lm_loss.h"

namespace ink {

// Sums over trained tokens.
struct TypeScore {
  double loss = 0, correct = 0, tokens = 0;
};

class TokenScores {
 public:
  // loss: type of LmLoss::token_loss_T.
  TokenScores(Runtime& runtime, std::span<const HostBatch> micro_batches, DType loss);

  // Copies those of a micro-batch on the device.
  void keep(size_t micro_batch, const LmLoss& scores);
  void read_later();
  // Of this rank, one for every type; waits. types: of every source.
  [[nodiscard]] std::vector<TypeScore> sums(std::span<const int64_t> type_of_source, int64_t types);

 private:
  std::vector<int64_t> begins_;   // first token of every micro-batch
  std::vector<int32_t> sources_;  // of every token; -1 where it is not trained
  Tensor losses_T_, correct_T_;
  std::unique_ptr<HostRead> losses_, correct_;
};

}  // namespace ink
