// inkstone data stats: what is trained on, counted; of a run file also in steps.

#include <cstdio>
#include <set>

#include "launch/trainer/run_length.h"
#include "launch/verbs/data_verbs.h"
#include "launch/verbs/data_view.h"
#include "launch/verbs/value_flags.h"

namespace ink {
namespace {

struct StatsArguments {
  std::shared_ptr<DataTarget> target = std::make_shared<DataTarget>();
  bool json = false, histogram = false;
};

std::vector<SourceStats> count(const DataView& view) {
  std::vector<SourceStats> all;
  std::set<std::string> told;  // content that is split in two was prepared once
  for (const DataPart& part : view.parts) {
    all.push_back(source_stats(
        *part.packs, fmt::format("{} ({})", part.name, split_name(part.split)), view.unit));
    if (!told.insert(part.packs->hash()).second) all.back().dropped = StoreDrops{};
  }
  return all;
}

nlohmann::json run_json(const SessionPlan& plan) {
  const RunLength length = run_length(plan);
  return {{"steps_per_epoch", length.steps_per_epoch},
          {"total_steps", plan.total_steps},
          {"epochs", length.epochs},
          {"global_batch_size", plan.batches.global_batch_size},
          {"tokens_per_step", length.tokens_per_step},
          {"left_out_per_epoch", plan.data.packs() - length.packs_per_epoch}};
}

std::string run_text(const SessionPlan& plan, PackUnit unit) {
  const RunLength length = run_length(plan);
  const bool packed = unit == PackUnit::kPacks;
  const char* packs = packed ? "packs" : "samples";
  std::string text =
      fmt::format("epoch  {} steps of {} {}, {}{} tokens each\nrun    {} steps, {:.3g} epochs\n",
                  length.steps_per_epoch, plan.batches.global_batch_size, packs,
                  packed ? "" : "about ", length.tokens_per_step, plan.total_steps, length.epochs);
  if (const int64_t left = plan.data.packs() - length.packs_per_epoch; left > 0)
    text += fmt::format("       {} {} of every epoch are left out: train.compat.sampler\n", left,
                        packs);
  return text;
}

ExitCode stats(const StatsArguments& a, const CommandLine& command) {
  const DataView view = open_view(*a.target, command.quiet);
  const std::vector<SourceStats> all = count(view);
  if (a.json) {
    nlohmann::json json{{"sources", nlohmann::json::array()}};
    for (const SourceStats& one : all) json["sources"].push_back(to_json(one));
    if (view.plan) json["run"] = run_json(*view.plan);
    fmt::print("{}\n", json.dump(1));
    return ExitCode::kDone;
  }
  const std::string run = view.plan ? run_text(*view.plan, view.unit) : "";
  fmt::print("{}{}", to_table(all, a.histogram), run);
  return ExitCode::kDone;
}

}  // namespace

void add_data_stats(CLI::App& data, CommandLine& command) {
  constexpr double kMostRanks = 1 << 20;
  CLI::App* verb = data.add_subcommand(
      "stats", "counts, lengths, fill rate, what was left out; of a run file steps and epochs");
  auto a = std::make_shared<StatsArguments>();
  add_target(*verb, a->target);
  verb->add_option("--ranks", a->target->ranks, "of the run: how many it will have")
      ->transform(whole(between(1, kMostRanks)))
      ->capture_default_str();
  verb->add_flag("--json", a->json, "as JSON");
  verb->add_flag("--hist", a->histogram, "with a histogram of lengths");
  verb->callback([a, &command] { command.run = [a, &command] { return stats(*a, command); }; });
}

}  // namespace ink
