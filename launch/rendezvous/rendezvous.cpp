#include "launch/rendezvous/rendezvous.h"

#include <algorithm>
#include <cstdlib>
#include <string>

#include "parallel/comm/self_group.h"

namespace ink {
namespace {

int from_environment(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? 0 : std::atoi(text);
}

}  // namespace

bool started_by_launcher() {
  if (std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMI_SIZE") != nullptr ||
      std::getenv("PMIX_RANK") != nullptr)
    return true;
  return from_environment("SLURM_NTASKS") > 1 && std::getenv("SLURM_PROCID") != nullptr;
}

namespace {

Launch join(const GroupOptions& options) {
  if (started_by_launcher()) {
#ifdef INKSTONE_MPI
    return join_mpi(options);
#else
    throw Error(ExitCode::kConfig, "launch",
                "expected a single process, got a launcher's environment",
                "build with INKSTONE_MPI=ON");
#endif
  }
  if (const char* folder = std::getenv("INKSTONE_RENDEZVOUS_DIR"))
    return join_folder(folder, options);
  Launch launch;
  launch.world = make_self_group();
  return launch;
}

}  // namespace

Launch join_launch(GroupOptions options) {
  Launch launch = join(options);
  launch.options = std::move(options);
  return launch;
}

void leave_launch(Launch& launch, ExitCode code, bool agreed) {
#ifdef INKSTONE_MPI
  if (started_by_launcher()) leave_mpi(launch, code, agreed);
#endif
  if (launch.size > 1 && !agreed && launch.world != nullptr) {
    try {
      launch.world->abort(
          fmt::format("rank {} left with code {}", launch.rank, static_cast<int>(code)));
    } catch (const std::exception&) {  // the others are told; this rank has said why it leaves
    }
    std::_Exit(static_cast<int>(code));
  }
  launch.world.reset();
}

Verdict agree(Launch& launch, ExitCode mine) {
  if (launch.size == 1) return {mine, 0};
  Runtime runtime;
  const std::vector<int32_t> code{static_cast<int32_t>(mine)};
  const Tensor in = to_tensor(runtime, code);
  const Tensor out(runtime, {launch.size}, DType::kI32);
  launch.world->all_gather(in, out)->wait();
  const std::vector<int32_t> codes = to_vector<int32_t>(out);
  const auto worst = std::max_element(codes.begin(), codes.end());
  return {static_cast<ExitCode>(*worst), static_cast<int>(worst - codes.begin())};
}

}  // namespace ink
