// What the kernels of a device chose by measuring (cuBLASLt: the algorithm of every product shape),
// carried from run to run by a cache of the user, and from a checkpoint to its resume.
//
// With train.deterministic nothing is measured and no cache is read, because a choice that depends
// on timing may change the last bits of a run: the library's first choice is repeated, or that of
// the checkpoint. Devices whose kernels do not measure have nothing here.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/kernels/tuning.h"
#include "engine/tensor/runtime.h"

namespace ink {

// Before the first kernel. Returns a line for the log where a cache was damaged, else nothing.
std::string prepare_kernel_choices(Runtime& runtime, bool deterministic);

// For a checkpoint: null where nothing was chosen.
[[nodiscard]] nlohmann::json kernel_choices(Runtime& runtime);
// Of a checkpoint made on an equal machine; others are left alone.
void adopt_kernel_choices(Runtime& runtime, const nlohmann::json& choices,
                          const std::string& place);

// "attention_forward: flash_wgmma was asked for and does not take what it got, plain does": of the
// kernels that a run file names, those that are not the ones that ran last.
[[nodiscard]] std::vector<std::string> unmet_wishes(
    const std::map<std::string, std::string>& wanted, Device device);
// "attention_backward plain, attention_forward flash_mma": what ran last of the slots that have
// several candidates on the device; empty: none of them ran.
[[nodiscard]] std::string kernels_that_ran(Device device);
// What libraries have refused since the last call: nothing on devices whose kernels do not measure.
[[nodiscard]] std::vector<KernelRefusal> new_refusals(Runtime& runtime);
// "attention_forward: cudnn does not run here (cuDNN 9.5.1 is older than 9.6), flash_mma does".
[[nodiscard]] std::string refusal_text(const KernelRefusal& refusal, Device device);

}  // namespace ink
