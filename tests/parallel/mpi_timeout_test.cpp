// Run by mpirun: a rank waits for a peer that never joins the call. It leaves with exit code 6 and
// a message that names the call; the job ends with it.
#include <fmt/format.h>

#include <thread>

#include "launch/rendezvous/rendezvous.h"

int main() {
  ink::Launch launch = ink::join_launch({std::chrono::seconds(1)});
  if (launch.rank != 0) std::this_thread::sleep_for(std::chrono::seconds(30));
  ink::Runtime runtime;
  const ink::Tensor t = ink::zeros(runtime, {5}, ink::DType::kF32);
  try {
    launch.world->all_reduce(t, ink::ReduceOp::kSum)->wait();
  } catch (const ink::Error& error) {
    fmt::print("{}\n", error.line());
    std::fflush(stdout);
    ink::leave_launch(launch, error.code(), false);
  }
  return 0;
}
