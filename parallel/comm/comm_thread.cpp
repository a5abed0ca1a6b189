#include "parallel/comm/comm_thread.h"

namespace ink {

struct CommThread::Task {
  std::function<void()> job;
  std::mutex mutex;
  std::condition_variable changed;
  bool finished = false;
  std::exception_ptr failure;
};

class CommThread::TaskWork final : public Work {
 public:
  explicit TaskWork(std::shared_ptr<Task> task) : task_(std::move(task)) {}
  void wait() override {
    std::unique_lock lock(task_->mutex);
    task_->changed.wait(lock, [&] { return task_->finished; });
    if (task_->failure) std::rethrow_exception(task_->failure);
  }

 private:
  std::shared_ptr<Task> task_;
};

CommThread::CommThread() : thread_([this] { loop(); }) {}

CommThread::~CommThread() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::unique_ptr<Work> CommThread::submit(std::function<void()> job) {
  auto task = std::make_shared<Task>();
  task->job = std::move(job);
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(task);
  }
  changed_.notify_all();
  return std::make_unique<TaskWork>(std::move(task));
}

void CommThread::loop() {
  for (;;) {
    std::shared_ptr<Task> task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [&] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    std::exception_ptr failure;
    try {
      task->job();
    } catch (...) {
      failure = std::current_exception();
    }
    task->job = nullptr;  // lets go of its tensors before the waiter may end their Runtime
    {
      const std::lock_guard lock(task->mutex);
      task->finished = true;
      task->failure = failure;
    }
    task->changed.notify_all();
  }
}

}  // namespace ink
