// into += from, converting copies, fill: what the backward walk itself needs.
#include "engine/autograd/backward.h"
#include "engine/kernels/cpu/vector_math.h"

namespace ink {
namespace {

template <class Isa, class From, class To>
void add_typed(const Tensor& from, Tensor& into) {
  for_spans(from.rows(), from.cols(), all_contiguous(from, into),
            [&](int64_t row, int64_t column, int64_t count) {
              const From* a = at<From>(from, row, column);
              To* b = at<To>(into, row, column);
              Isa::run([=] {
#pragma omp simd
                for (int64_t i = 0; i < count; ++i) b[i] = narrow<To>(widen(b[i]) + widen(a[i]));
              });
            });
}

template <class Isa>
void add_into(const Tensor& from, Tensor& into) {
  const bool narrows = from.dtype() == DType::kF32 && size_of(into.dtype()) == 2;
  CHECK_OP("accumulate", from.shape() == into.shape() && (from.dtype() == into.dtype() || narrows),
           "from is {} {}, into is {} {}", from.shape().str(), name_of(from.dtype()),
           into.shape().str(), name_of(into.dtype()));
  if (into.dtype() == DType::kF64) return add_typed<Isa, double, double>(from, into);
  visit_float(into.dtype(), [&]<class To>() {
    if constexpr (!std::is_same_v<To, double>) {
      narrows ? add_typed<Isa, float, To>(from, into) : add_typed<Isa, To, To>(from, into);
    }
  });
}

template <class From, class To>
inline To convert(From value) {
  return narrow<To>(static_cast<compute_t<To>>(widen(value)));
}

template <class Isa>
void convert_all(const Tensor& from, Tensor& to) {
  CHECK_OP("cast", from.shape() == to.shape(), "from is {}, to is {}", from.shape().str(),
           to.shape().str());
  visit_float(from.dtype(), [&]<class From>() {
    visit_float(to.dtype(), [&]<class To>() {
      for_spans(from.rows(), from.cols(), all_contiguous(from, to),
                [&](int64_t row, int64_t column, int64_t count) {
                  const From* a = at<From>(from, row, column);
                  To* b = at<To>(to, row, column);
                  Isa::run([=] {
                    if constexpr (std::is_same_v<From, To>) {
                      std::copy(a, a + count, b);
                    } else {
#pragma omp simd
                      for (int64_t i = 0; i < count; ++i) b[i] = convert<From, To>(a[i]);
                    }
                  });
                });
    });
  });
}

void fill_all(double value, Tensor& tensor) {
  CHECK_OP("fill", tensor.contiguous(), "the tensor {} is strided", tensor.shape().str());
  visit_float(tensor.dtype(), [&]<class T>() {
    const T element = narrow<T>(static_cast<compute_t<T>>(value));
    for_spans(tensor.rows(), tensor.cols(), true, [&](int64_t row, int64_t column, int64_t count) {
      std::fill_n(at<T>(tensor, row, column), count, element);
    });
  });
}

REGISTER_KERNEL(accumulate, kCpu, plain, add_into<Plain>);
REGISTER_KERNEL(accumulate, kCpu, avx2, add_into<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(accumulate, kCpu, avx512, add_into<Avx512>, .priority = 20, .supports = on_avx512);
REGISTER_KERNEL(cast, kCpu, plain, convert_all<Plain>);
REGISTER_KERNEL(cast, kCpu, avx2, convert_all<Avx2>, .priority = 10, .supports = on_avx2);
REGISTER_KERNEL(cast, kCpu, avx512, convert_all<Avx512>, .priority = 20, .supports = on_avx512);
REGISTER_KERNEL(fill, kCpu, plain, fill_all);

}  // namespace
}  // namespace ink
