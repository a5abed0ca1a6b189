#include "parallel/comm/nccl_group.h"

#include <nccl.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "engine/tensor/cuda_backend.h"
#include "parallel/comm/card_calls.h"
#include "parallel/comm/device_group.h"
#include "parallel/comm/nccl_shortage.h"
#include "parallel/comm/wait_watch.h"

namespace ink {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kLookEvery(100);

// One message of a grouped call.
struct Message {
  int peer = 0;
  char* memory = nullptr;
  int64_t bytes = 0;
  bool send = false;
};

// Why a family of groups (a world and its splits) ended; empty while it lives.
using Fate = std::shared_ptr<std::string>;

ncclDataType_t reduced_type(DType dtype) {
  switch (dtype) {
    case DType::kF32:
      return ncclFloat32;
    case DType::kBF16:
      return ncclBfloat16;
    case DType::kF64:
      return ncclFloat64;
    case DType::kI32:
      return ncclInt32;
    case DType::kI64:
      return ncclInt64;
    default:
      throw InternalError(fmt::format("no NCCL reduction of {}: reduce in f32", name_of(dtype)));
  }
}

size_t count_of(int64_t count) { return static_cast<size_t>(count); }

bool failed(ncclResult_t result) { return result != ncclSuccess && result != ncclInProgress; }

// Non-blocking, so that no call can hang in the library: settle() waits, with a deadline.
ncclConfig_t non_blocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

class NcclGroup final : public ProcessGroup, private HostWaitGuard {
 public:
  NcclGroup(Runtime& runtime, const GroupOptions& options, std::string name, Fate fate)
      : backend_(static_cast<CudaBackend&>(runtime.backend())),
        options_(options),
        name_(std::move(name)),
        fate_(std::move(fate)),
        token_(runtime, {1}, DType::kI32, MemoryTag::kCommunication) {
    zero(token_);
    backend_.add_guard(*this);
  }

  ~NcclGroup() override {
    try {
      leave();
    } catch (const std::exception&) {  // whoever waited for a call has been told
    }
    end_communicator();
    backend_.remove_guard(*this);
  }

  void join(const ncclUniqueId& id, int rank, int size) {
    rank_ = rank;
    size_ = size;
    ncclConfig_t config = non_blocking();
    const FlightRecord record = issue("init", 0);
    settle(ncclCommInitRankConfig(&comm_, size, id, rank, &config), record);
    recorder_.complete(record.sequence);
  }

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return name_; }
  const FlightRecorder& recorder() const override { return recorder_; }

  std::unique_ptr<Work> all_reduce(const Tensor& tensor, ReduceOp op) override {
    const ncclDataType_t type = reduced_type(tensor.dtype());
    return call("all_reduce", tensor.bytes(), {tensor}, [&] {
      return ncclAllReduce(tensor.raw(), tensor.raw(), count_of(tensor.numel()), type,
                           op == ReduceOp::kSum ? ncclSum : ncclMax, comm_, stream_.get());
    });
  }
  std::unique_ptr<Work> all_gather(const Tensor& in, const Tensor& out) override {
    CHECK(out.bytes() == in.bytes() * size_, "all_gather of {} bytes into {}", in.bytes(),
          out.bytes());
    return call("all_gather", in.bytes(), {in, out}, [&] {
      return ncclAllGather(in.raw(), out.raw(), count_of(in.bytes()), ncclUint8, comm_,
                           stream_.get());
    });
  }
  std::unique_ptr<Work> reduce_scatter(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() * size_, "reduce_scatter of {} bytes into {}", in.bytes(),
          out.bytes());
    const ncclDataType_t type = reduced_type(out.dtype());
    return call("reduce_scatter", in.bytes(), {in, out}, [&] {
      return ncclReduceScatter(in.raw(), out.raw(), count_of(out.numel()), type, ncclSum, comm_,
                               stream_.get());
    });
  }
  std::unique_ptr<Work> broadcast(const Tensor& tensor, int root) override {
    return call("broadcast", tensor.bytes(), {tensor}, [&] {
      return ncclBroadcast(tensor.raw(), tensor.raw(), count_of(tensor.bytes()), ncclUint8, root,
                           comm_, stream_.get());
    });
  }
  std::unique_ptr<Work> all_to_all(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() && in.bytes() % size_ == 0, "all_to_all of {} bytes into {}",
          in.bytes(), out.bytes());
    const std::vector<int64_t> parts(count_of(size_), in.bytes() / size_);
    return scatter("all_to_all", in, parts, out, parts, 1);
  }
  std::unique_ptr<Work> all_to_all_v(const Tensor& in, std::span<const int64_t> send_rows,
                                     const Tensor& out,
                                     std::span<const int64_t> receive_rows) override {
    const Tensor& any = out.dim(0) > 0 ? out : in;
    return scatter("all_to_all_v", in, send_rows, out, receive_rows,
                   any.dim(0) > 0 ? any.bytes() / any.dim(0) : 0);
  }
  std::unique_ptr<Work> exchange(std::vector<PeerMessage> messages) override {
    std::vector<Message> posted;
    std::vector<Tensor> memory;
    int64_t bytes = 0;
    for (const PeerMessage& m : messages) {
      const Tensor& tensor = m.send.defined() ? m.send : m.receive;
      if (m.send.defined()) bytes += tensor.bytes();
      posted.push_back({m.peer, bytes_of(tensor), tensor.bytes(), m.send.defined()});
      memory.push_back(tensor);
    }
    return call("exchange", bytes, std::move(memory), [&] { return post(posted); });
  }

  // The host waits too: for the kernels of all ranks that were issued before.
  void barrier() override {
    (void)call("barrier", 0, {}, [&] {
      return ncclAllReduce(token_.raw(), token_.raw(), 1, ncclInt32, ncclSum, comm_, stream_.get());
    });
    drain();
  }

  std::unique_ptr<ProcessGroup> split(int color, int key) override {
    CHECK(color >= 0, "color {}: NCCL takes colors from 0 on", color);
    require_alive();
    drain();
    const FlightRecord record = issue("split", 0);
    auto part = std::make_unique<NcclGroup>(token_.runtime(), options_,
                                            fmt::format("{}.{}", name_, color), fate_);
    ncclConfig_t config = non_blocking();
    settle(ncclCommSplit(comm_, color, key, &part->comm_, &config), record);
    part->settle(ncclInProgress, record);
    part->check(ncclCommUserRank(part->comm_, &part->rank_), record);
    part->check(ncclCommCount(part->comm_, &part->size_), record);
    recorder_.complete(record.sequence);
    return part;
  }

  void abort(const std::string& reason) override {
    if (fate_->empty()) *fate_ = reason;
    end_communicator();
    throw Error(ExitCode::kPeer, name_, reason);
  }

 private:
  // wait(): later kernels wait for the call, and may use its memory again.
  class CallWork final : public Work {
   public:
    CallWork(NcclGroup& group, std::shared_ptr<CardCall> call)
        : group_(group), call_(std::move(call)) {}
    void wait() override {
      group_.require_alive();
      call_->done.hold(group_.backend_.stream());
      call_->memory.clear();
    }

   private:
    NcclGroup& group_;
    std::shared_ptr<CardCall> call_;
  };

  static char* bytes_of(const Tensor& tensor) { return static_cast<char*>(tensor.raw()); }

  FlightRecord issue(const char* op, int64_t bytes) {
    return {.sequence = recorder_.issue(op, bytes), .op = op, .bytes = bytes};
  }

  // post() puts the call into the communication stream; a call without memory of its own is posted
  // always, one of empty tensors never.
  template <class Post>
  std::unique_ptr<Work> call(const char* op, int64_t bytes, std::vector<Tensor> memory,
                             Post&& post) {
    require_alive();
    CHECK(!backend_.recording(), "{} inside of a recording: only an interlude makes calls", op);
    for (const Tensor& tensor : memory) {
      CHECK(&tensor.runtime().backend() == &backend_ && tensor.contiguous(),
            "{}: a tensor is of another device, or not contiguous", op);
    }
    const bool empty = !memory.empty() &&
                       std::ranges::all_of(memory, [](const Tensor& t) { return t.numel() == 0; });
    auto call = std::make_shared<CardCall>();
    call->record = issue(op, bytes);
    call->memory = std::move(memory);
    call->ready.record(backend_.stream());
    call->ready.hold(stream_.get());
    if (!empty) settle(post(), call->record);
    call->done.record(stream_.get());
    calls_.drop_finished(recorder_);
    calls_.add(call);
    return std::make_unique<CallWork>(*this, std::move(call));
  }

  // Part p of `in` goes to rank p; sizes in units of `unit` bytes.
  std::unique_ptr<Work> scatter(const char* op, const Tensor& in, std::span<const int64_t> send,
                                const Tensor& out, std::span<const int64_t> receive, int64_t unit) {
    std::vector<Message> messages;
    int64_t from = 0, to = 0;
    for (int peer = 0; peer < size_; ++peer) {
      const int64_t sent = send[count_of(peer)] * unit, received = receive[count_of(peer)] * unit;
      messages.push_back({peer, bytes_of(in) + from, sent, true});
      messages.push_back({peer, bytes_of(out) + to, received, false});
      from += sent;
      to += received;
    }
    CHECK(from == in.bytes() && to == out.bytes(), "{}: rows of {} and {} bytes for {} and {}", op,
          from, to, in.bytes(), out.bytes());
    return call(op, in.bytes(), {in, out}, [&] { return post(messages); });
  }

  // All at once, so that no order of sends and receives can lock up.
  ncclResult_t post(const std::vector<Message>& messages) {
    ncclResult_t result = ncclGroupStart();
    for (const Message& m : messages) {
      if (failed(result)) break;
      if (m.bytes == 0) continue;
      result = m.send
                   ? ncclSend(m.memory, count_of(m.bytes), ncclUint8, m.peer, comm_, stream_.get())
                   : ncclRecv(m.memory, count_of(m.bytes), ncclUint8, m.peer, comm_, stream_.get());
    }
    const ncclResult_t end = ncclGroupEnd();
    return failed(result) ? result : end;
  }

  // The host waits for every call so far.
  void drain() {
    if (const std::shared_ptr<CardCall> last = calls_.newest()) backend_.wait_for(last->done.get());
  }

  // While the host waits for the card.
  void look() override {
    require_alive();
    calls_.drop_finished(recorder_);
    const std::shared_ptr<CardCall> oldest = calls_.oldest();
    if (oldest == nullptr) return;
    ncclResult_t state = ncclSuccess;
    check(ncclCommGetAsyncError(comm_, &state), oldest->record);
    check(state, oldest->record);
    look_around(oldest->record, calls_.under_way());
  }

  // Waits until the library has done what it put off.
  void settle(ncclResult_t result, const FlightRecord& record) {
    const Clock::time_point start = Clock::now();
    while (result == ncclInProgress) {
      check(ncclCommGetAsyncError(comm_, &result), record);
      if (result == ncclInProgress) {
        look_around(record, Clock::now() - start);
        std::this_thread::yield();
      }
    }
    check(result, record);
  }

  // May the wait go on?
  void look_around(const FlightRecord& record, std::chrono::duration<double> waited) {
    if (waited < kLookEvery || Clock::now() - looked_ < kLookEvery) return;
    looked_ = Clock::now();
    try {
      if (options_.watch) {
        options_.watch->waiting(*this, record, waited.count());
      } else if (waited > options_.timeout) {
        throw Error(ExitCode::kPeer, name_,
                    describe_wait(*this, record, waited.count()) + ": a peer died or hangs");
      }
    } catch (const Error& error) {
      *fate_ = error.what();
      end_communicator();
      throw;
    }
  }

  void check(ncclResult_t result, const FlightRecord& record) {
    if (!failed(result)) return;
    const std::string detail = ncclGetLastError(comm_);
    *fate_ = fmt::format("{} (call {}, {} bytes, rank {} of {}): NCCL: {}{}{}", record.op,
                         record.sequence, record.bytes, rank_, size_, ncclGetErrorString(result),
                         detail.empty() ? "" : ": ", detail);
    end_communicator();
    if (result == ncclUnhandledCudaError || result == ncclSystemError) require_memory(detail);
    // What the library calls invalid usage when ranks meet is two of them on one card.
    const bool shared_card = result == ncclInvalidUsage && std::strcmp(record.op, "init") == 0;
    throw Error(
        shared_card ? ExitCode::kConfig : ExitCode::kPeer, name_, *fate_,
        shared_card ? "every rank needs a card of its own, which a MIG instance is not" : "");
  }

  void require_memory(const std::string& last_error) const {
    const NcclShortage shortage = shortage_in(last_error);
    if (shortage == NcclShortage::kCard) backend_.out_of_memory(*fate_);
    if (shortage == NcclShortage::kHost) throw host_is_full(*fate_);
  }

  void require_alive() {
    if (fate_->empty()) return;
    end_communicator();
    throw Error(ExitCode::kPeer, name_, *fate_);
  }

  // A peer may be gone, so no step of an orderly end may wait for ever.
  void leave() {
    if (comm_ == nullptr || !fate_->empty()) return;
    drain();
    const FlightRecord record = issue("leave", 0);
    settle(ncclCommFinalize(comm_), record);
    (void)ncclCommDestroy(comm_);
    comm_ = nullptr;
  }

  // Ends what is under way on the card.
  void end_communicator() {
    if (comm_ != nullptr) (void)ncclCommAbort(comm_);
    comm_ = nullptr;
  }

  CudaBackend& backend_;
  GroupOptions options_;
  std::string name_;
  Fate fate_;
  Tensor token_;  // what a barrier adds up
  int rank_ = 0, size_ = 1;
  ncclComm_t comm_ = nullptr;
  UrgentStream stream_;
  CardCalls calls_;
  Clock::time_point looked_{};
  FlightRecorder recorder_;
};

std::string nccl_version() {
  int version = 0;
  (void)ncclGetVersion(&version);
  return fmt::format("NCCL {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

const bool kRegistered =
    register_device_transport(Device::kCuda, {.make = make_nccl_group, .describe = nccl_version});

}  // namespace

// The id that NCCL makes holds a random number that its bootstrap asks of everybody who connects:
// whoever has not heard it through `host` cannot join.
std::unique_ptr<ProcessGroup> make_nccl_group(Runtime& runtime, ProcessGroup& host,
                                              const GroupOptions& options) {
  CHECK(runtime.device() == Device::kCuda, "an NCCL group for tensors on {}",
        name_of(runtime.device()));
  ncclUniqueId id{};
  if (host.rank() == 0) {
    if (const ncclResult_t made = ncclGetUniqueId(&id); made != ncclSuccess)
      throw Error(ExitCode::kPeer, "nccl", fmt::format("no id: {}", ncclGetErrorString(made)),
                  "NCCL_SOCKET_IFNAME names the network interface");
  }
  Runtime host_runtime;
  const Tensor bytes =
      to_tensor(host_runtime, std::vector<uint8_t>(id.internal, id.internal + sizeof id.internal));
  host.broadcast(bytes, 0)->wait();
  std::memcpy(id.internal, bytes.raw(), sizeof id.internal);
  auto group =
      std::make_unique<NcclGroup>(runtime, options, "nccl", std::make_shared<std::string>());
  group->join(id, host.rank(), host.size());
  return group;
}

}  // namespace ink
