// Sums gradients over the data-parallel ranks, in buckets, while backward still runs.
//
// The parameters' gradients are placed in flat buckets, each of one type, in the reverse order of
// the table, which is about the order in which backward finishes them. arm() before the last
// micro-batch of a step: from then on a bucket is reduced as soon as its last gradient is final;
// finish() reduces what nobody touched and waits. A recorded backward (DeviceBackend) is done
// later: there the calls of the group are interludes, so every launch makes them anew, in order,
// each with its entry in the flight recorder and its deadline; recordings must go before the
// reducer. Reductions are plain sums (the loss is already divided by the token count of the whole
// global batch), in the type of the gradients: bf16 ones are rounded with every rank that is added.
// On a group of one nothing is placed and every call is a no-op.
#pragma once

#include <memory>
#include <vector>

#include "engine/nn/parameter.h"
#include "parallel/comm/process_group.h"

namespace ink {

struct ReducerOptions {
  int64_t bucket_bytes = int64_t{8} << 20;
  bool overlap = true;  // false: everything is reduced in finish(), in the same buckets
};

class Reducer {
 public:
  // The parameters must have been materialized; their gradients become views of the buckets.
  Reducer(Runtime& runtime, const ParameterTable& table, ProcessGroup& group,
          ReducerOptions options = {});
  ~Reducer();
  Reducer(const Reducer&) = delete;
  Reducer& operator=(const Reducer&) = delete;

  // Again when the backward that it was for did not come about.
  void arm();
  void finish();
  [[nodiscard]] size_t bucket_count() const { return buckets_.size(); }
  // Bytes this rank hands to the group per step.
  [[nodiscard]] int64_t bytes_per_step() const;

 private:
  struct Bucket {
    Tensor flat;
    std::vector<Leaf*> leaves;
    size_t ready = 0;
    std::unique_ptr<Work> work;
  };
  void on_ready(size_t bucket);
  void start(Bucket& bucket);

  DeviceBackend& backend_;
  ProcessGroup& group_;
  ReducerOptions options_;
  std::vector<Bucket> buckets_;
  size_t started_ = 0;  // buckets since arm(), in order: ranks must call alike
  bool armed_ = false;
};

}  // namespace ink
