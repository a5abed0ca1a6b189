// What the log and errors say of cuDNN. Free of its headers, so that it is tested without it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

#include "engine/tensor/cuda_backend.h"

namespace ink::cudnn {

// "9.10.1" of 91001, as cudnnGetVersion() counts since 9.0.
[[nodiscard]] std::string version_text(size_t version);

// Why a cuDNN of this version does not compute attention on a card of this capability; empty: it
// does.
//   * Statistics of ragged batches, and backward of them with grouped heads, came with 9.6.
//   * Backward on 9.0 read workspace that nobody had written, which gave NaN gradients of ragged
//     batches; 9.18 is the first without (NVIDIA/TransformerEngine, issue 2186).
[[nodiscard]] std::string too_old(size_t version, int capability, bool backward);

// A message of the library, of several lines perhaps, as one of a log: lines joined by "; ", cut
// where it is long.
[[nodiscard]] std::string one_line(std::string_view message);

// The message of a failed call as the reason why another kernel runs; where it says that memory ran
// out, Error(kOutOfMemory) with the table. The runtime keeps an error of a call inside the library,
// which the next launch must not report: it is dropped.
[[nodiscard]] std::string refusal_of(const CudaBackend& backend, std::string_view message);

// Does a message name a status of memory that ran out? cudnn-frontend hands on its text alone, the
// names of all statuses met on the way among it.
[[nodiscard]] bool says_out_of_memory(std::string_view message);

}  // namespace ink::cudnn
