#include "parallel/comm/self_group.h"

namespace ink {
namespace {

class DoneWork final : public Work {
 public:
  void wait() override {}
};

void copy_flat(const Tensor& from, const Tensor& to) {
  CHECK(from.bytes() == to.bytes(), "{} bytes to {} bytes in a group of one", from.bytes(),
        to.bytes());
  if (from.raw() != to.raw()) to.runtime().backend().copy(to.raw(), from.raw(), from.bytes());
}

class SelfGroup final : public ProcessGroup {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  std::string name() const override { return "self"; }

  std::unique_ptr<Work> all_reduce(const Tensor& tensor, ReduceOp) override {
    return done("all_reduce", tensor.bytes());
  }
  std::unique_ptr<Work> all_gather(const Tensor& in, const Tensor& out) override {
    return copied("all_gather", in, out);
  }
  std::unique_ptr<Work> reduce_scatter(const Tensor& in, const Tensor& out) override {
    return copied("reduce_scatter", in, out);
  }
  std::unique_ptr<Work> all_to_all(const Tensor& in, const Tensor& out) override {
    return copied("all_to_all", in, out);
  }
  std::unique_ptr<Work> all_to_all_v(const Tensor& in, std::span<const int64_t>, const Tensor& out,
                                     std::span<const int64_t>) override {
    return copied("all_to_all_v", in, out);
  }
  std::unique_ptr<Work> broadcast(const Tensor& tensor, int) override {
    return done("broadcast", tensor.bytes());
  }
  std::unique_ptr<Work> exchange(std::vector<PeerMessage> messages) override {
    // Sends and receives to oneself pair up in order.
    std::vector<const Tensor*> sends, receives;
    for (const PeerMessage& m : messages) {
      CHECK(m.peer == 0, "peer {} in a group of one", m.peer);
      if (m.send.defined()) sends.push_back(&m.send);
      if (m.receive.defined()) receives.push_back(&m.receive);
    }
    CHECK(sends.size() == receives.size(), "{} sends, {} receives in a group of one", sends.size(),
          receives.size());
    for (size_t i = 0; i < sends.size(); ++i) copy_flat(*sends[i], *receives[i]);
    return done("exchange", 0);
  }
  void barrier() override { done("barrier", 0)->wait(); }
  std::unique_ptr<ProcessGroup> split(int, int) override { return make_self_group(); }
  void abort(const std::string& reason) override { throw Error(ExitCode::kPeer, "self", reason); }
  const FlightRecorder& recorder() const override { return recorder_; }

 private:
  std::unique_ptr<Work> done(const char* op, int64_t bytes) {
    recorder_.complete(recorder_.issue(op, bytes));
    return std::make_unique<DoneWork>();
  }
  std::unique_ptr<Work> copied(const char* op, const Tensor& in, const Tensor& out) {
    copy_flat(in, out);
    return done(op, in.bytes());
  }
  FlightRecorder recorder_;
};

}  // namespace

std::unique_ptr<ProcessGroup> make_self_group() { return std::make_unique<SelfGroup>(); }

}  // namespace ink
