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

// Logits and their gradient, one memory where the dtypes agree, kept over the chunks.
class ChunkBuffers {
 public:
  ChunkBuffers(const Tensor& x_TC, int64_t rows, int64_t vocabulary, bool with_gradient)
      : logits_(x_TC.runtime(), {rows, vocabulary}, sum_dtype(x_TC), MemoryTag::kWorkspace) {
    if (!with_gradient) return;
    dlogits_ = x_TC.dtype() == logits_.dtype() ? logits_
                                               : Tensor(x_TC.runtime(), {rows, vocabulary},
                                                        x_TC.dtype(), MemoryTag::kWorkspace);
  }
  [[nodiscard]] Tensor logits(int64_t rows) const { return logits_.slice(0, rows); }
  [[nodiscard]] Tensor dlogits(int64_t rows) const {
    return dlogits_.defined() ? dlogits_.slice(0, rows) : Tensor();
  }

 private:
  Tensor logits_, dlogits_;
};

// The gradient of the weight over the chunks. One in 16 bits would be rounded with every chunk:
// where there are several they meet in f32, and it is rounded once.
class WeightGradient {
 public:
  WeightGradient(Tensor& dw_VC, WriteMode mode, int64_t chunks) : dw_VC_(dw_VC), mode_(mode) {
    if (chunks < 2 || size_of(dw_VC.dtype()) > 2) return;
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
  const int64_t rows = x_TC.rows(), vocabulary = w_VC.rows();
  const Handle w(w_VC);
  const bool wanted = needs_record(runtime, {x_TC}, {w});
  const bool wants_dx = wanted && needs_record(runtime, {x_TC}, {});

  LmLoss out{Tensor(runtime, {}, sum_dtype(x_TC)), Tensor(runtime, {rows}, sum_dtype(x_TC)),
             Tensor(runtime, {rows}, DType::kI32)};
  Tensor dx_TC;
  if (wants_dx) dx_TC = Tensor(runtime, x_TC.shape(), x_TC.dtype());

  const int64_t bytes = options.chunk_bytes > 0 ? options.chunk_bytes : loss_chunk_bytes(device);
  const int64_t chunk = loss_chunk_rows(rows, vocabulary * size_of(sum_dtype(x_TC)), bytes);
  const auto work = [&](WeightGradient* dw) {
    const ChunkBuffers buffers(x_TC, chunk, vocabulary, wanted);
    int64_t begin = 0;
    do {  // once for an empty stream too: it makes the weight's gradient zero
      const int64_t count = std::min(chunk, rows - begin);
      const Tensor x_RC = x_TC.slice(begin, count);
      Tensor logits_RV = buffers.logits(count), dlogits_RV = buffers.dlogits(count);
      Tensor loss_R = out.token_loss_T.slice(begin, count);
      Tensor correct_R = out.correct_T.slice(begin, count);
      linear_forward(device, x_RC, w_VC, {}, logits_RV);
      cross_entropy(device, labels_T.slice(begin, count),
                    weight_T.defined() ? weight_T.slice(begin, count) : Tensor(), options,
                    logits_RV, dlogits_RV, loss_R, correct_R);
      if (wants_dx) {
        Tensor dx_RC = dx_TC.slice(begin, count);
        linear_backward_input(device, dlogits_RV, w_VC, dx_RC);
      }
      if (dw != nullptr) dw->add(dlogits_RV, x_RC);
      begin += count;
    } while (begin < rows);
    if (dw != nullptr) dw->finish();
  };
  if (wanted && w.wants_grad()) {
    w.accumulate([&](Tensor& dw_VC, WriteMode mode) {
      WeightGradient dw(dw_VC, mode, chunk > 0 ? (rows + chunk - 1) / chunk : 1);
      work(&dw);
    });
  } else {
    work(nullptr);
  }
  weighted_mean(device, out.token_loss_T, weight_T, options, out.loss);
  // The handle stays open until backward has passed, like that of any other use of w.
  out.loss = record(out.loss, {.op = "lm_loss",
                               .inputs = {x_TC},
                               .saved = {dx_TC},
                               .handles = {w},
                               .backward = [](Node& self, Grads& dys) -> Grads {
                                 check_seed(dys[0]);
                                 return {self.saved[0].get()};
                               },
                               .rematerialize = nullptr});
  return out;
}

}  // namespace ink
