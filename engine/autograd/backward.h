// The backward walk: from roots to leaves, newest node first.
//
// A node's gradients are complete when it runs, because whoever used its output was recorded later
// and so ran before. Saved tensors are dropped as soon as a node has run, unless its output is
// still to be rebuilt from them. Gradients of a leaf that is an ordinary input (not a Handle) are
// added to Leaf::grad in the leaf's own dtype. Gradients that meet at a node's output are added by
// whoever comes later: by itself where it can (Node::adds) and the sum belongs to nobody else, by
// the kernel `accumulate` otherwise.
#pragma once

#include <functional>

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"

namespace ink {

// into += from; same shape (`from` may be strided) and dtype, or an f32 `from` into a 16-bit sum:
// then `into` is rounded to nearest, once.
DECLARE_KERNEL(accumulate, void(const Tensor& from, Tensor& into));
// to = dtype-converting copy of from; same shape, both may be strided.
DECLARE_KERNEL(cast, void(const Tensor& from, Tensor& to));
// tensor = value, contiguous.
DECLARE_KERNEL(fill, void(double value, Tensor& tensor));

// Seeds a scalar root with 1.
void backward(const Tensor& root);
void backward(const std::vector<Tensor>& roots, Grads seeds);

// Runs f without recording and keeps only its inputs; backward runs f again with recording. f must
// draw the same random numbers both times, which counter-based dropout does. Outputs of f must not
// alias its inputs.
using Segment = std::function<std::vector<Tensor>(const std::vector<Tensor>& inputs)>;
[[nodiscard]] std::vector<Tensor> recompute(const std::vector<Tensor>& inputs, Segment f);

}  // namespace ink
