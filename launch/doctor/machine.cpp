#include "launch/doctor/machine.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "launch/device_choice.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

// The text after `key` and a colon; empty when there is no such line.
std::string field_of(const char* path, std::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with(key)) continue;
    const size_t start = line.find_first_not_of(": \t", key.size());
    return start == std::string::npos ? "" : line.substr(start);
  }
  return {};
}

std::optional<int64_t> number_in(const std::string& text) {
  int64_t value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failed == std::errc() ? std::optional(value) : std::nullopt;
}

int64_t kilobytes_of(std::string_view key) {
  return number_in(field_of("/proc/meminfo", key)).value_or(0) * 1024;
}

// The memory limit of the control group that a container runs in; nothing outside of one.
std::optional<int64_t> group_number(const char* name) {
  std::ifstream file(fs::path("/sys/fs/cgroup") / name);
  std::string text;
  std::getline(file, text);
  return number_in(text);
}

int64_t usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return CPU_COUNT(&set);
  return sysconf(_SC_NPROCESSORS_ONLN);
}

std::string find_in_path(const char* program) {
  const char* path = std::getenv("PATH");
  std::istringstream folders(path == nullptr ? "" : path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    const fs::path candidate = fs::path(folder) / program;
    if (access(candidate.c_str(), X_OK) == 0) return candidate.string();
  }
  return {};
}

}  // namespace

Machine look_at_machine() {
  Machine m;
  m.processor = field_of("/proc/cpuinfo", "model name");
  m.cores = usable_cores();
  m.threads = thread_count();
  m.instruction_set = instruction_set();
  m.memory = kilobytes_of("MemTotal");
  m.memory_available = kilobytes_of("MemAvailable");
  if (const auto limit = group_number("memory.max")) {
    m.memory = std::min(m.memory, *limit);
    m.memory_available =
        std::min(m.memory_available, *limit - group_number("memory.current").value_or(0));
  }
  m.mpirun = find_in_path("mpirun");
#ifdef INKSTONE_MPI
  m.mpi_built = true;
#endif
  m.gpu_present = fs::exists("/dev/nvidia0");
  m.nvidia_driver = nvidia_driver();
  return m;
}

}  // namespace ink
