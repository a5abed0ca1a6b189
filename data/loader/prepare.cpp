#include "data/loader/prepare.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "engine/core/error.h"

namespace ink {
namespace {

constexpr size_t kBatchDocuments = 256;
constexpr size_t kBatchBytes = size_t{1} << 20;
constexpr size_t kBatchesPerWorker = 4;  // read ahead; bounds the memory in flight

// Rows that travel together: read by the caller, encoded by a worker, written by the caller.
struct RowBatch {
  std::vector<RawDocument> rows;
  std::exception_ptr failure;
  bool encoded = false;
};

// Threads that encode batches in any order; the caller takes them back in the order of submission.
class EncodingPool {
 public:
  EncodingPool(int workers, const TextEncoding& encoding) : encoding_(encoding) {
    for (int i = 0; i < workers; ++i) threads_.emplace_back([this] { run(); });
  }
  ~EncodingPool() {
    {
      const std::lock_guard lock(mutex_);
      stop_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  EncodingPool(const EncodingPool&) = delete;
  EncodingPool& operator=(const EncodingPool&) = delete;

  [[nodiscard]] bool full() const { return ordered_.size() >= kBatchesPerWorker * threads_.size(); }
  [[nodiscard]] bool empty() const { return ordered_.empty(); }

  void submit(std::unique_ptr<RowBatch> batch) {
    const std::lock_guard lock(mutex_);
    todo_.push_back(batch.get());
    ordered_.push_back(std::move(batch));
    changed_.notify_all();
  }

  std::unique_ptr<RowBatch> take() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ordered_.front()->encoded; });
    auto batch = std::move(ordered_.front());
    ordered_.pop_front();
    if (batch->failure) std::rethrow_exception(batch->failure);
    return batch;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return stop_ || !todo_.empty(); });
      if (stop_) return;
      RowBatch* batch = todo_.front();
      todo_.pop_front();
      lock.unlock();
      try {
        for (RawDocument& row : batch->rows) encode_document(row, encoding_);
      } catch (...) {
        batch->failure = std::current_exception();
      }
      lock.lock();
      batch->encoded = true;
      changed_.notify_all();
    }
  }

  const TextEncoding& encoding_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<RowBatch*> todo_;                     // guarded by mutex_
  std::deque<std::unique_ptr<RowBatch>> ordered_;  // changed by the caller only, under mutex_
  bool stop_ = false;
  std::vector<std::thread> threads_;
};

// Reads until the batch is full; false when the input has ended.
bool read_batch(const ReadDocument& read, RowBatch& batch) {
  size_t bytes = 0;
  while (batch.rows.size() < kBatchDocuments && bytes < kBatchBytes) {
    RawDocument row;
    if (!read(row)) return false;
    bytes += row.text.size() + row.tokens.ids.size() * sizeof(int32_t);
    batch.rows.push_back(std::move(row));
  }
  return true;
}

// Appends documents, counts them and calls the progress function ten times a second.
class Appender {
 public:
  Appender(TokenStoreWriter& writer, const PrepareOptions& options)
      : writer_(writer), options_(options) {}

  void append(const RowBatch& batch) {
    for (const RawDocument& row : batch.rows) {
      stats_.bytes += static_cast<int64_t>(row.text.size());
      if (!row.is_tokens && row.text.empty()) {
        ++stats_.dropped.empty_documents;
        continue;
      }
      writer_.append(row.tokens);
      ++stats_.documents;
      stats_.tokens += static_cast<int64_t>(row.tokens.ids.size());
    }
    const auto now = std::chrono::steady_clock::now();
    if (now - told_ < std::chrono::milliseconds(100)) return;
    told_ = now;
    tell();
  }
  void tell() const {
    if (options_.progress) options_.progress({stats_.documents, stats_.tokens, stats_.bytes});
  }
  [[nodiscard]] const PrepareStats& stats() const { return stats_; }

 private:
  TokenStoreWriter& writer_;
  const PrepareOptions& options_;
  PrepareStats stats_;
  std::chrono::steady_clock::time_point told_{};
};

int worker_count(int asked) {
  return asked > 0 ? asked : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace

void encode_document(RawDocument& document, const TextEncoding& encoding) {
  if (document.is_tokens) return;
  if (!encoding.encode)
    throw Error(ExitCode::kConfig, encoding.setting, "expected a tokenizer for text, got none");
  std::vector<int32_t>& ids = document.tokens.ids;
  ids.clear();
  document.tokens.untrained.clear();
  if (document.text.empty()) return;
  if (encoding.bos) ids.push_back(*encoding.bos);
  encoding.encode(document.text, ids);
  if (encoding.eos && encoding.eos_between) ids.push_back(*encoding.eos);
  document.tokens.untrained.assign(ids.size(), 0);
  if (encoding.bos) document.tokens.untrained[0] = 1;
}

PrepareStats prepare_store(const std::filesystem::path& out, const StoreHeader& header,
                           const ReadDocument& read, const TextEncoding& encoding,
                           const PrepareOptions& options) {
  TokenStoreWriter writer(out, header);
  Appender appender(writer, options);
  {
    EncodingPool pool(worker_count(options.workers), encoding);
    bool more = true;
    while (more || !pool.empty()) {
      if (!more || pool.full()) {
        appender.append(*pool.take());
        continue;
      }
      auto batch = std::make_unique<RowBatch>();
      more = read_batch(read, *batch);
      if (!batch->rows.empty()) pool.submit(std::move(batch));
    }
  }
  PrepareStats stats = appender.stats();
  if (options.bad_rows) stats.dropped.bad_rows = options.bad_rows();
  stats.store = writer.finish(stats.dropped);
  appender.tell();
  return stats;
}

}  // namespace ink
