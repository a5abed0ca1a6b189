// One thread's asynchronous copies to shared memory, in groups. They arrive as late as the waits
// allow, or at once where the order of threads is descending: a kernel that does not wait, or that
// copies over what others still read, gives different bits in one of the two.
#pragma once

#include <cstddef>
#include <cstring>
#include <deque>
#include <vector>

namespace ink::cuda_on_cpu {

class AsyncCopies {
 public:
  void reset(bool at_once) {
    at_once_ = at_once;
    open_.clear();
    groups_.clear();
    arrived_.clear();
  }
  // No source: zeros.
  void start(void* to, const void* from, std::size_t bytes) {
    open_.push_back({to, from, bytes});
    if (at_once_) arrive(open_);
  }
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
  }
  void wait(std::size_t groups_left) {
    while (groups_.size() > groups_left) {
      arrive(groups_.front());
      groups_.pop_front();
    }
  }
  void fence() { arrived_.clear(); }
  // hide(to, bytes) of every copy that has arrived since the last fence.
  template <class Hide>
  void each_unfenced(Hide hide) const {
    for (const Copy& copy : arrived_) hide(copy.to, copy.bytes);
  }

 private:
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  void arrive(std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
      if (copy.from == nullptr) {
        std::memset(copy.to, 0, copy.bytes);
      } else {
        std::memcpy(copy.to, copy.from, copy.bytes);
      }
    }
    arrived_.insert(arrived_.end(), copies.begin(), copies.end());
    copies.clear();
  }

  bool at_once_ = false;
  std::vector<Copy> open_, arrived_;
  std::deque<std::vector<Copy>> groups_;
};

}  // namespace ink::cuda_on_cpu
