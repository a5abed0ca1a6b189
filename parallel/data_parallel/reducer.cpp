#include "parallel/data_parallel/reducer.h"

#include <algorithm>
#include <map>
#include <utility>

namespace ink {

Reducer::Reducer(Runtime& runtime, const ParameterTable& table, ProcessGroup& group,
                 ReducerOptions options)
    : backend_(runtime.backend()), group_(group), options_(options) {
  if (group.size() == 1) return;
  std::vector<Leaf*> leaves;
  for (auto it = table.all().rbegin(); it != table.all().rend(); ++it) {
    if ((*it)->tied_to.empty() && !(*it)->frozen) leaves.push_back((*it)->leaf().get());
  }
  struct Open {
    std::vector<Leaf*> leaves;
    int64_t elements = 0;
  };
  std::map<DType, Open> open;
  const auto close = [&](DType dtype) {
    const Open full = std::exchange(open[dtype], {});
    if (full.leaves.empty()) return;
    const Scoped tag(runtime.tag, MemoryTag::kGradients);
    Bucket bucket{.flat = Tensor(runtime, {full.elements}, dtype),
                  .leaves = full.leaves,
                  .ready = 0,
                  .work = nullptr};
    int64_t offset = 0;
    for (Leaf* leaf : full.leaves) {
      leaf->grad = bucket.flat.flat(offset, leaf->value.shape());
      leaf->has_grad = false;
      offset += leaf->value.numel();
      leaf->on_grad_ready = [this, index = buckets_.size()](Leaf&) { on_ready(index); };
    }
    buckets_.push_back(std::move(bucket));
  };
  for (Leaf* leaf : leaves) {
    const DType dtype = leaf->grad_dtype;
    if (open[dtype].elements * size_of(dtype) >= options_.bucket_bytes) close(dtype);
    open[dtype].leaves.push_back(leaf);
    open[dtype].elements += leaf->value.numel();
  }
  // Wide ones last: the small f32 gradients of norms, the last of which is ready at the very end.
  for (const DType dtype : {DType::kBF16, DType::kF32, DType::kF64}) close(dtype);
}

// Open reductions here mean that a step ended with an exception. The transport still reads and
// writes the buckets, so their calls end before the memory goes.
Reducer::~Reducer() {
  for (Bucket& bucket : buckets_) {
    for (Leaf* leaf : bucket.leaves) leaf->on_grad_ready = nullptr;
  }
  if (std::ranges::none_of(buckets_, [](const Bucket& b) { return b.work != nullptr; })) return;
  const auto quietly = [](auto&& call) {
    try {
      call();
    } catch (const std::exception&) {  // the step's own exception is on its way
    }
  };
  quietly([&] { group_.abort("a rank left a step in the middle"); });
  for (Bucket& bucket : buckets_) {
    if (bucket.work) quietly([&] { bucket.work->wait(); });
  }
}

void Reducer::arm() {
  for (Bucket& bucket : buckets_) bucket.ready = 0;
  started_ = 0;
  armed_ = true;
}

void Reducer::on_ready(size_t index) {
  if (!armed_) return;
  Bucket& bucket = buckets_[index];
  ++bucket.ready;
  CHECK(bucket.ready <= bucket.leaves.size(),
        "a gradient of bucket {} became final twice in one step", index);
  if (!options_.overlap) return;
  const auto full = [](const Bucket& b) { return b.ready == b.leaves.size(); };
  while (started_ < buckets_.size() && full(buckets_[started_])) start(buckets_[started_++]);
}

void Reducer::start(Bucket& bucket) {
  // A gradient that this rank never touched (all its labels masked) still has to be summed: it
  // counts as zero.
  for (Leaf* leaf : bucket.leaves) {
    if (!leaf->has_grad) zero(leaf->grad);
    leaf->has_grad = true;
  }
  backend_.interlude(
      [this, &bucket] { bucket.work = group_.all_reduce(bucket.flat, ReduceOp::kSum); });
}

void Reducer::finish() {
  for (Bucket& bucket : buckets_) {
    if (!bucket.work) start(bucket);
  }
  for (Bucket& bucket : buckets_) {
    bucket.work->wait();
    bucket.work.reset();
  }
  armed_ = false;
}

int64_t Reducer::bytes_per_step() const {
  int64_t bytes = 0;
  for (const Bucket& bucket : buckets_) bytes += bucket.flat.bytes();
  return bytes;
}

}  // namespace ink
