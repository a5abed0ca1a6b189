#include "launch/trainer/samples.h"

#include "launch/text_generation.h"

namespace ink {

std::function<std::vector<SampleRow>(int64_t)> sampler_of(Session& session) {
  const SampleOptions& options = session.plan().run.log.samples;
  if (options.every == 0 || options.prompts.empty()) return {};
  if (!session.plan().tokenizer) {
    throw Error(ExitCode::kConfig, "log.samples",
                "expected a tokenizer to read the prompts with, got none", "set model.tokenizer");
  }
  return [&session](int64_t step) {
    const SessionPlan& plan = session.plan();
    SamplingOptions sampling{.max_new_tokens = plan.run.log.samples.max_new_tokens,
                             .seed = static_cast<uint64_t>(plan.run.train.seed)};
    if (const auto eos = plan.tokenizer->special_ids().eos) sampling.stop_ids = {*eos};
    std::vector<SampleRow> rows;
    for (const std::string& prompt : plan.run.log.samples.prompts) {
      const TextResult result = continue_text(session.runtime(), session.model().decoder(),
                                              *plan.tokenizer, prompt, sampling);
      rows.push_back({.step = step,
                      .tokens = static_cast<int64_t>(result.generated.ids.size()),
                      .prompt = prompt,
                      .text = result.text,
                      .stop_reason = name_of(result.generated.reason)});
    }
    return rows;
  };
}

}  // namespace ink
