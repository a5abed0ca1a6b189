// Op tests as data: one row per op yields all of its checks, each a GoogleTest case
// `<row>.<check>`.
//
//   forward_<dtype>      outputs against the composed f64 form, at the rounded inputs
//   finite_differences   the f64 gradient of every input against central differences
//   gradients_<dtype>    against the f64 gradient at the same rounded inputs and seeds
//   strided              inputs and incoming gradients as columns of wider tensors full of NaN
//   empty                no rows: outputs of the composed form's size, parameter gradients zero
//   recompute            none, selective and full recompute give equal bits
//   candidates           every candidate of every slot in `slots`, in every dtype; on a card one
//                        check per label, candidates_<label>
//
// The composed form is the specification of the op. Data are the same on every machine. Ops
// without an autograd node (optimizer kernels, casts) are rows with differentiable = 0.
#pragma once

#include <deque>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/kernels/kernel.h"
#include "engine/tensor/tensor.h"
#include "tests/support/values.h"

namespace ink {

// An activation wants a gradient and may be strided; a parameter wants one that is added to its
// leaf (f32 for 16-bit dtypes, unless the row says otherwise); a constant (ids, tables, states)
// wants none.
enum class Role : uint8_t { kActivation, kParameter, kConstant };

struct OpInput {
  std::string name;
  Shape shape;
  Role role = Role::kActivation;
  double low = -1, high = 1;                              // uniform, unless `values` is set
  std::function<Values(const Shape& shape)> values = {};  // also called with an emptied shape
  std::optional<DType> dtype = {};  // instead of the row's; a float one becomes f64 in f64 runs
  // Does the first dimension count rows, which the empty check takes away?
  std::optional<bool> per_row = {};  // default: all but parameters
};

// Relative Frobenius distances, per output and per gradient. Those of 16 bits are twice the error
// of an op of torch (2.11, on the processor) that rounds nothing but its result, which every one
// does: 1.65e-3 in bf16 and 2.05e-4 in f16, measured with linear.
struct Tolerance {
  double f64 = 1e-12, f32 = 1e-6, bf16 = 3.3e-3, f16 = 4.1e-4;
  double gradient_f32 = 1e-5, gradient_bf16 = 3.3e-3, gradient_f16 = 4.1e-4;
  double finite_difference = 1e-5;
};

struct OpCase {
  std::string name;
  std::vector<OpInput> inputs;
  // Parameters and activations arrive as leaves; inputs[0].runtime() is the runtime.
  std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)> run;
  std::function<std::vector<Values>(const std::vector<Values>& inputs)> composed;
  Tolerance tolerance = {};
  std::vector<KernelSlotBase*> slots = {};  // what the row exercises, backward included
  std::vector<DType> dtypes = {DType::kF64, DType::kF32, DType::kBF16, DType::kF16};
  int differentiable = -1;        // the first so many outputs have a gradient; -1 = all
  bool unit_seeds = false;        // a loss: may only be seeded with 1
  bool in_place = false;          // writes over its activations
  bool strided = true;            // takes strided activations
  bool strided_gradients = true;  // takes strided incoming gradients
  bool empty = true;
  bool recompute = true;
  DType bf16_gradients = DType::kF32;  // of parameters in bf16
};

bool register_op_case(OpCase row, const char* file, int line);

// What of row.dtypes a device computes in. There is no f64 on a card, and no bf16 arithmetic before
// sm_80: such a card computes in f16.
[[nodiscard]] std::vector<DType> dtypes_on(const OpCase& row, Device device);

// Adds the same checks on another device for every row, as `<row>_on_<device>.<check>`, in every
// dtype that the device has; the reference stays the f64 form on the CPU. Called by main().
void register_device_checks(Device device);

// Every row of this executable, for the coverage test.
[[nodiscard]] const std::deque<OpCase>& op_cases();

}  // namespace ink

#define REGISTER_OP_CASE_NAME(line) op_case_at_##line
#define REGISTER_OP_CASE_AT(line, ...)                             \
  [[maybe_unused]] static const bool REGISTER_OP_CASE_NAME(line) = \
      ::ink::register_op_case(__VA_ARGS__, __FILE__, line)
// REGISTER_OP_CASE({.name = "rms_norm", ...});
#define REGISTER_OP_CASE(...) REGISTER_OP_CASE_AT(__LINE__, __VA_ARGS__)
