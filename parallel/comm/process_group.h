// A set of ranks that talk to each other, and the collectives they share.
//
// Backends: self (one rank, the identity), threads of one process (tests), files and MPI (host
// tensors), NCCL (cards). All ranks of a group make the same calls in the same order. A call
// returns a Work; its tensors must live and stay untouched until wait(). Waits have a deadline:
// past it the group is aborted and Error(kPeer) names the call. Tensors are contiguous. Reductions
// take f32, f64, bf16, i32 and i64, in that type; every rank gets bit-equal results. Every call is
// written to a FlightRecorder.
#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/tensor/tensor.h"
#include "parallel/comm/flight_recorder.h"

namespace ink {

enum class ReduceOp : uint8_t { kSum, kMax };

class Work {
 public:
  virtual ~Work() = default;
  virtual void wait() = 0;  // rethrows what the call met
};

// One message of a grouped exchange: either `send` or `receive` is defined.
struct PeerMessage {
  int peer = 0;
  Tensor send, receive;
};

class WaitWatch;  // parallel/comm/wait_watch.h

struct GroupOptions {
  std::chrono::seconds timeout{600};           // of one call, where there is no watch
  std::shared_ptr<WaitWatch> watch = nullptr;  // asked by every wait of the group and its splits
};

class ProcessGroup {
 public:
  virtual ~ProcessGroup() = default;
  [[nodiscard]] virtual int rank() const = 0;
  [[nodiscard]] virtual int size() const = 0;
  [[nodiscard]] virtual std::string name() const = 0;

  [[nodiscard]] virtual std::unique_ptr<Work> all_reduce(const Tensor& tensor, ReduceOp op) = 0;
  // out = size() parts like `in`, in rank order.
  [[nodiscard]] virtual std::unique_ptr<Work> all_gather(const Tensor& in, const Tensor& out) = 0;
  // in = size() parts like `out`; out = the sum of everybody's part number rank().
  [[nodiscard]] virtual std::unique_ptr<Work> reduce_scatter(const Tensor& in,
                                                             const Tensor& out) = 0;
  // in and out = size() equal parts; part p of in goes to rank p.
  [[nodiscard]] virtual std::unique_ptr<Work> all_to_all(const Tensor& in, const Tensor& out) = 0;
  // Rows of `in` (first dimension) by destination, rows of `out` by source.
  [[nodiscard]] virtual std::unique_ptr<Work> all_to_all_v(
      const Tensor& in, std::span<const int64_t> send_rows, const Tensor& out,
      std::span<const int64_t> receive_rows) = 0;
  [[nodiscard]] virtual std::unique_ptr<Work> broadcast(const Tensor& tensor, int root) = 0;
  // All messages of one call are posted together, so a ring of sends and receives cannot lock up.
  [[nodiscard]] virtual std::unique_ptr<Work> exchange(std::vector<PeerMessage> messages) = 0;
  virtual void barrier() = 0;
  // Ranks that give the same color form a group, ordered by key, then by rank.
  [[nodiscard]] virtual std::unique_ptr<ProcessGroup> split(int color, int key) = 0;
  // Ends the waits of this rank with Error(kPeer), and those of the others where the transport can
  // tell them (threads, files): elsewhere they end when this rank's process is gone, at the latest
  // at their deadline. The group cannot be used afterwards.
  virtual void abort(const std::string& reason) = 0;

  [[nodiscard]] virtual const FlightRecorder& recorder() const = 0;
};

}  // namespace ink
