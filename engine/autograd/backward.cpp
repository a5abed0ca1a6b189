#include "engine/autograd/backward.h"

#include <map>
#include <memory>
#include <utility>

#include "engine/autograd/writable.h"

namespace ink {
namespace {

// Nodes with a gradient waiting, newest last.
struct Pending {
  std::shared_ptr<Node> node;
  Grads grads;
};
using Frontier = std::map<uint64_t, Pending>;

void add_into(Tensor& sum, const Tensor& grad) {
  if (!sum.defined()) {
    sum = grad;
    return;
  }
  if (!writable(sum)) {  // others hold it: nothing writes into their memory
    Tensor own = empty_like(sum);
    cast(sum.device(), sum, own);
    sum = own;
  }
  accumulate(sum.device(), grad, sum);
}

void add_to_leaf(Leaf& leaf, const Tensor& grad) {
  if (!leaf.grad.defined() && grad.dtype() == leaf.grad_dtype && writable(grad)) {
    leaf.grad = grad;
    leaf.has_grad = true;
    return;
  }
  if (!leaf.grad.defined()) {
    leaf.grad = Tensor(grad.runtime(), grad.shape(), leaf.grad_dtype, MemoryTag::kGradients);
    leaf.has_grad = false;
  }
  if (!leaf.has_grad) {
    cast(grad.device(), grad, leaf.grad);
  } else if (grad.dtype() == leaf.grad.dtype()) {
    accumulate(grad.device(), grad, leaf.grad);
  } else {
    Tensor converted = empty_like(grad, leaf.grad.dtype());
    cast(grad.device(), grad, converted);
    accumulate(grad.device(), converted, leaf.grad);
  }
  leaf.has_grad = true;
}

void deliver(Frontier& frontier, const Node::Edge& edge, const Tensor& grad) {
  if (!grad.defined()) return;
  if (edge.leaf) {
    add_to_leaf(*edge.leaf, grad);
  } else if (edge.node) {
    Pending& pending = frontier[edge.node->sequence];
    if (!pending.node) {
      pending.node = edge.node;
      pending.grads.resize(static_cast<size_t>(edge.node->outputs));
    }
    add_into(pending.grads[static_cast<size_t>(edge.output)], grad);
  }
}

// The gradient that waits at the other end of an edge, for a node that adds to it; no longer
// waiting then.
Tensor take_sum(Frontier& frontier, const Node::Edge& edge) {
  if (!edge.node) return {};
  const auto found = frontier.find(edge.node->sequence);
  if (found == frontier.end()) return {};
  Tensor& sum = found->second.grads[static_cast<size_t>(edge.output)];
  return writable(sum) ? std::exchange(sum, {}) : Tensor();
}

Grads gradients_of(Frontier& frontier, Node& node, Grads& dys) {
  if (!node.adds) return node.backward(node, dys);
  std::vector<const void*> taken;
  for (const Node::Edge& edge : node.edges) {
    node.sums.push_back(take_sum(frontier, edge));
    taken.push_back(node.sums.back().raw());
  }
  Grads grads = node.backward(node, dys);
  node.sums.clear();
  for (size_t i = 0; i < taken.size() && i < grads.size(); ++i)
    CHECK(taken[i] == nullptr || grads[i].raw() == taken[i],
          "[{}] lost the gradient that it was to add to", node.op);
  return grads;
}

void serve_awaiting(Node& node) {
  const Tensor output = std::exchange(node.rebuilt, {});
  CHECK(node.awaiting.empty() || output.defined(), "[{}] did not rebuild what others await",
        node.op);
  for (const auto& read : std::exchange(node.awaiting, {})) read(output);
}

void run(Frontier& frontier, Pending pending) {
  Node& node = *pending.node;
  CHECK(node.backward != nullptr, "[{}] backward ran twice through the same graph", node.op);
  Grads grads = gradients_of(frontier, node, pending.grads);
  pending.grads.clear();
  CHECK(grads.size() == node.edges.size(), "[{}] returned {} gradients for {} inputs", node.op,
        grads.size(), node.edges.size());
  serve_awaiting(node);
  for (const Handle& handle : node.handles) handle.done();
  node.backward = nullptr;
  if (node.rebuildable.expired()) {  // else a deferred weight gradient will have it rebuilt
    node.rematerialize = nullptr;
    node.saved.clear();
    node.handles.clear();
  }
  for (size_t i = 0; i < grads.size(); ++i) {
    const Tensor grad = std::move(grads[i]);
    deliver(frontier, node.edges[i], grad);
  }
  node.edges.clear();
}

}  // namespace

void backward(const std::vector<Tensor>& roots, Grads seeds) {
  CHECK(roots.size() == seeds.size(), "{} roots, {} seeds", roots.size(), seeds.size());
  Frontier frontier;
  for (size_t i = 0; i < roots.size(); ++i) {
    const auto& meta = roots[i].grad_meta();
    if (!meta || !seeds[i].defined()) continue;
    const Tensor seed = std::move(seeds[i]);
    deliver(
        frontier,
        {meta->node, meta->output, meta->leaf && meta->leaf->requires_grad ? meta->leaf : nullptr},
        seed);
  }
  while (!frontier.empty()) {
    auto newest = std::prev(frontier.end());
    Pending pending = std::move(newest->second);
    frontier.erase(newest);
    run(frontier, std::move(pending));
  }
}

void backward(const Tensor& root) {
  CHECK(root.numel() == 1, "backward starts at a scalar, got {}", root.shape().str());
  Tensor seed = empty_like(root);
  fill(seed.device(), 1.0, seed);
  Grads seeds;
  seeds.push_back(std::move(seed));
  backward(std::vector<Tensor>{root}, std::move(seeds));
}

std::vector<Tensor> recompute(const std::vector<Tensor>& inputs, Segment f) {
  CHECK(!inputs.empty(), "recompute of a segment without inputs");
  Runtime& runtime = inputs[0].runtime();
  std::vector<Tensor> outputs;
  {
    const Scoped guard(runtime.grad_enabled, false);
    outputs = f(inputs);
  }
  for (Tensor& output : outputs) output = output.detach();
  std::vector<Tensor*> places;
  for (Tensor& output : outputs) places.push_back(&output);
  std::vector<Saved> saved;
  std::vector<bool> defined;
  for (const Tensor& input : inputs) {
    defined.push_back(input.defined());
    Tensor kept = input.defined() ? input.detach() : Tensor();
    saved.emplace_back(kept);
  }
  record(places, {.op = "recompute",
                  .inputs = inputs,
                  .saved = std::move(saved),
                  .handles = {},
                  .backward = [f = std::move(f), defined](Node& self, Grads& dys) -> Grads {
                    std::vector<Tensor> again;
                    for (size_t i = 0; i < defined.size(); ++i) {
                      if (!defined[i]) {
                        again.emplace_back();
                        continue;
                      }
                      const Tensor kept = self.saved[i].get();
                      again.push_back(make_leaf(kept, "recompute", kept.dtype()));
                    }
                    std::vector<Tensor> outputs = f(again);
                    backward(outputs, std::move(dys));
                    Grads grads;
                    for (const Tensor& leaf : again)
                      grads.push_back(leaf.defined() ? leaf_of(leaf)->grad : Tensor());
                    return grads;
                  },
                  .rematerialize = nullptr,
                  .always = true});
  return outputs;
}

}  // namespace ink
