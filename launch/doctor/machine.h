// What the machine has, as far as a training run cares: asked from the system, nothing measured.
#pragma once

#include <cstdint>
#include <string>

namespace ink {

struct Machine {
  std::string processor;
  int64_t cores = 0;    // that this process may run on
  int64_t threads = 0;  // that one rank uses
  std::string instruction_set;
  int64_t memory = 0, memory_available = 0;  // bytes, the control group's limit included
  std::string mpirun;                        // path of the launcher; empty: none in PATH
  bool mpi_built = false, gpu_present = false;
  std::string nvidia_driver;  // as the system names it; empty: none
};

[[nodiscard]] Machine look_at_machine();

}  // namespace ink
