#include "launch/kernel_choices.h"

#include "engine/core/error.h"
#include "engine/io/choice_file.h"
#include "engine/kernels/tuning.h"

namespace ink {

std::string prepare_kernel_choices(Runtime& runtime, bool deterministic) {
  KernelTuning* tuning = tuning_of(runtime);
  if (tuning == nullptr) return {};
  tuning->measure = !deterministic;
  if (deterministic) return {};
  const ChoiceFile file(cache_directory(), "kernels", tuning->machine());
  std::string notice;
  tuning->adopt(file.load(notice));
  tuning->on_measured = [file](const std::string& key, const std::string& value) {
    try {
      file.add({{key, value}});
    } catch (const Error&) {  // the next run measures again; nothing else is lost
    }
  };
  return notice;
}

nlohmann::json kernel_choices(Runtime& runtime) {
  const KernelTuning* tuning = tuning_of(runtime);
  if (tuning == nullptr || tuning->choices().empty()) return nullptr;
  return choices_to_json(tuning->machine(), tuning->choices());
}

void adopt_kernel_choices(Runtime& runtime, const nlohmann::json& choices,
                          const std::string& place) {
  KernelTuning* tuning = tuning_of(runtime);
  if (tuning == nullptr || choices.is_null()) return;
  if (const auto known = choices_from_json(choices, tuning->machine(), place))
    tuning->adopt(*known);
}

}  // namespace ink
