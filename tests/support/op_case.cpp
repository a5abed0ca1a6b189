#include "tests/support/op_case.h"

#include <gtest/gtest.h>

#include <cstring>
#include <deque>
#include <memory>
#include <set>

#include "engine/core/cpu_features.h"
#include "engine/tensor/devices.h"
#include "tests/support/compare.h"
#include "tests/support/gradcheck.h"
#include "tests/support/op_run.h"

namespace ink {
namespace {

double output_tolerance(const OpCase& row, DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return row.tolerance.f64;
    case DType::kF32:
      return row.tolerance.f32;
    case DType::kBF16:
      return row.tolerance.bf16;
    default:
      return row.tolerance.f16;
  }
}

double gradient_tolerance(const OpCase& row, DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return row.tolerance.f64;
    case DType::kF32:
      return row.tolerance.gradient_f32;
    case DType::kBF16:
      return row.tolerance.gradient_bf16;
    default:
      return row.tolerance.gradient_f16;
  }
}

void expect_outputs(const OpCase& row, const std::vector<Values>& got,
                    const std::vector<Values>& want, double tolerance, const std::string& what) {
  ASSERT_EQ(got.size(), want.size()) << row.name << ": number of outputs";
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].size(), want[i].size()) << row.name << ": elements of output " << i;
    EXPECT_LE(rel_frobenius(got[i], want[i]), tolerance)
        << row.name << " " << what << ": output " << i;
  }
}

void expect_gradients(const OpCase& row, const OpResult& got, const OpResult& want,
                      double tolerance, const std::string& what) {
  for (size_t i = 0; i < row.inputs.size(); ++i) {
    if (!wants_gradient(row, i)) continue;
    EXPECT_LE(rel_frobenius(got.gradients[i], want.gradients[i]), tolerance)
        << row.name << " " << what << ": gradient of " << row.inputs[i].name;
  }
}

// A run in `dtype` against the composed form and the f64 gradient, at the same rounded inputs. The
// reference runs first, so that a slot's last label is that of the run under test.
void compare_with_reference(const OpCase& row, const OpRun& how, const std::string& what) {
  const std::vector<Shape> shapes = input_shapes(row);
  const std::vector<Values> inputs = input_values(row, shapes, how.dtype);
  const bool gradients = how.backward && row.differentiable != 0;
  OpResult want;
  if (gradients) want = run_case(row, inputs, shapes, {.dtype = DType::kF64});
  const OpResult got = run_case(row, inputs, shapes, how);
  expect_outputs(row, got.outputs, row.composed(inputs), output_tolerance(row, how.dtype), what);
  if (gradients) expect_gradients(row, got, want, gradient_tolerance(row, how.dtype), what);
}

// The same behind a consumer, which rounds too, and with rebuilt activations, which runs the
// kernels of recompute.
void compare_consumed(const OpCase& row, DType dtype, Runtime* card, const std::string& what) {
  if (row.differentiable == 0 || !row.recompute) return;
  const std::vector<Shape> shapes = input_shapes(row);
  const std::vector<Values> inputs = input_values(row, shapes, dtype);
  const OpRun selective{
      .dtype = dtype, .consumer = true, .recompute = Recompute::kSelective, .card = card};
  const OpResult want = run_case(row, inputs, shapes, {.consumer = true});
  const OpResult got = run_case(row, inputs, shapes, selective);
  expect_gradients(row, got, want, 2 * gradient_tolerance(row, dtype), what + ", recomputed");
}

Device device_of(Runtime* card) { return card == nullptr ? Device::kCpu : card->device(); }

void check_forward(const OpCase& row, Runtime* card, DType dtype) {
  compare_with_reference(row, {.dtype = dtype, .backward = false, .card = card}, "forward");
}

void check_gradients(const OpCase& row, Runtime* card, DType dtype) {
  compare_with_reference(row, {.dtype = dtype, .card = card}, "gradients");
}

void check_finite_differences(const OpCase& row, Runtime*) {
  const std::vector<Shape> shapes = input_shapes(row);
  const std::vector<Values> inputs = input_values(row, shapes, DType::kF64);
  const OpResult claimed = run_case(row, inputs, shapes, {});
  const ScalarFunction projection = [&](const std::vector<Values>& at) {
    const OpResult result = run_case(row, at, shapes, {.backward = false});
    double sum = 0;
    for (size_t k = 0; k < differentiable_outputs(row, result.outputs.size()); ++k) {
      const Values seed = seed_values(row, k, result.outputs[k].size());
      for (size_t i = 0; i < seed.size(); ++i) sum += seed[i] * result.outputs[k][i];
    }
    return sum;
  };
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!wants_gradient(row, i)) continue;
    const std::string label = row.name + "." + row.inputs[i].name;
    EXPECT_EQ(check_gradient(projection, inputs, i, claimed.gradients[i], label,
                             {.tolerance = row.tolerance.finite_difference}),
              "");
  }
}

void check_strided(const OpCase& row, Runtime* card) {
  for (const DType dtype : dtypes_on(row, device_of(card)))
    compare_with_reference(row, {.dtype = dtype, .strided = true, .card = card},
                           fmt::format("strided {}", name_of(dtype)));
}

void check_empty(const OpCase& row, Runtime* card) {
  const std::vector<Shape> shapes = empty_shapes(row);
  for (const DType dtype : dtypes_on(row, device_of(card))) {
    const std::vector<Values> inputs = input_values(row, shapes, dtype);
    const OpResult got = run_case(row, inputs, shapes, {.dtype = dtype, .card = card});
    expect_outputs(row, got.outputs, row.composed(inputs), output_tolerance(row, dtype), "empty");
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!wants_gradient(row, i)) continue;
      EXPECT_EQ(max_abs(got.gradients[i], Values(inputs[i].size(), 0.0)), 0)
          << row.name << " empty " << name_of(dtype) << ": gradient of " << row.inputs[i].name;
    }
  }
}

bool equal_bits(const Values& a, const Values& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0);
}

void check_recompute(const OpCase& row, Runtime* card) {
  const std::vector<Shape> shapes = input_shapes(row);
  for (const DType dtype : dtypes_on(row, device_of(card))) {
    const std::vector<Values> inputs = input_values(row, shapes, dtype);
    OpRun how{.dtype = dtype, .consumer = true, .card = card};
    const OpResult kept = run_case(row, inputs, shapes, how);
    for (const Recompute policy : {Recompute::kSelective, Recompute::kFull}) {
      how.recompute = policy;
      const OpResult again = run_case(row, inputs, shapes, how);
      const char* name = policy == Recompute::kFull ? "full" : "selective";
      for (size_t i = 0; i < kept.outputs.size(); ++i)
        EXPECT_TRUE(equal_bits(again.outputs[i], kept.outputs[i]))
            << row.name << " " << name_of(dtype) << ", " << name << ": output " << i;
      for (size_t i = 0; i < inputs.size(); ++i)
        EXPECT_TRUE(equal_bits(again.gradients[i], kept.gradients[i]))
            << row.name << " " << name_of(dtype) << ", " << name << ": gradient of "
            << row.inputs[i].name;
    }
  }
}

// Must a candidate of this label have run on this machine? Labels name the instructions they need.
// On the card a candidate may take some shapes only; tests/cuda asks that some row runs it.
bool must_run(std::string_view label, Device device) {
  if (device == Device::kCuda) return false;
  if (label.find("amx") != std::string_view::npos) return has_amx_bf16();
  if (label.starts_with("avx512_bf16")) return has_avx512_bf16();
  if (label.starts_with("avx512")) return has_avx512();
  if (label.starts_with("avx2")) return has_avx2();
  return true;
}

class ChosenKernel {
 public:
  ChosenKernel(KernelSlotBase& slot, Device device, std::string_view label)
      : slot_(slot), device_(device) {
    slot_.choose(device_, label);
  }
  ~ChosenKernel() { slot_.choose(device_, {}); }
  ChosenKernel(const ChosenKernel&) = delete;
  ChosenKernel& operator=(const ChosenKernel&) = delete;

 private:
  KernelSlotBase& slot_;
  Device device_;
};

void check_candidate(const OpCase& row, KernelSlotBase& slot, std::string_view label,
                     Runtime* card) {
  const Device device = device_of(card);
  bool ran = false;
  for (const DType dtype : dtypes_on(row, device)) {
    const ChosenKernel chosen(slot, device, label);
    const std::string what = fmt::format("{} by {}, {}", slot.name(), label, name_of(dtype));
    compare_with_reference(row, {.dtype = dtype, .card = card}, what);
    compare_consumed(row, dtype, card, what);
    const char* last = slot.last_label(device);  // nullptr: the op had nothing to do
    ran = ran || (last != nullptr && last == label);
  }
  EXPECT_TRUE(ran || !must_run(label, device))
      << row.name << ": candidate " << label << " of " << slot.name() << " never ran";
}

// Those of one label; an empty one stands for all.
void check_candidates(const OpCase& row, Runtime* card, std::string_view only) {
  const Device device = device_of(card);
  for (KernelSlotBase* slot : row.slots) {
    ASSERT_TRUE(slot->has(device)) << slot->name() << " has no kernel on " << name_of(device);
    for (const std::string_view label : slot->labels(device)) {
      if (only.empty() || label == only) check_candidate(row, *slot, label, card);
    }
  }
}

using Check = std::function<void(const OpCase&, Runtime* card)>;

// The checks of a row share a card: its libraries compile plans for the row's shapes, half a second
// each by cuDNN. What a failure leaves behind is not handed on.
class OpCheck : public ::testing::Test {
 public:
  OpCheck(const OpCase& row, Device device, Check check)
      : row_(row), device_(device), check_(std::move(check)) {}
  static void TearDownTestSuite() { card_.reset(); }
  void TestBody() override {
    if (device_ != Device::kCpu && card_ == nullptr)
      card_ = std::make_unique<Runtime>(RuntimeOptions{}, make_backend(device_));
    check_(row_, card_.get());
  }
  void TearDown() override {
    if (HasFailure()) card_.reset();
  }

 private:
  static inline std::unique_ptr<Runtime> card_;
  const OpCase& row_;
  Device device_;
  Check check_;
};

// A row never moves: its checks refer to it.
std::deque<OpCase>& rows() {
  static std::deque<OpCase> all;
  return all;
}

struct Suite {
  const OpCase& row;
  Device device;
  std::string name;
  const char* file;
  int line;

  void add(const std::string& check_name, Check check) const {
    ::testing::RegisterTest(name.c_str(), check_name.c_str(), nullptr, nullptr, file, line,
                            [&row = row, device = device, check = std::move(check)]() -> OpCheck* {
                              // NOLINTNEXTLINE(cppcoreguidelines-owning-memory): GoogleTest owns it
                              return new OpCheck(row, device, check);
                            });
  }
};

void add_checks(const Suite& suite) {
  const OpCase& row = suite.row;
  for (const DType dtype : dtypes_on(row, suite.device)) {
    suite.add(fmt::format("forward_{}", name_of(dtype)),
              [=](const OpCase& it, Runtime* card) { check_forward(it, card, dtype); });
    if (row.differentiable != 0 && dtype != DType::kF64)
      suite.add(fmt::format("gradients_{}", name_of(dtype)),
                [=](const OpCase& it, Runtime* card) { check_gradients(it, card, dtype); });
  }
  if (row.differentiable != 0 && suite.device == Device::kCpu)
    suite.add("finite_differences", check_finite_differences);
  if (row.strided) suite.add("strided", check_strided);
  if (row.empty) suite.add("empty", check_empty);
  if (row.differentiable != 0 && row.recompute) suite.add("recompute", check_recompute);
}

// A check per label, so that one can be left out.
void add_candidates(const Suite& suite) {
  std::set<std::string_view> labels;
  for (const KernelSlotBase* slot : suite.row.slots) {
    for (const std::string_view label : slot->labels(suite.device)) labels.insert(label);
  }
  for (const std::string_view label : labels)
    suite.add(fmt::format("candidates_{}", label),
              [=](const OpCase& it, Runtime* card) { check_candidates(it, card, label); });
}

}  // namespace

std::vector<DType> dtypes_on(const OpCase& row, Device device) {
  std::vector<DType> dtypes = row.dtypes;
  if (device == Device::kCpu) return dtypes;
  std::erase(dtypes, DType::kF64);
  if (device_facts(device, 0).capability < 80) std::erase(dtypes, DType::kBF16);
  return dtypes;
}

const std::deque<OpCase>& op_cases() { return rows(); }

bool register_op_case(OpCase row, const char* file, int line) {
  rows().push_back(std::move(row));
  const Suite suite{rows().back(), Device::kCpu, rows().back().name, file, line};
  add_checks(suite);
  if (!suite.row.slots.empty())  // before main() the labels are not all known
    suite.add("candidates",
              [](const OpCase& it, Runtime* card) { check_candidates(it, card, {}); });
  return true;
}

void register_device_checks(Device device) {
  for (const OpCase& row : rows()) {
    const Suite suite{row, device, fmt::format("{}_on_{}", row.name, name_of(device)), __FILE__,
                      __LINE__};
    add_checks(suite);
    add_candidates(suite);
  }
}

}  // namespace ink
