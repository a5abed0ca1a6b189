// Linear by cuBLASLt: 2 * T * I * O flops per product at the rate of the tensor cores, operands as
// they lie, the bias in the epilogue, gradients added by the product itself.
#include "engine/kernels/cuda/cublaslt_plan.h"
#include "engine/kernels/cuda/linear_rows.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

void run(Runtime& runtime, const GemmProblem& problem) {
  static_cast<CudaBackend&>(runtime.backend()).resource<CublasLt>().run(runtime, problem);
}

// The epilogue reads the bias 16 bytes at a time. The library's preferences name alignments of the
// matrices alone, so it does not know of a bias that lies elsewhere, and faults.
bool epilogue_takes(const Tensor& bias_O, DType out) {
  return bias_O.dtype() == out && reinterpret_cast<uintptr_t>(bias_O.raw()) % 16 == 0;
}

void forward(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O, Tensor& y_TO) {
  if (y_TO.numel() == 0) return;
  if (x_TI.cols() == 0) return fill_rows(bias_O, y_TO);
  const Tensor bias = bias_O.defined() && !epilogue_takes(bias_O, y_TO.dtype())
                          ? copied_bias(bias_O, y_TO.dtype())
                          : bias_O;
  run(y_TO.runtime(), forward_problem(x_TI, w_OI, bias, y_TO));
}

// A gradient over no terms.
void add_nothing(WriteMode mode, Tensor& gradient) {
  if (mode == WriteMode::kOverwrite) fill_rows({}, gradient);
}

void backward_input(const Tensor& dy_TO, const Tensor& w_OI, WriteMode mode, Tensor& dx_TI) {
  if (dx_TI.numel() == 0) return;
  if (dy_TO.cols() == 0) return add_nothing(mode, dx_TI);
  run(dx_TI.runtime(), input_problem(dy_TO, w_OI, mode, dx_TI));
}

void backward_weight(const Tensor& dy_TO, const Tensor& x_TI, WriteMode mode, Tensor& dw_OI) {
  if (dw_OI.numel() == 0) return;
  if (dy_TO.rows() == 0) return add_nothing(mode, dw_OI);
  run(dw_OI.runtime(), weight_problem(dy_TO, x_TI, mode, dw_OI));
}

REGISTER_KERNEL(linear_forward, kCuda, cublaslt, forward);
REGISTER_KERNEL(linear_backward_input, kCuda, cublaslt, backward_input);
REGISTER_KERNEL(linear_backward_weight, kCuda, cublaslt, backward_weight);

}  // namespace
}  // namespace ink
