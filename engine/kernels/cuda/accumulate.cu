// into += from, converting copies, fill: what the backward walk itself needs. Bytes: 3, 2 and 1
// passes over memory; no arithmetic to speak of.
#include "engine/autograd/backward.h"
#include "engine/kernels/cuda/map.cuh"
#include "engine/kernels/cuda/visit.h"

namespace ink {
namespace {

void add_into(const Tensor& from, Tensor& into) {
  const bool narrows = from.dtype() == DType::kF32 && size_of(into.dtype()) == 2;
  CHECK_OP("accumulate", from.shape() == into.shape() && (from.dtype() == into.dtype() || narrows),
           "from is {} {}, into is {} {}", from.shape().str(), name_of(from.dtype()),
           into.shape().str(), name_of(into.dtype()));
  visit_device_float(into.dtype(), [&]<class T>() {
    narrows ? map<T, T, float>("accumulate", Plus{}, into, into, from)
            : map<T, T, T>("accumulate", Plus{}, into, into, from);
  });
}

// Through f32, as on the CPU; a copy within one dtype keeps every bit. f64 is taken here alone:
// sums of squares and losses are f64 scalars on the card too.
template <class To, class From>
__device__ __forceinline__ To converted(From value) {
  if constexpr (std::is_same_v<To, From>) {
    return value;
  } else if constexpr (std::is_same_v<To, double>) {
    return static_cast<double>(to_float(value));
  } else if constexpr (std::is_same_v<From, double>) {
    return from_float<To>(static_cast<float>(value));
  } else {
    return from_float<To>(to_float(value));
  }
}

template <class From, class To, int N>
__global__ void cast_elements(int64_t rows, int64_t cols, Matrix<const From> from, Matrix<To> to) {
  constexpr int kRead = std::min(N, kPackOf16Bytes<From>);
  constexpr int kWrite = std::min(N, kPackOf16Bytes<To>);
  for_elements<N>(rows, cols, [&](int64_t r, int64_t c) {
    Pack<From, kRead> in[N / kRead];
    Pack<To, kWrite> out[N / kWrite];
#pragma unroll
    for (int i = 0; i < N / kRead; ++i) in[i] = load_pack<kRead>(from.row(r) + c + i * kRead);
#pragma unroll
    for (int i = 0; i < N; ++i)
      out[i / kWrite].v[i % kWrite] = converted<To>(in[i / kRead].v[i % kRead]);
#pragma unroll
    for (int i = 0; i < N / kWrite; ++i) store_pack(to.row(r) + c + i * kWrite, out[i]);
  });
}

void convert_all(const Tensor& from, Tensor& to) {
  CHECK_OP("cast", from.shape() == to.shape(), "from is {}, to is {}", from.shape().str(),
           to.shape().str());
  visit_float(from.dtype(), [&]<class From>() {
    visit_float(to.dtype(), [&]<class To>() {
      constexpr int kPack = std::max(kPackOf16Bytes<From>, kPackOf16Bytes<To>);
      const ElementwiseShape shape = elementwise_shape(kPack, from, to);
      launch(cuda_backend(to), "cast", elementwise_launch(shape, shape.packed ? kPack : 1),
             shape.packed ? cast_elements<From, To, kPack> : cast_elements<From, To, 1>, shape.rows,
             shape.cols, matrix<const From>(from), matrix<To>(to));
    });
  });
}

void fill_all(double value, Tensor& tensor) {
  CHECK_OP("fill", tensor.contiguous(), "the tensor {} is strided", tensor.shape().str());
  visit_device_float(tensor.dtype(), [&]<class T>() {
    map<T>("fill", Constant{static_cast<float>(value)}, tensor);
  });
}

REGISTER_KERNEL(accumulate, kCuda, packed, add_into);
REGISTER_KERNEL(cast, kCuda, packed, convert_all);
REGISTER_KERNEL(fill, kCuda, packed, fill_all);

}  // namespace
}  // namespace ink
