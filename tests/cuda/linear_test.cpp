// The products of a linear layer through cuBLASLt: every dtype, strided operands, both write modes,
// unaligned pointers, and the table of measured algorithms.
#include "engine/ops/linear.h"

#include <cublasLt.h>
#include <gtest/gtest.h>

#include <cmath>

#include "engine/kernels/cuda/cublaslt_plan.h"
#include "engine/kernels/tuning.h"
#include "engine/tensor/cuda_error.h"
#include "tests/cuda/card.h"
#include "tests/support/compare.h"
#include "tests/support/values.h"

namespace ink {
namespace {

constexpr std::array kDTypes{DType::kF32, DType::kBF16, DType::kF16};

class CudaLinear : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    runtime_ = std::make_unique<Runtime>(RuntimeOptions{}, make_backend(Device::kCuda));
  }

  [[nodiscard]] CublasLt& library() {
    return static_cast<CudaBackend&>(runtime_->backend()).resource<CublasLt>();
  }
  std::unique_ptr<Runtime> runtime_;
};

// c[i, j] = sum over p of a(i, p) * b(j, p), in f64.
Values product(const Values& a, int64_t a_outer, int64_t a_depth, const Values& b, int64_t b_outer,
               int64_t b_depth, int64_t m, int64_t n, int64_t k) {
  Values c(static_cast<size_t>(m * n));
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t p = 0; p < k; ++p)
        sum += a[static_cast<size_t>(i * a_outer + p * a_depth)] *
               b[static_cast<size_t>(j * b_outer + p * b_depth)];
      c[static_cast<size_t>(i * n + j)] = sum;
    }
  }
  return c;
}

double tolerance(DType dtype) {
  return dtype == DType::kF32 ? 2e-6 : dtype == DType::kBF16 ? 4e-3 : 1e-3;
}

struct Sizes {
  int64_t T, I, O;
};
// Odd, aligned, and one row as generation has it.
constexpr std::array kSizes{Sizes{13, 37, 21}, Sizes{48, 64, 32}, Sizes{1, 40, 24}};

enum class Placement { kContiguous, kStrided };

// x, w and dy of one size, contiguous or as columns of wider tensors full of NaN that start at an
// odd element.
struct Operands {
  Operands(Runtime& runtime, Sizes s, DType dtype, Placement placement)
      : sizes(s),
        xs(data("x", s.T * s.I, dtype)),
        ws(data("w", s.O * s.I, dtype)),
        dys(data("dy", s.T * s.O, dtype)),
        x(place(runtime, xs, {s.T, s.I}, dtype, placement)),
        w(place(runtime, ws, {s.O, s.I}, dtype, placement)),
        dy(place(runtime, dys, {s.T, s.O}, dtype, placement)) {}

  static Values data(const char* name, int64_t count, DType dtype) {
    return rounded(uniform_values(name, count, -1, 1), dtype);
  }
  static Tensor place(Runtime& runtime, const Values& values, const Shape& shape, DType dtype,
                      Placement placement) {
    return placement == Placement::kStrided ? strided_from_values(runtime, values, shape, dtype)
                                            : from_values(runtime, values, shape, dtype);
  }
  [[nodiscard]] Values y() const {
    return product(xs, sizes.I, 1, ws, sizes.I, 1, sizes.T, sizes.O, sizes.I);
  }
  [[nodiscard]] Values dx() const {
    return product(dys, sizes.O, 1, ws, 1, sizes.I, sizes.T, sizes.I, sizes.O);
  }
  [[nodiscard]] Values dw() const {
    return product(dys, 1, sizes.O, xs, 1, sizes.I, sizes.O, sizes.I, sizes.T);
  }

  Sizes sizes;
  Values xs, ws, dys;
  Tensor x, w, dy;
};

template <class F>
void for_all_operands(Runtime& runtime, F&& f) {
  for (const DType dtype : kDTypes) {
    for (const Sizes sizes : kSizes) {
      for (const Placement placement : {Placement::kContiguous, Placement::kStrided}) {
        SCOPED_TRACE(fmt::format("{} T={} I={} O={}{}", name_of(dtype), sizes.T, sizes.I, sizes.O,
                                 placement == Placement::kStrided ? " strided" : ""));
        f(Operands(runtime, sizes, dtype, placement), dtype, placement);
      }
    }
  }
}

TEST_F(CudaLinear, ForwardToItsOwnTypeAndToFloatWithAndWithoutBias) {
  for_all_operands(*runtime_, [&](const Operands& o, DType dtype, Placement placement) {
    const Tensor bias =
        from_values(*runtime_, Values(static_cast<size_t>(o.sizes.O), 0.75), {o.sizes.O}, dtype);
    for (const DType result : {dtype, DType::kF32}) {
      for (const bool with_bias : {false, true}) {
        Values want = o.y();
        for (double& value : want) value += with_bias ? 0.75 : 0.0;
        Tensor y = Operands::place(*runtime_, Values(want.size(), NAN), {o.sizes.T, o.sizes.O},
                                   result, placement);
        linear_forward(Device::kCuda, o.x, o.w, with_bias ? bias : Tensor(), y);
        EXPECT_LE(rel_frobenius(to_values(y), want), tolerance(result)) << name_of(result);
      }
    }
  });
}

// A slice of a longer one, as that of a fused projection.
TEST_F(CudaLinear, ForwardWithABiasThatDoesNotLieOn16Bytes) {
  for_all_operands(*runtime_, [&](const Operands& o, DType dtype, Placement) {
    const Tensor longer = from_values(*runtime_, Values(static_cast<size_t>(o.sizes.O + 1), -0.5),
                                      {o.sizes.O + 1}, dtype);
    Values want = o.y();
    for (double& value : want) value -= 0.5;
    Tensor y(*runtime_, {o.sizes.T, o.sizes.O}, dtype);
    linear_forward(Device::kCuda, o.x, o.w, longer.flat(1, {o.sizes.O}), y);
    EXPECT_LE(rel_frobenius(to_values(y), want), tolerance(dtype));
  });
}

TEST_F(CudaLinear, InputGradientInBothModes) {
  for_all_operands(*runtime_, [&](const Operands& o, DType dtype, Placement placement) {
    const Shape shape{o.sizes.T, o.sizes.I};
    const Values once = o.dx();
    Tensor dx = Operands::place(*runtime_, Values(once.size(), NAN), shape, dtype, placement);
    linear_backward_input(Device::kCuda, o.dy, o.w, WriteMode::kOverwrite, dx);
    EXPECT_LE(rel_frobenius(to_values(dx), once), tolerance(dtype));
    Values want = Operands::data("before", shape.numel(), dtype);
    dx = Operands::place(*runtime_, want, shape, dtype, placement);
    for (size_t i = 0; i < want.size(); ++i) want[i] += once[i];
    linear_backward_input(Device::kCuda, o.dy, o.w, WriteMode::kAccumulate, dx);
    EXPECT_LE(rel_frobenius(to_values(dx), want), tolerance(dtype));
  });
}

// 2049 - 2048: a product that is rounded to 16 bits before it is added leaves nothing.
TEST_F(CudaLinear, AnInputGradientIsRoundedOnceWhereItIsAdded) {
  constexpr int64_t kDepth = 2049;
  for (const DType dtype : {DType::kBF16, DType::kF16}) {
    const Tensor dy = from_values(*runtime_, Values(3 * kDepth, 1.0), {3, kDepth}, dtype);
    const Tensor w = from_values(*runtime_, Values(kDepth * 5, 1.0), {kDepth, 5}, dtype);
    Tensor dx = from_values(*runtime_, Values(15, -2048.0), {3, 5}, dtype);
    linear_backward_input(Device::kCuda, dy, w, WriteMode::kAccumulate, dx);
    EXPECT_EQ(to_values(dx), Values(15, 1.0)) << name_of(dtype);
  }
}

TEST_F(CudaLinear, WeightGradientInBothModes) {
  for_all_operands(*runtime_, [&](const Operands& o, DType dtype, Placement) {
    const Shape shape{o.sizes.O, o.sizes.I};
    const Values once = o.dw();
    for (const DType sum : {DType::kF32, dtype}) {
      Tensor dw = from_values(*runtime_, Values(once.size(), NAN), shape, sum);
      linear_backward_weight(Device::kCuda, o.dy, o.x, WriteMode::kOverwrite, dw);
      EXPECT_LE(rel_frobenius(to_values(dw), once), tolerance(sum)) << name_of(sum);
      Values want = rounded(uniform_values("before", shape.numel(), -9, 9), sum);
      dw = from_values(*runtime_, want, shape, sum);
      for (size_t i = 0; i < want.size(); ++i) want[i] += once[i];
      linear_backward_weight(Device::kCuda, o.dy, o.x, WriteMode::kAccumulate, dw);
      EXPECT_LE(rel_frobenius(to_values(dw), want), tolerance(sum)) << name_of(sum);
    }
  });
}

TEST_F(CudaLinear, BiasGradientOfManyRowsInBothModes) {
  const int64_t rows = 700;  // several chunks
  const auto expect = [&](const Tensor& dy, const Values& dys) {
    const int64_t cols = dy.cols();
    Values want(static_cast<size_t>(cols));
    for (size_t i = 0; i < dys.size(); ++i) want[i % static_cast<size_t>(cols)] += dys[i];
    Tensor db = from_values(*runtime_, Values(want.size(), NAN), {cols}, DType::kF32);
    linear_backward_bias(Device::kCuda, dy, WriteMode::kOverwrite, db);
    EXPECT_LE(rel_frobenius(to_values(db), want), 1e-6);
    linear_backward_bias(Device::kCuda, dy, WriteMode::kAccumulate, db);
    for (double& value : want) value *= 2;
    EXPECT_LE(rel_frobenius(to_values(db), want), 1e-6);
  };
  for (const DType dtype : kDTypes) {
    for (const int64_t cols : {1, 33, 72, 136}) {
      SCOPED_TRACE(fmt::format("{} columns of {}", cols, name_of(dtype)));
      const Values dys = Operands::data("dy", rows * cols, dtype);
      expect(strided_from_values(*runtime_, dys, {rows, cols}, dtype), dys);
      expect(from_values(*runtime_, dys, {rows, cols}, dtype), dys);  // in accesses of 16 bytes
    }
  }
}

TEST_F(CudaLinear, NoRowsAndNoColumns) {
  const Tensor none(*runtime_, {0, 5}, DType::kF32), w(*runtime_, {3, 5}, DType::kF32);
  Tensor y(*runtime_, {0, 3}, DType::kF32);
  EXPECT_NO_THROW(linear_forward(Device::kCuda, none, w, {}, y));
  Tensor dw = from_values(*runtime_, Values(15, NAN), {3, 5}, DType::kF32);
  linear_backward_weight(Device::kCuda, y, none, WriteMode::kOverwrite, dw);
  EXPECT_EQ(to_values(dw), Values(15, 0.0));
  dw = from_values(*runtime_, Values(15, 2.0), {3, 5}, DType::kF32);
  linear_backward_weight(Device::kCuda, y, none, WriteMode::kAccumulate, dw);
  EXPECT_EQ(to_values(dw), Values(15, 2.0));
  Tensor db = from_values(*runtime_, Values(3, NAN), {3}, DType::kF32);
  linear_backward_bias(Device::kCuda, y, WriteMode::kOverwrite, db);
  EXPECT_EQ(to_values(db), Values(3, 0.0));

  const Tensor dy_T0(*runtime_, {2, 0}, DType::kF32), w_0I(*runtime_, {0, 5}, DType::kF32);
  Tensor dx = from_values(*runtime_, Values(10, NAN), {2, 5}, DType::kF32);
  linear_backward_input(Device::kCuda, dy_T0, w_0I, WriteMode::kOverwrite, dx);
  EXPECT_EQ(to_values(dx), Values(10, 0.0));
  dx = from_values(*runtime_, Values(10, 2.0), {2, 5}, DType::kF32);
  linear_backward_input(Device::kCuda, dy_T0, w_0I, WriteMode::kAccumulate, dx);
  EXPECT_EQ(to_values(dx), Values(10, 2.0));
  Tensor dx_0I(*runtime_, {0, 5}, DType::kF32);
  EXPECT_NO_THROW(linear_backward_input(Device::kCuda, y, w, WriteMode::kAccumulate, dx_0I));

  const Tensor x_T0(*runtime_, {2, 0}, DType::kBF16), w_O0(*runtime_, {3, 0}, DType::kBF16);
  const Tensor bias = from_values(*runtime_, {1, 2, 3}, {3}, DType::kBF16);
  Tensor sums = from_values(*runtime_, Values(6, NAN), {2, 3}, DType::kBF16);
  linear_forward(Device::kCuda, x_T0, w_O0, bias, sums);
  EXPECT_EQ(to_values(sums), (Values{1, 2, 3, 1, 2, 3}));
}

// The table of algorithms.

TEST_F(CudaLinear, MeasuresAShapeOnceAndTellsWhoKeepsIt) {
  library().min_measured_flops = 1;
  int measured = 0;
  library().tuning().on_measured = [&](const std::string&, const std::string&) { ++measured; };
  const Operands o(*runtime_, kSizes[0], DType::kBF16, Placement::kContiguous);
  Tensor y(*runtime_, {o.sizes.T, o.sizes.O}, DType::kBF16);
  for (int i = 0; i < 3; ++i) linear_forward(Device::kCuda, o.x, o.w, {}, y);
  EXPECT_EQ(measured, 1);
  EXPECT_EQ(library().tuning().choices().size(), 1u);
  EXPECT_LE(rel_frobenius(to_values(y), o.y()), tolerance(DType::kBF16));
}

TEST_F(CudaLinear, ASumIsNeverSpoiltByAMeasurement) {
  library().min_measured_flops = 1;
  const Operands o(*runtime_, kSizes[1], DType::kBF16, Placement::kContiguous);
  Tensor dw = zeros(*runtime_, {o.sizes.O, o.sizes.I}, DType::kF32);
  int measured = 0;
  library().tuning().on_measured = [&](const std::string&, const std::string&) { ++measured; };
  for (const WriteMode mode : {WriteMode::kAccumulate, WriteMode::kOverwrite}) {
    linear_backward_weight(Device::kCuda, o.dy, o.x, mode, dw);
    EXPECT_EQ(measured, 1);  // both modes have one algorithm
    EXPECT_LE(rel_frobenius(to_values(dw), o.dw()), 1e-6);
  }
}

// Trials of it would take as much memory again.
TEST_F(CudaLinear, ALargeSumIsNotMeasured) {
  library().min_measured_flops = 1;
  const int64_t rows = 4097, cols = 4096;
  const Tensor dy =
      from_values(*runtime_, Values(static_cast<size_t>(rows), 1.0), {1, rows}, DType::kBF16);
  const Tensor x =
      from_values(*runtime_, Values(static_cast<size_t>(cols), 1.0), {1, cols}, DType::kBF16);
  Tensor dw = zeros(*runtime_, {rows, cols}, DType::kF32);
  int measured = 0;
  library().tuning().on_measured = [&](const std::string&, const std::string&) { ++measured; };
  runtime_->allocator().reset_peaks();
  linear_backward_weight(Device::kCuda, dy, x, WriteMode::kAccumulate, dw);
  EXPECT_EQ(measured, 0);
  EXPECT_LT(runtime_->allocator().report().total_peak, dw.bytes() + (1 << 20));
}

TEST_F(CudaLinear, DoesNotMeasureWhereItIsToldNotTo) {
  library().min_measured_flops = 1;
  int measured = 0;
  library().tuning().on_measured = [&](const std::string&, const std::string&) { ++measured; };
  const Operands o(*runtime_, kSizes[1], DType::kF32, Placement::kContiguous);
  Tensor y(*runtime_, {o.sizes.T, o.sizes.O}, DType::kF32);
  library().tuning().measure = false;
  linear_forward(Device::kCuda, o.x, o.w, {}, y);
  library().tuning().measure = true;
  runtime_->training = false;
  linear_forward(Device::kCuda, o.x, o.w, {}, y);
  library().min_measured_flops = 1e18;
  runtime_->training = true;
  linear_forward(Device::kCuda, o.x, o.w, {}, y);
  EXPECT_EQ(measured, 0);
}

TEST_F(CudaLinear, DoesNotMeasureWhileItIsCaptured) {
  library().min_measured_flops = 1;
  int measured = 0;
  library().tuning().on_measured = [&](const std::string&, const std::string&) { ++measured; };
  const Operands o(*runtime_, kSizes[1], DType::kF32, Placement::kContiguous);
  Tensor y = from_values(*runtime_, Values(static_cast<size_t>(o.sizes.T * o.sizes.O), NAN),
                         {o.sizes.T, o.sizes.O}, DType::kF32);
  auto& backend = static_cast<CudaBackend&>(runtime_->backend());
  // A capture may neither allocate nor load kernels: the call before it does both.
  library().tuning().measure = false;
  linear_forward(Device::kCuda, o.x, o.w, {}, y);
  library().tuning().measure = true;
  zero(y);
  check_cuda(cudaStreamBeginCapture(backend.stream(), cudaStreamCaptureModeThreadLocal), "begin");
  linear_forward(Device::kCuda, o.x, o.w, {}, y);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t exec = nullptr;
  check_cuda(cudaStreamEndCapture(backend.stream(), &graph), "end");
  check_cuda(cudaGraphInstantiate(&exec, graph, 0), "instantiate");
  check_cuda(cudaGraphLaunch(exec, backend.stream()), "launch");
  EXPECT_LE(rel_frobenius(to_values(y), o.y()), 2e-6);
  EXPECT_EQ(measured, 0);
  linear_forward(Device::kCuda, o.x, o.w, {}, y);
  EXPECT_EQ(measured, 1);
  check_cuda(cudaGraphExecDestroy(exec), "exec");
  check_cuda(cudaGraphDestroy(graph), "graph");
}

// Another rank adopts the table and makes the same bits with every algorithm in it.
TEST_F(CudaLinear, AnAdoptedChoiceIsRepeated) {
  const Operands o(*runtime_, kSizes[0], DType::kF32, Placement::kContiguous);
  Tensor y(*runtime_, {o.sizes.T, o.sizes.O}, DType::kF32);
  linear_forward(Device::kCuda, o.x, o.w, {}, y);
  const KernelTuning::Choices chosen = library().tuning().choices();
  ASSERT_EQ(chosen.size(), 1u);

  Runtime other({}, make_backend(Device::kCuda));
  KernelTuning* tuning = tuning_of(other);
  ASSERT_NE(tuning, nullptr);
  EXPECT_EQ(tuning->machine(), library().tuning().machine());
  tuning->adopt(chosen);
  static_cast<CudaBackend&>(other.backend()).resource<CublasLt>().min_measured_flops = 1;
  tuning->on_measured = [](const std::string& key, const std::string&) {
    ADD_FAILURE() << "measured again: " << key;
  };
  const Operands same(other, kSizes[0], DType::kF32, Placement::kContiguous);
  Tensor again(other, {o.sizes.T, o.sizes.O}, DType::kF32);
  linear_forward(Device::kCuda, same.x, same.w, {}, again);
  EXPECT_EQ(to_values(again), to_values(y));
  EXPECT_EQ(tuning->choices(), chosen);
}

TEST_F(CudaLinear, AChoiceThatTheLibraryRefusesIsMadeAnew) {
  const Operands o(*runtime_, kSizes[0], DType::kF32, Placement::kContiguous);
  Tensor y(*runtime_, {o.sizes.T, o.sizes.O}, DType::kF32);
  const std::string key = forward_problem(o.x, o.w, {}, y).shape.text();
  for (const std::string& damaged : {std::string("not hexadecimal"), std::string(128, 'f')}) {
    Runtime other({}, make_backend(Device::kCuda));
    tuning_of(other)->adopt({{key, damaged}});
    const Operands same(other, kSizes[0], DType::kF32, Placement::kContiguous);
    Tensor again(other, {o.sizes.T, o.sizes.O}, DType::kF32);
    linear_forward(Device::kCuda, same.x, same.w, {}, again);
    EXPECT_LE(rel_frobenius(to_values(again), o.y()), 2e-6);
    EXPECT_NE(*tuning_of(other)->find(key), damaged);
  }
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST
TEST_F(CudaLinear, EveryAlgorithmIsRight) {
  // The library's own candidates, one after the other, through the table.
  const Operands o(*runtime_, kSizes[0], DType::kF32, Placement::kContiguous);
  std::vector<Values> results;
  for (const int id : {11, 12, 13}) {
    Runtime other({}, make_backend(Device::kCuda));
    const Operands same(other, kSizes[0], DType::kF32, Placement::kContiguous);
    Tensor y(other, {o.sizes.T, o.sizes.O}, DType::kF32);
    const std::string text = fmt::format("{:016x}{:016x}", 0x696e6b2d63706531u, id);
    tuning_of(other)->adopt(
        {{forward_problem(same.x, same.w, {}, y).shape.text(), text + std::string(96, '0')}});
    linear_forward(Device::kCuda, same.x, same.w, {}, y);
    results.push_back(to_values(y));
    EXPECT_LE(rel_frobenius(results.back(), o.y()), 2e-6);
  }
  EXPECT_NE(results[0], results[2]);  // else a forgotten choice would not show
}

TEST_F(CudaLinear, ACardWithoutBf16SaysSo) {
  cuda_on_cpu::set_capability(7, 5);
  Runtime old({}, make_backend(Device::kCuda));
  const Operands o(old, kSizes[1], DType::kBF16, Placement::kContiguous);
  Tensor y(old, {o.sizes.T, o.sizes.O}, DType::kBF16);
  try {
    linear_forward(Device::kCuda, o.x, o.w, {}, y);
    ADD_FAILURE() << "bf16 ran on a card of capability 7.5";
  } catch (const Error& error) {
    EXPECT_NE(error.hint().find("model.dtype: fp16"), std::string::npos) << error.what();
  }
  cuda_on_cpu::set_capability(9, 0);
}
#endif

}  // namespace
}  // namespace ink
