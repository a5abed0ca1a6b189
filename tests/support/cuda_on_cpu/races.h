// Which accesses of a block to its shared memory nothing orders: what racecheck looks for on a
// card, here by "happens before" (Lamport, 1978), so that no order of the threads hides it. Only
// kernels that report their accesses are followed (race_hooks.cpp).
//
// As in FastTrack (Flanagan and Freund, 2009) every thread counts its releases, and knows of every
// other one up to which of them it has waited for; an access is in order with an earlier one that
// its thread knows of. What orders: __syncthreads, __syncwarp, named barriers and barriers in
// shared memory. What does not: shuffles, votes, tensor-core products, warps in step. Asynchronous
// copies and products of a thread are actors of their own, whose groups the thread knows of when it
// has waited for them.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace ink::cuda_on_cpu {

class Races {
 public:
  enum class Actor : uint32_t { kThread, kCopies, kProducts };
  enum class Access : uint32_t { kRead, kWrite, kAtomic };

  // Kernels of this program report their accesses.
  static void follow();
  static bool followed();

  Races(std::size_t threads, const void* shared, std::size_t shared_bytes);
  // Forgets the block before. From here until leave() the accesses of this OS thread are of this
  // one.
  void enter();
  static void leave();
  // Of the block that runs on this OS thread; none: null.
  [[nodiscard]] static Races* current() { return current_; }
  void run(std::size_t thread) { running_ = thread; }

  // Of the running thread. `place`: the address of the code. Elsewhere than in shared memory:
  // nothing.
  void access(Actor actor, Access access, const void* at, std::size_t bytes, const void* place) {
    const std::size_t offset = reinterpret_cast<uintptr_t>(at) - shared_;
    if (offset < shared_bytes_) check(actor, access, offset, bytes, place);
  }
  // Closes a group of the running thread's copies or products; waits for all but the last ones.
  void commit(Actor actor) { ++groups(actor).committed; }
  void wait(Actor actor, std::size_t groups_left);

  // All of them know now what any of them did before.
  void join(const std::vector<std::size_t>& threads);
  // The running thread's arrival at a barrier, which `opens` with it; behind the barrier.
  void arrive(const void* barrier, bool opens);
  void pass(const void* barrier);

  // The first finding, empty: none.
  [[nodiscard]] const std::string& finding() const { return finding_; }

 private:
  static constexpr std::size_t kCellBytes = 2;  // the smallest element of any kernel
  static constexpr std::size_t kActors = 3;     // of a thread
  using Clock = uint32_t;
  using Knowledge = std::vector<Clock>;  // per actor, up to which of its clocks
  struct Event {
    Access access;
    uint32_t actor;
    Clock clock;
    uint32_t place;
  };
  // What a later access may have to be in order with: since the last write everything.
  struct Cell {
    Event write{};
    std::vector<Event> reads, updates;
  };
  struct Groups {
    Clock committed = 0, waited = 0;
  };
  struct Thread {
    Clock clock = 1;
    std::array<Groups, kActors - 1> groups;
    Knowledge of_others;  // empty: what all know
  };
  struct Barrier {
    Knowledge arrived, opened;
  };
  Groups& groups(Actor actor) {
    return threads_[running_].groups[static_cast<std::size_t>(actor) - 1];
  }
  void check(Actor actor, Access access, std::size_t offset, std::size_t bytes, const void* place);
  void check_cell(Cell& cell, const Event& now);
  void check_order(const Event& before, const Event& now, const Cell& cell);
  void check_order(const std::vector<Event>& before, const Event& now, const Cell& cell);
  void add(std::vector<Event>& events, const Event& now) const;
  [[nodiscard]] bool knows(const Event& event) const;
  [[nodiscard]] Knowledge knowledge(std::size_t thread) const;
  void learn_own(std::size_t thread, Knowledge& into) const;
  [[nodiscard]] std::string name(const Event& event) const;

  static constinit thread_local Races* current_;
  uintptr_t shared_;
  std::size_t shared_bytes_, running_ = 0;
  std::vector<Thread> threads_;
  Knowledge all_know_;
  std::vector<Cell> cells_;
  std::map<const void*, Barrier> barriers_;
  std::string finding_;
};

}  // namespace ink::cuda_on_cpu
