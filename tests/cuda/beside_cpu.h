// A CUDA kernel beside the CPU's: the same rounded inputs on both, outputs that start as NaN. The
// reference is the CPU kernel in f64, or in the same dtype where every bit must agree. Skipped,
// visibly, where there is no card.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "engine/tensor/tensor.h"
#include "tests/cuda/card.h"
#include "tests/support/compare.h"
#include "tests/support/values.h"

namespace ink {

// Where one of the two runs, and in which dtype; inputs hold what `rounding` can hold.
struct Side {
  Runtime& runtime;
  DType dtype, rounding;
  bool strided = false;

  [[nodiscard]] Device device() const { return runtime.device(); }
  // f64 on the side that runs in f64.
  [[nodiscard]] DType of(DType wanted) const {
    return dtype == DType::kF64 && is_float(wanted) ? dtype : wanted;
  }

  [[nodiscard]] Tensor given(const Values& values, const Shape& shape, DType in) const {
    const Values held = rounded(values, in == dtype ? rounding : in);
    return strided && shape.rank() > 1 ? strided_from_values(runtime, held, shape, of(in))
                                       : from_values(runtime, held, shape, of(in));
  }
  // Normal numbers of that label.
  [[nodiscard]] Tensor input(const std::string& label, const Shape& shape) const {
    return given(normal_values(label, shape.numel()), shape, dtype);
  }
  [[nodiscard]] Tensor f32_input(const std::string& label, const Shape& shape) const {
    return from_values(runtime, rounded(normal_values(label, shape.numel()), DType::kF32), shape,
                       of(DType::kF32));
  }
  // Full of NaN, strided where the inputs are.
  [[nodiscard]] Tensor output(const Shape& shape) const { return output(shape, dtype); }
  [[nodiscard]] Tensor output(const Shape& shape, DType in) const {
    const Values nothing(static_cast<size_t>(shape.numel()),
                         std::numeric_limits<double>::quiet_NaN());
    return strided && shape.rank() > 1 ? strided_from_values(runtime, nothing, shape, of(in))
                                       : from_values(runtime, nothing, shape, of(in));
  }
};

using RunSide = std::function<std::vector<Tensor>(const Side&)>;

class BesideCpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    card_ = std::make_unique<Runtime>(RuntimeOptions{}, make_backend(Device::kCuda));
  }

  // Tolerances in the order f32, bf16, f16; outputs contiguous and strided.
  void expect_close(const RunSide& run, const std::string& what,
                    const std::vector<double>& tolerances = {2e-6, 4e-3, 6e-4}) {
    const std::vector<DType> dtypes = {DType::kF32, DType::kBF16, DType::kF16};
    for (size_t i = 0; i < dtypes.size(); ++i) {
      const std::vector<Tensor> want = run({host_, DType::kF64, dtypes[i]});
      for (const bool strided : {false, true}) {
        const std::vector<Tensor> got = run({*card_, dtypes[i], dtypes[i], strided});
        for (size_t k = 0; k < want.size(); ++k)
          EXPECT_LE(rel_frobenius(to_values(got[k]), to_values(want[k])), tolerances[i])
              << what << (strided ? " strided " : " ") << name_of(dtypes[i]) << ", output " << k;
      }
    }
  }

  void expect_equal(const RunSide& run, const std::string& what) {
    for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
      const std::vector<Tensor> want = run({host_, dtype, dtype});
      for (const bool strided : {false, true}) {
        const std::vector<Tensor> got = run({*card_, dtype, dtype, strided});
        for (size_t k = 0; k < want.size(); ++k)
          EXPECT_EQ(max_abs(to_values(got[k]), to_values(want[k])), 0)
              << what << (strided ? " strided " : " ") << name_of(dtype) << ", output " << k;
      }
    }
  }

  Runtime host_;
  std::unique_ptr<Runtime> card_;
};

}  // namespace ink
