#include "tests/support/cuda_on_cpu/block.h"

#include <algorithm>
#include <cstdlib>
#include <numeric>
#include <random>
#include <stdexcept>
#include <string>

#include "tests/support/cuda_on_cpu/races.h"

thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace ink::cuda_on_cpu {
namespace {

// A quarter of the warps stands still so long in random order: others run far ahead of them.
constexpr uint64_t kPassesOfRest = 128;

thread_local Block* current_block = nullptr;
thread_local Order current_order = Order::kAscending;

// Fibers are kept for the next block: their stacks are the expensive part.
std::vector<std::unique_ptr<Fiber>>& fibers(std::size_t count) {
  thread_local std::vector<std::unique_ptr<Fiber>> pool;
  while (pool.size() < count) pool.push_back(std::make_unique<Fiber>());
  return pool;
}

std::vector<std::size_t> turns_of(std::size_t count, uint64_t seed) {
  std::vector<std::size_t> turns(count);
  std::iota(turns.begin(), turns.end(), std::size_t{0});
  if (current_order == Order::kDescending) std::reverse(turns.begin(), turns.end());
  if (current_order == Order::kRandom)
    std::shuffle(turns.begin(), turns.end(), std::mt19937_64(seed));
  return turns;
}

std::size_t volume(dim3 d) { return std::size_t{d.x} * d.y * d.z; }

dim3 position(std::size_t linear, dim3 size) {
  return {static_cast<unsigned>(linear % size.x), static_cast<unsigned>(linear / size.x % size.y),
          static_cast<unsigned>(linear / size.x / size.y)};
}

std::string text(dim3 d) {
  return "(" + std::to_string(d.x) + ", " + std::to_string(d.y) + ", " + std::to_string(d.z) + ")";
}

unsigned char* exact_allocation(std::size_t bytes) {
  if (bytes == 0) return nullptr;
  void* memory = nullptr;
  if (posix_memalign(&memory, 1024, bytes) != 0) throw std::bad_alloc();
  return static_cast<unsigned char*>(memory);
}

}  // namespace

void set_order(Order order) { current_order = order; }
Order order() { return current_order; }

Block& Block::current() {
  if (current_block == nullptr) throw std::logic_error("a device function was called by the host");
  return *current_block;
}

Block::Block(dim3 grid, dim3 block, std::size_t shared_bytes, const std::function<void()>& kernel)
    : grid_(grid),
      block_(block),
      shared_bytes_(shared_bytes),
      kernel_(kernel),
      threads_(volume(block)),
      exchange_((volume(block) + kWarp - 1) / kWarp * kWarp * kExchangeBytes),
      copies_(volume(block)),
      products_(volume(block)),
      warpgroups_(volume(block) / kWarpgroup),
      shared_(exact_allocation(shared_bytes), [](unsigned char* memory) { std::free(memory); }),
      races_(Races::followed() ? std::make_unique<Races>(volume(block), shared_.get(), shared_bytes)
                               : nullptr) {}

Block::~Block() = default;

void Block::body(void* block) {
  auto* self = static_cast<Block*>(block);
  try {
    self->kernel_();
  } catch (...) {  // an exception cannot leave the stack of a fiber
    self->failure_ = std::current_exception();
  }
  self->threads_[self->running_].state = State::kDone;
  --self->alive_;
  self->release_block_if_complete();
}

void Block::start_threads() {
  auto& pool = fibers(threads_.size());
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    threads_[i] = {this, position(i, block_), State::kReady, 0, nullptr};
    copies_[i].reset(current_order == Order::kDescending);
    products_[i].reset(current_order == Order::kDescending);
    pool[i]->start(&Block::body, this);
  }
  alive_ = threads_.size();
  at_barrier_ = 0;
}

void Block::run(dim3 index) {
  index_ = index;
  blockIdx = index;
  blockDim = block_;
  gridDim = grid_;
  if (shared_bytes_ > 0) std::memset(shared_.get(), 0xff, shared_bytes_);
  fenced_.clear();
  named_.fill({});
  std::fill(warpgroups_.begin(), warpgroups_.end(), Meeting{});
  if (races_) races_->enter();
  start_threads();
  const uint64_t seed = index.x + 7919ull * index.y + 104729ull * index.z;
  const std::vector<std::size_t> turns = turns_of(threads_.size(), seed);
  Block* before = current_block;
  current_block = this;
  std::mt19937_64 random(seed);
  uint64_t resting = 0;  // a bit per warp
  for (uint64_t passes = 0; alive_ > 0; ++passes) {
    if (current_order == Order::kRandom && passes % kPassesOfRest == 0)
      resting = random() & random();
    if (!pass(turns, resting) && (resting == 0 || !pass(turns, 0))) break;
  }
  current_block = before;
  Races::leave();
  if (races_ && !races_->finding().empty())
    throw std::runtime_error("block " + text(index_) + ": " + races_->finding());
  if (failure_) std::rethrow_exception(failure_);
  if (alive_ > 0) throw std::runtime_error(stuck());
}

bool Block::pass(const std::vector<std::size_t>& turns, uint64_t resting) {
  auto& pool = fibers(threads_.size());
  bool moved = false;
  for (const std::size_t i : turns) {
    if ((resting >> i / kWarp & 1) != 0) continue;
    Thread& thread = threads_[i];
    if (thread.state == State::kWaiting && (*thread.done)()) thread.state = State::kReady;
    if (thread.state != State::kReady) continue;
    running_ = i;
    threadIdx = thread.index;
    if (races_) races_->run(i);
    pool[i]->resume();
    if (failure_) return false;
    moved = true;
  }
  return moved;
}

void Block::wait(State state) {
  const std::size_t self = running_;
  threads_[self].state = state;
  fibers(threads_.size())[self]->yield();
}

void Block::release_block_if_complete() {
  if (at_barrier_ == 0 || at_barrier_ < alive_) return;
  at_barrier_ = 0;
  std::vector<std::size_t> met;
  for (std::size_t i = 0; i < threads_.size(); ++i) {
    if (threads_[i].state != State::kAtBlockBarrier) continue;
    threads_[i].state = State::kReady;
    met.push_back(i);
  }
  if (races_) races_->join(met);
}

void Block::sync_block() {
  ++at_barrier_;
  if (at_barrier_ == alive_) {
    threads_[running_].state = State::kAtBlockBarrier;
    release_block_if_complete();
    return;
  }
  wait(State::kAtBlockBarrier);
}

bool Block::warp_complete(std::size_t first, uint32_t mask) const {
  for (std::size_t lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    if (first + lane >= threads_.size())
      throw std::runtime_error("a warp collective names lane " + std::to_string(lane) +
                               " which the block does not have");
    const Thread& thread = threads_[first + lane];
    if (thread.state != State::kAtWarpBarrier || thread.mask != mask) return false;
  }
  return true;
}

void Block::meet_lanes(uint32_t mask, bool ordered) {
  const std::size_t first = running_ / kWarp * kWarp;
  Thread& self = threads_[running_];
  self.mask = mask;
  self.state = State::kAtWarpBarrier;
  if (!warp_complete(first, mask)) return wait(State::kAtWarpBarrier);
  std::vector<std::size_t> met;
  for (std::size_t lane = 0; lane < kWarp; ++lane) {
    if ((mask >> lane & 1u) == 0) continue;
    threads_[first + lane].state = State::kReady;
    met.push_back(first + lane);
  }
  if (races_ && ordered) races_->join(met);
}

void Block::wait_until(const std::function<bool()>& done) {
  if (done()) return;
  threads_[running_].done = &done;
  wait(State::kWaiting);
}

void Block::meet(Meeting& meeting, int threads) {
  const uint64_t before = meeting.times();
  meeting.arrive(threads);
  wait_until([&meeting, before] { return meeting.times() != before; });
}

void Block::arrive_at(int id, int threads) {
  Meeting& meeting = named_.at(static_cast<std::size_t>(id));
  const uint64_t before = meeting.times();
  meeting.arrive(threads);
  if (races_) races_->arrive(&meeting, meeting.times() != before);
}

void Block::meet_at(int id, int threads) {
  const Meeting& meeting = named_.at(static_cast<std::size_t>(id));
  const uint64_t before = meeting.times();
  arrive_at(id, threads);
  wait_until([&meeting, before] { return meeting.times() != before; });
  if (races_) races_->pass(&meeting);
}

// Who touches a barrier in shared memory must be in order with its initialisation alone.
void Block::arrive_in_shared(const void* barrier, std::size_t bytes, bool opens) {
  if (!races_) return;
  update_atomically(barrier, bytes);
  races_->arrive(barrier, opens);
}

void Block::pass_in_shared(const void* barrier, std::size_t bytes) {
  if (!races_) return;
  update_atomically(barrier, bytes);
  races_->pass(barrier);
}

void Block::update_atomically(const void* at, std::size_t bytes) {
  using R = Races;
  if (races_)
    races_->access(R::Actor::kThread, R::Access::kAtomic, at, bytes, __builtin_return_address(0));
}

void Block::start_copy(void* to, const void* from, std::size_t bytes) {
  using R = Races;
  copies_[running_].start(to, from, bytes);
  if (races_)
    races_->access(R::Actor::kCopies, R::Access::kWrite, to, bytes, __builtin_return_address(0));
}
void Block::commit_copies() {
  copies_[running_].commit();
  if (races_) races_->commit(Races::Actor::kCopies);
}
void Block::wait_copies(std::size_t groups_left) {
  copies_[running_].wait(groups_left);
  if (races_) races_->wait(Races::Actor::kCopies, groups_left);
}

void Block::read_operand(std::size_t offset, std::size_t bytes) {
  using R = Races;
  if (races_)
    races_->access(R::Actor::kProducts, R::Access::kRead, shared_.get() + offset, bytes,
                   __builtin_return_address(0));
}
void Block::commit_products() {
  products_[running_].commit();
  if (races_) races_->commit(Races::Actor::kProducts);
}
void Block::wait_products(std::size_t groups_left) {
  products_[running_].wait(groups_left);
  if (races_) races_->wait(Races::Actor::kProducts, groups_left);
}

void Block::fence_for_products() {
  if (fenced_.empty()) fenced_.assign(shared_bytes_, 0xff);
  copies_[running_].fence();
  // What others have copied and not fenced stays as it was.
  std::vector<unsigned char> seen(shared_.get(), shared_.get() + shared_bytes_);
  for (const AsyncCopies& others : copies_) {
    others.each_unfenced([&](const void* to, std::size_t bytes) {
      const auto at = static_cast<const unsigned char*>(to) - shared_.get();
      std::memcpy(seen.data() + at, fenced_.data() + at, bytes);
    });
  }
  fenced_ = std::move(seen);
}

std::string Block::stuck() const {
  std::string message = "block " + text(index_) + " cannot go on:";
  const auto name_first = [&](State state, const char* what) {
    const auto at = std::find_if(threads_.begin(), threads_.end(),
                                 [&](const Thread& thread) { return thread.state == state; });
    if (at == threads_.end()) return;
    const auto count = std::count_if(threads_.begin(), threads_.end(),
                                     [&](const Thread& thread) { return thread.state == state; });
    message +=
        " " + std::to_string(count) + " threads " + what + ", the first " + text(at->index) + ";";
  };
  name_first(State::kAtBlockBarrier, "wait at the barrier of the block");
  name_first(State::kAtWarpBarrier, "wait at a barrier of their warp");
  name_first(State::kWaiting,
             "wait for others (a warpgroup, a named barrier, one in shared memory)");
  name_first(State::kDone, "have ended");
  return message;
}

void run_grid(dim3 grid, dim3 block, std::size_t shared_bytes,
              const std::function<void()>& kernel) {
  Block runner(grid, block, shared_bytes, kernel);
  for (const std::size_t i : turns_of(volume(grid), 1)) runner.run(position(i, grid));
}

}  // namespace ink::cuda_on_cpu
