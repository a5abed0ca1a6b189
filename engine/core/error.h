// Errors that a user can meet, and invariants of the code.
//
// A user's mistake throws Error with the exit code of its class; `launch` prints it as
// `error[CODE]: place: message` plus an optional `hint:` line. A broken invariant throws
// InternalError through CHECK or CHECK_OP. Nothing below `launch` prints or exits.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>

namespace ink {

// Exit codes of the binary, never reused for anything else.
enum class ExitCode {
  kDone = 0,
  kInternal = 1,     // a bug of ours
  kConfig = 2,       // configuration or usage
  kBadInput = 3,     // weights, tokenizer, data set, checkpoint; also named but absent
  kIo = 4,           // disk full, permission, lock held
  kNumerical = 5,    // repeated non-finite gradients, replicas that differ
  kPeer = 6,         // a rank died, hung or timed out
  kOutOfMemory = 7,  // host or device
  kStopped = 75,     // stopped on request, state saved
};

class Error : public std::runtime_error {
 public:
  // place: file[:line[:column] | tensor | row] or a key; may be empty.
  Error(ExitCode code, std::string place, const std::string& message, std::string hint = {})
      : std::runtime_error(message),
        code_(code),
        place_(std::move(place)),
        hint_(std::move(hint)) {}

  [[nodiscard]] ExitCode code() const { return code_; }
  [[nodiscard]] const std::string& place() const { return place_; }
  [[nodiscard]] const std::string& hint() const { return hint_; }
  // `error[3]: model.safetensors: expected X, got Y` and, on a second line, `hint: ...`.
  [[nodiscard]] std::string line() const;

 private:
  ExitCode code_;
  std::string place_, hint_;
};

class InternalError : public Error {
 public:
  explicit InternalError(const std::string& message)
      : Error(ExitCode::kInternal, "internal", message) {}
};

[[noreturn]] void check_failed(const char* file, int line, const char* condition,
                               const std::string& message);
[[noreturn]] void op_check_failed(const char* op, const std::string& message);

}  // namespace ink

// A broken invariant; the message carries the values.
#define CHECK(condition, ...)                                                          \
  do {                                                                                 \
    if (!(condition))                                                                  \
      ::ink::check_failed(__FILE__, __LINE__, #condition, ::fmt::format(__VA_ARGS__)); \
  } while (false)

// The same for an op's arguments: `[rms_norm] weight has 4095 elements, x_TC has C=4096`.
#define CHECK_OP(op, condition, ...)                                          \
  do {                                                                        \
    if (!(condition)) ::ink::op_check_failed(op, ::fmt::format(__VA_ARGS__)); \
  } while (false)
