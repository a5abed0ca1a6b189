// The autograd graph: leaves (parameters and other tensors that want a gradient) and nodes (what an
// op left behind).
//
// An op computes its result, then calls record() with what its gradient needs. A node lists what it
// saves. A parameter is saved as a Handle, not as a tensor: its gradient is not returned but added
// to the parameter (accumulate()), and a layout that frees weights after use can bring them back
// before backward asks for value(). Nodes belong to one Runtime and one thread.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/tensor/tensor.h"

namespace ink {

// Does a kernel write its result or add to what is there?
enum class WriteMode : uint8_t { kOverwrite, kAccumulate };

// A tensor that wants a gradient.
struct Leaf {
  std::string name;
  Tensor value;
  Tensor grad;  // undefined until the first use unless its owner placed it
  DType grad_dtype = DType::kF32;
  bool requires_grad = true;
  bool has_grad = false;                     // false: the next contribution overwrites
  int open_uses = 0;                         // recorded uses whose backward has not run
  std::function<void(Leaf&)> on_grad_ready;  // called when open_uses returns to zero in backward
};

struct Node;

// A tensor's place in the graph: output number `output` of `node`, or a leaf.
struct GradMeta {
  std::shared_ptr<Node> node;
  int output = 0;
  std::shared_ptr<Leaf> leaf;
};

// How an op keeps a parameter.
class Handle {
 public:
  Handle() = default;
  explicit Handle(const Tensor& parameter);  // a leaf, or a tensor that needs no gradient

  [[nodiscard]] bool defined() const { return leaf_ != nullptr || plain_.defined(); }
  [[nodiscard]] const Tensor& value() const { return leaf_ ? leaf_->value : plain_; }
  [[nodiscard]] bool wants_grad() const { return leaf_ && leaf_->requires_grad; }
  // Runs write(gradient, mode): overwrite the first time in a step, accumulate after that.
  template <class F>
  void accumulate(F&& write) const {
    if (!wants_grad()) return;
    Tensor& grad = gradient();
    write(grad, leaf_->has_grad ? WriteMode::kAccumulate : WriteMode::kOverwrite);
    leaf_->has_grad = true;
  }
  // A use opens when its node is recorded and is done when its gradient has been added; ops that
  // compute a gradient in the forward pass, or later than their backward, call these themselves.
  void open() const;
  void done() const;

 private:
  Tensor& gradient() const;
  std::shared_ptr<Leaf> leaf_;
  Tensor plain_;
};

using Grads = std::vector<Tensor>;  // undefined = no gradient

// A tensor that its producer can rebuild, shared by all that saved it.
struct Rebuildable {
  std::shared_ptr<Node> producer;
  Tensor tensor;  // between the first get() and the last
};

// What a node kept. Under Recompute::kSelective a tensor whose producer can rebuild it is kept as
// its producer. The first get() rebuilds it; where others have saved it too, it stays until only
// one is left and that one gets it, so that it is rebuilt once. It costs the tensor's own size from
// the first reader's backward to the last one's.
class Saved {
 public:
  Saved() = default;
  Saved(const Tensor&
            tensor);  // NOLINT(google-explicit-constructor): lists of saved tensors read better
  [[nodiscard]] Tensor get() const;
  // Will this node's backward bring it along (Node::awaiting)?
  [[nodiscard]] bool comes_with_backward_of(const Node& node) const;

 private:
  Tensor tensor_;
  std::shared_ptr<Rebuildable> rebuildable_;
};

struct Node {
  struct Edge {
    std::shared_ptr<Node> node;
    int output = 0;
    std::shared_ptr<Leaf> leaf;
  };

  const char* op = "";
  uint64_t sequence = 0;
  int outputs = 1;
  std::vector<Edge> edges;  // one per input
  std::vector<Saved> saved;
  std::vector<Handle> handles;
  std::function<Grads(Node& self, Grads& dys)>
      backward;  // one gradient per input; may reuse the memory of dys
  std::function<Tensor(const Node& self)>
      rematerialize;                       // rebuilds the last output from `saved`; none = cannot
  std::weak_ptr<Rebuildable> rebuildable;  // of the last output: does anyone still want it?
  // rebuilds: backward computes what the last output is made of anyway; where consumers have left
  // work in `awaiting`, it puts that output into `rebuilt`, for less than rematerialize() costs,
  // and the work is done behind it.
  bool rebuilds = false;
  std::vector<std::function<void(const Tensor& output)>> awaiting;
  Tensor rebuilt;
  // adds: in `sums`, one per input, backward is handed the gradient that other nodes have already
  // given that input, where there is one and nobody else holds it; it takes it, adds its own and
  // returns the sum.
  bool adds = false;
  Grads sums;
};

struct NodeSpec {
  const char* op = "";
  std::vector<Tensor>
      inputs;  // tensors that may want a gradient, in the order backward returns them
  std::vector<Saved> saved;
  std::vector<Handle> handles;
  std::function<Grads(Node& self, Grads& dys)> backward;
  std::function<Tensor(const Node& self)> rematerialize;
  bool adds = false;      // backward can add to Node::sums
  bool rebuilds = false;  // backward can fill Node::rebuilt
  bool always = false;    // record even if no input or handle asks: something inside `backward` may
};

// Does anything want a gradient through these inputs or handles, in this mode of the runtime?
[[nodiscard]] bool needs_record(Runtime& runtime, const std::vector<Tensor>& inputs,
                                const std::vector<Handle>& handles);

// Gives the outputs their place in the graph. A no-op where nobody wants a gradient.
void record(std::vector<Tensor*> outputs, NodeSpec spec);
[[nodiscard]] Tensor record(Tensor output, NodeSpec spec);

// A leaf tensor over this memory.
[[nodiscard]] Tensor make_leaf(const Tensor& value, std::string name = {},
                               DType grad_dtype = DType::kF32);
[[nodiscard]] const std::shared_ptr<Leaf>& leaf_of(
    const Tensor& tensor);  // InternalError when it is not a leaf

}  // namespace ink
