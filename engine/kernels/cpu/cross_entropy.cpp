// Loss and gradient of rows of logits, two passes over a row: the log-sum-exp (and the sum, for
// smoothing), then the gradient.
#include <cmath>
#include <cstring>
#include <limits>

#include "engine/kernels/cpu/vector_math.h"
#include "engine/ops/lm_loss.h"

namespace ink {
namespace {

constexpr int64_t kBlock = 1024;  // logits that stay in the first-level cache between max and sum

template <class Acc>
struct RowSums {
  Acc max = -std::numeric_limits<Acc>::infinity();
  double exps = 0;  // of logit - max
  double logits = 0;
};

template <class Acc>
RowSums<Acc> sum_row(const Acc* logits, int64_t vocabulary) {
  RowSums<Acc> row;
  for (int64_t begin = 0; begin < vocabulary; begin += kBlock) {
    const Acc* x = logits + begin;
    const int64_t count = std::min(kBlock, vocabulary - begin);
    Acc max = row.max, exps = 0, sum = 0;
#pragma omp simd reduction(max : max)
    for (int64_t j = 0; j < count; ++j) max = x[j] > max ? x[j] : max;
#pragma omp simd reduction(+ : exps, sum)
    for (int64_t j = 0; j < count; ++j) {
      exps += exp_lane(x[j] - max);
      sum += x[j];
    }
    const double rescale = max > row.max ? std::exp(static_cast<double>(row.max - max)) : 1.0;
    row.exps = row.exps * rescale + static_cast<double>(exps);
    row.logits += static_cast<double>(sum);
    row.max = max;
  }
  return row;
}

// d logit = scale * (probability * (1 + 2 z lse) - s / V), the label's entry less (1 - s) * scale.
template <class Acc, class T>
void write_gradient(const Acc* logits, int64_t vocabulary, int64_t label, Acc lse, Acc factor,
                    Acc shift, Acc at_label, T* gradient) {
  const Acc of_label = exp_lane(logits[label] - lse) * factor - shift - at_label;
#pragma omp simd
  for (int64_t j = 0; j < vocabulary; ++j)
    gradient[j] = narrow<T>(static_cast<compute_t<T>>(exp_lane(logits[j] - lse) * factor - shift));
  gradient[label] = static_cast<T>(of_label);
}

// The label is the first of the largest logits.
template <class Acc>
bool is_arg_max(const Acc* logits, int64_t label, Acc max) {
  if (!(logits[label] == max)) return false;
  for (int64_t j = 0; j < label; ++j) {
    if (logits[j] == max) return false;
  }
  return true;
}

struct Scales {
  double divisor = 1.0, gradient = 1.0;
};

Scales scales_of(const LmLossOptions& options) {
  if (!options.step_state.defined()) return {options.divisor, 1.0};
  StepState state;
  std::memcpy(&state, options.step_state.raw(), sizeof state);
  return {state.batch.divisor, state.loss_scale};
}

template <class Isa, class Acc>
struct Rows {
  const LmLossOptions& options;
  Scales scales;
  Tensor &logits_RV, &dlogits_RV, &loss_R, &correct_R;

  void skip(int64_t row) const {
    loss_R.data<Acc>()[row] = 0;
    correct_R.data<int32_t>()[row] = 0;
    if (!dlogits_RV.defined()) return;
    visit_float(dlogits_RV.dtype(),
                [&]<class T>() { std::fill_n(at<T>(dlogits_RV, row, 0), dlogits_RV.cols(), T{}); });
  }

  void run(int64_t row, int64_t label, double weight) const {
    const Acc* logits = at<Acc>(logits_RV, row, 0);
    const int64_t vocabulary = logits_RV.cols();
    RowSums<Acc> sums;
    Isa::run([&] { sums = sum_row(logits, vocabulary); });
    const double s = options.label_smoothing, z = options.z_loss;
    const double lse = static_cast<double>(sums.max) + std::log(sums.exps);
    const double mean = sums.logits / static_cast<double>(vocabulary);
    loss_R.data<Acc>()[row] = static_cast<Acc>(
        (1 - s) * (lse - static_cast<double>(logits[label])) + s * (lse - mean) + z * lse * lse);
    correct_R.data<int32_t>()[row] = is_arg_max(logits, label, sums.max) ? 1 : 0;
    if (!dlogits_RV.defined()) return;
    const double scale = weight / scales.divisor * scales.gradient;
    visit_float(dlogits_RV.dtype(), [&]<class T>() {
      T* gradient = at<T>(dlogits_RV, row, 0);
      Isa::run([&] {
        write_gradient(logits, vocabulary, label, static_cast<Acc>(lse),
                       static_cast<Acc>(scale * (1 + 2 * z * lse)),
                       static_cast<Acc>(scale * s / static_cast<double>(vocabulary)),
                       static_cast<Acc>(scale * (1 - s)), gradient);
      });
    });
  }
};

double element(const Tensor& values, int64_t i) {
  if (!values.defined()) return 1.0;
  return values.dtype() == DType::kF64 ? values.data<double>()[i] : double{values.data<float>()[i]};
}

template <class Isa, class Acc>
void run_rows(const Tensor& labels_R, const Tensor& weight_R, const Rows<Isa, Acc>& rows) {
  const int32_t* labels = labels_R.data<int32_t>();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < labels_R.numel(); ++row) {
    if (labels[row] < 0) {
      rows.skip(row);
    } else {
      rows.run(row, labels[row], element(weight_R, row));
    }
  }
}

template <class Isa>
void forward(const Tensor& labels_R, const Tensor& weight_R, const LmLossOptions& options,
             Tensor& logits_RV, Tensor& dlogits_RV, Tensor& loss_R, Tensor& correct_R) {
  for (int64_t row = 0; row < labels_R.numel(); ++row) {
    const int32_t label = labels_R.data<int32_t>()[row];
    CHECK_OP("cross_entropy", label < logits_RV.cols(), "label {} of row {}, V={}", label, row,
             logits_RV.cols());
  }
  const Scales scales = scales_of(options);
  if (logits_RV.dtype() == DType::kF64) {
    run_rows(labels_R, weight_R,
             Rows<Isa, double>{options, scales, logits_RV, dlogits_RV, loss_R, correct_R});
  } else {
    run_rows(labels_R, weight_R,
             Rows<Isa, float>{options, scales, logits_RV, dlogits_RV, loss_R, correct_R});
  }
}

void mean(const Tensor& token_loss_T, const Tensor& weight_T, const LmLossOptions& options,
          Tensor& loss) {
  const double divisor = scales_of(options).divisor;
  double sum = 0;
  for (int64_t t = 0; t < token_loss_T.numel(); ++t)
    sum += element(weight_T, t) * element(token_loss_T, t);
  if (loss.dtype() == DType::kF64) {
    *loss.data<double>() = sum / divisor;
  } else {
    *loss.data<float>() = static_cast<float>(sum / divisor);
  }
}

REGISTER_KERNEL(cross_entropy, kCpu, plain, forward<Plain>);
REGISTER_KERNEL(cross_entropy, kCpu, avx2, forward<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(cross_entropy, kCpu, avx512, forward<Avx512>, .priority = 20,
                .supports = on_avx512);
REGISTER_KERNEL(weighted_mean, kCpu, plain, mean);

}  // namespace
}  // namespace ink
