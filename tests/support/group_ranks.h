// Ranks as threads, each with its own group object and one OpenMP thread.
//
// The first failure aborts the group, so that the others' waits end, and is the one that is thrown.
#pragma once

#include <functional>
#include <memory>
#include <mutex>

#include "parallel/comm/thread_group.h"
#include "tests/support/threads.h"

namespace ink {

inline void run_group(int size, const std::function<void(ProcessGroup&)>& body,
                      GroupOptions options = {std::chrono::seconds(120)}) {
  const auto groups = make_thread_groups(size, options);
  std::mutex mutex;
  std::exception_ptr first;
  run_ranks(size, [&](int rank) {
    ProcessGroup& group = *groups[static_cast<size_t>(rank)];
    try {
      body(group);
    } catch (const std::exception& error) {
      {
        const std::lock_guard lock(mutex);
        if (!first) first = std::current_exception();
      }
      group.abort(error.what());
    }
  });
  if (first) std::rethrow_exception(first);
}

}  // namespace ink
