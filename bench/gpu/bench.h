// Kernels of the card, timed beside a copy on the same card: what `bench/gpu.sh kernels` runs.
//
// A family is a function that measures rows: one kernel in one shape. Families register themselves;
// main.cpp runs those that were asked for and prints every row as JSON. Data are random normal
// numbers. Inputs rotate among several sets where one would fit into the cache of the card. A time
// is that of the device, between two events, and the median of several samples.
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "engine/tensor/cuda_backend.h"
#include "engine/tensor/tensor.h"

namespace ink::bench {

struct Settings {
  bool tiny = false;  // sizes that a machine without a card can run, to try the program
  int samples = 11;
  double sample_milliseconds = 20;  // of work between two events
};

// What a row is compared with its floor by: bytes that must pass through memory, each once, and
// floating-point operations.
struct Work {
  double bytes = 0, flops = 0;
};

class Bench {
 public:
  using Sink = std::function<void(const nlohmann::json& row)>;
  // `sink` hears of every row when it has been measured.
  Bench(Settings settings, int ordinal, Sink sink);

  [[nodiscard]] const Settings& settings() const { return settings_; }
  [[nodiscard]] Runtime& runtime() { return runtime_; }
  [[nodiscard]] CudaBackend& backend() { return backend_; }
  // `size`, or the small one in a tiny run.
  [[nodiscard]] int64_t scaled(int64_t size, int64_t tiny) const {
    return settings_.tiny ? tiny : size;
  }

  // Normal numbers, standard deviation `scale`.
  [[nodiscard]] Tensor random(const Shape& shape, DType dtype, double scale = 1.0);
  [[nodiscard]] Tensor random_ids(int64_t count, int64_t below);
  // How many sets of inputs of `bytes` leave nothing of a set in the cache when its turn comes.
  [[nodiscard]] int sets(double bytes) const;

  // Measures every row of a family. Error(kConfig) when there is no such one.
  void run(std::string_view family);
  // For families: times run(set), set = 0, 1, ..., sets - 1, 0, ... `shape` says what was run, for
  // the reader.
  void measure(const std::string& kernel, nlohmann::json shape, Work work, int sets,
               const std::function<void(int set)>& run);

  // The card and what drives it.
  [[nodiscard]] nlohmann::json about() const;

 private:
  [[nodiscard]] double sample(int runs, int sets, int& next,
                              const std::function<void(int set)>& run);

  Settings settings_;
  Runtime runtime_;
  CudaBackend& backend_;
  std::string family_;
  uint64_t draws_ = 0;
  Sink sink_;
  double copy_ = 0;  // GB/s of the best copy so far: copies go first
};

using FamilyFunction = void (*)(Bench&);
bool register_family(const char* name, FamilyFunction run);
// In the order of their names; "copy", the ceiling, goes first.
[[nodiscard]] std::vector<std::string> family_names();

}  // namespace ink::bench

#define REGISTER_GPU_FAMILY(name, function) \
  [[maybe_unused]] static const bool name##_family = ::ink::bench::register_family(#name, function)
