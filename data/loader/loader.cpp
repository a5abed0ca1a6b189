#include "data/loader/loader.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/core/error.h"

namespace ink {
namespace {

void check_options(const std::vector<LoaderSource>& sources, const LoaderOptions& options) {
  CHECK(!sources.empty(), "a loader needs a source");
  CHECK(options.dp_size > 0 && options.dp_rank >= 0 && options.dp_rank < options.dp_size,
        "rank {} of {}", options.dp_rank, options.dp_size);
  CHECK(options.max_length > 0 && options.prefetch > 0, "max_length {}, prefetch {}",
        options.max_length, options.prefetch);
  options.plan.validate(options.dp_size, options.micro_batch_size);
  for (const LoaderSource& source : sources)
    if (source.packs->max_length() != options.max_length)
      throw Error(ExitCode::kConfig, source.packs->name(),
                  fmt::format("expected packs of data.max_length {}, got {}", options.max_length,
                              source.packs->max_length()));
}

Sampler make_sampler(const std::vector<LoaderSource>& sources, const LoaderOptions& options) {
  std::vector<SamplerSource> sizes;
  for (const LoaderSource& source : sources)
    sizes.push_back(
        {options.numpy_order ? full_packs(*source.packs) : source.packs->packs(), source.weight});
  return {std::move(sizes), options.seed, options.order,
          options.numpy_order ? std::optional(options.plan.global_batch_size) : std::nullopt};
}

}  // namespace

class Loader::Worker {
 public:
  Worker(std::vector<LoaderSource> sources, LoaderOptions options,
         const std::optional<SamplerState>& resume)
      : sources_(std::move(sources)),
        options_(std::move(options)),
        sampler_(make_sampler(sources_, options_)) {
    int64_t first_id = 0;
    size_t first_source = 0;
    for (const LoaderSource& source : sources_) {
      first_ids_.push_back(first_id);
      first_id += source.packs->packs();
      first_sources_.push_back(static_cast<int32_t>(first_source));
      first_source += source.packs->source_names().size();
    }
    if (resume) sampler_.restore(*resume, "checkpoint");
    thread_ = std::thread([this] { run(); });
  }

  ~Worker() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }

  std::optional<StepBatch> next() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return !ready_.empty() || done_; });
    if (ready_.empty()) {
      if (failure_) std::rethrow_exception(failure_);
      return std::nullopt;
    }
    StepBatch batch = std::move(ready_.front());
    ready_.pop_front();
    lock.unlock();
    changed_.notify_all();
    return batch;
  }

 private:
  void run() {
    std::exception_ptr failure;
    try {
      while (sampler_.state().step < options_.steps && wait_for_room()) {
        StepBatch batch = read_step();
        const std::lock_guard lock(mutex_);
        ready_.push_back(std::move(batch));
        changed_.notify_all();
      }
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    failure_ = failure;
    done_ = true;
    changed_.notify_all();
  }

  // False when the consumer has gone.
  bool wait_for_room() {
    std::unique_lock lock(mutex_);
    changed_.wait(
        lock, [this] { return stop_ || static_cast<int64_t>(ready_.size()) < options_.prefetch; });
    return !stop_;
  }

  struct Slot {
    Draw draw;
    int64_t place = 0;  // in the global batch
    bool empty = true;
  };

  // Draws the whole global batch; every rank adds up N, and keeps the slots that are its own.
  std::vector<Slot> draw_step(StepBatch& batch) {
    const int64_t size = options_.plan.size(batch.step), micro = options_.micro_batch_size;
    const bool full = options_.padding == SlotPadding::kFull;
    std::vector<Slot> own;
    int64_t in_micro_batch = 0;  // tokens
    for (int64_t place = 0; place < size; ++place) {
      Slot slot{.draw = {}, .place = place, .empty = past_end()};
      if (!slot.empty) {
        slot.draw = sampler_.next();
        const PackRow row =
            sources_[static_cast<size_t>(slot.draw.source)].packs->row(slot.draw.pack);
        batch.trained += static_cast<int64_t>(row.trained);
        batch.real_tokens += static_cast<int64_t>(row.length);
        if (!full) in_micro_batch += static_cast<int64_t>(row.length);
        batch.pack_ids.push_back(sample_id(slot));
        ++batch.packs;
      }
      if (full) in_micro_batch += options_.max_length;
      if (place / micro % options_.dp_size == options_.dp_rank) own.push_back(slot);
      // Without a sample there is still one token of padding.
      if ((place + 1) % micro == 0)
        batch.tokens += std::max<int64_t>(1, std::exchange(in_micro_batch, 0));
    }
    return own;
  }

  [[nodiscard]] bool past_end() const {
    return options_.total_packs && sampler_.state().cursor >= *options_.total_packs;
  }

  HostBatch read_micro_batch(std::span<const Slot> slots) const {
    std::vector<Pack> packs(slots.size());
    std::vector<BatchSlot> out(slots.size());
    for (size_t i = 0; i < slots.size(); ++i) {
      out[i].slot = slots[i].place;
      if (slots[i].empty) continue;
      const auto source = static_cast<size_t>(slots[i].draw.source);
      packs[i] =
          make_pack(sources_[source].packs->read(slots[i].draw.pack), options_.reset_positions);
      out[i].pack = &packs[i];
      out[i].sample_id = sample_id(slots[i]);
      out[i].first_source = first_sources_[source];
    }
    return make_host_batch(out, options_.max_length, options_.padding);
  }

  [[nodiscard]] int64_t sample_id(const Slot& slot) const {
    return slot.empty ? -1 : first_ids_[static_cast<size_t>(slot.draw.source)] + slot.draw.pack;
  }

  StepBatch read_step() {
    StepBatch batch;
    batch.step = sampler_.state().step + 1;
    batch.skipped = options_.plan.skipped(batch.step);
    const std::vector<Slot> own = draw_step(batch);
    sampler_.end_step();
    for (const Slot& slot : own) batch.sample_ids.push_back(sample_id(slot));
    const auto micro = static_cast<size_t>(options_.micro_batch_size);
    for (size_t first = 0; !batch.skipped && first < own.size(); first += micro)
      batch.micro_batches.push_back(read_micro_batch(std::span(own).subspan(first, micro)));
    batch.epoch = sampler_.epoch();
    batch.state = sampler_.state();
    return batch;
  }

  std::vector<LoaderSource> sources_;
  LoaderOptions options_;
  Sampler sampler_;                 // the thread's alone
  std::vector<int64_t> first_ids_;  // sample id of pack 0 of every source
  std::vector<int32_t> first_sources_;

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<StepBatch> ready_;  // below: guarded by mutex_
  std::exception_ptr failure_;
  bool stop_ = false, done_ = false;

  std::thread thread_;
};

Loader::Loader(std::vector<LoaderSource> sources, LoaderOptions options,
               const std::optional<SamplerState>& resume) {
  check_options(sources, options);
  worker_ = std::make_unique<Worker>(std::move(sources), std::move(options), resume);
}

Loader::~Loader() = default;

std::optional<StepBatch> Loader::next() { return worker_->next(); }

}  // namespace ink
