// A process group whose results arrive as late as the contract allows: a call runs on another
// thread after a random pause, reads its input only then, and what it computed is seen in wait()
// and not before. So a wait that is missing, or memory that is touched too early, changes numbers
// on every machine and not once in a thousand runs.
#pragma once

#include <chrono>
#include <random>
#include <thread>
#include <utility>

#include "parallel/comm/comm_thread.h"
#include "parallel/comm/process_group.h"

namespace ink {

struct LateOptions {
  uint64_t seed = 0;
  int64_t forget = 0;  // the wait of this call (1-based) is left out: its result never arrives
};

class LateGroup final : public ProcessGroup {
 public:
  explicit LateGroup(ProcessGroup& inner, LateOptions options = {})
      : inner_(inner), options_(options), random_(options.seed) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  std::string name() const override { return "late " + inner_.name(); }
  const FlightRecorder& recorder() const override { return inner_.recorder(); }
  [[nodiscard]] int64_t calls() const { return calls_; }

  std::unique_ptr<Work> all_reduce(const Tensor& tensor, ReduceOp op) override {
    return in_place(tensor,
                    [this, op](const Tensor& late) { inner_.all_reduce(late, op)->wait(); });
  }
  std::unique_ptr<Work> broadcast(const Tensor& tensor, int root) override {
    return in_place(tensor,
                    [this, root](const Tensor& late) { inner_.broadcast(late, root)->wait(); });
  }
  std::unique_ptr<Work> all_gather(const Tensor& in, const Tensor& out) override {
    return into(out, [this, in](const Tensor& late) { inner_.all_gather(in, late)->wait(); });
  }
  std::unique_ptr<Work> reduce_scatter(const Tensor& in, const Tensor& out) override {
    return into(out, [this, in](const Tensor& late) { inner_.reduce_scatter(in, late)->wait(); });
  }
  std::unique_ptr<Work> all_to_all(const Tensor& in, const Tensor& out) override {
    return into(out, [this, in](const Tensor& late) { inner_.all_to_all(in, late)->wait(); });
  }
  std::unique_ptr<Work> all_to_all_v(const Tensor& in, std::span<const int64_t> send_rows,
                                     const Tensor& out,
                                     std::span<const int64_t> receive_rows) override {
    const std::vector<int64_t> send(send_rows.begin(), send_rows.end());
    const std::vector<int64_t> receive(receive_rows.begin(), receive_rows.end());
    return into(out, [this, in, send, receive](const Tensor& late) {
      inner_.all_to_all_v(in, send, late, receive)->wait();
    });
  }
  std::unique_ptr<Work> exchange(std::vector<PeerMessage> messages) override {
    pause();
    ++calls_;
    return thread_.submit([this, messages = std::move(messages)]() mutable {
      inner_.exchange(std::move(messages))->wait();
    });
  }
  void barrier() override {
    thread_.submit([this] { inner_.barrier(); })->wait();
  }
  std::unique_ptr<ProcessGroup> split(int color, int key) override {
    std::unique_ptr<ProcessGroup> part;
    thread_.submit([&] { part = inner_.split(color, key); })->wait();
    return part;
  }
  void abort(const std::string& reason) override { inner_.abort(reason); }

 private:
  class Landing final : public Work {
   public:
    Landing(std::unique_ptr<Work> work, Tensor late, Tensor out, bool forgotten)
        : work_(std::move(work)),
          late_(std::move(late)),
          out_(std::move(out)),
          forgotten_(forgotten) {}
    // Nobody leaves while the call still uses the memory.
    ~Landing() override {
      if (work_) wait_quietly();
    }
    void wait() override {
      work_->wait();
      work_.reset();
      if (!forgotten_) copy(out_, late_);
    }

   private:
    void wait_quietly() const {
      try {
        work_->wait();
      } catch (const std::exception&) {  // whoever waits for the others of this step hears of it
      }
    }
    std::unique_ptr<Work> work_;
    Tensor late_, out_;
    bool forgotten_;
  };

  template <class Call>
  std::unique_ptr<Work> in_place(const Tensor& tensor, Call call) {
    return into(tensor, [tensor, call](Tensor late) {
      copy(late, tensor);
      call(late);
    });
  }
  template <class Call>
  std::unique_ptr<Work> into(const Tensor& out, Call call) {
    pause();
    const Tensor late = empty_like(out);
    auto work = thread_.submit([pause = random_pause(), call, late] {
      std::this_thread::sleep_for(pause);
      call(late);
    });
    return std::make_unique<Landing>(std::move(work), late, out, ++calls_ == options_.forget);
  }

  // The calling thread is late too: calls come out of hooks of backward.
  void pause() { std::this_thread::sleep_for(random_pause()); }
  std::chrono::microseconds random_pause() { return std::chrono::microseconds(random_() % 3000); }

  ProcessGroup& inner_;
  LateOptions options_;
  std::mt19937_64 random_;
  int64_t calls_ = 0;
  CommThread thread_;
};

}  // namespace ink
