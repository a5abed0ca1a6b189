// What a rank does while it waits for the others: names one that died or hangs, warns of one that
// is slow, and leaves its flight record for whoever looks afterwards.
//
// Flight record: run_directory/flight/rank-R.jsonl, the latest collectives of the rank, one JSON
// object per line; rank-R-nccl.jsonl for those between cards. It is written when the run ends with
// code 6, and on SIGTERM in the middle of a wait, because a launcher that lost a rank ends the
// others in about a second.
#pragma once

#include <chrono>
#include <filesystem>
#include <mutex>
#include <vector>

#include "launch/rendezvous/peers.h"
#include "parallel/comm/wait_watch.h"

namespace ink {

class PeerWatch final : public WaitWatch {
 public:
  // Collective. Until then only the deadline counts.
  void meet(Launch& launch);
  // What the run file says, once it is known.
  void configure(std::filesystem::path run_directory, std::chrono::seconds timeout);

  // Error(kPeer): a peer of this machine is gone, or the deadline has passed.
  void waiting(const ProcessGroup& group, const FlightRecord& call, double seconds) override;

 private:
  void warn(const std::string& wait);
  [[nodiscard]] std::string peers_that_matter() const;

  std::mutex mutex_;
  std::vector<Peer> peers_;
  int rank_ = 0;
  std::filesystem::path run_directory_;
  std::chrono::duration<double> timeout_ = GroupOptions{}.timeout;
  bool warned_ = false, recorded_ = false;
};

// Does nothing where the run directory does not exist: the run ended before it began.
void write_flight_record(const std::filesystem::path& run_directory, const ProcessGroup& group);

}  // namespace ink
