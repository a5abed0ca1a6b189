// RMSNorm over R rows of C elements: statistics and rounding as engine/ops/rms_norm.h says.
#include "engine/ops/rms_norm.h"

#include "engine/kernels/cpu/vector_math.h"

namespace ink {
namespace {

// Calls f.operator()<T, W>() with the types of the activations and of the weight.
template <class F>
void visit_norm(const Tensor& x, const Tensor& w, const F& f) {
  visit_float(x.dtype(), [&]<class T>() {
    if (w.dtype() == x.dtype()) return f.template operator()<T, T>();
    CHECK(w.dtype() == DType::kF32, "norm weight is {} beside {}", name_of(w.dtype()),
          name_of(x.dtype()));
    f.template operator()<T, float>();
  });
}

template <class T, class W>
inline void scale_row(const T* h, const W* w, compute_t<T> rstd, int64_t C, T* n) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c)
    n[c] = narrow<T>(widen(narrow<T>(widen(h[c]) * rstd)) * static_cast<compute_t<T>>(widen(w[c])));
}

template <class T>
inline compute_t<T> inverse_rms(const T* h, int64_t C, float eps) {
  compute_t<T> squares = 0;
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < C; ++c) squares += widen(h[c]) * widen(h[c]);
  return 1 / std::sqrt(squares / static_cast<compute_t<T>>(C) + static_cast<compute_t<T>>(eps));
}

template <class Isa>
void forward(const Tensor& x, const Tensor& w, float eps, Tensor& n, Tensor& rstd) {
  const int64_t C = x.cols();
  visit_norm(x, w, [&]<class T, class W>() {
    for_spans(x.rows(), C, false, [&](int64_t r, int64_t, int64_t) {
      const T* row = at<T>(x, r, 0);
      const W* weight = w.data<W>();
      T* out = at<T>(n, r, 0);
      compute_t<T>* inverse = rstd.data<compute_t<T>>() + r;
      Isa::run([=] {
        *inverse = inverse_rms(row, C, eps);
        scale_row(row, weight, *inverse, C, out);
      });
    });
  });
}

template <class Isa>
void add_forward(const Tensor& x, const Tensor& delta, const Tensor& w, float eps, Tensor& h,
                 Tensor& n, Tensor& rstd) {
  const int64_t C = x.cols();
  visit_norm(x, w, [&]<class T, class W>() {
    for_spans(x.rows(), C, false, [&](int64_t r, int64_t, int64_t) {
      const T* row = at<T>(x, r, 0);
      const T* added = at<T>(delta, r, 0);
      const W* weight = w.data<W>();
      T* sum = at<T>(h, r, 0);
      T* out = at<T>(n, r, 0);
      compute_t<T>* inverse = rstd.data<compute_t<T>>() + r;
      Isa::run([=] {
#pragma omp simd
        for (int64_t c = 0; c < C; ++c) sum[c] = narrow<T>(widen(row[c]) + widen(added[c]));
        *inverse = inverse_rms(sum, C, eps);
        scale_row(sum, weight, *inverse, C, out);
      });
    });
  });
}

template <class Isa>
void apply(const Tensor& h, const Tensor& w, const Tensor& rstd, Tensor& n) {
  const int64_t C = h.cols();
  visit_norm(h, w, [&]<class T, class W>() {
    for_spans(h.rows(), C, false, [&](int64_t r, int64_t, int64_t) {
      const T* row = at<T>(h, r, 0);
      const W* weight = w.data<W>();
      T* out = at<T>(n, r, 0);
      const compute_t<T> inverse = rstd.data<compute_t<T>>()[r];
      Isa::run([=] { scale_row(row, weight, inverse, C, out); });
    });
  });
}

// dx = dh + rstd * (g - x_hat * mean(g * x_hat)) with g = dn * w, x_hat = h * rstd.
template <class T, class W>
inline void input_gradient_row(const T* dn, const T* dh, const T* h, const W* w, compute_t<T> rstd,
                               int64_t C, T* dx) {
  using A = compute_t<T>;
  A dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t c = 0; c < C; ++c) dot += widen(dn[c]) * static_cast<A>(widen(w[c])) * widen(h[c]);
  const A mean = dot * rstd * rstd / static_cast<A>(C);
  if (dh == nullptr) {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c)
      dx[c] = narrow<T>(rstd * (widen(dn[c]) * static_cast<A>(widen(w[c])) - widen(h[c]) * mean));
  } else {
#pragma omp simd
    for (int64_t c = 0; c < C; ++c)
      dx[c] = narrow<T>(widen(dh[c]) +
                        rstd * (widen(dn[c]) * static_cast<A>(widen(w[c])) - widen(h[c]) * mean));
  }
}

template <class Isa>
void backward_input(const Tensor& dn, const Tensor& dh, const Tensor& h, const Tensor& w,
                    const Tensor& rstd, Tensor& dx) {
  const int64_t C = h.cols();
  visit_norm(h, w, [&]<class T, class W>() {
    for_spans(h.rows(), C, false, [&](int64_t r, int64_t, int64_t) {
      const T* gradient = at<T>(dn, r, 0);
      const T* passed = dh.defined() ? at<T>(dh, r, 0) : nullptr;
      const T* row = at<T>(h, r, 0);
      const W* weight = w.data<W>();
      const compute_t<T> inverse = rstd.data<compute_t<T>>()[r];
      T* out = at<T>(dx, r, 0);
      Isa::run([=] { input_gradient_row(gradient, passed, row, weight, inverse, C, out); });
    });
  });
}

// Rows that are summed in the compute type before they go into the f64 sum of their thread.
constexpr int64_t kRowBlock = 32;

template <class T>
struct RowRange {
  const T* dn;
  const T* h;
  int64_t dn_stride, h_stride;
  const compute_t<T>* rstd;
  int64_t begin, end, C;
};

// sums_C += sum over the rows of dn * h * rstd.
template <class T>
inline void weight_gradient_rows(const RowRange<T>& rows, compute_t<T>* block_C, double* sums_C) {
  const int64_t C = rows.C;
  for (int64_t first = rows.begin; first < rows.end; first += kRowBlock) {
    std::fill(block_C, block_C + C, compute_t<T>{0});
    for (int64_t r = first; r < std::min(rows.end, first + kRowBlock); ++r) {
      const T* dn = rows.dn + r * rows.dn_stride;
      const T* h = rows.h + r * rows.h_stride;
      const compute_t<T> rstd = rows.rstd[r];
#pragma omp simd
      for (int64_t c = 0; c < C; ++c) block_C[c] += widen(dn[c]) * (widen(h[c]) * rstd);
    }
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) sums_C[c] += static_cast<double>(block_C[c]);
  }
}

// One f64 sum per thread over its own run of rows, then the threads' sums in order.
template <class Isa>
void backward_weight(const Tensor& dn, const Tensor& h, const Tensor& rstd, WriteMode mode,
                     Tensor& dw) {
  const int64_t R = h.rows(), C = h.cols();
  const int threads = R * C > kParallelElements ? thread_count() : 1;
  Tensor sums(h.runtime(), {threads, C}, DType::kF64, MemoryTag::kWorkspace);
  zero(sums);
  visit_float(h.dtype(), [&]<class T>() {
    Tensor blocks(h.runtime(), {threads, C}, dtype_of<compute_t<T>>::value, MemoryTag::kWorkspace);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int t = 0; t < threads; ++t) {
      const RowRange<T> rows{dn.data<T>(),
                             h.data<T>(),
                             dn.row_stride(),
                             h.row_stride(),
                             rstd.data<compute_t<T>>(),
                             R * t / threads,
                             R * (t + 1) / threads,
                             C};
      compute_t<T>* block = at<compute_t<T>>(blocks, t, 0);
      double* sum = at<double>(sums, t, 0);
      Isa::run([=] { weight_gradient_rows(rows, block, sum); });
    }
  });
  visit_float(dw.dtype(), [&]<class G>() {
    for (int64_t c = 0; c < C; ++c) {
      double total =
          mode == WriteMode::kAccumulate ? static_cast<double>(widen(dw.data<G>()[c])) : 0.0;
      for (int t = 0; t < threads; ++t) total += at<double>(sums, t, c)[0];
      dw.data<G>()[c] = narrow<G>(static_cast<compute_t<G>>(total));
    }
  });
}

// Each of the two in its own best form; the weight's first, because dx may be the memory of dn.
void backward(const Tensor& dn, const Tensor& dh, const Tensor& h, const Tensor& w,
              const Tensor& rstd, WriteMode mode, Tensor& dw, Tensor& dx) {
  rms_norm_backward_weight(Device::kCpu, dn, h, rstd, mode, dw);
  rms_norm_backward_input(Device::kCpu, dn, dh, h, w, rstd, dx);
}

REGISTER_KERNEL(rms_norm_forward, kCpu, plain, forward<Plain>);
REGISTER_KERNEL(rms_norm_forward, kCpu, avx2, forward<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(rms_norm_forward, kCpu, avx512, forward<Avx512>, .priority = 20,
                .supports = on_avx512);
REGISTER_KERNEL(add_rms_norm_forward, kCpu, plain, add_forward<Plain>);
REGISTER_KERNEL(add_rms_norm_forward, kCpu, avx2, add_forward<Avx2>, .priority = 10,
                .supports = on_avx2);
REGISTER_KERNEL(add_rms_norm_forward, kCpu, avx512, add_forward<Avx512>, .priority = 20,
                .supports = on_avx512);
REGISTER_KERNEL(rms_norm_apply, kCpu, plain, apply<Plain>);
REGISTER_KERNEL(rms_norm_apply, kCpu, avx2, apply<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(rms_norm_apply, kCpu, avx512, apply<Avx512>, .priority = 20, .supports = on_avx512);
REGISTER_KERNEL(rms_norm_backward_input, kCpu, plain, backward_input<Plain>);
REGISTER_KERNEL(rms_norm_backward_input, kCpu, avx2, backward_input<Avx2>, .priority = 10,
                .supports = on_avx2);
REGISTER_KERNEL(rms_norm_backward_input, kCpu, avx512, backward_input<Avx512>, .priority = 20,
                .supports = on_avx512);
REGISTER_KERNEL(rms_norm_backward_weight, kCpu, plain, backward_weight<Plain>);
REGISTER_KERNEL(rms_norm_backward_weight, kCpu, avx2, backward_weight<Avx2>, .priority = 10,
                .supports = on_avx2);
REGISTER_KERNEL(rms_norm_backward_weight, kCpu, avx512, backward_weight<Avx512>, .priority = 20,
                .supports = on_avx512);
REGISTER_KERNEL(rms_norm_backward, kCpu, plain, backward);

}  // namespace
}  // namespace ink
