#include "engine/nn/parameter.h"

#include "engine/autograd/backward.h"
#include "engine/core/philox.h"

namespace ink {
namespace {

// Global row-major index of the first element of row `row` of a piece; rows lie along the last
// dimension.
int64_t global_row_start(const Parameter& parameter, const Piece& piece, int64_t row) {
  const int rank = parameter.shape.rank();
  int64_t rest = row, global = 0, stride = 1;
  for (int d = rank - 1; d >= 0; --d) {
    const auto at = static_cast<size_t>(d);
    const bool last = d == rank - 1;
    global += (piece.begin[at] + (last ? 0 : rest % piece.size[at])) * stride;
    if (!last) rest /= piece.size[at];
    stride *= parameter.shape[d];
  }
  return global;
}

// Calls f(global row-major index, local index, length) for every row of a piece, on all threads.
template <class F>
void for_each_row(const Parameter& parameter, const Piece& piece, F&& f) {
  int64_t count = 1;
  for (const int64_t size : piece.size) count *= size;
  if (count == 0) return;
  const int64_t run = piece.size.empty() ? 1 : piece.size.back();
#pragma omp parallel for schedule(static)
  for (int64_t row = 0; row < count / run; ++row)
    f(global_row_start(parameter, piece, row), piece.local_offset + row * run, run);
}

// scale * philox_normal of elements [first, first + count), bit by bit; one block of the generator
// serves four of them, one logarithm two.
void draw_normals(PhiloxKey key, uint64_t first, int64_t count, float scale, float* to) {
  const uint64_t end = first + static_cast<uint64_t>(count);
  for (uint64_t element = first; element < end;) {
    const PhiloxBlock block = philox(key, element / 4, 0);
    for (uint64_t pair = element % 4 / 2; pair < 2 && element < end; ++pair) {
      const double u = uniform_open(block.v[2 * pair]), w = uniform_open(block.v[2 * pair + 1]);
      const double radius = std::sqrt(-2.0 * std::log(u)), angle = 6.283185307179586 * w;
      if (element % 2 == 0) {
        *to++ = scale * static_cast<float>(radius * std::cos(angle));
        ++element;
      }
      if (element < end) {
        *to++ = scale * static_cast<float>(radius * std::sin(angle));
        ++element;
      }
    }
  }
}

// Element e in (-half, half) from word e % 4 of block e / 4.
void draw_uniforms(PhiloxKey key, uint64_t first, int64_t count, float half, float* to) {
  const uint64_t end = first + static_cast<uint64_t>(count);
  for (uint64_t element = first; element < end;) {
    const PhiloxBlock block = philox(key, element / 4, 0);
    for (uint64_t word = element % 4; word < 4 && element < end; ++word, ++element)
      *to++ = half * static_cast<float>(2.0 * uniform_open(block.v[word]) - 1.0);
  }
}

DType type_of_gradient(const Parameter& parameter, DType value, DType of_matrices) {
  if (value == DType::kF64) return DType::kF64;
  return parameter.shape.rank() >= 2 && value == DType::kBF16 ? of_matrices : DType::kF32;
}

}  // namespace

Parameter whole_parameter(std::string name, const Shape& shape, InitRule init) {
  Parameter parameter;
  parameter.name = std::move(name);
  parameter.shape = shape;
  parameter.local_shape = shape;
  parameter.pieces = {{std::vector<int64_t>(static_cast<size_t>(shape.rank()), 0),
                       {shape.sizes().begin(), shape.sizes().end()},
                       0}};
  parameter.decay = shape.rank() >= 2;
  parameter.init = init;
  return parameter;
}

Parameter& ParameterTable::add(Parameter parameter) {
  CHECK(find(parameter.name) == nullptr, "parameter {} is there already", parameter.name);
  parameters_.push_back(std::make_unique<Parameter>(std::move(parameter)));
  return *parameters_.back();
}

Parameter* ParameterTable::find(std::string_view name) const {
  for (const auto& parameter : parameters_) {
    if (parameter->name == name) return parameter.get();
  }
  return nullptr;
}

int64_t ParameterTable::element_count() const {
  int64_t count = 0;
  for (const auto& parameter : parameters_)
    count += parameter->tied_to.empty() ? parameter->shape.numel() : 0;
  return count;
}

void ParameterTable::materialize(Runtime& runtime, DType compute, DType gradients) {
  CHECK(gradients == DType::kF32 || gradients == DType::kBF16, "gradients in {}",
        name_of(gradients));
  for (const auto& parameter : parameters_) {
    if (!parameter->tied_to.empty()) {
      Parameter* owner = find(parameter->tied_to);
      CHECK(owner != nullptr && owner->tensor.defined(), "{} is tied to {}, which is not there",
            parameter->name, parameter->tied_to);
      parameter->tensor = owner->tensor;
      continue;
    }
    const DType dtype = parameter->keep_fp32 && compute != DType::kF64 ? DType::kF32 : compute;
    const Tensor value(runtime, parameter->local_shape, dtype, MemoryTag::kWeights);
    parameter->tensor =
        make_leaf(value, parameter->name, type_of_gradient(*parameter, dtype, gradients));
    parameter->leaf()->requires_grad = !parameter->frozen;
  }
}

std::vector<float> ParameterTable::initial_values(const Parameter& parameter, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(parameter.local_shape.numel()),
                            parameter.init.value);
  if (parameter.init.kind == InitRule::Kind::kConstant) return values;
  const auto draw = parameter.init.kind == InitRule::Kind::kNormal ? draw_normals : draw_uniforms;
  const PhiloxKey key = philox_key(seed, "init." + parameter.name);
  for (const Piece& piece : parameter.pieces) {
    for_each_row(parameter, piece, [&](int64_t global, int64_t local, int64_t length) {
      draw(key, static_cast<uint64_t>(global), length, parameter.init.value, values.data() + local);
    });
  }
  return values;
}

// The values are drawn on the host, so that they are the same on every device.
void ParameterTable::initialize(uint64_t seed) {
  for (const auto& parameter : parameters_) {
    if (!parameter->tied_to.empty()) continue;
    Tensor value = parameter->value();
    const std::vector<float> values = initial_values(*parameter, seed);
    if (value.dtype() == DType::kF32) {
      value.runtime().backend().copy_from_host(value.raw(), values.data(), value.bytes());
      continue;
    }
    const Scoped tag(value.runtime().tag, MemoryTag::kWorkspace);
    Tensor wide = to_tensor<float>(value.runtime(), std::span<const float>(values), value.shape());
    cast(value.device(), wide, value);
  }
}

void ParameterTable::place_gradients(Runtime& runtime) {
  for (const auto& parameter : parameters_) {
    Leaf& leaf = *parameter->leaf();
    if (!leaf.requires_grad || leaf.grad.defined()) continue;
    leaf.grad = Tensor(runtime, leaf.value.shape(), leaf.grad_dtype, MemoryTag::kGradients);
    leaf.has_grad = false;
  }
}

void ParameterTable::clear_gradients() {
  for (const auto& parameter : parameters_) parameter->leaf()->has_grad = false;
}

void ParameterTable::release_gradients() {
  for (const auto& parameter : parameters_) {
    parameter->leaf()->grad = Tensor();
    parameter->leaf()->has_grad = false;
  }
}

}  // namespace ink
