// One kernel launch on the CPU: blocks one after the other, the threads of a block as fibers.
//
// A barrier yields until all threads have arrived; a warp collective exchanges values through a
// buffer between two barriers of the warp. Shared memory is allocated per block with its exact size
// and filled with 0xFF (NaN in every float type), so AddressSanitizer sees an access outside of it
// and a read of what nobody wrote shows in the result. A barrier that not all threads reach, or a
// warp collective whose mask names a lane that does not take part, is an error that names them.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/support/cuda_on_cpu/async_copies.h"
#include "tests/support/cuda_on_cpu/async_products.h"
#include "tests/support/cuda_on_cpu/dim3.h"
#include "tests/support/cuda_on_cpu/fiber.h"

namespace ink::cuda_on_cpu {

// The order in which the blocks of a grid, and the runnable threads of a block, take their turns;
// in random order warps also rest now and then. A kernel that is right gives the same bits in all.
enum class Order : uint8_t { kAscending, kDescending, kRandom };
void set_order(Order order);  // of this OS thread's later launches
[[nodiscard]] Order order();

inline constexpr int kWarp = 32, kWarpgroup = 4 * kWarp;
inline constexpr std::size_t kExchangeBytes = 64;  // per lane

// Opens whenever enough have arrived: whole warps, and as many for each who comes (bar.sync).
class Meeting {
 public:
  void arrive(int needed) {
    if (arrived_ == 0) needed_ = needed;
    if (needed != needed_ || needed % kWarp != 0)
      throw std::runtime_error("a named barrier of " + std::to_string(needed) + " threads, of " +
                               std::to_string(needed_) + " to others");
    if (++arrived_ < needed) return;
    arrived_ = 0;
    ++times_;
  }
  [[nodiscard]] uint64_t times() const { return times_; }

 private:
  int arrived_ = 0, needed_ = 0;
  uint64_t times_ = 0;
};

class Races;

class Block {
 public:
  Block(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;
  void run(dim3 index);

  // The block that runs now, for the functions of device_language.h.
  [[nodiscard]] static Block& current();
  [[nodiscard]] int lane() const { return static_cast<int>(running_ % kWarp); }
  [[nodiscard]] void* shared() const { return shared_.get(); }
  [[nodiscard]] std::size_t shared_bytes() const { return shared_bytes_; }

  // Asynchronous copies of the thread that runs now. No source: zeros.
  void start_copy(void* to, const void* from, std::size_t bytes);
  void commit_copies();
  void wait_copies(std::size_t groups_left);
  // Its asynchronous products.
  [[nodiscard]] AsyncProducts& products() { return products_[running_]; }
  void read_operand(std::size_t offset, std::size_t bytes);
  void commit_products();
  void wait_products(std::size_t groups_left);

  // Shared memory as wgmma sees it: copies that their thread waited for and then fenced, and what
  // was stored before the last fence of any thread (by whom is not followed).
  [[nodiscard]] const unsigned char* fenced_shared() const { return fenced_.data(); }
  void fence_for_products();

  void sync_block();
  // The program's barrier of a warp. Collectives meet without one: they order no memory.
  void sync_warp(uint32_t mask) { meet_lanes(mask, true); }
  void meet_lanes(uint32_t mask, bool ordered = false);
  // The named barriers of the block, 1 to 15.
  void meet_at(int id, int threads);
  void arrive_at(int id, int threads);
  // A barrier in shared memory: an arrival, which may open it, and a wait that is over.
  void arrive_in_shared(const void* barrier, std::size_t bytes, bool opens);
  void pass_in_shared(const void* barrier, std::size_t bytes);
  void update_atomically(const void* at, std::size_t bytes);
  // Lets the others go on until done().
  void wait_until(const std::function<bool()>& done);
  // read(lane -> const In&) after all lanes of the mask have given `mine`.
  template <class In, class Read>
  auto warp_collective(uint32_t mask, const In& mine, Read read) {
    static_assert(sizeof(In) <= kExchangeBytes);
    std::memcpy(slot(lane()), &mine, sizeof(In));
    meet_lanes(mask);
    const auto result = read([this](int from) {
      In value;
      std::memcpy(&value, slot(from), sizeof(In));
      return value;
    });
    meet_lanes(mask);
    return result;
  }
  // The same for the 128 threads of a warpgroup: read(thread -> In).
  template <class In, class Read>
  void warpgroup_collective(const In& mine, Read read) {
    static_assert(sizeof(In) <= kExchangeBytes);
    const std::size_t first = running_ / kWarpgroup * kWarpgroup;
    if (first + kWarpgroup > threads_.size())
      throw std::runtime_error("a warpgroup needs 128 threads");
    Meeting& meeting = warpgroups_[running_ / kWarpgroup];
    std::memcpy(slot(lane()), &mine, sizeof(In));
    meet(meeting, kWarpgroup);
    read([this, first](int from) {
      In value;
      std::memcpy(&value,
                  exchange_.data() + (first + static_cast<std::size_t>(from)) * kExchangeBytes,
                  sizeof(In));
      return value;
    });
    meet(meeting, kWarpgroup);
  }

 private:
  enum class State : uint8_t { kReady, kAtBlockBarrier, kAtWarpBarrier, kWaiting, kDone };
  struct Thread {
    Block* block = nullptr;
    dim3 index;
    State state = State::kReady;
    uint32_t mask = 0;
    const std::function<bool()>* done = nullptr;  // of kWaiting
  };
  static void body(void* block);
  void start_threads();
  bool pass(const std::vector<std::size_t>& turns, uint64_t resting);
  void wait(State state);
  void meet(Meeting& meeting, int threads);
  void release_block_if_complete();
  bool warp_complete(std::size_t first, uint32_t mask) const;
  [[nodiscard]] std::string stuck() const;
  unsigned char* slot(int lane) {
    return exchange_.data() +
           (running_ / kWarp * kWarp + static_cast<std::size_t>(lane)) * kExchangeBytes;
  }

  dim3 grid_, block_, index_;
  std::size_t shared_bytes_;
  const std::function<void()>& kernel_;
  std::vector<Thread> threads_;
  std::vector<unsigned char> exchange_;
  std::vector<AsyncCopies> copies_;
  std::vector<AsyncProducts> products_;
  std::vector<unsigned char> fenced_;
  std::array<Meeting, 16> named_;
  std::vector<Meeting> warpgroups_;
  std::unique_ptr<unsigned char[], void (*)(unsigned char*)> shared_;
  std::unique_ptr<Races> races_;  // none where kernels do not report their accesses
  std::exception_ptr failure_;
  std::size_t running_ = 0, alive_ = 0, at_barrier_ = 0;
};

// Runs the whole grid. Throws std::runtime_error on a barrier that cannot open.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel);

}  // namespace ink::cuda_on_cpu
