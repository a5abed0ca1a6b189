#include "bench/gpu/bench.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "engine/core/philox.h"
#include "engine/tensor/cuda_stream.h"

namespace ink::bench {
namespace {

auto& families() {
  static std::map<std::string, FamilyFunction, std::less<>> known;
  return known;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

std::string version(int number) { return fmt::format("{}.{}", number / 1000, number % 1000 / 10); }

}  // namespace

bool register_family(const char* name, FamilyFunction run) {
  return families().emplace(name, run).second;
}

std::vector<std::string> family_names() {
  std::vector<std::string> names;
  for (const auto& [name, run] : families()) names.push_back(name);
  std::stable_partition(names.begin(), names.end(),
                        [](const std::string& name) { return name == "copy"; });
  return names;
}

Bench::Bench(Settings settings, int ordinal, Sink sink)
    : settings_(settings),
      runtime_({}, std::make_unique<CudaBackend>(ordinal)),
      backend_(static_cast<CudaBackend&>(runtime_.backend())),
      sink_(std::move(sink)) {
  runtime_.grad_enabled = false;
}

void Bench::run(std::string_view family) {
  const auto found = families().find(family);
  if (found == families().end())
    throw Error(ExitCode::kConfig, "--family", fmt::format("there is no family {}", family),
                "--list names them");
  family_ = found->first;
  found->second(*this);
}

// Drawn once for a stretch of 2^20 elements and repeated: making every element would take longer
// than the measurement.
Tensor Bench::random(const Shape& shape, DType dtype, double scale) {
  constexpr int64_t kStretch = int64_t{1} << 20;
  Tensor tensor(runtime_, shape, dtype);
  const PhiloxKey key = philox_key(++draws_, "gpu bench");
  visit_float(dtype, [&]<class T>() {
    std::vector<T> values(static_cast<size_t>(std::min(tensor.numel(), kStretch)));
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = T(static_cast<float>(scale) * philox_normal(key, i));
    for (int64_t first = 0; first < tensor.numel(); first += kStretch)
      backend_.copy_from_host(
          tensor.data<T>() + first, values.data(),
          std::min(kStretch, tensor.numel() - first) * static_cast<int64_t>(sizeof(T)));
  });
  return tensor;
}

// Few ids come often, as in text: the square of a uniform number.
Tensor Bench::random_ids(int64_t count, int64_t below) {
  std::vector<int32_t> ids(static_cast<size_t>(count));
  const PhiloxKey key = philox_key(++draws_, "gpu bench ids");
  for (size_t i = 0; i < ids.size(); ++i) {
    const double u = philox_uniform(key, i);
    ids[i] = static_cast<int32_t>(u * u * static_cast<double>(below));
  }
  return to_tensor(runtime_, ids);
}

int Bench::sets(double bytes) const {
  const double cache = 4.0 * backend_.properties().l2CacheSize;
  return static_cast<int>(std::clamp(std::ceil(cache / std::max(bytes, 1.0)), 1.0, 8.0));
}

double Bench::sample(int runs, int sets, int& next, const std::function<void(int set)>& run) {
  const StreamEvent begin(Timing::kKept), end(Timing::kKept);
  begin.record(backend_.stream());
  for (int i = 0; i < runs; ++i) run(next++ % sets);
  end.record(backend_.stream());
  backend_.wait_for(end.get());
  return static_cast<double>(end.milliseconds_since(begin)) / runs;
}

void Bench::measure(const std::string& kernel, nlohmann::json shape, Work work, int sets,
                    const std::function<void(int set)>& run) {
  int next = 0;
  (void)sample(sets, sets, next, run);  // loads modules, fills caches of plans
  const double once = sample(settings_.tiny ? 1 : 4, sets, next, run);
  const int runs =
      settings_.tiny
          ? 1
          : static_cast<int>(std::clamp(
                std::ceil(settings_.sample_milliseconds / std::max(once, 1e-4)), 1.0, 1000.0));
  std::vector<double> times;
  for (int i = 0; i < settings_.samples; ++i) times.push_back(sample(runs, sets, next, run));
  const double time = median(times);
  const auto [least, most] = std::minmax_element(times.begin(), times.end());
  nlohmann::json row{{"family", family_},       {"kernel", kernel}, {"shape", std::move(shape)},
                     {"milliseconds", time},    {"least", *least},  {"most", *most},
                     {"runs_per_sample", runs}, {"sets", sets}};
  if (work.bytes > 0) {
    const double rate = work.bytes / time / 1e6;
    row["GB/s"] = rate;
    if (family_ == "copy") {
      copy_ = std::max(copy_, rate);
    } else if (copy_ > 0) {
      row["of_copy"] = rate / copy_;
    }
  }
  if (work.flops > 0) row["TFLOP/s"] = work.flops / time / 1e9;
  sink_(row);
}

nlohmann::json Bench::about() const {
  int driver = 0, toolkit = 0;
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&toolkit);
  const cudaDeviceProp& card = backend_.properties();
  return {{"card", card.name},
          {"capability", backend_.capability()},
          {"multiprocessors", card.multiProcessorCount},
          {"memory", card.totalGlobalMem},
          {"driver", version(driver)},
          {"runtime", version(toolkit)},
          {"tiny", settings_.tiny},
          {"samples", settings_.samples}};
}

}  // namespace ink::bench
