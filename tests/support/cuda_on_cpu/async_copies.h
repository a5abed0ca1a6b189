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

 private:
  struct Copy {
    void* to;
    const void* from;
    std::size_t bytes;
  };
  static void arrive(std::vector<Copy>& copies) {
    for (const Copy& copy : copies) {
      if (copy.from == nullptr) {
        std::memset(copy.to, 0, copy.bytes);
      } else {
        std::memcpy(copy.to, copy.from, copy.bytes);
      }
    }
    copies.clear();
  }

  bool at_once_ = false;
  std::vector<Copy> open_;
  std::deque<std::vector<Copy>> groups_;
};

}  // namespace ink::cuda_on_cpu
