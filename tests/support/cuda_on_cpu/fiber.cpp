#include "tests/support/cuda_on_cpu/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <new>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef __SANITIZE_THREAD__
#include <sanitizer/tsan_interface.h>
#endif

// ThreadSanitizer keeps a stack of calls per context. What switches is not to be on it, as it is
// left in one fiber and entered in another: no_sanitize.

// Saves the callee-saved registers of the System V ABI and the stack pointer in *from, and takes up
// where `to` left.
extern "C" void ink_switch_stack(void** from, void* to);
asm(R"(
.text
.globl ink_switch_stack
.type ink_switch_stack, @function
ink_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ink_switch_stack, .-ink_switch_stack
)");

namespace ink::cuda_on_cpu {
namespace {

constexpr std::size_t kStackBytes = std::size_t{256} << 10;  // touched pages only are memory
constexpr int kSavedRegisters = 6;

thread_local Fiber* entering = nullptr;

#ifdef __SANITIZE_THREAD__
// All fibers of an OS thread are one context of ThreadSanitizer: every switch compares clocks of
// all contexts, and a thousand per rank would take hours. So calls of fibers lie mixed on its
// stack, as many as there are in all; those of fibers that were left for ever stay, and it is made
// anew.
class SharedContext {
 public:
  SharedContext() : context_(__tsan_create_fiber(0)) {}
  ~SharedContext() { __tsan_destroy_fiber(context_); }
  SharedContext(const SharedContext&) = delete;
  SharedContext& operator=(const SharedContext&) = delete;
  [[nodiscard]] void* get() const { return context_; }

  void renew() {
    __tsan_destroy_fiber(context_);
    context_ = __tsan_create_fiber(0);
  }

 private:
  void* context_;
};

SharedContext& shared_context() {
  thread_local SharedContext it;
  return it;
}
#endif

}  // namespace

Fiber::Fiber() {
  void* memory = mmap(nullptr, kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  stack_ = static_cast<char*>(memory);
}

Fiber::~Fiber() { munmap(stack_, kStackBytes); }

void Fiber::start(void (*body)(void*), void* argument) {
#ifdef __SANITIZE_THREAD__
  if (!done_) shared_context().renew();
#endif
  body_ = body;
  argument_ = argument;
  done_ = false;
#ifdef __SANITIZE_ADDRESS__
  sanitizer_own_ = nullptr;
  ASAN_UNPOISON_MEMORY_REGION(stack_, kStackBytes);
#endif
  // The frame that ink_switch_stack pops: registers and the address to return to. Above it nothing:
  // enter() must find the stack 8 bytes off a multiple of 16, as after a call.
  auto* top = reinterpret_cast<void**>(stack_ + kStackBytes - 8);
  *top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (int i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  own_ = top;
}

[[gnu::no_sanitize("thread")]] void Fiber::resume() {
  entering = this;
#ifdef __SANITIZE_THREAD__
  sanitizer_caller_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(shared_context().get(), 0);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(&sanitizer_caller_, stack_, kStackBytes);
#endif
  ink_switch_stack(&caller_, own_);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(sanitizer_caller_, nullptr, nullptr);
#endif
}

[[gnu::no_sanitize("thread")]] void Fiber::yield() {
  leave(false);
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(sanitizer_own_, &caller_bottom_, &caller_size_);
#endif
}

[[gnu::no_sanitize("thread")]] void Fiber::leave(bool for_ever) {
#ifdef __SANITIZE_THREAD__
  __tsan_switch_to_fiber(sanitizer_caller_, 0);
#endif
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_start_switch_fiber(for_ever ? nullptr : &sanitizer_own_, caller_bottom_,
                                 caller_size_);
#endif
  done_ = for_ever;
  ink_switch_stack(&own_, caller_);
}

[[gnu::no_sanitize("thread")]] void Fiber::enter() {
  Fiber* self = entering;
#ifdef __SANITIZE_ADDRESS__
  __sanitizer_finish_switch_fiber(nullptr, &self->caller_bottom_, &self->caller_size_);
#endif
  self->body_(self->argument_);
  self->leave(true);
}

}  // namespace ink::cuda_on_cpu
