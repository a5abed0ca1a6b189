// A dense array: dtype, shape, device, storage, offset, row stride, and an optional place in the
// autograd graph.
//
// A Tensor is a cheap handle; copies share storage. The last dimension is contiguous. Seen as a
// matrix it has rows() (the product of all other dimensions) and cols(); consecutive rows lie
// row_stride() elements apart, so a range of columns is a view. Views drop the autograd record: ops
// that need gradients through a view are ops. A default Tensor is undefined; ops use that for "not
// there".
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "engine/core/dtype.h"
#include "engine/core/shape.h"
#include "engine/tensor/runtime.h"

namespace ink {

struct GradMeta;  // engine/autograd/node.h

// One allocation; returns its memory to the allocator of its Runtime.
class Storage {
 public:
  Storage(Runtime& runtime, int64_t bytes, MemoryTag tag)
      : runtime_(runtime), bytes_(bytes), pointer_(runtime.allocator().allocate(bytes, tag)) {}
  ~Storage() { runtime_.allocator().free(pointer_); }
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  [[nodiscard]] Runtime& runtime() const { return runtime_; }
  [[nodiscard]] void* pointer() const { return pointer_; }
  [[nodiscard]] int64_t bytes() const { return bytes_; }

 private:
  Runtime& runtime_;
  int64_t bytes_;
  void* pointer_;
};

class Tensor {
 public:
  Tensor() = default;
  // Contiguous, uninitialised. The tag is the Runtime's current one unless given.
  Tensor(Runtime& runtime, const Shape& shape, DType dtype)
      : Tensor(runtime, shape, dtype, runtime.tag) {}
  Tensor(Runtime& runtime, const Shape& shape, DType dtype, MemoryTag tag);

  [[nodiscard]] bool defined() const { return storage_ != nullptr; }
  [[nodiscard]] const Shape& shape() const { return shape_; }
  [[nodiscard]] DType dtype() const { return dtype_; }
  [[nodiscard]] Device device() const { return runtime().device(); }
  [[nodiscard]] Runtime& runtime() const {
    CHECK(defined(), "the tensor is undefined");
    return storage_->runtime();
  }
  [[nodiscard]] int rank() const { return shape_.rank(); }
  [[nodiscard]] int64_t dim(int i) const { return shape_.dim(i); }
  [[nodiscard]] int64_t numel() const { return shape_.numel(); }
  [[nodiscard]] int64_t bytes() const { return numel() * size_of(dtype_); }
  [[nodiscard]] int64_t cols() const { return rank() == 0 ? 1 : dim(-1); }
  [[nodiscard]] int64_t rows() const;  // 1 for a scalar or a vector
  [[nodiscard]] int64_t row_stride() const { return row_stride_; }
  [[nodiscard]] bool contiguous() const { return row_stride_ == cols() || rows() <= 1; }

  [[nodiscard]] void* raw() const {
    return defined() ? static_cast<char*>(storage_->pointer()) + offset_ * size_of(dtype_)
                     : nullptr;
  }
  // Device pointer to the first element; InternalError when T is not the dtype.
  template <class T>
  [[nodiscard]] T* data() const {
    CHECK(dtype_of<T>::value == dtype_, "tensor is {}, asked for {}", name_of(dtype_),
          name_of(dtype_of<T>::value));
    return static_cast<T*>(raw());
  }

  [[nodiscard]] Tensor reshape(const Shape& shape) const;            // contiguous only
  [[nodiscard]] Tensor columns(int64_t begin, int64_t count) const;  // view of the last dimension
  [[nodiscard]] Tensor slice(int64_t begin, int64_t count) const;    // view of the first dimension
  [[nodiscard]] Tensor flat(int64_t begin,
                            const Shape& shape) const;  // contiguous view at an element offset
  [[nodiscard]] Tensor detach() const;                  // same memory, no autograd record
  [[nodiscard]] bool shares_storage(const Tensor& other) const {
    return storage_ == other.storage_;
  }
  // Nobody else holds this memory, so an op may write its result over it.
  [[nodiscard]] bool sole_owner() const { return storage_.use_count() == 1; }

  [[nodiscard]] const std::shared_ptr<GradMeta>& grad_meta() const { return meta_; }
  void set_grad_meta(std::shared_ptr<GradMeta> meta) { meta_ = std::move(meta); }

 private:
  std::shared_ptr<Storage> storage_;
  std::shared_ptr<GradMeta> meta_;
  Shape shape_;
  int64_t offset_ = 0, row_stride_ = 0;
  DType dtype_ = DType::kF32;
};

[[nodiscard]] Tensor empty_like(const Tensor& like);  // contiguous, same shape and dtype
[[nodiscard]] Tensor empty_like(const Tensor& like, DType dtype);
[[nodiscard]] Tensor zeros(Runtime& runtime, const Shape& shape, DType dtype);
void zero(Tensor& tensor);                  // contiguous only
void copy(Tensor& to, const Tensor& from);  // same shape and dtype, contiguous, same device

// Host <-> device, contiguous.
template <class T>
[[nodiscard]] Tensor to_tensor(Runtime& runtime, std::span<const T> values, const Shape& shape) {
  CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "{} values for shape {}",
        values.size(), shape.str());
  Tensor tensor(runtime, shape, dtype_of<T>::value);
  runtime.backend().copy_from_host(tensor.raw(), values.data(), tensor.bytes());
  return tensor;
}
template <class T>
[[nodiscard]] Tensor to_tensor(Runtime& runtime, const std::vector<T>& values) {
  return to_tensor<T>(runtime, std::span<const T>(values),
                      Shape{static_cast<int64_t>(values.size())});
}
template <class T>
[[nodiscard]] std::vector<T> to_vector(const Tensor& tensor) {
  CHECK(tensor.contiguous(), "to_vector needs a contiguous tensor");
  CHECK(dtype_of<T>::value == tensor.dtype(), "tensor is {}", name_of(tensor.dtype()));
  std::vector<T> values(static_cast<size_t>(tensor.numel()));
  tensor.runtime().backend().copy_to_host(values.data(), tensor.raw(), tensor.bytes());
  return values;
}

}  // namespace ink
