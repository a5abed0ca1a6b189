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
#include <string>
#include <vector>

#include "tests/support/cuda_on_cpu/async_copies.h"
#include "tests/support/cuda_on_cpu/dim3.h"
#include "tests/support/cuda_on_cpu/fiber.h"

namespace ink::cuda_on_cpu {

// The order in which the blocks of a grid, and the runnable threads of a block, take their turns. A
// kernel that is right gives the same bits in all of them.
enum class Order : uint8_t { kAscending, kDescending, kRandom };
void set_order(Order order);  // of this OS thread's later launches
[[nodiscard]] Order order();

inline constexpr int kWarp = 32;
inline constexpr std::size_t kExchangeBytes = 64;  // per lane

class Block {
 public:
  Block(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel);
  void run(dim3 index);

  // The block that runs now, for the functions of device_language.h.
  [[nodiscard]] static Block& current();
  [[nodiscard]] int lane() const { return static_cast<int>(running_ % kWarp); }
  [[nodiscard]] void* shared() const { return shared_.get(); }
  [[nodiscard]] std::size_t shared_bytes() const { return shared_bytes_; }

  // Of the thread that runs now.
  [[nodiscard]] AsyncCopies& copies() { return copies_[running_]; }

  void sync_block();
  void sync_warp(uint32_t mask);
  // read(lane -> const In&) after all lanes of the mask have given `mine`.
  template <class In, class Read>
  auto warp_collective(uint32_t mask, const In& mine, Read read) {
    static_assert(sizeof(In) <= kExchangeBytes);
    std::memcpy(slot(lane()), &mine, sizeof(In));
    sync_warp(mask);
    const auto result = read([this](int from) {
      In value;
      std::memcpy(&value, slot(from), sizeof(In));
      return value;
    });
    sync_warp(mask);
    return result;
  }

 private:
  enum class State : uint8_t { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };
  struct Thread {
    Block* block = nullptr;
    dim3 index;
    State state = State::kReady;
    uint32_t mask = 0;
  };
  static void body(void* block);
  void start_threads();
  bool pass(const std::vector<std::size_t>& turns);
  void wait(State state);
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
  std::unique_ptr<unsigned char[], void (*)(unsigned char*)> shared_;
  std::exception_ptr failure_;
  std::size_t running_ = 0, alive_ = 0, at_barrier_ = 0;
};

// Runs the whole grid. Throws std::runtime_error on a barrier that cannot open.
void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel);

}  // namespace ink::cuda_on_cpu
