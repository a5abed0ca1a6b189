// Generated token documents for trying sizes and layouts without files: `{synthetic: {documents,
// length}}`.
//
// Document d is a walk x(i+1) = x(i) + stride mod V over the whole vocabulary, start and stride
// (1..8) drawn from (seed, d); with probability 1/16 a token is replaced by a uniform one, which
// does not disturb the walk. So a model can learn it (two tokens show the stride) and the loss has
// a known floor above zero. A pure function of (seed, vocab_size, d, i): nothing is stored.
#pragma once

#include <cstdint>
#include <memory>

#include "data/loader/pack_source.h"

namespace ink {

struct SyntheticSetup {
  SyntheticOptions size;
  int64_t vocab_size = 0;
  int64_t max_length = 0;
  bool packing = true;
  uint64_t seed = 0;
};

[[nodiscard]] std::shared_ptr<const PackSource> synthetic_source(const SyntheticSetup& setup);

}  // namespace ink
