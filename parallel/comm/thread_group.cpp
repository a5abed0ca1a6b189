#include "parallel/comm/thread_group.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <exception>
#include <map>
#include <mutex>
#include <tuple>

#include "parallel/comm/reduce.h"

namespace ink {
namespace {

// What a rank shows the others during one call.
struct Offer {
  const char* op = "";
  const void* in = nullptr;
  int64_t bytes = 0;
  std::vector<int64_t> rows;          // all_to_all_v
  std::vector<PeerMessage> messages;  // exchange
  int color = 0, key = 0;             // split
};

// The meeting place of a group. In a call all meet when their offers are there, read them, and part
// when all have read.
class Hub {
 public:
  Hub(int size, GroupOptions options)
      : offers(static_cast<size_t>(size)), options_(options), size_(size) {}

  void meet(const std::string& what) {
    std::unique_lock lock(mutex_);
    check();
    const int64_t round = round_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    const bool met = changed_.wait_for(lock, options_.timeout,
                                       [&] { return round_ != round || !aborted_.empty(); });
    if (!met) {
      aborted_ = fmt::format("time-out after {} s in {}", options_.timeout.count(), what);
      changed_.notify_all();
    }
    if (round_ == round) check();
  }
  // Whoever met has read soon, so no abort and no time-out ends this wait: memory stays with its
  // owner while somebody reads it.
  void part() {
    std::unique_lock lock(mutex_);
    const int64_t round = round_;
    if (++arrived_ == size_) {
      arrived_ = 0;
      ++round_;
      changed_.notify_all();
      return;
    }
    changed_.wait(lock, [&] { return round_ != round; });
  }
  void abort(const std::string& reason) {
    const std::lock_guard lock(mutex_);
    if (aborted_.empty()) aborted_ = reason;
    changed_.notify_all();
    for (const auto& [place, hub] : children_) hub->abort(reason);
  }
  // The hub of a split, made by whoever asks first.
  std::shared_ptr<Hub> child(int64_t call, int color, int size) {
    const std::lock_guard lock(mutex_);
    auto& slot = children_[{call, color}];
    if (!slot) slot = std::make_shared<Hub>(size, options_);
    return slot;
  }

  std::vector<Offer> offers;

 private:
  void check() const {
    if (!aborted_.empty()) throw Error(ExitCode::kPeer, "threads", aborted_);
  }
  GroupOptions options_;
  int size_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int arrived_ = 0;
  int64_t round_ = 0;
  std::string aborted_;
  std::map<std::pair<int64_t, int>, std::shared_ptr<Hub>> children_;
};

class DoneWork final : public Work {
 public:
  void wait() override {}
};

class ThreadGroup final : public ProcessGroup {
 public:
  ThreadGroup(std::shared_ptr<Hub> hub, int rank) : hub_(std::move(hub)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(hub_->offers.size()); }
  std::string name() const override { return "threads"; }
  const FlightRecorder& recorder() const override { return recorder_; }

  std::unique_ptr<Work> all_reduce(const Tensor& tensor, ReduceOp op) override {
    std::vector<char> sum(static_cast<size_t>(tensor.bytes()));
    return call(
        {.op = "all_reduce", .in = tensor.raw(), .bytes = tensor.bytes()},
        [&] {
          std::memcpy(sum.data(), hub_->offers[0].in, sum.size());
          for (int r = 1; r < size(); ++r)
            reduce_elements(tensor.dtype(), op, offer(r).in, sum.data(), tensor.numel());
        },
        [&] { std::memcpy(tensor.raw(), sum.data(), sum.size()); });
  }
  std::unique_ptr<Work> all_gather(const Tensor& in, const Tensor& out) override {
    CHECK(out.bytes() == in.bytes() * size(), "all_gather of {} bytes into {}", in.bytes(),
          out.bytes());
    return call({.op = "all_gather", .in = in.raw(), .bytes = in.bytes()}, [&] {
      for (int r = 0; r < size(); ++r)
        std::memcpy(at(out, r * in.bytes()), offer(r).in, static_cast<size_t>(in.bytes()));
    });
  }
  std::unique_ptr<Work> reduce_scatter(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() * size(), "reduce_scatter of {} bytes into {}", in.bytes(),
          out.bytes());
    std::vector<char> sum(static_cast<size_t>(out.bytes()));
    const int64_t first = rank_ * out.bytes();
    return call(
        {.op = "reduce_scatter", .in = in.raw(), .bytes = in.bytes()},
        [&] {
          std::memcpy(sum.data(), part(0, first), sum.size());
          for (int r = 1; r < size(); ++r)
            reduce_elements(out.dtype(), ReduceOp::kSum, part(r, first), sum.data(), out.numel());
        },
        [&] { std::memcpy(out.raw(), sum.data(), sum.size()); });
  }
  std::unique_ptr<Work> all_to_all(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() && in.bytes() % size() == 0, "all_to_all of {} bytes into {}",
          in.bytes(), out.bytes());
    const int64_t bytes = in.bytes() / size();
    return call({.op = "all_to_all", .in = in.raw(), .bytes = in.bytes()}, [&] {
      for (int r = 0; r < size(); ++r)
        std::memcpy(at(out, r * bytes), part(r, rank_ * bytes), static_cast<size_t>(bytes));
    });
  }
  std::unique_ptr<Work> all_to_all_v(const Tensor& in, std::span<const int64_t> send_rows,
                                     const Tensor& out,
                                     std::span<const int64_t> receive_rows) override {
    const int64_t row =
        in.rank() == 0 ? size_of(in.dtype()) : in.bytes() / std::max<int64_t>(in.dim(0), 1);
    const int64_t out_row = out.dim(0) > 0 ? out.bytes() / out.dim(0) : row;
    return call({.op = "all_to_all_v",
                 .in = in.raw(),
                 .bytes = in.bytes(),
                 .rows = {send_rows.begin(), send_rows.end()}},
                [&] {
                  int64_t to = 0;
                  for (int r = 0; r < size(); ++r) {
                    const auto& rows = offer(r).rows;
                    int64_t from = 0;
                    for (int p = 0; p < rank_; ++p) from += rows[static_cast<size_t>(p)];
                    const int64_t count = rows[static_cast<size_t>(rank_)];
                    CHECK(count == receive_rows[static_cast<size_t>(r)],
                          "rank {} sends {} rows, {} expected", r, count,
                          receive_rows[static_cast<size_t>(r)]);
                    if (count > 0)
                      std::memcpy(at(out, to * out_row), part(r, from * out_row),
                                  static_cast<size_t>(count * out_row));
                    to += count;
                  }
                });
  }
  std::unique_ptr<Work> broadcast(const Tensor& tensor, int root) override {
    return call({.op = "broadcast", .in = tensor.raw(), .bytes = tensor.bytes()}, [&] {
      if (rank_ != root)
        std::memcpy(tensor.raw(), offer(root).in, static_cast<size_t>(tensor.bytes()));
    });
  }
  std::unique_ptr<Work> exchange(std::vector<PeerMessage> messages) override {
    return call({.op = "exchange", .messages = messages}, [&] {
      std::map<int, size_t> taken;  // messages of one pair arrive in the order they were sent
      for (const PeerMessage& m : messages) {
        if (!m.receive.defined()) continue;
        const Tensor& sent = sent_to_me(m.peer, taken[m.peer]++);
        CHECK(sent.bytes() == m.receive.bytes(), "{} bytes sent, {} expected", sent.bytes(),
              m.receive.bytes());
        std::memcpy(m.receive.raw(), sent.raw(), static_cast<size_t>(sent.bytes()));
      }
    });
  }
  void barrier() override {
    call({.op = "barrier"}, [] {})->wait();
  }

  std::unique_ptr<ProcessGroup> split(int color, int key) override {
    std::unique_ptr<ProcessGroup> group;
    call({.op = "split", .color = color, .key = key}, [&] {
      std::vector<std::pair<int, int>> members;
      for (int r = 0; r < size(); ++r) {
        if (offer(r).color == color) members.emplace_back(offer(r).key, r);
      }
      std::sort(members.begin(), members.end());
      const auto place =
          std::find(members.begin(), members.end(), std::pair(key, rank_)) - members.begin();
      group = std::make_unique<ThreadGroup>(
          hub_->child(calls_, color, static_cast<int>(members.size())), static_cast<int>(place));
    });
    return group;
  }
  void abort(const std::string& reason) override { hub_->abort(reason); }

 private:
  const Offer& offer(int r) const { return hub_->offers[static_cast<size_t>(r)]; }
  const char* part(int r, int64_t offset) const {
    return static_cast<const char*>(offer(r).in) + offset;
  }
  static char* at(const Tensor& tensor, int64_t offset) {
    return static_cast<char*>(tensor.raw()) + offset;
  }
  const Tensor& sent_to_me(int peer, size_t index) const {
    for (const PeerMessage& m : offer(peer).messages) {
      if (m.send.defined() && m.peer == rank_ && index-- == 0) return m.send;
    }
    throw InternalError(
        fmt::format("rank {} expects a message that rank {} does not send", rank_, peer));
  }

  // An offer holds tensors of the caller: it is taken back before the call returns.
  struct Withdraw {
    Offer& offer;
    ~Withdraw() { offer = {}; }
  };

  // read() sees all offers; write() runs when nobody reads any more.
  template <class Read>
  std::unique_ptr<Work> call(Offer mine, Read&& read) {
    return call(std::move(mine), read, [] {});
  }
  template <class Read, class Write>
  std::unique_ptr<Work> call(Offer mine, Read&& read, Write&& write) {
    const int64_t sequence = recorder_.issue(mine.op, mine.bytes);
    const std::string what = fmt::format("{} (call {}, {} bytes, rank {} of {})", mine.op, sequence,
                                         mine.bytes, rank_, size());
    Offer& shown = hub_->offers[static_cast<size_t>(rank_)];
    shown = std::move(mine);
    const Withdraw withdraw{shown};
    ++calls_;
    hub_->meet(what);
    std::exception_ptr failure;
    try {
      read();
    } catch (...) {
      failure = std::current_exception();
    }
    hub_->part();
    if (failure) std::rethrow_exception(failure);
    write();
    recorder_.complete(sequence);
    return std::make_unique<DoneWork>();
  }

  std::shared_ptr<Hub> hub_;
  int rank_;
  int64_t calls_ = 0;
  FlightRecorder recorder_;
};

}  // namespace

std::vector<std::unique_ptr<ProcessGroup>> make_thread_groups(int size, GroupOptions options) {
  const auto hub = std::make_shared<Hub>(size, options);
  std::vector<std::unique_ptr<ProcessGroup>> groups;
  for (int r = 0; r < size; ++r) groups.push_back(std::make_unique<ThreadGroup>(hub, r));
  return groups;
}

}  // namespace ink
