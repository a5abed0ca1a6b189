#include "launch/machine_peak.h"

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "engine/io/atomic_file.h"
#include "engine/io/cache_directory.h"
#include "engine/io/json.h"
#include "engine/ops/linear.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr double kSeconds = 1.0;
constexpr int kMinRepeats = 3;    // the first one also pages memory in and builds primitives
constexpr int kCallsOnCard = 10;  // between two waits, so that the wait itself does not count

struct GemmShape {
  int64_t tokens = 1024, in = 2048, out = 2048;
};

// On a card square, 64 rows and columns per multiprocessor: enough tiles for every one of them. No
// more than 4096: tiles of 128 x 256 are 512 then, enough for any card, and a run that fills its
// card still has room for 96 MiB (bf16).
GemmShape shape_for(const DeviceSeat& seat) {
  if (!seat.card) return {};
  const int64_t n = std::min(4096, 64 * std::max(4, seat.card->multiprocessors));
  return {n, n, n};
}

// Empty: this user has no place for a cache.
fs::path cache_file() {
  const fs::path directory = cache_directory();
  return directory.empty() ? directory : directory / "peak.json";
}

// Homes are shared between machines: the processor's name tells them apart.
std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("model name")) return line.substr(line.find(':') + 1);
  return " unknown processor";
}

std::string key_of(const DeviceSeat& seat, DType compute) {
  if (seat.card) return fmt::format("{}, {}", seat.text(), name_of(compute));
  return fmt::format("{}, {} threads, {},{}", instruction_set(), thread_count(), name_of(compute),
                     processor_name());
}

// A cache that is absent, foreign or damaged counts as empty: it is measured and written again.
nlohmann::json read_cache() {
  const fs::path path = cache_file();
  std::error_code failed;
  if (path.empty() || !fs::exists(path, failed)) return nlohmann::json::object();
  try {
    nlohmann::json cache = read_json(path);
    if (cache.is_object()) return cache;
  } catch (const Error&) {
  }
  return nlohmann::json::object();
}

void store(const DeviceSeat& seat, DType compute, double peak) {
  const fs::path path = cache_file();
  if (path.empty()) return;
  nlohmann::json cache = read_cache();
  cache[key_of(seat, compute)] = peak;
  try {
    fs::create_directories(path.parent_path());
    write_file_atomically(path, cache.dump(2) + "\n");
  } catch (const Error&) {  // MFU then costs a second per run; nothing else is lost
  } catch (const fs::filesystem_error&) {
  }
}

// Small values of both signs: zeros and denormals run at other speeds on some machines.
Tensor pattern(Runtime& runtime, const Shape& shape, DType dtype) {
  return visit_float(dtype, [&]<class T>() {
    std::vector<T> values(static_cast<size_t>(shape.numel()));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = static_cast<T>(static_cast<float>(i * 7 % 31) / 16.0F - 1.0F);
    return to_tensor<T>(runtime, values, shape);
  });
}

}  // namespace

std::optional<double> cached_peak(const DeviceSeat& seat, DType compute) {
  const nlohmann::json cache = read_cache();
  const auto found = cache.find(key_of(seat, compute));
  if (found == cache.end() || !found->is_number()) return std::nullopt;
  const double peak = found->get<double>();
  return peak > 0 ? std::optional(peak) : std::nullopt;
}

double measure_peak(const DeviceSeat& seat, DType compute) {
  using Clock = std::chrono::steady_clock;
  Runtime runtime({}, seat.make());
  runtime.tag = MemoryTag::kWorkspace;
  const GemmShape shape = shape_for(seat);
  const Tensor x = pattern(runtime, {shape.tokens, shape.in}, compute);
  const Tensor w = pattern(runtime, {shape.out, shape.in}, compute);
  Tensor y(runtime, {shape.tokens, shape.out}, compute);
  const int calls = seat.card ? kCallsOnCard : 1;
  const double flops = 2.0 * static_cast<double>(shape.tokens) * static_cast<double>(shape.in) *
                       static_cast<double>(shape.out) * calls;
  double best = 0, total = 0;
  for (int repeat = 0; repeat < kMinRepeats || total < kSeconds; ++repeat) {
    runtime.backend().synchronize();
    const Clock::time_point start = Clock::now();
    for (int call = 0; call < calls; ++call) linear_forward(runtime.device(), x, w, Tensor(), y);
    runtime.backend().synchronize();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    total += seconds;
    best = std::max(best, flops / std::max(seconds, 1e-9));
  }
  store(seat, compute, best);
  return best;
}

std::optional<double> measure_peak_if_it_fits(const DeviceSeat& seat, DType compute) {
  try {
    return measure_peak(seat, compute);
  } catch (const Error& error) {
    if (error.code() != ExitCode::kOutOfMemory) throw;
    return std::nullopt;
  }
}

double raise_peak(const DeviceSeat& seat, DType compute, double reached) {
  const double measured = measure_peak_if_it_fits(seat, compute).value_or(0);
  if (reached > measured) store(seat, compute, reached);
  return std::max(measured, reached);
}

}  // namespace ink
