#include "launch/rendezvous/peers.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <filesystem>
#include <fstream>
#include <functional>
#include <optional>
#include <sstream>

namespace ink {
namespace {

// A peer as it travels: 8-byte words, so that one gather carries it.
struct Packed {
  int64_t process = 0, started = 0, place = 0;
  std::array<char, 64> host{};
};
constexpr size_t kWords = sizeof(Packed) / sizeof(int64_t);
using Words = std::array<int64_t, kWords>;

struct ProcessLine {
  char state = '?';
  int64_t started = 0;
};

// From /proc/PID/stat; nothing where there is no such process. Field numbers of proc(5): 3 and 22.
std::optional<ProcessLine> read_process(int64_t process) {
  std::ifstream file(fmt::format("/proc/{}/stat", process));
  std::string line;
  if (!std::getline(file, line)) return std::nullopt;
  // The second field is the name in parentheses and may hold anything.
  const size_t name_end = line.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(line.substr(name_end + 1));
  ProcessLine found;
  fields >> found.state;
  std::string skipped;
  for (int field = 4; field < 22; ++field) fields >> skipped;
  fields >> found.started;
  return found;
}

// Processes of one boot and one process namespace see each other.
int64_t place_of_this_process() {
  std::ifstream boot("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(boot, id);
  std::error_code ignored;
  id += std::filesystem::read_symlink("/proc/self/ns/pid", ignored).string();
  return static_cast<int64_t>(std::hash<std::string>{}(id));
}

Packed this_process() {
  Packed packed{.process = getpid(), .place = place_of_this_process()};
  if (const auto line = read_process(packed.process)) packed.started = line->started;
  gethostname(packed.host.data(), packed.host.size() - 1);
  return packed;
}

Peer unpacked(int rank, const Packed& packed) {
  return {.rank = rank,
          .host = packed.host.data(),
          .process = packed.process,
          .started = packed.started,
          .place = packed.place};
}

}  // namespace

Peer this_peer(int rank) { return unpacked(rank, this_process()); }

std::string to_line(const Peer& peer) {
  return fmt::format("{} {} {} {}", peer.process, peer.started, peer.place, peer.host);
}

std::optional<Peer> peer_of(int rank, const std::string& line) {
  Peer peer{.rank = rank};
  std::istringstream fields(line);
  if (!(fields >> peer.process >> peer.started >> peer.place >> peer.host)) return std::nullopt;
  return peer;
}

std::vector<Peer> gather_peers(Launch& launch) {
  const auto mine = std::bit_cast<Words>(this_process());
  Runtime runtime;
  const Tensor in =
      to_tensor(runtime, std::span<const int64_t>(mine), {static_cast<int64_t>(kWords)});
  const Tensor out(runtime, {launch.size * static_cast<int64_t>(kWords)}, DType::kI64);
  launch.world->all_gather(in, out)->wait();
  const std::vector<int64_t> all = to_vector<int64_t>(out);
  std::vector<Peer> peers;
  for (int rank = 0; rank < launch.size; ++rank) {
    Words words;
    std::copy_n(all.begin() + rank * static_cast<int64_t>(kWords), kWords, words.begin());
    peers.push_back(unpacked(rank, std::bit_cast<Packed>(words)));
  }
  return peers;
}

PeerState state_of(const Peer& peer, const Peer& here) {
  if (peer.place != here.place) return PeerState::kUnseen;
  const auto line = read_process(peer.process);
  if (!line || line->started != peer.started || line->state == 'Z' || line->state == 'X')
    return PeerState::kGone;
  return line->state == 'T' || line->state == 't' ? PeerState::kStopped : PeerState::kRunning;
}

std::string describe(const Peer& peer, PeerState state) {
  static constexpr std::array kTexts = {"runs", "is stopped", "has ended",
                                        "cannot be seen from here"};
  return fmt::format("rank {} (process {} on {}) {}", peer.rank, peer.process, peer.host,
                     kTexts[static_cast<size_t>(state)]);
}

}  // namespace ink
