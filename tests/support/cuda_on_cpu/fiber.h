// A call stack that can be left in the middle and entered again: one thread of a CUDA block.
//
// A Fiber runs a function on a stack of its own, on the OS thread that resumes it, until the
// function yields or returns. AddressSanitizer and ThreadSanitizer are told of every switch.
#pragma once

#include <cstddef>

namespace ink::cuda_on_cpu {

class Fiber {
 public:
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Makes the next resume() call body(argument) on this stack.
  void start(void (*body)(void*), void* argument);
  // Runs until the body yields or returns.
  void resume();
  // Called by the body: back to where resume() was called.
  void yield();
  [[nodiscard]] bool done() const { return done_; }

 private:
  static void enter();
  void leave(bool for_ever);

  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
  char* stack_ = nullptr;
  void* own_ = nullptr;     // stack pointer of the suspended fiber
  void* caller_ = nullptr;  // stack pointer of its resume()
  bool done_ = true;
  void* sanitizer_own_ = nullptr;
  void* sanitizer_caller_ = nullptr;
  const void* caller_bottom_ = nullptr;
  std::size_t caller_size_ = 0;
};

}  // namespace ink::cuda_on_cpu
