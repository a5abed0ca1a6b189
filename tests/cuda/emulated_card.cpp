// The card of the emulated program, from the environment, so that a test can take it away, make it
// small or let it fail: EMULATED_CARDS, EMULATED_INSTANCE (CARD.NUMBER: a MIG instance of that
// card), EMULATED_CAPABILITY (90), EMULATED_MEMORY (bytes), EMULATED_STREAMS=late, EMULATED_FAILURE
// (number of the launch that fails), EMULATED_REFUSAL (of the one for whose code there is no
// memory), EMULATED_PROBLEM (of the driver, its number), EMULATED_BUSY (what taking the card
// meets).
#include <cuda_runtime.h>

#include <cstdlib>
#include <cstring>
#include <string>

#include "tests/support/cuda_on_cpu/busy_card.h"

namespace ink::cuda_on_cpu {
namespace {

template <class F>
void with_number(const char* name, F&& f) {
  if (const char* text = std::getenv(name)) f(std::stoll(text));
}

[[maybe_unused]] const bool configured = [] {
  with_number("EMULATED_CARDS", [](long long n) { set_devices(static_cast<int>(n)); });
  with_number("EMULATED_CAPABILITY", [](long long n) {
    set_capability(static_cast<int>(n / 10), static_cast<int>(n % 10));
  });
  if (const char* text = std::getenv("EMULATED_INSTANCE")) {
    std::size_t dot = 0;
    const int card = std::stoi(text, &dot);
    set_instance(card, std::stoi(text + dot + 1));
  }
  with_number("EMULATED_MEMORY", [](long long n) { set_device_memory(static_cast<size_t>(n)); });
  with_number("EMULATED_FAILURE", [](long long n) { fail_launch(n); });
  with_number("EMULATED_REFUSAL", [](long long n) { refuse_launch(n); });
  with_number("EMULATED_PROBLEM", [](long long n) { refuse_devices(static_cast<cudaError_t>(n)); });
  with_number("EMULATED_BUSY", [](long long n) { refuse_card(static_cast<cudaError_t>(n)); });
  const char* streams = std::getenv("EMULATED_STREAMS");
  if (streams != nullptr && std::strcmp(streams, "late") == 0) set_streams(Streams::kLate);
  return true;
}();

}  // namespace
}  // namespace ink::cuda_on_cpu
