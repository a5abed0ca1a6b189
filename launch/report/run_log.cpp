#include "launch/report/run_log.h"

#include <cmath>

#include "engine/io/atomic_file.h"
#include "engine/io/json.h"
#include "launch/report/console.h"
#include "launch/report/html_report.h"
#include "launch/report/loss_plot.h"
#include "launch/report/metrics_file.h"
#include "launch/report/tensorboard.h"

namespace ink {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxConfigBytes = 1 << 20;

double number_or_nan(const JsonReader& row, std::string_view key) {
  return row.has(key) ? row.number(key) : std::nan("");
}

EvalRow read_eval(const JsonReader& row) {
  EvalRow eval{.step = row.integer("step")};
  const JsonReader sets = row.object("datasets");
  for (const std::string& name : sets.keys()) {
    const JsonReader set = sets.object(name);
    eval.sets.push_back({.name = name,
                         .loss = number_or_nan(set, "loss"),
                         .accuracy = number_or_nan(set, "accuracy"),
                         .tokens = set.integer("tokens")});
  }
  return eval;
}

SampleRow read_sample(const JsonReader& row) {
  return {.step = row.integer("step"),
          .tokens = row.integer("tokens"),
          .prompt = row.string("prompt"),
          .text = row.string("text"),
          .stop_reason = row.string("stop_reason")};
}

CheckpointRow read_checkpoint(const JsonReader& row) {
  return {.step = row.integer("step"),
          .path = row.string("path"),
          .bytes = static_cast<uint64_t>(row.integer("bytes", 0)),
          .seconds = row.number("seconds")};
}

}  // namespace

struct RunLog::Sinks {
  Sinks(const fs::path& directory, const LogSection& options, bool quiet, bool color)
      : directory(directory),
        options(options),
        console(directory / "log.txt", quiet, color),
        metrics(directory / "metrics.jsonl") {
    if (options.tensorboard) board.emplace(directory / "tb");
    report.title = "Run " + directory.filename().string();
  }

  void scalar(const std::string& tag, int64_t step, std::optional<double> value) {
    if (board && value) board->scalar(tag, step, *value);
  }
  // The run goes on behind this step.
  void cut_after(int64_t step) {
    plot.cut_after(step);
    report.cut_after(step);
    if (board) board->restart_at(step + 1);
  }
  void redraw() {
    if (!options.plot) return;
    if (fs::exists(directory / "run.yaml"))
      report.config = read_text(directory / "run.yaml", kMaxConfigBytes);
    const std::string picture = plot.svg(report.title);
    write_file_atomically(directory / "loss.svg", picture);
    write_file_atomically(directory / "report.html", html_report(report, picture));
  }

  fs::path directory;
  LogSection options;
  Console console;
  MetricsFile metrics;
  std::optional<TensorBoardFile> board;
  EtaEstimate eta;
  LossPlot plot;
  ReportContents report;
};

RunLog::RunLog(const fs::path& directory, const LogSection& options, bool quiet, bool color)
    : sinks_(std::make_unique<Sinks>(directory, options, quiet, color)) {}
RunLog::~RunLog() = default;

void RunLog::run(const RunRow& row) {
  sinks_->report.run = row;
  sinks_->metrics.run(row, INKSTONE_VERSION);
  sinks_->console.show(run_block(row, sinks_->directory.string()));
}

void RunLog::step(const StepRow& row) {
  Sinks& s = *sinks_;
  s.eta.add(row);
  const std::optional<double> eta = s.eta.seconds();
  s.metrics.step(row, eta);
  s.plot.add_step(row.step, row.computed() ? row.loss : std::nan(""), row.lr);
  s.report.last = row;
  if (row.computed()) {
    s.scalar("train/loss", row.step, row.loss);
    s.scalar("train/grad_norm", row.step, row.grad_norm);
  }
  s.scalar("train/lr", row.step, row.lr);
  s.scalar("perf/tokens_per_s", row.step, row.tokens_per_s);
  s.scalar("perf/mfu", row.step, row.mfu);
  const bool due = row.step % s.options.every == 0 || row.step == row.total_steps;
  const Tone tone = row.skip_reason.empty() ? Tone::kPlain : Tone::kWarning;
  if (row.reference) {
    s.console.show(reference_line(*row.reference), tone);
  } else if (due || !row.skip_reason.empty()) {
    s.console.show(step_line(row, eta), tone);
  }
}

void RunLog::eval(const EvalRow& row) {
  Sinks& s = *sinks_;
  s.metrics.eval(row);
  s.plot.add_eval(row.step, mean_loss(row));
  std::erase_if(s.report.evals, [&row](const EvalRow& old) { return old.step >= row.step; });
  s.report.evals.push_back(row);
  for (const EvalSetRow& set : row.sets) {
    s.scalar("eval/" + set.name + "/loss", row.step, set.loss);
    s.scalar("eval/" + set.name + "/perplexity", row.step, std::exp(set.loss));
    s.scalar("eval/" + set.name + "/accuracy", row.step, set.accuracy);
  }
  s.console.show(eval_lines(row), Tone::kGood);
}

void RunLog::checkpoint(const CheckpointRow& row) {
  sinks_->metrics.checkpoint(row);
  sinks_->report.checkpoints.push_back(row);
  sinks_->console.show(checkpoint_line(row), Tone::kQuiet);
  sinks_->redraw();
}

void RunLog::sample(const SampleRow& row) {
  Sinks& s = *sinks_;
  s.metrics.sample(row);
  s.report.samples.push_back(row);
  // All samples of this step share one file and one tag.
  std::string text;
  int64_t index = -1;
  for (const SampleRow& each : s.report.samples) {
    if (each.step != row.step) continue;
    text += fmt::format("{}{}\n[{}, {} tokens]\n\n", each.prompt, each.text, each.stop_reason,
                        each.tokens);
    ++index;
  }
  make_directory(s.directory / "samples");
  write_file_atomically(s.directory / "samples" / fmt::format("step_{}.txt", row.step), text);
  if (s.board) s.board->text(fmt::format("samples/{}", index), row.step, row.prompt + row.text);
  s.console.show(sample_block(row), Tone::kQuiet);
}

void RunLog::warning(const std::string& code, const std::string& text) {
  sinks_->metrics.warning(code, text);
  sinks_->report.warnings.emplace_back(code, text);
  sinks_->console.show(fmt::format("warning[{}]: {}", code, text), Tone::kWarning);
}

void RunLog::spike(const SpikeRow& row) {
  const std::string text = spike_line(row);
  sinks_->metrics.spike(row, text);
  sinks_->report.warnings.emplace_back("loss_spike", text);
  sinks_->console.show("warning[loss_spike]: " + text, Tone::kWarning);
}

void RunLog::rollback(const RollbackRow& row) {
  const std::string text = rollback_line(row);
  sinks_->metrics.rollback(row, text);
  sinks_->report.warnings.emplace_back("rollback", text);
  sinks_->console.show("warning[rollback]: " + text, Tone::kWarning);
  sinks_->cut_after(row.to);
}

void RunLog::self_check(const SelfCheckRow& row) {
  sinks_->metrics.self_check(row);
  sinks_->console.show(self_check_line(row), Tone::kQuiet);
}

void RunLog::note(const std::string& text) {
  sinks_->report.notes.push_back(text);
  sinks_->console.show(text);
}

void RunLog::end(const EndRow& row) {
  sinks_->metrics.end(row);
  sinks_->report.exit_reason = row.reason;
  sinks_->redraw();
  sinks_->console.show(end_line(row));
}

void RunLog::resume_at(int64_t step) {
  Sinks& s = *sinks_;
  read_metrics(s.directory / "metrics.jsonl", [&s](const nlohmann::json& json,
                                                   const std::string& place) {
    const JsonReader row(json, place);
    const std::string event = row.string("event");
    if (event == "step") {
      // An earlier resume wrote this step again: what followed it is void.
      s.report.cut_after(row.integer("step") - 1);
      s.plot.add_step(row.integer("step"), number_or_nan(row, "loss"), number_or_nan(row, "lr"));
    } else if (event == "eval") {
      s.plot.add_eval(row.integer("step"), number_or_nan(row, "eval_loss"));
      s.report.evals.push_back(read_eval(row));
    } else if (event == "sample") {
      s.report.samples.push_back(read_sample(row));
    } else if (event == "checkpoint") {
      s.report.checkpoints.push_back(read_checkpoint(row));
    }
  });
  s.cut_after(step);
}

}  // namespace ink
