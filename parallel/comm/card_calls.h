// The calls of a transport that runs on a stream of a card, from their issue until the card has
// done them.
//
// They run one after the other. A call keeps the memory that the stream reads or writes until
// kernels wait for it or the host has seen that it is done.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "engine/tensor/cuda_stream.h"
#include "engine/tensor/tensor.h"
#include "parallel/comm/flight_recorder.h"

namespace ink {

struct CardCall {
  FlightRecord record;
  std::vector<Tensor> memory;
  StreamEvent ready, done;  // the kernels before it; the call
  std::optional<std::chrono::steady_clock::time_point> began;
};

class CardCalls {
 public:
  void add(std::shared_ptr<CardCall> call) { open_.push_back(std::move(call)); }
  // Lets go of what the card has done.
  void drop_finished(FlightRecorder& recorder) {
    while (!open_.empty() && open_.front()->done.passed()) {
      recorder.complete(open_.front()->record.sequence);
      open_.pop_front();
    }
  }
  // Null when all are done.
  [[nodiscard]] std::shared_ptr<CardCall> oldest() const {
    return open_.empty() ? nullptr : open_.front();
  }
  [[nodiscard]] std::shared_ptr<CardCall> newest() const {
    return open_.empty() ? nullptr : open_.back();
  }
  // How long the oldest has been under way, as far as the host has looked: it is once the kernels
  // before it are done.
  [[nodiscard]] std::chrono::duration<double> under_way() {
    CardCall& call = *open_.front();
    const auto now = std::chrono::steady_clock::now();
    if (!call.began && call.ready.passed()) call.began = now;
    return call.began ? now - *call.began : std::chrono::steady_clock::duration::zero();
  }

 private:
  std::deque<std::shared_ptr<CardCall>> open_;
};

}  // namespace ink
