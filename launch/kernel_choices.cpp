#include "launch/kernel_choices.h"

#include <algorithm>

#include "engine/core/error.h"
#include "engine/io/cache_directory.h"
#include "engine/io/choice_file.h"
#include "engine/kernels/kernel.h"

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

std::vector<std::string> unmet_wishes(const std::map<std::string, std::string>& wanted,
                                      Device device) {
  std::vector<std::string> lines;
  for (const KernelSlotBase* slot : KernelSlotBase::all()) {
    const auto wish = wanted.find(slot->name());
    const char* ran = slot->last_label(device);
    if (wish != wanted.end() && ran != nullptr && wish->second != ran)
      lines.push_back(fmt::format("{}: {} was asked for and does not take what it got, {} does",
                                  slot->name(), wish->second, ran));
  }
  return lines;
}

std::string kernels_that_ran(Device device) {
  std::string text;
  for (const KernelSlotBase* slot : KernelSlotBase::all()) {
    const char* label = slot->last_label(device);
    if (label != nullptr && slot->labels(device).size() > 1)
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", slot->name(), label);
  }
  return text;
}

std::vector<KernelRefusal> new_refusals(Runtime& runtime) {
  KernelTuning* tuning = tuning_of(runtime);
  return tuning == nullptr ? std::vector<KernelRefusal>{} : tuning->take_refusals();
}

std::string refusal_text(const KernelRefusal& refusal, Device device) {
  const auto slots = KernelSlotBase::all();
  const auto slot = std::ranges::find_if(
      slots, [&](const KernelSlotBase* each) { return each->name() == refusal.slot; });
  const char* ran = slot == slots.end() ? nullptr : (*slot)->last_label(device);
  // It may have taken the shape that ran last.
  const bool other = ran != nullptr && ran != refusal.label;
  return fmt::format("{}: {} {} ({}){}", refusal.slot, refusal.label,
                     other ? "does not run here" : "does not take every shape", refusal.reason,
                     other ? fmt::format(", {} does", ran) : "");
}

}  // namespace ink
