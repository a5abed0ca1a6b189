// The last collectives of a group in a ring buffer: what is written out when a rank dies or hangs.
//
// Thread-safe. A call is recorded when it is issued and marked when it is complete, so the dump
// shows which call of which group was open, and the sequence numbers of two ranks show who is
// behind.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

namespace ink {

struct FlightRecord {
  int64_t sequence = 0;  // 1-based count of the group's calls
  const char* op = "";
  int64_t bytes = 0;
  double issued_at = 0;      // seconds since the recorder was made
  double completed_at = -1;  // -1 = open
};

class FlightRecorder {
 public:
  static constexpr size_t kCapacity = 256;

  [[nodiscard]] int64_t issue(const char* op, int64_t bytes);  // returns the sequence number
  void complete(int64_t sequence);
  [[nodiscard]] std::vector<FlightRecord> records() const;  // oldest first
  [[nodiscard]] FlightRecord last() const;                  // sequence 0 when there is none
  // One JSON object per line.
  [[nodiscard]] std::string dump(const std::string& group, int rank) const;

 private:
  [[nodiscard]] double now() const;
  mutable std::mutex mutex_;
  std::array<FlightRecord, kCapacity> ring_{};
  int64_t count_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace ink
