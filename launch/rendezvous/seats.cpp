#include "launch/rendezvous/seats.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <thread>
#include <vector>

namespace ink {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr std::chrono::milliseconds kPause(20);
constexpr const char* kHint =
    "every job needs a new folder (mktemp -d), and every rank of it a number of its own";

fs::path seat_of(const fs::path& folder, int rank) { return folder / fmt::format("rank-{}", rank); }

// Nobody, too, where the file is there and its line is not yet.
std::optional<Peer> taken_by(const fs::path& folder, int rank) {
  std::ifstream file(seat_of(folder, rank));
  std::string line;
  if (!std::getline(file, line) || file.eof()) return std::nullopt;
  return peer_of(rank, line);
}

std::string text_of(const Peer& peer, const Peer& self) {
  return describe(peer, state_of(peer, self));
}

// What a look at the seats of a job shows.
struct Attendance {
  std::string absent;  // "1, 3"
  std::optional<Peer> gone;
};

Attendance look(const fs::path& folder, const Peer& self, std::vector<bool>& met) {
  Attendance seen;
  for (size_t rank = 0; rank < met.size(); ++rank) {
    const std::optional<Peer> peer = taken_by(folder, static_cast<int>(rank));
    if (!peer) {
      seen.absent += fmt::format("{}{}", seen.absent.empty() ? "" : ", ", rank);
    } else if (state_of(*peer, self) == PeerState::kGone) {
      seen.gone = peer;
    } else {
      met[rank] = true;
    }
  }
  return seen;
}

}  // namespace

void take_seat(const fs::path& folder, const Peer& self) {
  const fs::path seat = seat_of(folder, self.rank);
  const int file = open(seat.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (file < 0 && errno == EEXIST) {
    const std::optional<Peer> other = taken_by(folder, self.rank);
    throw Error(ExitCode::kConfig, folder.string(),
                fmt::format("expected one process as rank {}, got a second one: {}", self.rank,
                            other ? text_of(*other, self) : "the first is just beginning"),
                kHint);
  }
  const std::string line = to_line(self) + "\n";
  const bool written =
      file >= 0 && write(file, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  const std::string reason = std::strerror(errno);
  if (file >= 0) close(file);
  if (!written) throw Error(ExitCode::kIo, seat.string(), fmt::format("cannot write: {}", reason));
}

void await_seats(const fs::path& folder, const Peer& self, int size, std::chrono::seconds limit) {
  const Clock::time_point start = Clock::now();
  std::vector<bool> met(static_cast<size_t>(size), false);
  for (;; std::this_thread::sleep_for(kPause)) {
    const bool late = Clock::now() - start >= limit;
    const auto [absent, gone] = look(folder, self, met);
    if (gone && !met[static_cast<size_t>(gone->rank)])
      throw Error(ExitCode::kConfig, folder.string(),
                  "expected the ranks of one job, got one that is over: " + text_of(*gone, self),
                  kHint);
    if (gone)
      throw Error(
          ExitCode::kPeer, folder.string(),
          fmt::format("expected {} ranks, got one that left: {}{}", size, text_of(*gone, self),
                      absent.empty() ? "" : ", and none as rank " + absent));
    if (absent.empty()) return;
    if (late)
      throw Error(ExitCode::kPeer, folder.string(),
                  fmt::format("expected {} ranks within {} s, got none as rank {}", size,
                              limit.count(), absent),
                  "every rank is started with this folder and a number from 0 on; "
                  "INKSTONE_RENDEZVOUS_TIMEOUT is the limit in seconds");
  }
}

}  // namespace ink
