#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <string_view>

#include "launch/rendezvous/rendezvous.h"
#include "launch/rendezvous/seats.h"
#include "parallel/comm/file_group.h"

namespace ink {
namespace {

constexpr size_t kHostBytes = 64;

int number_in_environment(const char* name, int least) {
  const char* text = std::getenv(name);
  const std::string_view digits = text == nullptr ? "" : text;
  int value = -1;
  const auto [end, failed] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failed == std::errc() && end == digits.data() + digits.size() && value >= least) return value;
  throw Error(
      ExitCode::kConfig, name,
      fmt::format("expected a whole number of {} or more beside INKSTONE_RENDEZVOUS_DIR, got {}",
                  least, text == nullptr ? "nothing" : fmt::format("'{}'", text)));
}

std::chrono::seconds time_to_come(const GroupOptions& options) {
  constexpr const char* kName = "INKSTONE_RENDEZVOUS_TIMEOUT";
  if (std::getenv(kName) == nullptr) return options.timeout;
  return std::chrono::seconds(number_in_environment(kName, 1));
}

// The place of this rank among those of its machine.
void find_local_rank(Launch& launch) {
  std::vector<uint8_t> host(kHostBytes, 0);
  gethostname(reinterpret_cast<char*>(host.data()), host.size() - 1);
  Runtime runtime;
  const Tensor all(runtime, {launch.size, static_cast<int64_t>(kHostBytes)}, DType::kU8);
  launch.world->all_gather(to_tensor(runtime, host), all)->wait();
  launch.local_size = 0;
  for (int rank = 0; rank < launch.size; ++rank) {
    if (std::memcmp(all.slice(rank, 1).raw(), host.data(), kHostBytes) != 0) continue;
    if (rank == launch.rank) launch.local_rank = launch.local_size;
    ++launch.local_size;
  }
}

}  // namespace

Launch join_folder(const std::string& folder, GroupOptions options) {
  Launch launch;
  launch.size = number_in_environment("INKSTONE_RANKS", 1);
  launch.rank = number_in_environment("INKSTONE_RANK", 0);
  if (launch.rank >= launch.size) {
    throw Error(
        ExitCode::kConfig, "INKSTONE_RANK",
        fmt::format("expected a rank below INKSTONE_RANKS={}, got {}", launch.size, launch.rank));
  }
  const std::chrono::seconds limit = time_to_come(options);
  launch.world = make_file_group(folder, launch.rank, launch.size, std::move(options));
  const Peer self = this_peer(launch.rank);
  take_seat(folder, self);
  await_seats(folder, self, launch.size, limit);
  find_local_rank(launch);
  return launch;
}

}  // namespace ink
