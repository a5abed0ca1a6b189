// Where the ranks of a job run, and what this machine can see of them: a rank that died or was
// stopped is named long before a deadline passes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "launch/rendezvous/rendezvous.h"

namespace ink {

struct Peer {
  int rank = 0;
  std::string host;
  int64_t process = 0;
  int64_t started = 0;  // clock ticks since boot: tells a process from a later one of its number
  int64_t place = 0;    // equal for processes that see each other in /proc
};

enum class PeerState { kRunning, kStopped, kGone, kUnseen };  // kUnseen: on another machine

[[nodiscard]] Peer this_peer(int rank);
// As one line of text, for a file that others read; nothing where it is none.
[[nodiscard]] std::string to_line(const Peer& peer);
[[nodiscard]] std::optional<Peer> peer_of(int rank, const std::string& line);

// Every rank's, in rank order. Collective.
[[nodiscard]] std::vector<Peer> gather_peers(Launch& launch);
// here: a peer of the machine that asks, such as this rank itself.
[[nodiscard]] PeerState state_of(const Peer& peer, const Peer& here);
// "rank 1 (process 77 on box) is stopped".
[[nodiscard]] std::string describe(const Peer& peer, PeerState state);

}  // namespace ink
