#include "parallel/comm/mpi_group.h"

#include <mpi.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "parallel/comm/comm_thread.h"
#include "parallel/comm/reduce.h"
#include "parallel/comm/wait_watch.h"

namespace ink {
namespace {

// Counts of the library are int: longer buffers go in pieces.
constexpr int64_t kMaxCount = int64_t{1} << 30;
constexpr std::chrono::milliseconds kLookEvery(100);

void check_mpi(int code, std::string_view what) {
  if (code == MPI_SUCCESS) return;
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  MPI_Error_string(code, text.data(), &length);
  throw Error(ExitCode::kPeer, "mpi",
              fmt::format("{}: {}", what, std::string(text.data(), static_cast<size_t>(length))));
}

// The library has no bf16: its bits, added by a function of ours.
void sum_bf16(void* from, void* into, int* count, MPI_Datatype*) {
  reduce_elements(DType::kBF16, ReduceOp::kSum, from, into, *count);
}
void max_bf16(void* from, void* into, int* count, MPI_Datatype*) {
  reduce_elements(DType::kBF16, ReduceOp::kMax, from, into, *count);
}

// Operations of a communicator.
class Bf16Operations {
 public:
  Bf16Operations() {
    check_mpi(MPI_Op_create(sum_bf16, 1, &sum_), "MPI_Op_create");
    check_mpi(MPI_Op_create(max_bf16, 1, &max_), "MPI_Op_create");
  }
  ~Bf16Operations() {
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (finalized) return;
    MPI_Op_free(&sum_);
    MPI_Op_free(&max_);
  }
  Bf16Operations(const Bf16Operations&) = delete;
  Bf16Operations& operator=(const Bf16Operations&) = delete;
  [[nodiscard]] MPI_Op of(ReduceOp op) const { return op == ReduceOp::kSum ? sum_ : max_; }

 private:
  MPI_Op sum_ = MPI_OP_NULL, max_ = MPI_OP_NULL;
};

MPI_Datatype mpi_type(DType dtype) {
  switch (dtype) {
    case DType::kBF16:
      return MPI_UINT16_T;
    case DType::kF32:
      return MPI_FLOAT;
    case DType::kF64:
      return MPI_DOUBLE;
    case DType::kI32:
      return MPI_INT32_T;
    case DType::kI64:
      return MPI_INT64_T;
    default:
      throw InternalError(fmt::format("no MPI reduction of {}: reduce in f32", name_of(dtype)));
  }
}

char* bytes_of(const Tensor& tensor, int64_t offset = 0) {
  return static_cast<char*>(tensor.raw()) + offset;
}

class MpiGroup final : public ProcessGroup {
 public:
  MpiGroup(MPI_Comm comm, std::shared_ptr<CommThread> thread, GroupOptions options,
           std::string name)
      : comm_(comm), thread_(std::move(thread)), options_(options), name_(std::move(name)) {
    MPI_Comm_set_errhandler(comm_, MPI_ERRORS_RETURN);
    MPI_Comm_rank(comm_, &rank_);
    MPI_Comm_size(comm_, &size_);
  }
  ~MpiGroup() override {
    // Outstanding calls hold tensors of the caller: drain before the communicator goes.
    try {
      thread_->submit([] {})->wait();
    } catch (const std::exception&) {  // a job that failed has been reported through its Work
    }
    int finalized = 0;
    MPI_Finalized(&finalized);
    if (!finalized && !aborted_) MPI_Comm_free(&comm_);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return name_; }
  const FlightRecorder& recorder() const override { return recorder_; }

  std::unique_ptr<Work> all_reduce(const Tensor& tensor, ReduceOp op) override {
    const MPI_Datatype type = mpi_type(tensor.dtype());
    const MPI_Op operation = operation_of(tensor.dtype(), op);
    return call("all_reduce", tensor.bytes(), [=, this](const FlightRecord& record) {
      for (int64_t begin = 0; begin < tensor.numel(); begin += kMaxCount) {
        const int count = static_cast<int>(std::min(kMaxCount, tensor.numel() - begin));
        MPI_Request request = MPI_REQUEST_NULL;
        check_mpi(MPI_Iallreduce(MPI_IN_PLACE, bytes_of(tensor, begin * size_of(tensor.dtype())),
                                 count, type, operation, comm_, &request),
                  record.op);
        finish({&request, 1}, record);
      }
    });
  }
  std::unique_ptr<Work> all_gather(const Tensor& in, const Tensor& out) override {
    CHECK(out.bytes() == in.bytes() * size_, "all_gather of {} bytes into {}", in.bytes(),
          out.bytes());
    return call("all_gather", in.bytes(), [=, this](const FlightRecord& record) {
      MPI_Request request = MPI_REQUEST_NULL;
      const int count = checked_count(in.bytes());
      check_mpi(
          MPI_Iallgather(in.raw(), count, MPI_BYTE, out.raw(), count, MPI_BYTE, comm_, &request),
          record.op);
      finish({&request, 1}, record);
    });
  }
  std::unique_ptr<Work> reduce_scatter(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() * size_, "reduce_scatter of {} bytes into {}", in.bytes(),
          out.bytes());
    const MPI_Datatype type = mpi_type(out.dtype());
    const MPI_Op operation = operation_of(out.dtype(), ReduceOp::kSum);
    return call("reduce_scatter", in.bytes(), [=, this](const FlightRecord& record) {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Ireduce_scatter_block(in.raw(), out.raw(), checked_count(out.numel()), type,
                                          operation, comm_, &request),
                record.op);
      finish({&request, 1}, record);
    });
  }
  std::unique_ptr<Work> all_to_all(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() && in.bytes() % size_ == 0, "all_to_all of {} bytes into {}",
          in.bytes(), out.bytes());
    return call("all_to_all", in.bytes(), [=, this](const FlightRecord& record) {
      MPI_Request request = MPI_REQUEST_NULL;
      const int count = checked_count(in.bytes() / size_);
      check_mpi(
          MPI_Ialltoall(in.raw(), count, MPI_BYTE, out.raw(), count, MPI_BYTE, comm_, &request),
          record.op);
      finish({&request, 1}, record);
    });
  }
  std::unique_ptr<Work> all_to_all_v(const Tensor& in, std::span<const int64_t> send_rows,
                                     const Tensor& out,
                                     std::span<const int64_t> receive_rows) override {
    const Tensor& any = out.dim(0) > 0 ? out : in;
    const int64_t row = any.dim(0) > 0 ? any.bytes() / any.dim(0) : 0;
    std::vector<int> send, receive, from, to;
    const auto lay_out = [&](std::span<const int64_t> rows, std::vector<int>& counts,
                             std::vector<int>& starts) {
      int64_t at = 0;
      for (const int64_t r : rows) {
        starts.push_back(checked_count(at));
        counts.push_back(checked_count(r * row));
        at += r * row;
      }
    };
    lay_out(send_rows, send, from);
    lay_out(receive_rows, receive, to);
    return call("all_to_all_v", in.bytes(), [=, this](const FlightRecord& record) {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Ialltoallv(in.raw(), send.data(), from.data(), MPI_BYTE, out.raw(),
                               receive.data(), to.data(), MPI_BYTE, comm_, &request),
                record.op);
      finish({&request, 1}, record);
    });
  }
  std::unique_ptr<Work> broadcast(const Tensor& tensor, int root) override {
    return call("broadcast", tensor.bytes(), [=, this](const FlightRecord& record) {
      for (int64_t begin = 0; begin < tensor.bytes(); begin += kMaxCount) {
        MPI_Request request = MPI_REQUEST_NULL;
        const int count = static_cast<int>(std::min(kMaxCount, tensor.bytes() - begin));
        check_mpi(MPI_Ibcast(bytes_of(tensor, begin), count, MPI_BYTE, root, comm_, &request),
                  record.op);
        finish({&request, 1}, record);
      }
    });
  }
  std::unique_ptr<Work> exchange(std::vector<PeerMessage> messages) override {
    int64_t bytes = 0;
    for (const PeerMessage& m : messages) bytes += m.send.defined() ? m.send.bytes() : 0;
    return call("exchange", bytes,
                [=, this, messages = std::move(messages)](const FlightRecord& record) {
                  std::vector<MPI_Request> requests;
                  for (const PeerMessage& m : messages) {
                    if (m.receive.defined()) {
                      check_mpi(MPI_Irecv(m.receive.raw(), checked_count(m.receive.bytes()),
                                          MPI_BYTE, m.peer, 0, comm_, &requests.emplace_back()),
                                record.op);
                    }
                  }
                  for (const PeerMessage& m : messages) {
                    if (m.send.defined()) {
                      check_mpi(MPI_Isend(m.send.raw(), checked_count(m.send.bytes()), MPI_BYTE,
                                          m.peer, 0, comm_, &requests.emplace_back()),
                                record.op);
                    }
                  }
                  finish(requests, record);
                });
  }
  void barrier() override {
    call("barrier", 0, [this](const FlightRecord& record) {
      MPI_Request request = MPI_REQUEST_NULL;
      check_mpi(MPI_Ibarrier(comm_, &request), record.op);
      finish({&request, 1}, record);
    })->wait();
  }
  std::unique_ptr<ProcessGroup> split(int color, int key) override {
    MPI_Comm comm = MPI_COMM_NULL;
    call("split", 0, [&](const FlightRecord& record) {
      check_mpi(MPI_Comm_split(comm_, color, key, &comm), record.op);
    })->wait();
    return std::make_unique<MpiGroup>(comm, thread_, options_, fmt::format("{}.{}", name_, color));
  }
  void abort(const std::string& reason) override {
    aborted_ = true;
    throw Error(ExitCode::kPeer, name_, reason);
  }

 private:
  [[nodiscard]] MPI_Op operation_of(DType dtype, ReduceOp op) const {
    if (dtype == DType::kBF16) return bf16_.of(op);
    return op == ReduceOp::kSum ? MPI_SUM : MPI_MAX;
  }
  static int checked_count(int64_t count) {
    CHECK(count <= kMaxCount, "{} is more than one MPI call takes", count);
    return static_cast<int>(count);
  }

  // Polls with a deadline; yields so that ranks sharing a core make progress.
  void finish(std::span<MPI_Request> requests, const FlightRecord& record) {
    using Clock = std::chrono::steady_clock;
    const Clock::time_point start = Clock::now();
    Clock::time_point looked = start;
    for (int64_t spins = 0;; ++spins) {
      int done = 0;
      check_mpi(MPI_Testall(static_cast<int>(requests.size()), requests.data(), &done,
                            MPI_STATUSES_IGNORE),
                record.op);
      if (done) return;
      if (aborted_) throw Error(ExitCode::kPeer, name_, fmt::format("aborted in {}", record.op));
      if (spins > 64) std::this_thread::yield();
      if (spins % 256 != 255) continue;
      const Clock::time_point now = Clock::now();
      if (now - looked < kLookEvery) continue;
      looked = now;
      look_around(record, now - start);
    }
  }

  // May the wait go on? Throws where not, and ends the calls that are queued behind it.
  void look_around(const FlightRecord& record, std::chrono::duration<double> waited) {
    try {
      if (options_.watch) {
        options_.watch->waiting(*this, record, waited.count());
      } else if (waited > options_.timeout) {
        throw Error(ExitCode::kPeer, name_,
                    describe_wait(*this, record, waited.count()) + ": a peer died or hangs");
      }
    } catch (...) {
      aborted_ = true;
      throw;
    }
  }

  template <class F>
  std::unique_ptr<Work> call(const char* op, int64_t bytes, F&& run) {
    const FlightRecord record{.sequence = recorder_.issue(op, bytes), .op = op, .bytes = bytes};
    return thread_->submit([this, record, run = std::forward<F>(run)] {
      if (aborted_)
        throw Error(ExitCode::kPeer, name_, fmt::format("aborted before {}", record.op));
      run(record);
      recorder_.complete(record.sequence);
    });
  }

  MPI_Comm comm_;
  Bf16Operations bf16_;
  std::shared_ptr<CommThread> thread_;
  GroupOptions options_;
  std::string name_;
  int rank_ = 0, size_ = 1;
  std::atomic<bool> aborted_ = false;
  FlightRecorder recorder_;
};

}  // namespace

std::unique_ptr<ProcessGroup> make_mpi_world(GroupOptions options) {
  MPI_Comm comm = MPI_COMM_NULL;
  check_mpi(MPI_Comm_dup(MPI_COMM_WORLD, &comm), "MPI_Comm_dup");
  return std::make_unique<MpiGroup>(comm, std::make_shared<CommThread>(), options, "world");
}

}  // namespace ink
