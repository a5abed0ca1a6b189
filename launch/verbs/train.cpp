// inkstone train RUN.yaml [key.sub=value ...]: pretraining, on one process or under a launcher.

#include <unistd.h>

#include <cstdio>
#include <thread>

#include "configs/schema/run_file.h"
#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "engine/io/atomic_file.h"
#include "engine/kernels/kernel.h"
#include "engine/kernels/library_versions.h"
#include "launch/rendezvous/agreement.h"
#include "launch/rendezvous/share.h"
#include "launch/trainer/bit_flip.h"
#include "launch/trainer/data_wait.h"
#include "launch/trainer/hf_writer.h"
#include "launch/trainer/peer_watch.h"
#include "launch/trainer/run_directory.h"
#include "launch/trainer/samples.h"
#include "launch/trainer/signals.h"
#include "launch/trainer/start_report.h"
#include "launch/trainer/trainer.h"
#include "launch/verbs/value_flags.h"
#include "launch/verbs/verb.h"
#include "parallel/comm/device_group.h"
#include "parallel/comm/nccl_order.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

struct TrainArguments {
  std::string file;
  std::vector<std::string> overrides;
  bool dry_run = false, overwrite = false, no_verify = false, self_check = false;
  SessionFlags flags;
  std::optional<std::string> resume, out;
  std::optional<int64_t> max_steps;
};

constexpr int64_t kSelfCheckEvery = 100;  // steps, where the run file does not say

LoadedRun load(const TrainArguments& arguments) {
  std::vector<std::string> overrides = arguments.overrides;
  if (arguments.out) overrides.push_back("checkpoint.dir=" + *arguments.out);
  if (arguments.resume) overrides.push_back("checkpoint.resume=" + *arguments.resume);
  LoadedRun loaded = load_run(arguments.file, overrides);
  if (arguments.overwrite && loaded.options.checkpoint.resume)
    throw Error(ExitCode::kConfig, "--overwrite",
                "expected this or --resume (checkpoint.resume), got both");
  std::optional<int64_t>& every = loaded.options.train.self_check_every;
  if (arguments.self_check && !every) every = kSelfCheckEvery;
  return loaded;
}

// What must be the same everywhere before ranks do anything together.
void handshake(Launch& launch, const RunOptions& run) {
  std::vector<CommonFact> facts = program_facts();
  facts.push_back({"configuration", dump_run(run)});
  require_common(launch, facts);
}

// The checkpoint to go on from; no path for a fresh start.
OpenedCheckpoint find_resume(const RunOptions& run, const TrainArguments& arguments) {
  const std::string& wanted = *run.checkpoint.resume;
  OpenedCheckpoint opened = wanted == "latest"
                                ? open_latest(run.checkpoint.dir, !arguments.no_verify)
                                : open_checkpoint(wanted, !arguments.no_verify);
  if (opened.path.empty())
    opened.notices.push_back(fmt::format("no checkpoint in {}: a fresh start", run.checkpoint.dir));
  return opened;
}

// Rank 0 looks and verifies, the others take its word and the manifest it read: what they see of a
// shared file system may be older. No path where rank 0 finds nothing.
OpenedCheckpoint open_on_all_ranks(Launch& launch, const std::function<OpenedCheckpoint()>& find) {
  OpenedCheckpoint opened;
  agreed(launch, [&] {
    if (launch.rank == 0) opened = find();
  });
  const std::string path = share_text(launch, opened.path.string());
  const std::string manifest =
      share_text(launch, opened.path.empty() ? "" : manifest_text(opened.manifest));
  agreed(launch, [&] {
    if (launch.rank != 0 && !path.empty()) opened = checkpoint_from(path, manifest);
  });
  return opened;
}

std::optional<OpenedCheckpoint> resume_on_all_ranks(Launch& launch, const RunOptions& run,
                                                    const TrainArguments& arguments,
                                                    std::vector<std::string>& notices) {
  if (!run.checkpoint.resume) return std::nullopt;
  OpenedCheckpoint opened = open_on_all_ranks(launch, [&] { return find_resume(run, arguments); });
  for (const std::string& notice : opened.notices) notices.push_back(notice);
  if (opened.path.empty()) return std::nullopt;
  agreed(launch, [&] {
    const std::string path = opened.path.string();
    if (!marks_of(opened.manifest.trainer, path).loss_spike.is_null())
      notices.push_back(fmt::format("{} was saved in a loss spike", path));
  });
  return opened;
}

// A save of another run directory begins a run in this one: nothing of a third may be in it. Asked
// by rank 0 alone.
DirectoryUse use_of_directory(const RunOptions& run, const TrainArguments& arguments,
                              const std::optional<OpenedCheckpoint>& resume) {
  if (arguments.overwrite) return DirectoryUse::kOverwrite;
  if (!run.checkpoint.resume) return DirectoryUse::kFresh;
  std::error_code absent;
  const bool same =
      !resume || fs::equivalent(resume->path.parent_path(), run.checkpoint.dir, absent);
  return same ? DirectoryUse::kResume : DirectoryUse::kFresh;
}

// The trainer section to go on from. The best save of another run directory is not in this one.
nlohmann::json state_of(nlohmann::json trainer, const OpenedCheckpoint& from, const fs::path& to) {
  if (from.path.parent_path().lexically_normal() != to.lexically_normal()) trainer.erase("best");
  return trainer;
}

// One line for every check that the command line lifts.
std::vector<std::string> lifted_checks(const TrainArguments& arguments) {
  std::vector<std::string> lines;
  if (!arguments.flags.import.allow_missing.empty())
    lines.emplace_back("--allow-missing is in force");
  if (arguments.flags.import.allow_nonfinite) lines.emplace_back("--allow-nonfinite is in force");
  if (arguments.flags.allow_data_change) lines.emplace_back("--allow-data-change is in force");
  if (arguments.no_verify)
    lines.emplace_back("--no-verify: hashes of the checkpoint are not compared");
  return lines;
}

void choose_kernels(const RunOptions& run, Device device) {
  for (const auto& [slot, label] : run.kernels) {
    bool found = false;
    for (KernelSlotBase* known : KernelSlotBase::all()) {
      if (slot != known->name()) continue;
      known->choose(device, label);
      found = true;
    }
    if (!found)
      throw Error(ExitCode::kConfig, "kernels." + slot,
                  "expected the name of a kernel slot (inkstone doctor lists them)");
  }
}

ExitCode train(Launch& launch, PeerWatch& watch, const TrainArguments& arguments,
               const CommandLine& command) {
  const bool first = launch.rank == 0;
  std::vector<std::string> notices;
  std::optional<LoadedRun> loaded;
  agreed(launch, [&] { loaded = load(arguments); });
  const RunOptions run = loaded->options;
  watch.configure(run.checkpoint.dir, std::chrono::seconds(run.parallel.timeout));
  if (launch.size > 1) agreed(launch, [&] { handshake(launch, run); });
  const DeviceSeat seat = choose_device(launch, run.train.device,
                                        arguments.dry_run ? CardNeed::kPlanOnly : CardNeed::kNow);
  SessionPlan plan = plan_on_all_ranks(launch, *loaded, seat, arguments.flags, command.quiet);
  agreed(launch, [&] { require_common(launch, {{"data", plan.data.identity().dump(1)}}); });
  agreed(launch, [&] { choose_kernels(plan.run, seat.device); });
  const std::optional<OpenedCheckpoint> resume =
      resume_on_all_ranks(launch, run, arguments, notices);
  if (arguments.dry_run) {
    if (first) print_plan(plan, launch.size);
    return ExitCode::kDone;
  }
  agreed(launch, [&] { require_memory(plan); });
  std::unique_ptr<RunDirectory> directory;
  agreed(launch, [&] {
    if (first)
      directory = std::make_unique<RunDirectory>(
          run.checkpoint.dir, use_of_directory(run, arguments, resume), save_estimate(plan));
  });
  const ModelPlan model = plan.model;
  std::unique_ptr<RankDevice> device;
  agreed(launch, [&] { device = std::make_unique<RankDevice>(run, seat); });
  agreed(launch, [&] {
    if (run.train.deterministic && seat.device == Device::kCuda && launch.size > 1)
      pin_nccl_order();
    require_device_transport(seat.device, launch.size);
  });
  with_memory_levers(model, run, [&] { device->meet(*launch.world, launch.options); });
  std::unique_ptr<Session> session;
  std::optional<nlohmann::json> state;
  agreed(launch, [&] {
    with_memory_levers(model, run, [&] {
      session = std::make_unique<Session>(std::move(plan), *launch.world, std::move(device));
      if (resume) {
        state = state_of(session->restore(*resume), *resume, run.checkpoint.dir);
      } else {
        for (std::string& notice : session->start_fresh()) notices.push_back(std::move(notice));
      }
    });
    check_bit_flips(run.faults, launch.size, session->optimizer().slots());
  });
  std::unique_ptr<RunLog> log;
  TrainerOptions options{.max_steps = arguments.max_steps, .version = INKSTONE_VERSION};
  options.good_save = [&](int64_t before) {
    return open_on_all_ranks(launch, [&] { return open_latest_good(run.checkpoint.dir, before); });
  };
  agreed(launch, [&] {
    if (!first) return;
    options.run_id = directory->run_id();
    options.write_hf = hf_writer(*session);
    options.sample = sampler_of(*session);
    write_file_atomically(fs::path(run.checkpoint.dir) / "run.yaml", dump_run(run));
    log = std::make_unique<RunLog>(run.checkpoint.dir, run.log, command.quiet,
                                   !command.no_color && isatty(STDERR_FILENO) != 0);
    for (const std::string& line : lifted_checks(arguments)) notices.push_back(line);
    report_start(*log, *session, {.command = command.text, .resume = resume, .notices = notices});
  });
  Trainer trainer(*session, log.get(), std::move(options), state);
  EndReason reason = EndReason::kDone;
  with_memory_levers(model, run, [&] { reason = trainer.run(); });
  if (log) report_end(*log, *session, trainer, reason);
  return reason == EndReason::kSignal || reason == EndReason::kMaxHours ? ExitCode::kStopped
                                                                        : ExitCode::kDone;
}

ExitCode run_train(const TrainArguments& arguments, const CommandLine& command) {
  install_signal_handlers();
  const auto watch = std::make_shared<PeerWatch>();
  Launch launch = join_launch({.watch = watch});
  if (launch.local_size > 1)
    set_thread_count(
        std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / launch.local_size));
  ExitCode code = ExitCode::kInternal;
  bool together = true;
  try {
    watch->meet(launch);
    code = train(launch, *watch, arguments, command);
  } catch (const AgreedExit& exit) {
    code = exit.code;
  } catch (...) {
    together = launch.size == 1;
    const std::string directory = arguments.out.value_or(
        fs::exists(arguments.file) ? load(arguments).options.checkpoint.dir : ".");
    if (!together) write_flight_record(directory, *launch.world);
    if (together || first_to_mark(directory, Mark::kFailed)) {
      code = report_current_exception();
    } else {
      code = ExitCode::kPeer;
      std::this_thread::sleep_for(
          std::chrono::milliseconds(500));  // whoever reports leaves first, with its code
    }
  }
  leave_launch(launch, code, together);
  return code;
}

}  // namespace

void add_train(CLI::App& app, CommandLine& command) {
  CLI::App* verb = app.add_subcommand("train", "pretrain a model from a run file");
  auto arguments = std::make_shared<TrainArguments>();
  verb->add_option("run", arguments->file, "run file (YAML)")->required();
  verb->add_option("overrides", arguments->overrides, "key.sub=value, such as train.steps=100");
  verb->add_flag("--dry-run", arguments->dry_run,
                 "check everything, print memory and steps, start nothing");
  verb->add_option("--resume", arguments->resume,
                   "go on from latest (also without a value), a run directory or a step-N")
      ->type_name("[DIR|latest]");
  verb->add_option("--out", arguments->out, "run directory (checkpoint.dir)");
  verb->add_option("--max-steps", arguments->max_steps,
                   "stop after this step; the schedule keeps its length")
      ->check(positive());
  verb->add_flag("--overwrite", arguments->overwrite,
                 "start again in a directory that holds a run");
  verb->add_flag("--no-verify", arguments->no_verify, "resume without checking file hashes");
  verb->add_flag("--self-check", arguments->self_check,
                 "check gradient norm and replicas at the first step and every "
                 "train.self_check_every (100)");
  verb->add_option("--allow-missing", arguments->flags.import.allow_missing,
                   "tensors of model.path that may be absent (pattern); they start random")
      ->allow_extra_args(false);
  verb->add_flag("--allow-nonfinite", arguments->flags.import.allow_nonfinite,
                 "load weights that hold NaN or Inf");
  verb->add_flag("--allow-data-change", arguments->flags.allow_data_change,
                 "resume although the data are not those of the save");
  verb->callback([arguments, &command] {
    command.run = [arguments, &command] { return run_train(*arguments, command); };
  });
}

}  // namespace ink
