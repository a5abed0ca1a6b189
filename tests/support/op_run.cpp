#include "tests/support/op_run.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/autograd/backward.h"

namespace ink {
namespace {

// y = x * x elementwise, which keeps x: what selective recompute has to rebuild.
Tensor keeping_square(const Tensor& x) {
  Values squares = to_values(x);
  for (double& value : squares) value *= value;
  return record(from_values(x.runtime(), squares, x.shape(), x.dtype()),
                {.op = "keeping_square",
                 .inputs = {x},
                 .saved = {x},
                 .handles = {},
                 .backward = [](Node& self, Grads& dys) -> Grads {
                   const Tensor x = self.saved[0].get();
                   const Values kept = to_values(x);
                   Values dx = to_values(dys[0]);
                   for (size_t i = 0; i < dx.size(); ++i) dx[i] *= 2 * kept[i];
                   return {from_values(x.runtime(), dx, x.shape(), x.dtype())};
                 },
                 .rematerialize = nullptr});
}

// Its own memory, the same gradient: feeds ops that write over their input.
Tensor own_copy(const Tensor& x) {
  return record(from_values(x.runtime(), to_values(x), x.shape(), x.dtype()),
                {.op = "own_copy",
                 .inputs = {x},
                 .saved = {},
                 .handles = {},
                 .backward = [](Node&, Grads& dys) -> Grads { return {std::move(dys[0])}; },
                 .rematerialize = nullptr});
}

Tensor seed_tensor(const OpCase& row, const Tensor& output, size_t number, bool strided) {
  const Values seed = seed_values(row, number, static_cast<size_t>(output.numel()));
  return strided && row.strided_gradients && output.rank() >= 2
             ? strided_from_values(output.runtime(), seed, output.shape(), output.dtype())
             : from_values(output.runtime(), seed, output.shape(), output.dtype());
}

// The elements around a strided view are still NaN.
void expect_untouched(const OpCase& row, const OpInput& input, const Tensor& view,
                      const Tensor& wide) {
  const int64_t before =
      static_cast<const char*>(view.raw()) - static_cast<const char*>(wide.raw());
  const int64_t first = before / size_of(view.dtype());
  const Values all = to_values(wide);
  for (size_t i = 0; i < all.size(); ++i) {
    const int64_t column = static_cast<int64_t>(i) % wide.cols();
    if (column >= first && column < first + view.cols()) continue;
    ASSERT_TRUE(std::isnan(all[i]))
        << row.name << " wrote outside of " << input.name << ", element " << i;
  }
}

class Inputs {
 public:
  Inputs(Runtime& runtime, const OpCase& row, const std::vector<Values>& values,
         const std::vector<Shape>& shapes, const OpRun& how)
      : row_(row) {
    for (size_t i = 0; i < row.inputs.size(); ++i) {
      const OpInput& input = row.inputs[i];
      const DType dtype = input_dtype(input, how.dtype);
      const bool strided = how.strided && row.strided && input.role == Role::kActivation &&
                           is_float(dtype) && shapes[i].rank() >= 2;
      Tensor wide;
      Tensor tensor;
      if (strided) {
        wide = strided_from_values(runtime, values[i], shapes[i], dtype);
        tensor = wide.columns((wide.cols() - shapes[i].dim(-1)) / 2, shapes[i].dim(-1));
      } else {
        tensor = from_values(runtime, values[i], shapes[i], dtype);
      }
      wide_.push_back(wide);
      const bool parameter = input.role == Role::kParameter && how.dtype != DType::kF64;
      const DType of_parameters = dtype == DType::kBF16 ? row.bf16_gradients : DType::kF32;
      tensors.push_back(wants_gradient(row, i)
                            ? make_leaf(tensor, input.name, parameter ? of_parameters : dtype)
                            : tensor);
    }
  }

  void expect_untouched_padding() const {
    for (size_t i = 0; i < tensors.size(); ++i) {
      if (wide_[i].defined()) expect_untouched(row_, row_.inputs[i], tensors[i], wide_[i]);
    }
  }

  std::vector<Tensor> tensors;

 private:
  const OpCase& row_;
  std::vector<Tensor> wide_;
};

// The row with its activations taken from `activations`, in order.
std::vector<Tensor> run_with(const OpCase& row, std::vector<Tensor> inputs,
                             const std::vector<Tensor>& activations, bool copied) {
  size_t next = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (row.inputs[i].role != Role::kActivation) continue;
    const Tensor& activation = activations[next++];
    inputs[i] = copied ? own_copy(activation) : activation;
  }
  return row.run(inputs);
}

std::vector<Tensor> forward(const OpCase& row, const std::vector<Tensor>& inputs,
                            const OpRun& how) {
  std::vector<Tensor> activations;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (row.inputs[i].role == Role::kActivation) activations.push_back(inputs[i]);
  }
  const bool copied = row.in_place && how.consumer;
  if (how.recompute != Recompute::kFull) return run_with(row, inputs, activations, copied);
  return recompute(activations, [row, inputs, copied](const std::vector<Tensor>& again) {
    return run_with(row, inputs, again, copied);
  });
}

void backward_through(const OpCase& row, std::vector<Tensor>& outputs, const OpRun& how) {
  const size_t count = differentiable_outputs(row, outputs.size());
  std::vector<Tensor> roots;
  Grads seeds;
  for (size_t i = 0; i < count; ++i) {
    EXPECT_NE(outputs[i].grad_meta(), nullptr)
        << row.name << ": output " << i << " has no place in the graph";
    const Tensor root = how.consumer && !row.unit_seeds ? keeping_square(outputs[i]) : outputs[i];
    seeds.push_back(seed_tensor(row, root, i, how.strided));
    roots.push_back(root);
    outputs[i] = outputs[i].detach();
  }
  backward(roots, std::move(seeds));
}

}  // namespace

bool wants_gradient(const OpCase& row, size_t input) {
  const OpInput& what = row.inputs[input];
  return row.differentiable != 0 && what.role != Role::kConstant &&
         is_float(what.dtype.value_or(DType::kF32));
}

DType input_dtype(const OpInput& input, DType row_dtype) {
  if (!input.dtype) return row_dtype;
  return is_float(*input.dtype) && row_dtype == DType::kF64 ? DType::kF64 : *input.dtype;
}

std::vector<Shape> input_shapes(const OpCase& row) {
  std::vector<Shape> shapes;
  for (const OpInput& input : row.inputs) shapes.push_back(input.shape);
  return shapes;
}

std::vector<Shape> empty_shapes(const OpCase& row) {
  std::vector<Shape> shapes = input_shapes(row);
  for (size_t i = 0; i < shapes.size(); ++i) {
    const OpInput& input = row.inputs[i];
    if (!input.per_row.value_or(input.role != Role::kParameter) || shapes[i].rank() == 0) continue;
    std::vector<int64_t> sizes(shapes[i].sizes().begin(), shapes[i].sizes().end());
    sizes[0] = 0;
    shapes[i] = Shape(sizes);
  }
  return shapes;
}

std::vector<Values> input_values(const OpCase& row, const std::vector<Shape>& shapes, DType dtype) {
  std::vector<Values> all;
  for (size_t i = 0; i < shapes.size(); ++i) {
    const OpInput& input = row.inputs[i];
    const Values values = input.values ? input.values(shapes[i])
                                       : uniform_values(row.name + "." + input.name,
                                                        shapes[i].numel(), input.low, input.high);
    all.push_back(rounded(values, input_dtype(input, dtype)));
  }
  return all;
}

size_t differentiable_outputs(const OpCase& row, size_t outputs) {
  return row.differentiable < 0 ? outputs : static_cast<size_t>(row.differentiable);
}

Values seed_values(const OpCase& row, size_t output, size_t count) {
  if (row.unit_seeds) return Values(count, 1.0);
  return rounded(
      normal_values(fmt::format("{}.seed.{}", row.name, output), static_cast<int64_t>(count)),
      DType::kBF16);
}

OpResult run_case(const OpCase& row, const std::vector<Values>& inputs,
                  const std::vector<Shape>& shapes, const OpRun& how) {
  Runtime host;
  Runtime& runtime = how.card == nullptr ? host : *how.card;
  // Old blocks of a card may hold the right results of another run.
  if (how.card != nullptr) how.card->allocator().release_cache();
  const Scoped policy(runtime.recompute, how.recompute);
  const Inputs given(runtime, row, inputs, shapes, how);
  std::vector<Tensor> outputs = forward(row, given.tensors, how);
  OpResult result;
  result.gradients.resize(inputs.size());
  for (const Tensor& output : outputs) result.outputs.push_back(to_values(output));
  if (how.backward && row.differentiable != 0) {
    backward_through(row, outputs, how);
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (!wants_gradient(row, i)) continue;
      const auto& leaf = leaf_of(given.tensors[i]);
      EXPECT_TRUE(leaf->grad.defined()) << row.name << ": no gradient for " << row.inputs[i].name;
      EXPECT_EQ(leaf->open_uses, 0) << row.name << ": open uses of " << row.inputs[i].name;
      if (leaf->grad.defined()) result.gradients[i] = to_values(leaf->grad);
    }
  }
  given.expect_untouched_padding();
  return result;
}

}  // namespace ink
