#include "engine/tensor/tensor.h"

namespace ink {

Tensor::Tensor(Runtime& runtime, const Shape& shape, DType dtype, MemoryTag tag)
    : storage_(std::make_shared<Storage>(runtime, shape.numel() * size_of(dtype), tag)),
      shape_(shape),
      dtype_(dtype) {
  row_stride_ = cols();
}

int64_t Tensor::rows() const {
  int64_t n = 1;
  for (int i = 0; i + 1 < rank(); ++i) n *= dim(i);
  return n;
}

Tensor Tensor::reshape(const Shape& shape) const {
  CHECK(contiguous(), "reshape of a strided tensor {}", shape_.str());
  CHECK(shape.numel() == numel(), "reshape {} to {}", shape_.str(), shape.str());
  Tensor view = detach();
  view.shape_ = shape;
  view.row_stride_ = view.cols();
  return view;
}

Tensor Tensor::columns(int64_t begin, int64_t count) const {
  CHECK(rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= cols(),
        "columns [{}, {}) of {}", begin, begin + count, shape_.str());
  Tensor view = detach();
  std::vector<int64_t> sizes(shape_.sizes().begin(), shape_.sizes().end());
  sizes.back() = count;
  view.shape_ = Shape(sizes);
  view.offset_ += begin;
  return view;
}

Tensor Tensor::slice(int64_t begin, int64_t count) const {
  CHECK(rank() >= 1 && begin >= 0 && count >= 0 && begin + count <= dim(0), "slice [{}, {}) of {}",
        begin, begin + count, shape_.str());
  Tensor view = detach();
  std::vector<int64_t> sizes(shape_.sizes().begin(), shape_.sizes().end());
  const int64_t rows_per_item = rank() == 1 ? 0 : rows() / std::max<int64_t>(dim(0), 1);
  view.offset_ += rank() == 1 ? begin : begin * rows_per_item * row_stride_;
  sizes.front() = count;
  view.shape_ = Shape(sizes);
  if (rank() == 1) view.row_stride_ = count;
  return view;
}

Tensor Tensor::flat(int64_t begin, const Shape& shape) const {
  CHECK(contiguous(), "flat view of a strided tensor {}", shape_.str());
  CHECK(begin >= 0 && begin + shape.numel() <= numel(), "flat [{}, {}) of {} elements", begin,
        begin + shape.numel(), numel());
  Tensor view = detach();
  view.offset_ += begin;
  view.shape_ = shape;
  view.row_stride_ = view.cols();
  return view;
}

Tensor Tensor::detach() const {
  Tensor view = *this;
  view.meta_ = nullptr;
  return view;
}

Tensor empty_like(const Tensor& like) { return empty_like(like, like.dtype()); }

Tensor empty_like(const Tensor& like, DType dtype) { return {like.runtime(), like.shape(), dtype}; }

Tensor zeros(Runtime& runtime, const Shape& shape, DType dtype) {
  Tensor tensor(runtime, shape, dtype);
  zero(tensor);
  return tensor;
}

void zero(Tensor& tensor) {
  CHECK(tensor.contiguous(), "zero of a strided tensor");
  tensor.runtime().backend().zero(tensor.raw(), tensor.bytes());
}

void copy(Tensor& to, const Tensor& from) {
  CHECK(to.shape() == from.shape() && to.dtype() == from.dtype(), "copy {} {} to {} {}",
        from.shape().str(), name_of(from.dtype()), to.shape().str(), name_of(to.dtype()));
  CHECK(to.contiguous() && from.contiguous(), "copy of a strided tensor");
  to.runtime().backend().copy(to.raw(), from.raw(), from.bytes());
}

}  // namespace ink
