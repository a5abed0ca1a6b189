#include "parallel/comm/flight_recorder.h"

#include <fmt/format.h>

#include <algorithm>

namespace ink {

double FlightRecorder::now() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

int64_t FlightRecorder::issue(const char* op, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  const int64_t sequence = ++count_;
  ring_[static_cast<size_t>(sequence) % kCapacity] = {sequence, op, bytes, now(), -1};
  return sequence;
}

void FlightRecorder::complete(int64_t sequence) {
  const std::lock_guard lock(mutex_);
  FlightRecord& record = ring_[static_cast<size_t>(sequence) % kCapacity];
  if (record.sequence == sequence) record.completed_at = now();
}

std::vector<FlightRecord> FlightRecorder::records() const {
  const std::lock_guard lock(mutex_);
  std::vector<FlightRecord> found;
  for (int64_t s = std::max<int64_t>(1, count_ - static_cast<int64_t>(kCapacity) + 1); s <= count_;
       ++s) {
    found.push_back(ring_[static_cast<size_t>(s) % kCapacity]);
  }
  return found;
}

FlightRecord FlightRecorder::last() const {
  const std::lock_guard lock(mutex_);
  return count_ == 0 ? FlightRecord{} : ring_[static_cast<size_t>(count_) % kCapacity];
}

std::string FlightRecorder::dump(const std::string& group, int rank) const {
  std::string text;
  for (const FlightRecord& r : records()) {
    text += fmt::format(
        R"({{"group":"{}","rank":{},"sequence":{},"op":"{}","bytes":{},"issued_at":{:.6f},"completed_at":{:.6f}}})",
        group, rank, r.sequence, r.op, r.bytes, r.issued_at, r.completed_at);
    text += '\n';
  }
  return text;
}

}  // namespace ink
