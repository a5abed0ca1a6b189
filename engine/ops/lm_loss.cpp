#include "engine/ops/lm_loss.h"

#include <algorithm>
#include <utility>

#include "engine/autograd/backward.h"
#include "engine/ops/linear.h"
#include "engine/ops/lm_loss_chunk.h"

namespace ink {
namespace {

DType sum_dtype(const Tensor& x) { return x.dtype() == DType::kF64 ? DType::kF64 : DType::kF32; }

void check(const Tensor& x_TC, const Tensor& w_VC, const Tensor& labels_T, const Tensor& weight_T) {
  constexpr const char* kOp = "lm_loss";
  CHECK_OP(kOp, x_TC.rank() == 2 && w_VC.rank() == 2 && x_TC.cols() == w_VC.cols(),
           "x_TC is {}, w_VC is {}", x_TC.shape().str(), w_VC.shape().str());
  CHECK_OP(kOp, x_TC.dtype() == w_VC.dtype(), "w_VC is {}, x_TC is {}", name_of(w_VC.dtype()),
           name_of(x_TC.dtype()));
  CHECK_OP(kOp, labels_T.dtype() == DType::kI32 && labels_T.numel() == x_TC.rows(),
           "labels_T is {} {}, x_TC has T={}", name_of(labels_T.dtype()), labels_T.shape().str(),
           x_TC.rows());
  CHECK_OP(kOp, !weight_T.defined() || weight_T.numel() == x_TC.rows(),
           "weight_T has {} elements, x_TC has T={}", weight_T.numel(), x_TC.rows());
}

// The logits of a chunk and the gradients of a group of chunks, one memory where the dtypes agree,
// kept over the groups.
class LossBuffers {
 public:
  LossBuffers(Runtime& runtime, const LossShape& shape, const LossRows& cut, bool with_gradient)
      : logits_(runtime, {cut.chunk, shape.vocabulary}, shape.logits, MemoryTag::kWorkspace) {
    if (!with_gradient) return;
    dlogits_ = shape.dlogits == shape.logits ? logits_
                                             : Tensor(runtime, {cut.group, shape.vocabulary},
                                                      shape.dlogits, MemoryTag::kWorkspace);
  }
  [[nodiscard]] Tensor logits(int64_t rows) const { return logits_.slice(0, rows); }
  [[nodiscard]] Tensor dlogits(int64_t begin, int64_t rows) const {
    return dlogits_.defined() ? dlogits_.slice(begin, rows) : Tensor();
  }

 private:
  Tensor logits_, dlogits_;
};

// The gradient of the weight over the groups. One in 16 bits would be rounded with every group:
// where there are several they meet in f32, and it is rounded once.
class WeightGradient {
 public:
  WeightGradient(Tensor& dw_VC, WriteMode mode, bool sums) : dw_VC_(dw_VC), mode_(mode) {
    if (!sums) return;
    sum_VC_ = Tensor(dw_VC.runtime(), dw_VC.shape(), DType::kF32, MemoryTag::kWorkspace);
  }
  void add(const Tensor& dlogits_RV, const Tensor& x_RC) {
    Tensor& to = sum_VC_.defined() ? sum_VC_ : dw_VC_;
    const WriteMode first = sum_VC_.defined() ? WriteMode::kOverwrite : mode_;
    linear_backward_weight(to.device(), dlogits_RV, x_RC,
                           std::exchange(begun_, true) ? WriteMode::kAccumulate : first, to);
  }
  void finish() {
    if (!sum_VC_.defined()) return;
    if (mode_ == WriteMode::kOverwrite) {
      cast(dw_VC_.device(), sum_VC_, dw_VC_);
    } else {
      accumulate(dw_VC_.device(), sum_VC_, dw_VC_);
    }
  }

 private:
  Tensor& dw_VC_;
  WriteMode mode_;
  bool begun_ = false;
  Tensor sum_VC_;
};

// One call: what it is given, how it is cut, and what comes of it.
struct LossWork {
  const Tensor& x_TC;
  const Tensor& w_VC;
  const Tensor& labels_T;
  const Tensor& weight_T;
  const LmLossOptions& options;
  LossShape shape;
  LossRows cut;
  LmLoss out = {};
  Tensor dx_TC = {};  // undefined: not wanted

  void chunk(int64_t begin, int64_t count, Tensor logits_RV, Tensor dlogits_RV) {
    const Device device = x_TC.device();
    Tensor loss_R = out.token_loss_T.slice(begin, count);
    Tensor correct_R = out.correct_T.slice(begin, count);
    linear_forward(device, x_TC.slice(begin, count), w_VC, {}, logits_RV);
    cross_entropy(device, labels_T.slice(begin, count),
                  weight_T.defined() ? weight_T.slice(begin, count) : Tensor(), options, logits_RV,
                  dlogits_RV, loss_R, correct_R);
  }

  void group(int64_t begin, int64_t count, const LossBuffers& buffers, WeightGradient* dw) {
    for (int64_t at = 0; at < count; at += cut.chunk) {
      const int64_t rows = std::min(cut.chunk, count - at);
      chunk(begin + at, rows, buffers.logits(rows), buffers.dlogits(at, rows));
    }
    const Tensor dlogits_RV = buffers.dlogits(0, count);
    if (dx_TC.defined()) {
      Tensor dx_RC = dx_TC.slice(begin, count);
      linear_backward_input(x_TC.device(), dlogits_RV, w_VC, WriteMode::kOverwrite, dx_RC);
    }
    if (dw != nullptr) dw->add(dlogits_RV, x_TC.slice(begin, count));
  }

  void run(bool with_gradient, WeightGradient* dw) {
    const LossBuffers buffers(x_TC.runtime(), shape, cut, with_gradient);
    int64_t begin = 0;
    do {  // once for an empty stream too: it makes the weight's gradient zero
      const int64_t count = std::min(cut.group, shape.rows - begin);
      group(begin, count, buffers, dw);
      begin += count;
    } while (begin < shape.rows);
    if (dw != nullptr) dw->finish();
  }
};

void check_seed(const Tensor& seed) {
  if (seed.device() != Device::kCpu) return;
  const double value =
      seed.dtype() == DType::kF64 ? *seed.data<double>() : double{*seed.data<float>()};
  CHECK_OP("lm_loss", value == 1.0, "is the root of backward and seeded with 1, got {}", value);
}

}  // namespace

LmLoss lm_loss(const Tensor& x_TC, const Tensor& w_VC, const Tensor& labels_T,
               const Tensor& weight_T, const LmLossOptions& options) {
  check(x_TC, w_VC, labels_T, weight_T);
  Runtime& runtime = x_TC.runtime();
  const Device device = x_TC.device();
  const Handle w(w_VC);
  const bool wanted = needs_record(runtime, {x_TC}, {w});
  const bool wants_dw = wanted && w.wants_grad();
  const LossShape shape{.rows = x_TC.rows(),
                        .vocabulary = w_VC.rows(),
                        .width = w_VC.cols(),
                        .logits = sum_dtype(x_TC),
                        .dlogits = x_TC.dtype(),
                        .dw = wants_dw ? leaf_of(w_VC)->grad_dtype : sum_dtype(x_TC)};
  const int64_t bytes = options.chunk_bytes > 0 ? options.chunk_bytes : loss_chunk_bytes(device);
  LossWork work{x_TC, w_VC, labels_T, weight_T, options, shape, loss_rows(shape, device, bytes)};
  work.out = {Tensor(runtime, {}, shape.logits), Tensor(runtime, {shape.rows}, shape.logits),
              Tensor(runtime, {shape.rows}, DType::kI32)};
  if (wanted && needs_record(runtime, {x_TC}, {}))
    work.dx_TC = Tensor(runtime, x_TC.shape(), x_TC.dtype());
  if (wants_dw) {
    w.accumulate([&](Tensor& dw_VC, WriteMode mode) {
      WeightGradient dw(dw_VC, mode, work.cut.sums);
      work.run(wanted, &dw);
    });
  } else {
    work.run(wanted, nullptr);
  }
  LmLoss out = work.out;
  weighted_mean(device, out.token_loss_T, weight_T, options, out.loss);
  // The handle stays open until backward has passed, like that of any other use of w.
  out.loss = record(out.loss, {.op = "lm_loss",
                               .inputs = {x_TC},
                               .saved = {work.dx_TC},
                               .handles = {w},
                               .backward = [](Node& self, Grads& dys) -> Grads {
                                 check_seed(dys[0]);
                                 return {self.saved[0].get()};
                               },
                               .rematerialize = nullptr});
  return out;
}

}  // namespace ink
