#include "parallel/comm/file_group.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

#include "parallel/comm/reduce.h"
#include "parallel/comm/wait_watch.h"

namespace ink {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Bytes = std::vector<char>;
constexpr const char* kAborted = "aborted";
constexpr std::chrono::milliseconds kShortest(1), kLongest(20), kLookEvery(100);

class DoneWork final : public Work {
 public:
  void wait() override {}
};

void require_private(const fs::path& folder) {
  struct stat facts {};
  const bool there = lstat(folder.c_str(), &facts) == 0 && S_ISDIR(facts.st_mode);
  if (there && facts.st_uid == geteuid() && (facts.st_mode & (S_IRWXG | S_IRWXO)) == 0) return;
  throw Error(
      ExitCode::kConfig, folder.string(),
      fmt::format("expected a folder of this user that is closed to others, got {}",
                  !there                      ? std::string("none")
                  : facts.st_uid != geteuid() ? fmt::format("one of user {}", facts.st_uid)
                                              : fmt::format("mode {:o}", facts.st_mode & 07777)),
      "mktemp -d makes one; the ranks of a job find each other in it");
}

// A file of this rank is one of an earlier job, and its peers would take it for an answer.
void require_unused(const fs::path& folder, int rank) {
  for (const fs::directory_entry& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name != kAborted && !name.ends_with(fmt::format(".{}", rank))) continue;
    throw Error(ExitCode::kConfig, folder.string(),
                fmt::format("expected an unused folder, got one with {}", name),
                "every job needs a folder of its own");
  }
}

Bytes bytes_of(const Tensor& tensor) {
  const auto* first = static_cast<const char*>(tensor.raw());
  return {first, first + tensor.bytes()};
}
char* at(const Tensor& tensor, int64_t offset) { return static_cast<char*>(tensor.raw()) + offset; }
void put(const Tensor& to, int64_t offset, const char* from, int64_t bytes) {
  if (bytes > 0) std::memcpy(at(to, offset), from, static_cast<size_t>(bytes));
}
template <class T>
void append(Bytes& bytes, const T& value) {
  const auto* first = reinterpret_cast<const char*>(&value);
  bytes.insert(bytes.end(), first, first + sizeof value);
}
template <class T>
T take(const char*& from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  from += sizeof value;
  return value;
}

class FileGroup final : public ProcessGroup {
 public:
  // prefix: of the file names, so that the groups of a split share the folder.
  FileGroup(fs::path folder, std::string prefix, int rank, int size, GroupOptions options,
            std::string name)
      : folder_(std::move(folder)),
        prefix_(std::move(prefix)),
        rank_(rank),
        size_(size),
        options_(std::move(options)),
        name_(std::move(name)) {}

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string name() const override { return name_; }
  const FlightRecorder& recorder() const override { return recorder_; }

  std::unique_ptr<Work> all_reduce(const Tensor& tensor, ReduceOp op) override {
    require_summable(tensor.dtype());
    const std::vector<Bytes> all = gather("all_reduce", bytes_of(tensor));
    Bytes sum = all[0];
    for (size_t r = 1; r < all.size(); ++r)
      reduce_elements(tensor.dtype(), op, all[r].data(), sum.data(), tensor.numel());
    put(tensor, 0, sum.data(), tensor.bytes());
    return done();
  }
  std::unique_ptr<Work> all_gather(const Tensor& in, const Tensor& out) override {
    CHECK(out.bytes() == in.bytes() * size_, "all_gather of {} bytes into {}", in.bytes(),
          out.bytes());
    const std::vector<Bytes> all = gather("all_gather", bytes_of(in));
    for (int r = 0; r < size_; ++r) put(out, r * in.bytes(), of(all, r).data(), in.bytes());
    return done();
  }
  std::unique_ptr<Work> reduce_scatter(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() * size_, "reduce_scatter of {} bytes into {}", in.bytes(),
          out.bytes());
    require_summable(out.dtype());
    const std::vector<Bytes> all = gather("reduce_scatter", bytes_of(in));
    const int64_t first = rank_ * out.bytes();
    put(out, 0, all[0].data() + first, out.bytes());
    for (size_t r = 1; r < all.size(); ++r)
      reduce_elements(out.dtype(), ReduceOp::kSum, all[r].data() + first, out.raw(), out.numel());
    return done();
  }
  std::unique_ptr<Work> all_to_all(const Tensor& in, const Tensor& out) override {
    CHECK(in.bytes() == out.bytes() && in.bytes() % size_ == 0, "all_to_all of {} bytes into {}",
          in.bytes(), out.bytes());
    const std::vector<int64_t> parts(static_cast<size_t>(size_), in.bytes() / size_);
    return scatter("all_to_all", in, parts, out, parts, 1);
  }
  std::unique_ptr<Work> all_to_all_v(const Tensor& in, std::span<const int64_t> send_rows,
                                     const Tensor& out,
                                     std::span<const int64_t> receive_rows) override {
    const Tensor& any = out.dim(0) > 0 ? out : in;
    return scatter("all_to_all_v", in, send_rows, out, receive_rows,
                   any.dim(0) > 0 ? any.bytes() / any.dim(0) : 0);
  }
  std::unique_ptr<Work> broadcast(const Tensor& tensor, int root) override {
    const std::vector<Bytes> all = gather("broadcast", rank_ == root ? bytes_of(tensor) : Bytes{});
    CHECK(of(all, root).size() == static_cast<size_t>(tensor.bytes()), "{} bytes sent, {} expected",
          of(all, root).size(), tensor.bytes());
    put(tensor, 0, of(all, root).data(), tensor.bytes());
    return done();
  }
  std::unique_ptr<Work> exchange(std::vector<PeerMessage> messages) override {
    Bytes mine;
    for (const PeerMessage& m : messages) {
      if (!m.send.defined()) continue;
      append(mine, int64_t{m.peer});
      append(mine, m.send.bytes());
      const Bytes body = bytes_of(m.send);
      mine.insert(mine.end(), body.begin(), body.end());
    }
    const std::vector<Bytes> all = gather("exchange", mine);
    std::vector<const char*> read;  // how far the messages of each peer are taken
    for (const Bytes& bytes : all) read.push_back(bytes.data());
    for (const PeerMessage& m : messages) {
      if (m.receive.defined()) receive(of(all, m.peer), read[static_cast<size_t>(m.peer)], m);
    }
    return done();
  }
  void barrier() override { static_cast<void>(gather("barrier", {})); }

  std::unique_ptr<ProcessGroup> split(int color, int key) override {
    Bytes mine;
    append(mine, color);
    append(mine, key);
    const std::vector<Bytes> all = gather("split", mine);
    std::vector<std::pair<int, int>> members;  // key, rank
    for (int r = 0; r < size_; ++r) {
      const char* from = of(all, r).data();
      if (take<int>(from) == color) members.emplace_back(take<int>(from), r);
    }
    std::sort(members.begin(), members.end());
    const auto place = std::find(members.begin(), members.end(), std::pair(key, rank_));
    return std::make_unique<FileGroup>(folder_, fmt::format("{}{}.{}-", prefix_, calls_, color),
                                       static_cast<int>(place - members.begin()),
                                       static_cast<int>(members.size()), options_,
                                       fmt::format("{}.{}", name_, color));
  }

  void abort(const std::string& reason) override {
    if (!fs::exists(abort_file())) publish(abort_file(), {reason.begin(), reason.end()});
    throw Error(ExitCode::kPeer, name_, reason);
  }

 private:
  static const Bytes& of(const std::vector<Bytes>& all, int rank) {
    return all[static_cast<size_t>(rank)];
  }
  static std::unique_ptr<Work> done() { return std::make_unique<DoneWork>(); }
  static void require_summable(DType dtype) {
    reduce_elements(dtype, ReduceOp::kSum, nullptr, nullptr, 0);
  }

  // The next message of m.peer for this rank, from `read` on.
  void receive(const Bytes& sent, const char*& read, const PeerMessage& m) const {
    while (read != sent.data() + sent.size()) {
      const auto to = take<int64_t>(read), bytes = take<int64_t>(read);
      const char* body = read;
      read += bytes;
      if (to != rank_) continue;
      CHECK(bytes == m.receive.bytes(), "{} bytes sent, {} expected", bytes, m.receive.bytes());
      return put(m.receive, 0, body, bytes);
    }
    throw InternalError(
        fmt::format("rank {} expects a message that rank {} does not send", rank_, m.peer));
  }

  // Sizes in units of `unit` bytes; every rank shows where its parts begin.
  std::unique_ptr<Work> scatter(const char* op, const Tensor& in, std::span<const int64_t> send,
                                const Tensor& out, std::span<const int64_t> receive, int64_t unit) {
    Bytes mine;
    int64_t begin = 0;
    for (const int64_t rows : send) {
      append(mine, begin);
      append(mine, rows * unit);
      begin += rows * unit;
    }
    const Bytes body = bytes_of(in);
    mine.insert(mine.end(), body.begin(), body.end());
    const std::vector<Bytes> all = gather(op, mine);
    int64_t to = 0;
    for (int r = 0; r < size_; ++r) {
      const char* entry = of(all, r).data() + 2 * sizeof(int64_t) * static_cast<size_t>(rank_);
      const auto from = take<int64_t>(entry), bytes = take<int64_t>(entry);
      CHECK(bytes == receive[static_cast<size_t>(r)] * unit, "rank {} sends {} bytes, {} expected",
            r, bytes, receive[static_cast<size_t>(r)] * unit);
      put(out, to, of(all, r).data() + 2 * sizeof(int64_t) * static_cast<size_t>(size_) + from,
          bytes);
      to += bytes;
    }
    return done();
  }

  // What every rank brings to this call, in rank order.
  std::vector<Bytes> gather(const char* op, const Bytes& mine) {
    const FlightRecord record{.sequence = recorder_.issue(op, static_cast<int64_t>(mine.size())),
                              .op = op,
                              .bytes = static_cast<int64_t>(mine.size())};
    ++calls_;
    publish(file(calls_, rank_), mine);
    std::vector<Bytes> all;
    for (int r = 0; r < size_; ++r) all.push_back(r == rank_ ? mine : read_of(r, record));
    // Whoever is in this call has read the one before it, so nobody reads the one before that.
    std::error_code ignored;
    fs::remove(file(calls_ - 2, rank_), ignored);
    recorder_.complete(record.sequence);
    return all;
  }

  // Appears complete or not at all.
  static void publish(const fs::path& path, const Bytes& bytes) {
    const fs::path part = path.string() + fmt::format(".part{}", getpid());
    {
      std::ofstream file(part, std::ios::binary);
      file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
      if (!file.flush())
        throw Error(ExitCode::kIo, part.string(),
                    "expected room for a message, got a failed write");
    }
    fs::rename(part, path);
  }

  Bytes read_of(int rank, const FlightRecord& record) {
    const fs::path path = file(calls_, rank);
    const Clock::time_point start = Clock::now();
    Clock::time_point looked = start;
    for (auto pause = kShortest;; pause = std::min(2 * pause, kLongest)) {
      if (std::ifstream found(path, std::ios::binary); found)
        return {std::istreambuf_iterator<char>(found), {}};
      if (std::ifstream ended(abort_file(), std::ios::binary); ended)
        throw Error(ExitCode::kPeer, name_, {std::istreambuf_iterator<char>(ended), {}});
      std::this_thread::sleep_for(pause);
      if (Clock::now() - looked < kLookEvery) continue;
      looked = Clock::now();
      const std::chrono::duration<double> waited = looked - start;
      if (options_.watch) {
        options_.watch->waiting(*this, record, waited.count());
      } else if (waited > options_.timeout) {
        throw Error(ExitCode::kPeer, name_,
                    describe_wait(*this, record, waited.count()) + ": a peer died or hangs");
      }
    }
  }

  fs::path file(int64_t call, int rank) const {
    return folder_ / fmt::format("{}{}.{}", prefix_, call, rank);
  }
  fs::path abort_file() const { return folder_ / kAborted; }

  fs::path folder_;
  std::string prefix_;
  int rank_, size_;
  GroupOptions options_;
  std::string name_;
  int64_t calls_ = 0;
  FlightRecorder recorder_;
};

}  // namespace

std::unique_ptr<ProcessGroup> make_file_group(const fs::path& folder, int rank, int size,
                                              GroupOptions options) {
  require_private(folder);
  require_unused(folder, rank);
  return std::make_unique<FileGroup>(folder, "", rank, size, std::move(options), "world");
}

}  // namespace ink
