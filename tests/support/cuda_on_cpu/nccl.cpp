#include "tests/support/cuda_on_cpu/toolkit/nccl.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "engine/core/dtype.h"

namespace {

enum class Kind : unsigned char { kAllReduce, kAllGather, kReduceScatter, kBroadcast };

// What a rank brings to a collective.
struct Part {
  Kind kind = Kind::kAllReduce;
  const void* in = nullptr;
  void* out = nullptr;
  std::size_t count = 0;
  ncclDataType_t type = ncclUint8;
  ncclRedOp_t op = ncclSum;
  int root = 0;

  [[nodiscard]] bool matches(const Part& other) const {
    return kind == other.kind && count == other.count && type == other.type && op == other.op &&
           root == other.root;
  }
};

struct Collective {
  std::vector<Part> parts;
  std::size_t arrived = 0, left = 0;
  bool done = false;
};

// One end of a message; the ends of a pair of ranks meet in order.
struct MessageEnd {
  void* memory = nullptr;
  std::size_t bytes = 0;
  bool done = false;
};
struct Mailbox {
  std::deque<std::shared_ptr<MessageEnd>> sent, wanted;
};

std::size_t size_of(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return 1;
    case ncclBfloat16:
      return 2;
    case ncclInt32:
    case ncclFloat32:
      return 4;
    default:
      return 8;
  }
}

template <class T>
void add(const void* from, void* into, std::size_t count, ncclRedOp_t op) {
  const auto* source = static_cast<const T*>(from);
  auto* target = static_cast<T*>(into);
  using Wide = std::conditional_t<std::is_same_v<T, ink::bf16>, float, T>;
  for (std::size_t i = 0; i < count; ++i) {
    const auto a = static_cast<Wide>(target[i]), b = static_cast<Wide>(source[i]);
    target[i] = static_cast<T>(op == ncclSum ? static_cast<Wide>(a + b) : std::max(a, b));
  }
}

void reduce(const void* from, void* into, std::size_t count, ncclDataType_t type, ncclRedOp_t op) {
  switch (type) {
    case ncclInt32:
      return add<int32_t>(from, into, count, op);
    case ncclInt64:
      return add<int64_t>(from, into, count, op);
    case ncclFloat32:
      return add<float>(from, into, count, op);
    case ncclBfloat16:
      return add<ink::bf16>(from, into, count, op);
    case ncclFloat64:
      return add<double>(from, into, count, op);
    default:
      return add<uint8_t>(from, into, count, op);
  }
}

const char* at(const void* memory, std::size_t bytes) {
  return static_cast<const char*>(memory) + bytes;
}

// Results are made apart from the inputs, which they may lie over, and in rank order.
void run(const std::vector<Part>& parts) {
  const Part& first = parts.front();
  const std::size_t bytes = first.count * size_of(first.type), ranks = parts.size();
  const auto sum_of = [&](std::size_t offset) {
    std::vector<char> sum(at(first.in, offset), at(first.in, offset) + bytes);
    for (std::size_t r = 1; r < ranks; ++r)
      reduce(at(parts[r].in, offset), sum.data(), first.count, first.type, first.op);
    return sum;
  };
  std::vector<std::vector<char>> results;
  switch (first.kind) {
    case Kind::kAllReduce:
      results.assign(ranks, sum_of(0));
      break;
    case Kind::kReduceScatter:
      for (std::size_t r = 0; r < ranks; ++r) results.push_back(sum_of(r * bytes));
      break;
    case Kind::kBroadcast: {
      const void* in = parts[static_cast<std::size_t>(first.root)].in;
      results.assign(ranks, std::vector<char>(at(in, 0), at(in, 0) + bytes));
      break;
    }
    case Kind::kAllGather: {
      std::vector<char> all;
      for (const Part& part : parts) all.insert(all.end(), at(part.in, 0), at(part.in, 0) + bytes);
      results.assign(ranks, all);
      break;
    }
  }
  for (std::size_t r = 0; r < ranks; ++r)
    std::memcpy(parts[r].out, results[r].data(), results[r].size());
}

// What the ranks of a communicator share.
struct Clique {
  explicit Clique(int ranks) : size(static_cast<std::size_t>(ranks)) {}

  const std::size_t size;
  std::mutex mutex;
  std::size_t joined = 0;
  std::map<int64_t, Collective> collectives;
  std::map<std::pair<int, int>, Mailbox> mail;  // from, to
  struct Wish {
    int color, key, rank;
  };
  struct Division {
    std::vector<Wish> wishes;
    std::map<int, std::shared_ptr<Clique>> parts;  // by color
  };
  std::map<int64_t, Division> divisions;
  bool mismatch = false;
  bool broken = false;  // a rank has aborted: its memory may be gone

  // Copies what both ends of have come.
  void deliver(Mailbox& box) {
    while (!box.sent.empty() && !box.wanted.empty()) {
      if (box.sent.front()->bytes != box.wanted.front()->bytes) {
        mismatch = true;
        return;
      }
      std::memcpy(box.wanted.front()->memory, box.sent.front()->memory, box.sent.front()->bytes);
      box.sent.front()->done = box.wanted.front()->done = true;
      box.sent.pop_front();
      box.wanted.pop_front();
    }
  }
};

std::atomic<ncclResult_t> injected = ncclSuccess;
std::atomic<const char*> last_error = "";

}  // namespace

struct ncclComm {
  std::shared_ptr<Clique> clique;
  int rank = 0;
  int64_t collectives = 0, divisions = 0;
  // Outlives the communicator in the streams that still hold its calls.
  std::shared_ptr<std::atomic<bool>> aborted = std::make_shared<std::atomic<bool>>(false);
  ncclComm** part = nullptr;  // of a split that is not done
  int color = 0;
};

namespace {

std::mutex cliques_mutex;

std::shared_ptr<Clique> clique_of(const ncclUniqueId& id, int ranks) {
  static std::map<std::string, std::weak_ptr<Clique>> cliques;
  const std::lock_guard lock(cliques_mutex);
  std::weak_ptr<Clique>& slot = cliques[id.internal];
  std::shared_ptr<Clique> found = slot.lock();
  if (!found) {
    found = std::make_shared<Clique>(ranks);
    slot = found;
  }
  return found;
}

ncclComm* join(std::shared_ptr<Clique> clique, int rank) {
  auto* comm =
      new ncclComm{.clique = std::move(clique), .rank = rank};  // freed by destroy or abort
  const std::lock_guard lock(comm->clique->mutex);
  ++comm->clique->joined;
  return comm;
}

// The communicator of a split exists once all ranks have said where they want to be.
bool finish_split(ncclComm& comm) {
  Clique& clique = *comm.clique;
  const std::unique_lock lock(clique.mutex);
  Clique::Division& division = clique.divisions[comm.divisions];
  if (division.wishes.size() < clique.size) return false;
  std::vector<std::pair<int, int>> members;  // key, rank
  for (const Clique::Wish& wish : division.wishes) {
    if (wish.color == comm.color) members.emplace_back(wish.key, wish.rank);
  }
  std::sort(members.begin(), members.end());
  const auto mine = std::find_if(members.begin(), members.end(),
                                 [&](const auto& m) { return m.second == comm.rank; });
  std::shared_ptr<Clique>& part = division.parts[comm.color];
  if (!part) part = std::make_shared<Clique>(static_cast<int>(members.size()));
  *comm.part = join(part, static_cast<int>(mine - members.begin()));
  comm.part = nullptr;
  return true;
}

// One call of a rank: true when its part is done. Called again and again by the stream.
using Step = std::function<bool()>;

Step step_of(ncclComm& comm, const Part& part) {
  return [clique = comm.clique, rank = comm.rank, number = comm.collectives++, part,
          arrived = false]() mutable {
    const std::lock_guard lock(clique->mutex);
    if (clique->broken) return false;
    Collective& all = clique->collectives[number];
    if (!arrived) {
      arrived = true;
      all.parts.resize(clique->size);
      all.parts[static_cast<std::size_t>(rank)] = part;
      if (++all.arrived == clique->size) {
        const bool equal = std::all_of(all.parts.begin(), all.parts.end(),
                                       [&](const Part& p) { return p.matches(part); });
        if (equal) run(all.parts);
        clique->mismatch = clique->mismatch || !equal;
        all.done = equal;
      }
    }
    if (!all.done) return false;
    if (++all.left == clique->size) clique->collectives.erase(number);
    return true;
  };
}

Step step_of(ncclComm& comm, int from, int to, bool send, void* memory, std::size_t bytes) {
  auto end = std::make_shared<MessageEnd>(MessageEnd{memory, bytes, false});
  return [clique = comm.clique, from, to, send, end, arrived = false]() mutable {
    const std::lock_guard lock(clique->mutex);
    if (clique->broken) return false;
    Mailbox& box = clique->mail[{from, to}];
    if (!arrived) {
      arrived = true;
      (send ? box.sent : box.wanted).push_back(end);
      clique->deliver(box);
    }
    return end->done;
  };
}

struct Group {
  int depth = 0;
  std::vector<Step> steps;
  cudaStream_t stream = nullptr;
  std::shared_ptr<std::atomic<bool>> aborted;
};
thread_local Group group;

ncclResult_t start(std::vector<Step> steps, cudaStream_t stream,
                   std::shared_ptr<std::atomic<bool>> aborted) {
  const auto ready = [steps = std::move(steps), aborted = std::move(aborted)]() mutable {
    if (*aborted) return true;
    // All are taken a step further: a message may be what another one of the group waits for.
    std::erase_if(steps, [](Step& step) { return step(); });
    return steps.empty();
  };
  return ink::cuda_on_cpu::enqueue_when(stream, ready) == cudaSuccess ? ncclSuccess
                                                                      : ncclUnhandledCudaError;
}

ncclResult_t issue(ncclComm_t comm, Step step, cudaStream_t stream) {
  if (group.depth == 0) return start({std::move(step)}, stream, comm->aborted);
  group.stream = stream;
  group.aborted = comm->aborted;
  group.steps.push_back(std::move(step));
  return ncclSuccess;
}

}  // namespace

void ink::cuda_on_cpu::set_async_error(ncclResult_t error, const char* text) {
  last_error = text;
  injected = error;
}

ncclResult_t ncclGetVersion(int* version) {
  *version = 22809;
  return ncclSuccess;
}

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  static std::atomic<int> next = 0;
  *id = {};
  const std::string text = "clique " + std::to_string(next++);
  std::memcpy(id->internal, text.data(), text.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t*) {
  if (rank < 0 || rank >= ranks) return ncclInvalidArgument;
  *comm = join(clique_of(id, ranks), rank);
  return ncclInProgress;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part, ncclConfig_t*) {
  if (color < 0) return ncclInvalidArgument;
  *part = nullptr;
  comm->part = part;
  comm->color = color;
  ++comm->divisions;
  const std::lock_guard lock(comm->clique->mutex);
  comm->clique->divisions[comm->divisions].wishes.push_back({color, key, comm->rank});
  return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  *state = ncclSuccess;
  if (comm->part != nullptr && !finish_split(*comm)) *state = ncclInProgress;
  const std::lock_guard lock(comm->clique->mutex);
  if (comm->clique->joined < comm->clique->size) *state = ncclInProgress;
  if (comm->clique->mismatch) *state = ncclInvalidUsage;
  if (injected != ncclSuccess) *state = injected;
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t) { return ncclSuccess; }

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  {
    const std::lock_guard lock(comm->clique->mutex);
    comm->clique->broken = true;
  }
  *comm->aborted = true;
  delete comm;
  return ncclSuccess;
}

ncclResult_t ncclCommCount(ncclComm_t comm, int* count) {
  *count = static_cast<int>(comm->clique->size);
  return ncclSuccess;
}

ncclResult_t ncclCommUserRank(ncclComm_t comm, int* rank) {
  *rank = comm->rank;
  return ncclSuccess;
}

const char* ncclGetErrorString(ncclResult_t result) {
  static constexpr const char* kNames[] = {
      "no error",         "unhandled cuda error", "unhandled system error", "internal error",
      "invalid argument", "invalid usage",        "remote process error",   "in progress"};
  return kNames[result];
}

const char* ncclGetLastError(ncclComm_t) { return last_error; }

ncclResult_t ncclAllReduce(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, step_of(*comm, {Kind::kAllReduce, in, out, count, type, op}), stream);
}

ncclResult_t ncclAllGather(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, step_of(*comm, {Kind::kAllGather, in, out, count, type}), stream);
}

ncclResult_t ncclReduceScatter(const void* in, void* out, std::size_t count, ncclDataType_t type,
                               ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, step_of(*comm, {Kind::kReduceScatter, in, out, count, type, op}), stream);
}

ncclResult_t ncclBroadcast(const void* in, void* out, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return issue(comm, step_of(*comm, {Kind::kBroadcast, in, out, count, type, ncclSum, root}),
               stream);
}

ncclResult_t ncclSend(const void* in, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return issue(comm,
               step_of(*comm, comm->rank, peer, true, const_cast<void*>(in), count * size_of(type)),
               stream);
}

ncclResult_t ncclRecv(void* out, std::size_t count, ncclDataType_t type, int peer, ncclComm_t comm,
                      cudaStream_t stream) {
  return issue(comm, step_of(*comm, peer, comm->rank, false, out, count * size_of(type)), stream);
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (--group.depth > 0 || group.steps.empty()) return ncclSuccess;
  return start(std::exchange(group.steps, {}), group.stream, group.aborted);
}
