#include "tests/support/values.h"

#include <limits>

#include "engine/core/philox.h"

namespace ink {
namespace {

constexpr int64_t kPadding = 3;  // columns before and after the view of a strided tensor

template <class F>
void visit_any(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kI64:
      return f.template operator()<int64_t>();
    case DType::kI32:
      return f.template operator()<int32_t>();
    case DType::kU16:
      return f.template operator()<uint16_t>();
    case DType::kU8:
      return f.template operator()<uint8_t>();
    default:
      return visit_float(dtype, f);
  }
}

template <class T>
double to_double(T value) {
  if constexpr (std::is_arithmetic_v<T>)
    return static_cast<double>(value);
  else
    return static_cast<double>(static_cast<float>(value));
}

template <class T>
T from_double(double value) {
  if constexpr (std::is_arithmetic_v<T>)
    return static_cast<T>(value);
  else
    return T(static_cast<float>(value));
}

}  // namespace

Values to_values(const Tensor& tensor) {
  Values values;
  if (tensor.numel() == 0) return values;
  values.reserve(static_cast<size_t>(tensor.numel()));
  visit_any(tensor.dtype(), [&]<class T>() {
    // The rows with what lies between them, in one copy from whatever device it is.
    std::vector<T> data(
        static_cast<size_t>((tensor.rows() - 1) * tensor.row_stride() + tensor.cols()));
    tensor.runtime().backend().copy_to_host(data.data(), tensor.raw(),
                                            static_cast<int64_t>(data.size() * sizeof(T)));
    for (int64_t r = 0; r < tensor.rows(); ++r) {
      for (int64_t c = 0; c < tensor.cols(); ++c)
        values.push_back(to_double(data[static_cast<size_t>(r * tensor.row_stride() + c)]));
    }
  });
  return values;
}

Tensor from_values(Runtime& runtime, const Values& values, const Shape& shape, DType dtype) {
  CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "{} values for {}", values.size(),
        shape.str());
  Tensor tensor(runtime, shape, dtype);
  visit_any(dtype, [&]<class T>() {
    std::vector<T> data;
    data.reserve(values.size());
    for (const double value : values) data.push_back(from_double<T>(value));
    runtime.backend().copy_from_host(tensor.raw(), data.data(), tensor.bytes());
  });
  return tensor;
}

Tensor strided_from_values(Runtime& runtime, const Values& values, const Shape& shape,
                           DType dtype) {
  std::vector<int64_t> sizes(shape.sizes().begin(), shape.sizes().end());
  const int64_t cols = sizes.back(), wide = cols + 2 * kPadding;
  sizes.back() = wide;
  const int64_t rows = cols > 0 ? shape.numel() / cols : 0;
  Values padded(static_cast<size_t>(rows * wide), std::numeric_limits<double>::quiet_NaN());
  for (int64_t i = 0; i < rows * cols; ++i)
    padded[static_cast<size_t>(i / cols * wide + kPadding + i % cols)] =
        values[static_cast<size_t>(i)];
  return from_values(runtime, padded, Shape(sizes), dtype).columns(kPadding, cols);
}

Values rounded(const Values& values, DType dtype) {
  Values result = values;
  visit_any(dtype, [&]<class T>() {
    for (double& value : result) value = to_double(from_double<T>(value));
  });
  return result;
}

Values uniform_values(std::string_view label, int64_t count, double low, double high) {
  const PhiloxKey key = philox_key(1, label);
  Values values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = low + (high - low) * static_cast<double>(philox_uniform(key, i));
  return values;
}

Values normal_values(std::string_view label, int64_t count) {
  const PhiloxKey key = philox_key(2, label);
  Values values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<double>(philox_normal(key, i));
  return values;
}

}  // namespace ink
