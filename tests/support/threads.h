// Threads in tests: a number of OpenMP threads for a scope, and ranks that live as threads.
#pragma once

#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "engine/core/parallel_for.h"

namespace ink {

class [[nodiscard]] ScopedThreads {
 public:
  explicit ScopedThreads(int n) : before_(thread_count()) { set_thread_count(n); }
  ~ScopedThreads() { set_thread_count(before_); }
  ScopedThreads(const ScopedThreads&) = delete;
  ScopedThreads& operator=(const ScopedThreads&) = delete;

 private:
  int before_;
};

// Runs body(0) ... body(n - 1), one thread each, waits for all and throws the first rank's error.
inline void run_ranks(int n, const std::function<void(int rank)>& body) {
  std::vector<std::exception_ptr> errors(static_cast<size_t>(n));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < n; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        set_thread_count(1);
        body(rank);
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace ink
