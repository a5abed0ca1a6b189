#include "launch/trainer/peer_watch.h"

#include <algorithm>
#include <csignal>
#include <cstdio>

#include "engine/io/atomic_file.h"
#include "launch/report/append_file.h"
#include "launch/trainer/run_directory.h"
#include "launch/trainer/signals.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// A rank that has finished leaves while the last message of it is still on its way.
constexpr double kGraceSeconds = 0.3;
// SIGKILL follows SIGTERM after about a second where the launcher ends a job (Open MPI 4.1).
constexpr double kSecondsBeforeRecord = 0.5;
// Share of the deadline after which a wait is worth a word.
constexpr double kWarnShare = 0.1;

}  // namespace

void PeerWatch::meet(Launch& launch) {
  if (launch.size == 1) return;
  std::vector<Peer> peers = gather_peers(launch);
  const std::lock_guard lock(mutex_);
  peers_ = std::move(peers);
  rank_ = launch.rank;
}

void PeerWatch::configure(fs::path run_directory, std::chrono::seconds timeout) {
  const std::lock_guard lock(mutex_);
  run_directory_ = std::move(run_directory);
  timeout_ = timeout;
}

void PeerWatch::waiting(const ProcessGroup& group, const FlightRecord& call, double seconds) {
  if (seconds < kGraceSeconds) return;
  const std::lock_guard lock(mutex_);
  const std::string wait = describe_wait(group, call, seconds);
  for (const Peer& peer : peers_) {
    const PeerState state = state_of(peer, peers_[static_cast<size_t>(rank_)]);
    if (state != PeerState::kGone) continue;
    write_flight_record(run_directory_, group);
    throw Error(ExitCode::kPeer, group.name(), wait + ": " + describe(peer, state));
  }
  if (seconds > timeout_.count()) {
    write_flight_record(run_directory_, group);
    throw Error(ExitCode::kPeer, group.name(), wait + ": " + peers_that_matter(),
                "parallel.timeout is the limit of one wait");
  }
  if (stop_signal() == SIGTERM && seconds > kSecondsBeforeRecord && !recorded_) {
    recorded_ = true;
    write_flight_record(run_directory_, group);
  }
  if (seconds > kWarnShare * timeout_.count() && !warned_) warn(wait);
}

// Once per run, by whichever rank waited first.
void PeerWatch::warn(const std::string& wait) {
  warned_ = true;
  if (run_directory_.empty() || !first_to_mark(run_directory_, Mark::kSlow)) return;
  fmt::print(stderr, "warning[slow]: {}: {}\n", wait, peers_that_matter());
}

// Those that are stopped; failing that, all others.
std::string PeerWatch::peers_that_matter() const {
  std::string stopped, others;
  for (const Peer& peer : peers_) {
    if (peer.rank == rank_) continue;
    const PeerState state = state_of(peer, peers_[static_cast<size_t>(rank_)]);
    std::string& list = state == PeerState::kStopped ? stopped : others;
    list += (list.empty() ? "" : ", ") + describe(peer, state);
  }
  return !stopped.empty() ? stopped : others.empty() ? "a peer died or hangs" : others;
}

void write_flight_record(const fs::path& run_directory, const ProcessGroup& group) {
  if (run_directory.empty() || !fs::is_directory(run_directory)) return;
  make_directory(run_directory / "flight");
  const std::string kind = group.name() == "world" ? "" : "-" + group.name();
  write_file_atomically(
      run_directory / "flight" / fmt::format("rank-{}{}.jsonl", group.rank(), kind),
      group.recorder().dump(group.name(), group.rank()));
}

}  // namespace ink
