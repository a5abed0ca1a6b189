// One thread that runs the communication calls of a process in the order they were issued.
//
// Open MPI has no background progress: a call only advances while somebody is inside the library.
// With this thread inside it, a reduction runs while the rank computes its backward pass, and the
// library is used by one thread alone.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

#include "parallel/comm/process_group.h"

namespace ink {

class CommThread {
 public:
  CommThread();
  ~CommThread();  // runs what is queued, then joins
  CommThread(const CommThread&) = delete;
  CommThread& operator=(const CommThread&) = delete;

  // wait() returns when the job has run and rethrows what it threw.
  [[nodiscard]] std::unique_ptr<Work> submit(std::function<void()> job);

 private:
  struct Task;
  class TaskWork;
  void loop();
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::shared_ptr<Task>> queue_;
  bool stopping_ = false;
  std::thread thread_;
};

}  // namespace ink
