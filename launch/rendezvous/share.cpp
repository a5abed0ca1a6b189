#include "launch/rendezvous/share.h"

#include <array>
#include <cstdlib>
#include <optional>
#include <sstream>

#include "engine/io/file.h"
#include "engine/io/sha256.h"

namespace ink {
namespace {

// A rank that chose another algorithm than its peers hangs or adds in another order.
constexpr std::array kVariables = {"NCCL_ALGO", "NCCL_PROTO", "NCCL_NVLS_ENABLE", "OMPI_MCA_coll"};

// Where two dumps part: the lines of both, each behind the keys that it lies below.
struct Difference {
  std::string expected, got;
};

size_t indent_of(const std::string& line) {
  const size_t first = line.find_first_not_of(' ');
  return first == std::string::npos ? line.size() : first;
}

// "optim." for the lines below `optim:`.
class KeysAbove {
 public:
  void pass(const std::string& line) {
    leave(indent_of(line));
    if (line.ends_with(':'))
      keys_.push_back(
          {indent_of(line), line.substr(indent_of(line), line.size() - 1 - indent_of(line))});
  }
  std::string in_front_of(const std::string& line) {
    leave(indent_of(line));
    std::string text;
    for (const auto& [indent, key] : keys_) text += key + ".";
    return text + line.substr(indent_of(line));
  }

 private:
  void leave(size_t indent) {
    while (!keys_.empty() && keys_.back().first >= indent) keys_.pop_back();
  }
  std::vector<std::pair<size_t, std::string>> keys_;
};

std::optional<Difference> first_difference(const std::string& expected, const std::string& got) {
  if (expected == got) return std::nullopt;
  std::istringstream first(expected), second(got);
  KeysAbove keys;
  for (;;) {
    std::string a, b;
    const bool has_a = static_cast<bool>(std::getline(first, a));
    const bool has_b = static_cast<bool>(std::getline(second, b));
    if (has_a && has_b && a == b) {
      keys.pass(a);
      continue;
    }
    return Difference{has_a ? keys.in_front_of(a) : "nothing",
                      has_b ? keys.in_front_of(b) : "nothing"};
  }
}

}  // namespace

std::string share_text(Launch& launch, const std::string& mine) {
  if (launch.size == 1) return mine;
  Runtime runtime;
  const Tensor size = to_tensor(runtime, std::vector<int64_t>{static_cast<int64_t>(mine.size())});
  launch.world->broadcast(size, 0)->wait();
  std::vector<uint8_t> bytes(static_cast<size_t>(to_vector<int64_t>(size)[0]));
  if (bytes.empty()) return {};
  if (launch.rank == 0) bytes.assign(mine.begin(), mine.end());
  const Tensor text = to_tensor(runtime, bytes);
  launch.world->broadcast(text, 0)->wait();
  bytes = to_vector<uint8_t>(text);
  return {bytes.begin(), bytes.end()};
}

void require_common(Launch& launch, const std::vector<CommonFact>& facts) {
  std::optional<Error> failure;
  for (const CommonFact& fact : facts) {
    const auto difference = first_difference(share_text(launch, fact.text), fact.text);
    if (!difference || failure) continue;
    failure = Error(ExitCode::kConfig, fmt::format("rank {}", launch.rank),
                    fmt::format("{}: expected that of rank 0, {}, got {}", fact.name,
                                difference->expected, difference->got));
  }
  // Only now: the others are still comparing.
  if (failure) throw *failure;
}

std::vector<CommonFact> program_facts() {
  const File program = File::open("/proc/self/exe");
  std::vector<CommonFact> facts{{"program", "SHA-256 " + sha256_of(program)}};
  for (const char* name : kVariables) {
    const char* value = std::getenv(name);
    facts.push_back({std::string("environment ") + name, value == nullptr ? "unset" : value});
  }
  return facts;
}

}  // namespace ink
