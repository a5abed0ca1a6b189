#include "engine/ops/rms_norm.h"

#include <gtest/gtest.h>

#include "tests/support/op_case.h"

namespace ink {
namespace {

constexpr float kEps = 1e-5f;

// {h, n}: h = x + delta, n = h / sqrt(mean(h^2) + eps) * w.
std::vector<Values> composed(const Values& x, const Values* delta, const Values& w) {
  Values h = x, n(x.size());
  const size_t C = w.size();
  for (size_t i = 0; i < x.size(); ++i) h[i] += delta ? (*delta)[i] : 0.0;
  for (size_t row = 0; row < x.size(); row += C) {
    double squares = 0;
    for (size_t c = 0; c < C; ++c) squares += h[row + c] * h[row + c];
    const double rstd = 1 / std::sqrt(squares / static_cast<double>(C) + double{kEps});
    for (size_t c = 0; c < C; ++c) n[row + c] = h[row + c] * rstd * w[c];
  }
  return {h, n};
}

std::vector<OpInput> norm_inputs(std::optional<DType> weight_dtype) {
  return {{.name = "x_TC", .shape = {7, 77}},
          {.name = "w_C",
           .shape = {77},
           .role = Role::kParameter,
           .low = 0.5,
           .high = 1.5,
           .dtype = weight_dtype}};
}

std::vector<Tensor> run_norm(const std::vector<Tensor>& in) {
  return {rms_norm(in[0], in[1], kEps)};
}

REGISTER_OP_CASE({.name = "rms_norm",
                  .inputs = norm_inputs({}),
                  .run = run_norm,
                  .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                    return {composed(in[0], nullptr, in[1])[1]};
                  },
                  .slots = {&rms_norm_forward, &rms_norm_apply, &rms_norm_backward_input,
                            &rms_norm_backward_weight, &rms_norm_backward}});
REGISTER_OP_CASE({.name = "rms_norm_f32_weight",
                  .inputs = norm_inputs(DType::kF32),
                  .run = run_norm,
                  .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                    return {composed(in[0], nullptr, in[1])[1]};
                  },
                  .slots = {&rms_norm_forward, &rms_norm_backward_input}});
OpCase add_norm_case(const std::string& name, int64_t rows, int64_t width) {
  return {.name = name,
          .inputs = {{.name = "x_TC", .shape = {rows, width}},
                     {.name = "delta_TC", .shape = {rows, width}},
                     {.name = "w_C", .shape = {width}, .role = Role::kParameter}},
          .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            const Normed result = add_rms_norm(in[0], in[1], in[2], kEps);
            return {result.h_TC, result.n_TC};
          },
          .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
            return composed(in[0], &in[1], in[2]);
          },
          .slots = {&add_rms_norm_forward, &rms_norm_apply, &rms_norm_backward_input,
                    &rms_norm_backward_weight, &rms_norm_backward}};
}
REGISTER_OP_CASE(add_norm_case("add_rms_norm", 5, 130));
// Rows of whole accesses of 16 bytes, more than a block of the card takes.
REGISTER_OP_CASE(add_norm_case("add_rms_norm_runs", 19, 72));
REGISTER_OP_CASE({.name = "add_rms_norm_first_block",
                  .inputs = norm_inputs({}),
                  .run = [](const std::vector<Tensor>& in) -> std::vector<Tensor> {
                    const Normed result = add_rms_norm(in[0], {}, in[1], kEps);
                    return {result.h_TC, result.n_TC};
                  },
                  .composed = [](const std::vector<Values>& in) -> std::vector<Values> {
                    return composed(in[0], nullptr, in[1]);
                  },
                  .recompute = false});

TEST(RmsNorm, NamesTheValuesOfAWrongWeight) {
  Runtime runtime;
  const Tensor x = zeros(runtime, {2, 4096}, DType::kF32);
  const Tensor w = zeros(runtime, {4095}, DType::kF32);
  try {
    (void)rms_norm(x, w, kEps);
    FAIL();
  } catch (const Error& error) {
    EXPECT_NE(
        std::string(error.what()).find("[rms_norm] weight has 4095 elements, x_TC has C=4096"),
        std::string::npos)
        << error.what();
  }
}

}  // namespace
}  // namespace ink
