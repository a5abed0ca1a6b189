#include "tests/support/cuda_on_cpu/races.h"

#include <algorithm>
#include <cstdio>

extern "C" const char
    __executable_start;  // of the linker: addresses in the symbol table start here

namespace ink::cuda_on_cpu {
namespace {

bool kernels_report = false;

void learn(std::vector<uint32_t>& into, const std::vector<uint32_t>& from) {
  if (into.empty()) into.resize(from.size());
  for (std::size_t i = 0; i < from.size(); ++i) into[i] = std::max(into[i], from[i]);
}

}  // namespace

constinit thread_local Races* Races::current_ = nullptr;

void Races::follow() { kernels_report = true; }
bool Races::followed() { return kernels_report; }

Races::Races(std::size_t threads, const void* shared, std::size_t shared_bytes)
    : shared_(reinterpret_cast<uintptr_t>(shared)),
      shared_bytes_(shared_bytes),
      threads_(threads),
      cells_((shared_bytes + kCellBytes - 1) / kCellBytes) {}

void Races::enter() {
  std::fill(threads_.begin(), threads_.end(), Thread{});
  all_know_.assign(kActors * threads_.size(), 0);
  for (Cell& cell : cells_) {
    cell.write = {};
    cell.reads.clear();
    cell.updates.clear();
  }
  barriers_.clear();
  current_ = this;
}

void Races::leave() { current_ = nullptr; }

void Races::wait(Actor actor, std::size_t groups_left) {
  Groups& of = groups(actor);
  if (of.committed > groups_left)
    of.waited = std::max(of.waited, of.committed - static_cast<Clock>(groups_left));
}

// What a thread knows of itself is in no list: it would be written at every step.
void Races::learn_own(std::size_t thread, Knowledge& into) const {
  const Thread& of = threads_[thread];
  into[kActors * thread] = of.clock;
  for (std::size_t i = 0; i < of.groups.size(); ++i)
    into[kActors * thread + 1 + i] = of.groups[i].waited;
}

Races::Knowledge Races::knowledge(std::size_t thread) const {
  const Knowledge& of_others = threads_[thread].of_others;
  Knowledge all = of_others.empty() ? all_know_ : of_others;
  learn_own(thread, all);
  return all;
}

bool Races::knows(const Event& event) const {
  const Thread& self = threads_[running_];
  if (event.actor / kActors == running_) {
    const std::size_t kind = event.actor % kActors;
    return kind == 0 || event.clock <= self.groups[kind - 1].waited;
  }
  return event.clock <= (self.of_others.empty() ? all_know_ : self.of_others)[event.actor];
}

void Races::join(const std::vector<std::size_t>& threads) {
  const bool whole = threads.size() == threads_.size();
  Knowledge together = all_know_;
  for (const std::size_t thread : threads) {
    if (!threads_[thread].of_others.empty()) learn(together, threads_[thread].of_others);
  }
  for (const std::size_t thread : threads) learn_own(thread, together);
  for (const std::size_t thread : threads) {
    Thread& of = threads_[thread];
    ++of.clock;
    if (whole) {
      of.of_others.clear();
    } else {
      of.of_others = together;
    }
  }
  if (whole) all_know_ = std::move(together);
}

void Races::arrive(const void* barrier, bool opens) {
  Barrier& at = barriers_[barrier];
  learn(at.arrived, knowledge(running_));
  ++threads_[running_].clock;
  if (opens) at.opened = at.arrived;
}

void Races::pass(const void* barrier) {
  Knowledge& mine = threads_[running_].of_others;
  if (mine.empty()) mine = all_know_;
  learn(mine, barriers_[barrier].opened);
}

void Races::check(Actor actor, Access access, std::size_t offset, std::size_t bytes,
                  const void* place) {
  const Thread& self = threads_[running_];
  const auto kind = static_cast<std::size_t>(actor);
  const Event now{access, static_cast<uint32_t>(kActors * running_ + kind),
                  kind == 0 ? self.clock : self.groups[kind - 1].committed + 1,
                  static_cast<uint32_t>(static_cast<const char*>(place) - &__executable_start)};
  if (bytes < kCellBytes) finding_ = "no model of single bytes in shared memory: " + name(now);
  const std::size_t end = std::min(offset + bytes, shared_bytes_);
  for (std::size_t cell = offset / kCellBytes; cell * kCellBytes < end; ++cell)
    check_cell(cells_[cell], now);
}

// Two reads are in order in any case, and two atomic updates.
void Races::check_cell(Cell& cell, const Event& now) {
  const auto repeated = [&now](const Event& last) {
    return last.actor == now.actor && last.clock == now.clock;
  };
  if (now.access == Access::kWrite && cell.reads.empty() && cell.updates.empty() &&
      repeated(cell.write))
    return;
  std::vector<Event>& alike = now.access == Access::kRead ? cell.reads : cell.updates;
  if (now.access != Access::kWrite && !alike.empty() && repeated(alike.back())) return;
  check_order(cell.write, now, cell);
  if (now.access != Access::kRead) check_order(cell.reads, now, cell);
  if (now.access != Access::kAtomic) check_order(cell.updates, now, cell);
  if (now.access != Access::kWrite) return add(alike, now);
  // Whatever is in order with the write is so with what came before, or that shows now.
  cell.write = now;
  cell.reads.clear();
  cell.updates.clear();
}

// Where the list is full, events go that are in order with the new one, and all but the last of an
// actor: whatever is in order with that one is so with them.
void Races::add(std::vector<Event>& events, const Event& now) const {
  if (events.size() == events.capacity()) {
    std::erase_if(events, [this](const Event& before) { return knows(before); });
    std::ranges::stable_sort(events, {}, &Event::actor);
    const auto last_of_each = std::unique(events.rbegin(), events.rend(),
                                          [](auto& a, auto& b) { return a.actor == b.actor; });
    events.erase(events.begin(), last_of_each.base());
    if (events.size() > events.capacity() / 2) events.reserve(2 * events.capacity());
  }
  events.push_back(now);
}

void Races::check_order(const std::vector<Event>& before, const Event& now, const Cell& cell) {
  for (const Event& event : before) check_order(event, now, cell);
}

void Races::check_order(const Event& before, const Event& now, const Cell& cell) {
  if (knows(before) || !finding_.empty()) return;
  finding_ = "nothing orders two accesses to byte " +
             std::to_string((&cell - cells_.data()) * static_cast<std::ptrdiff_t>(kCellBytes)) +
             " of shared memory: " + name(before) + " and " + name(now) +
             " (addr2line -Cfpie PROGRAM names the places)";
}

std::string Races::name(const Event& event) const {
  static constexpr const char* kAccesses[] = {"a read", "a write", "an atomic update"};
  static constexpr const char* kOf[] = {"", "a copy of ", "a product of "};
  char place[16];
  std::snprintf(place, sizeof place, "0x%x", event.place);
  return std::string(kAccesses[static_cast<std::size_t>(event.access)]) + " by " +
         kOf[event.actor % kActors] + "thread " + std::to_string(event.actor / kActors) + " at " +
         place;
}

}  // namespace ink::cuda_on_cpu
