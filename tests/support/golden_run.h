// The steps of the golden recipe as numbers, and their comparison with the expected ones.
// Shared by the parity tests of every device.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "tests/support/trainee.h"

namespace ink {

struct Series {
  std::vector<double> losses, norms, rates;
};

// All steps of the fixture, every global batch as one micro-batch.
[[nodiscard]] Series train(Trainee& trainee, const Fixture& fixture);

// A gtest failure for every number that is farther than `tolerance` of the expected one.
void expect_series(const std::vector<double>& got, const nlohmann::json& want, double tolerance,
                   const char* what);

// Relative distance of the logits of one packed row from transformers'.
[[nodiscard]] double logits_distance(Trainee& trainee, const Golden& golden, const Fixture& fixture,
                                     int64_t row);

// The same of the one document `tokens.LENGTH`; rope_length: as of Decoder::logits.
[[nodiscard]] double document_logits_distance(Trainee& trainee, const Golden& golden,
                                              int64_t length, int64_t rope_length);

// Per tensor against torch's own error, with everything in bf16 and, from 64 elements on, with f32
// weights under autocast: at most twice it, at most 8 %.
void expect_bf16_gradients(const NamedValues& got, const Golden& golden);

}  // namespace ink
