#include "engine/autograd/node.h"

#include <utility>

namespace ink {

Handle::Handle(const Tensor& parameter) {
  const auto& meta = parameter.grad_meta();
  if (meta && meta->leaf) {
    leaf_ = meta->leaf;
  } else {
    CHECK(!meta || !meta->node, "a parameter must be a leaf, got the output of {}", meta->node->op);
    plain_ = parameter;
  }
}

Tensor& Handle::gradient() const {
  if (!leaf_->grad.defined()) {
    leaf_->grad = Tensor(leaf_->value.runtime(), leaf_->value.shape(), leaf_->grad_dtype,
                         MemoryTag::kGradients);
    leaf_->has_grad = false;
  }
  return leaf_->grad;
}

void Handle::open() const {
  if (wants_grad()) ++leaf_->open_uses;
}

void Handle::done() const {
  if (!wants_grad()) return;
  CHECK(leaf_->open_uses > 0, "use of {} closed twice", leaf_->name);
  if (--leaf_->open_uses == 0 && leaf_->on_grad_ready) leaf_->on_grad_ready(*leaf_);
}

Saved::Saved(const Tensor& tensor) {
  const auto& meta = tensor.grad_meta();
  const bool rebuild = tensor.defined() && tensor.runtime().recompute == Recompute::kSelective &&
                       meta && meta->node && meta->node->rematerialize &&
                       meta->output == meta->node->outputs - 1;
  if (!rebuild) {
    tensor_ = tensor.detach();
    return;
  }
  rebuildable_ = meta->node->rebuildable.lock();
  if (rebuildable_) return;
  rebuildable_ = std::make_shared<Rebuildable>();
  rebuildable_->producer = meta->node;
  meta->node->rebuildable = rebuildable_;
}

Tensor Saved::get() const {
  if (!rebuildable_) return tensor_;
  const Node& producer = *rebuildable_->producer;
  Tensor tensor = std::exchange(rebuildable_->tensor, {});
  if (!tensor.defined()) tensor = producer.rematerialize(producer);
  if (rebuildable_.use_count() > 1) rebuildable_->tensor = tensor;
  return tensor;
}

bool Saved::comes_with_backward_of(const Node& node) const {
  return rebuildable_ && rebuildable_->producer.get() == &node && node.rebuilds &&
         !rebuildable_->tensor.defined();
}

bool needs_record(Runtime& runtime, const std::vector<Tensor>& inputs,
                  const std::vector<Handle>& handles) {
  if (!runtime.grad_enabled) return false;
  for (const Tensor& input : inputs) {
    const auto& meta = input.grad_meta();
    if (meta && (meta->node || meta->leaf->requires_grad)) return true;
  }
  for (const Handle& handle : handles) {
    if (handle.wants_grad()) return true;
  }
  return false;
}

void record(std::vector<Tensor*> outputs, NodeSpec spec) {
  CHECK(!outputs.empty() && outputs[0]->defined(), "[{}] records no output", spec.op);
  Runtime& runtime = outputs[0]->runtime();
  if (!needs_record(runtime, spec.inputs, spec.handles) && !(spec.always && runtime.grad_enabled))
    return;
  auto node = std::make_shared<Node>();
  node->op = spec.op;
  node->sequence = runtime.next_sequence();
  node->outputs = static_cast<int>(outputs.size());
  for (const Tensor& input : spec.inputs) {
    const auto& meta = input.grad_meta();
    if (!meta) {
      node->edges.push_back({});
    } else {
      node->edges.push_back({meta->node, meta->output,
                             meta->leaf && meta->leaf->requires_grad ? meta->leaf : nullptr});
    }
  }
  node->saved = std::move(spec.saved);
  node->handles = std::move(spec.handles);
  node->backward = std::move(spec.backward);
  node->rematerialize = std::move(spec.rematerialize);
  node->adds = spec.adds;
  node->rebuilds = spec.rebuilds;
  for (const Handle& handle : node->handles) handle.open();
  for (size_t i = 0; i < outputs.size(); ++i) {
    auto meta = std::make_shared<GradMeta>();
    meta->node = node;
    meta->output = static_cast<int>(i);
    outputs[i]->set_grad_meta(std::move(meta));
  }
}

Tensor record(Tensor output, NodeSpec spec) {
  record({&output}, std::move(spec));
  return output;
}

Tensor make_leaf(const Tensor& value, std::string name, DType grad_dtype) {
  auto meta = std::make_shared<GradMeta>();
  meta->leaf = std::make_shared<Leaf>();
  meta->leaf->name = std::move(name);
  meta->leaf->value = value.detach();
  meta->leaf->grad_dtype = grad_dtype;
  Tensor leaf = value.detach();
  leaf.set_grad_meta(std::move(meta));
  return leaf;
}

const std::shared_ptr<Leaf>& leaf_of(const Tensor& tensor) {
  CHECK(tensor.grad_meta() && tensor.grad_meta()->leaf, "the tensor is not a leaf");
  return tensor.grad_meta()->leaf;
}

}  // namespace ink
