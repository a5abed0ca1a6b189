// inkstone doctor: what this machine has and how fast it is, what is missing and how to get it.

#include <cstdio>
#include <nlohmann/json.hpp>

#include "engine/kernels/library_versions.h"
#include "launch/doctor/machine.h"
#include "launch/doctor/probes.h"
#include "launch/machine_peak.h"
#include "launch/verbs/value_flags.h"
#include "launch/verbs/verb.h"
#include "parallel/comm/device_group.h"

namespace ink {
namespace {

using nlohmann::ordered_json;

struct Missing {
  std::string what, remedy;
};

std::vector<Missing> what_is_missing(const Machine& machine, const DevicePlatform& cuda) {
  std::vector<Missing> missing;
  if (!machine.mpi_built)
    missing.push_back({"MPI in this build: one process only",
                       "apt-get install libopenmpi-dev openmpi-bin, then build again with "
                       "INKSTONE_MPI=ON"});
  if (machine.mpi_built && machine.mpirun.empty())
    missing.push_back({"mpirun: several ranks on this machine", "apt-get install openmpi-bin"});
  if (library_versions().starts_with("no "))
    missing.push_back({"oneDNN: matrix products fall back to own kernels",
                       "apt-get install libdnnl-dev, then build again with INKSTONE_ONEDNN=ON"});
  const bool built = has_backend(Device::kCuda);
  if (machine.gpu_present && !built)
    missing.push_back({"CUDA in this build: the card of this machine is not used",
                       "install the CUDA toolkit, then build with the preset cuda-release"});
  if (built && device_transport(Device::kCuda).empty())
    missing.push_back(
        {"NCCL in this build: one rank on cards",
         "install NCCL (nccl.h and libnccl), then build again with INKSTONE_NCCL=ON"});
  if (built && cuda.count == 0)
    missing.push_back({"a usable card: " + cuda.problem,
                       fmt::format("install the NVIDIA driver for CUDA {} or newer, check "
                                   "CUDA_VISIBLE_DEVICES",
                                   cuda.runtime)});
  for (int i = 0; i < cuda.count; ++i) {
    if (const std::string problem = device_facts(Device::kCuda, i).problem; !problem.empty())
      missing.push_back({"a usable card: " + problem, "the processor computes instead"});
  }
  return missing;
}

ordered_json describe_cards(const Machine& machine, const DevicePlatform& cuda) {
  ordered_json cards = ordered_json::array();
  for (int i = 0; i < cuda.count; ++i) {
    const DeviceFacts facts = device_facts(Device::kCuda, i);
    cards.push_back({{"name", facts.name},
                     {"capability", facts.capability},
                     {"multiprocessors", facts.multiprocessors},
                     {"memory_bytes", facts.memory}});
  }
  return {{"built", has_backend(Device::kCuda)},
          {"runtime", cuda.runtime},
          {"driver_supports", cuda.driver},
          {"driver", machine.nvidia_driver},
          {"transport", device_transport(Device::kCuda)},
          {"cards", std::move(cards)}};
}

// Where it is measured, and why a card that is there is not used.
struct Patient {
  DeviceSeat seat;
  std::unique_ptr<Runtime> runtime;
  std::optional<Missing> refused;
};

// A card that another process has for itself, or has filled, is a finding and no end.
Patient open_device(DeviceChoice wanted) {
  Patient patient{.seat = choose_device(wanted)};
  try {
    patient.runtime = std::make_unique<Runtime>(RuntimeOptions{}, patient.seat.make());
  } catch (const Error& error) {
    const bool theirs = error.code() == ExitCode::kConfig || error.code() == ExitCode::kOutOfMemory;
    if (wanted != DeviceChoice::kAuto || !theirs) throw;
    patient.refused = {fmt::format("a usable card: {}", error.what()), error.hint()};
    patient.seat = choose_device(DeviceChoice::kCpu);
    patient.runtime = std::make_unique<Runtime>();
  }
  return patient;
}

ordered_json examine(DeviceChoice wanted) {
  const Machine machine = look_at_machine();
  const DevicePlatform cuda = device_platform(Device::kCuda);
  const Patient patient = open_device(wanted);
  const DeviceSeat& seat = patient.seat;
  ordered_json result;
  result["version"] = INKSTONE_VERSION;
  result["processor"] = machine.processor;
  result["cores"] = machine.cores;
  result["threads"] = machine.threads;
  result["instruction_set"] = machine.instruction_set;
  result["memory_bytes"] = machine.memory;
  result["memory_available_bytes"] = machine.memory_available;
  result["libraries"] = seat.libraries();
  result["cuda"] = describe_cards(machine, cuda);
  result["device"] = seat.text();
  result["mpi"] = machine.mpi_built;
  result["mpirun"] = machine.mpirun;
  result["gemm_flops_per_s"] = {{"f32", measure_peak(seat, DType::kF32)},
                                {"bf16", measure_peak(seat, DType::kBF16)}};
  result["copy_bytes_per_s"] = copy_bandwidth(*patient.runtime, seat);
  ordered_json kernels = ordered_json::array();
  for (const KernelUse& use : kernels_in_use(seat))
    kernels.push_back({{"slot", use.slot},
                       {"candidates", use.candidates},
                       {"ran", use.ran},
                       {"refused", use.refused}});
  result["kernels"] = std::move(kernels);
  ordered_json missing = ordered_json::array();
  std::vector<Missing> all = what_is_missing(machine, cuda);
  if (patient.refused) all.push_back(*patient.refused);
  for (const Missing& one : all) missing.push_back({{"what", one.what}, {"remedy", one.remedy}});
  result["missing"] = std::move(missing);
  return result;
}

void print_kernels(const ordered_json& kernels) {
  fmt::print("\n{:<24} {:<18} {:<18} {}\n", "kernel", "f32", "bf16", "candidates");
  for (const auto& kernel : kernels) {
    std::string candidates;
    for (const auto& label : kernel["candidates"])
      candidates += (candidates.empty() ? "" : " ") + label.get<std::string>();
    fmt::print("{:<24} {:<18} {:<18} {}\n", kernel["slot"].get<std::string>(),
               kernel["ran"].value("f32", "-"), kernel["ran"].value("bf16", "-"), candidates);
  }
  for (const auto& kernel : kernels) {
    for (const auto& line : kernel["refused"]) fmt::print("{}\n", line.get<std::string>());
  }
}

void print_text(const ordered_json& r) {
  const auto gib = [](const ordered_json& bytes) { return bytes.get<double>() / (1 << 30); };
  const auto giga = [](const ordered_json& rate) { return rate.get<double>() / 1e9; };
  const std::string mpirun = r["mpirun"].get<std::string>();
  fmt::print("inkstone         {}\n", r["version"].get<std::string>());
  fmt::print("processor        {}\n", r["processor"].get<std::string>());
  fmt::print("cores            {} usable, {} threads per rank (OMP_NUM_THREADS)\n",
             r["cores"].get<int64_t>(), r["threads"].get<int64_t>());
  fmt::print("instruction set  {}\n", r["instruction_set"].get<std::string>());
  fmt::print("memory           {:.1f} GiB, {:.1f} GiB free\n", gib(r["memory_bytes"]),
             gib(r["memory_available_bytes"]));
  fmt::print("libraries        {}\n", r["libraries"].get<std::string>());
  const ordered_json& cuda = r["cuda"];
  const std::string transport = cuda["transport"].get<std::string>();
  fmt::print("CUDA             {}, driver {} (for CUDA {}), {}, {} cards\n",
             cuda["runtime"].get<std::string>(), cuda["driver"].get<std::string>(),
             cuda["driver_supports"].get<std::string>(), transport.empty() ? "no NCCL" : transport,
             cuda["cards"].size());
  for (const auto& card : cuda["cards"])
    fmt::print("                 {}, sm_{}, {:.1f} GiB\n", card["name"].get<std::string>(),
               card["capability"].get<int>(), gib(card["memory_bytes"]));
  fmt::print("measured on      {}\n", r["device"].get<std::string>());
  fmt::print("MPI              {}, launcher {}\n",
             r["mpi"].get<bool>() ? "built in" : "not built in",
             mpirun.empty() ? "not found" : mpirun);
  fmt::print("GEMM             f32 {:.1f} GFLOP/s, bf16 {:.1f} GFLOP/s\n",
             giga(r["gemm_flops_per_s"]["f32"]), giga(r["gemm_flops_per_s"]["bf16"]));
  fmt::print("copy             {:.1f} GB/s read and written\n", giga(r["copy_bytes_per_s"]));
  print_kernels(r["kernels"]);
  if (r["missing"].empty()) fmt::print("\nnothing is missing\n");
  for (const auto& one : r["missing"])
    fmt::print("\nmissing: {}\n  {}\n", one["what"].get<std::string>(),
               one["remedy"].get<std::string>());
}

}  // namespace

void add_doctor(CLI::App& app, CommandLine& command) {
  struct Arguments {
    bool json = false;
    std::string device = "auto";
  };
  CLI::App* verb =
      app.add_subcommand("doctor", "what this machine has, how fast it is, what is missing");
  auto a = std::make_shared<Arguments>();
  verb->add_flag("--json", a->json, "as JSON");
  verb->add_option("--device", a->device, "where to measure: auto, cpu or cuda")
      ->capture_default_str();
  verb->callback([a, &command] {
    command.run = [a] {
      const ordered_json result = examine(parse_device_flag(a->device));
      if (a->json) {
        fmt::print("{}\n", result.dump(1));
      } else {
        print_text(result);
      }
      return ExitCode::kDone;
    };
  });
}

}  // namespace ink
