#include "launch/device_choice.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <fstream>
#include <span>
#include <sstream>
#include <vector>

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "engine/io/sha256.h"
#include "engine/kernels/library_versions.h"
#include "launch/rendezvous/agreement.h"
#include "launch/rendezvous/share.h"

namespace ink {
namespace {

constexpr size_t kDigestBytes = 64;
constexpr const char* kRunKey = "train.device";

// A build without the CUDA backend cannot ask the driver; the system names it all the same.
[[noreturn]] void no_backend(const char* place) {
  const std::string driver = nvidia_driver();
  throw Error(
      ExitCode::kConfig, place,
      fmt::format("expected auto or cpu, got cuda: this build has no CUDA backend; driver "
                  "{}, CUDA runtime none",
                  driver.empty() ? "none" : driver),
      fmt::format("{}build with the preset cuda-release, which needs the CUDA toolkit (nvcc)",
                  driver.empty() ? "install the NVIDIA driver and " : ""));
}

DeviceSeat processor(std::string note = {}) {
  DeviceSeat seat;
  seat.note = std::move(note);
  return seat;
}

DeviceSeat card(int ordinal) {
  return {.device = Device::kCuda,
          .ordinal = ordinal,
          .card = device_facts(Device::kCuda, ordinal),
          .note = {}};
}

// What the backend says when it cannot be made: driver, runtime and remedy.
[[noreturn]] void no_card(const char* place) {
  if (!has_backend(Device::kCuda)) no_backend(place);
  try {
    static_cast<void>(make_backend(Device::kCuda));
  } catch (const Error& error) {
    throw Error(error.code(), place, error.what(), error.hint());
  }
  throw InternalError("a card was found after there was none");
}

// local_rank of local_size ranks on this machine. place: of errors.
DeviceSeat choose(DeviceChoice wanted, CardNeed need, const char* place, int local_rank = 0,
                  int local_size = 1) {
  if (wanted == DeviceChoice::kCpu) return processor();
  const DevicePlatform platform = device_platform(Device::kCuda);
  if (platform.count == 0) {
    if (wanted == DeviceChoice::kAuto) {
      // A CPU build on a machine without cards has nothing to explain.
      const bool plain = !has_backend(Device::kCuda) && nvidia_driver().empty();
      return processor(plain ? "" : "device auto: cpu, because " + platform.problem);
    }
    if (need == CardNeed::kPlanOnly)
      return {
          .device = Device::kCuda,
          .card = std::nullopt,
          .note = "device cuda: planned for a card of sm_80 or newer; here " + platform.problem};
    no_card(place);
  }
  if (platform.count > 1 && platform.count < local_size) {
    throw Error(
        ExitCode::kConfig, place,
        fmt::format("expected a card for each of the {} ranks of this machine, got {} cards",
                    local_size, platform.count),
        fmt::format("start at most {} ranks per machine, or set train.device: cpu",
                    platform.count));
  }
  DeviceSeat seat = card(platform.count == 1 ? 0 : local_rank);
  const std::string& problem = seat.card->problem;
  if (problem.empty()) return seat;
  if (wanted == DeviceChoice::kAuto) return processor("device auto: cpu, because " + problem);
  throw Error(ExitCode::kConfig, place, "expected a usable card: " + problem, "take the cpu");
}

// Of every rank. text: kDigestBytes at most.
std::vector<std::string> gather_texts(Launch& launch, const std::string& text) {
  std::vector<uint8_t> mine(kDigestBytes, 0);
  std::copy_n(text.begin(), std::min(text.size(), kDigestBytes), mine.begin());
  Runtime runtime;
  const Tensor in = to_tensor(runtime, mine);
  const Tensor out(runtime, {launch.size * static_cast<int64_t>(kDigestBytes)}, DType::kU8);
  launch.world->all_gather(in, out)->wait();
  const std::vector<uint8_t> all = to_vector<uint8_t>(out);
  std::vector<std::string> texts;
  for (size_t rank = 0; rank < static_cast<size_t>(launch.size); ++rank)
    texts.emplace_back(all.begin() + static_cast<std::ptrdiff_t>(rank * kDigestBytes),
                       all.begin() + static_cast<std::ptrdiff_t>((rank + 1) * kDigestBytes));
  return texts;
}

// The card in its machine, as NCCL tells cards apart (getHostHash() in its src/misc/utils.cc, and
// the bus in src/init.cc).
std::string place_of(const DeviceFacts& card) {
  std::string machine;
  if (const char* named = std::getenv("NCCL_HOSTID")) {
    machine = named;
  } else {
    std::array<char, 256> host{};
    gethostname(host.data(), host.size() - 1);
    std::ifstream boot("/proc/sys/kernel/random/boot_id");
    std::getline(boot, machine);
    machine += host.data();
  }
  machine += ' ' + card.slot;
  return sha256_of(std::as_bytes(std::span(machine)));
}

// The first rank that has the text of this one.
std::ptrdiff_t first_with(const std::vector<std::string>& texts, int rank) {
  return std::ranges::find(texts, texts[static_cast<size_t>(rank)]) - texts.begin();
}

void require_own_card(Launch& launch, const DeviceSeat& seat) {
  const std::vector<std::string> identities = gather_texts(launch, seat.card->identity);
  const std::vector<std::string> places = gather_texts(launch, place_of(*seat.card));
  if (const auto first = first_with(identities, launch.rank); first != launch.rank) {
    throw Error(
        ExitCode::kConfig, kRunKey,
        fmt::format("expected a card for every rank, got ranks {} and {} on the same one ({}); "
                    "{} ranks on this machine, {} cards",
                    first, launch.rank, seat.card->name, launch.local_size,
                    device_platform(Device::kCuda).count),
        "start at most one rank per card, or set train.device: cpu");
  }
  if (const auto first = first_with(places, launch.rank); first != launch.rank) {
    throw Error(
        ExitCode::kConfig, kRunKey,
        fmt::format("expected a card for every rank, got ranks {} and {} on MIG instances of the "
                    "same one ({}, PCI {}): NCCL takes one rank per card",
                    first, launch.rank, seat.card->name, seat.card->slot),
        "start one rank on one MIG instance, or ranks on cards that are not divided");
  }
}

}  // namespace

std::string DeviceSeat::text() const {
  if (device == Device::kCpu) return fmt::format("cpu, {} threads", thread_count());
  if (!card) return "cuda";
  const DevicePlatform platform = device_platform(device);
  return fmt::format("{}, sm_{}, {:.1f} GiB, CUDA {}, driver for {}", card->name, card->capability,
                     static_cast<double>(card->memory) / (1 << 30), platform.runtime,
                     platform.driver);
}

std::string DeviceSeat::libraries() const {
  if (device == Device::kCpu) return library_versions();
  const DevicePlatform platform = device_platform(device);
  return fmt::format("{}, CUDA {}, driver for {}", library_versions(), platform.runtime,
                     platform.driver);
}

DeviceSeat choose_device(DeviceChoice wanted, CardNeed need) {
  return choose(wanted, need, "--device");
}

DeviceSeat choose_device(Launch& launch, DeviceChoice wanted, CardNeed need) {
  DeviceSeat seat;
  agreed(launch,
         [&] { seat = choose(wanted, need, kRunKey, launch.local_rank, launch.local_size); });
  if (launch.size == 1) return seat;
  agreed(launch, [&] { require_common(launch, {{kRunKey, std::string(name_of(seat.device))}}); });
  if (seat.card) agreed(launch, [&] { require_own_card(launch, seat); });
  return seat;
}

DType native_compute(const DeviceSeat& seat) {
  if (seat.device == Device::kCpu)
    return has_avx512_bf16() || has_amx_bf16() ? DType::kBF16 : DType::kF32;
  return !seat.card || seat.card->capability >= 80 ? DType::kBF16 : DType::kF16;
}

std::string nvidia_driver() {
  std::ifstream file("/proc/driver/nvidia/version");
  std::string line, word;
  std::getline(file, line);
  // "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun Jul 27 ...": the first number.
  for (std::istringstream words(line); words >> word;) {
    if (std::isdigit(static_cast<unsigned char>(word[0])) != 0 &&
        word.find('.') != std::string::npos)
      return word;
  }
  return {};
}

}  // namespace ink
