#include "launch/report/metrics_file.h"

#include <chrono>
#include <cmath>
#include <ctime>
#include <fstream>

#include "engine/io/json.h"

namespace ink {
namespace {

using Json = nlohmann::ordered_json;

// UTC, ISO 8601.
std::string now_text() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm utc{};
  gmtime_r(&now, &utc);
  return fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z", utc.tm_year + 1900, utc.tm_mon + 1,
                     utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec);
}

Json optional_number(std::optional<double> value) { return value ? Json(*value) : Json(nullptr); }

}  // namespace

MetricsFile::MetricsFile(const std::filesystem::path& path) : file_(path) {
  file_.drop_torn_line();
}

void MetricsFile::write(const Json& row) {
  file_.write(row.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

void MetricsFile::run(const RunRow& row, const std::string& version) {
  write({{"event", "run"},
         {"time", now_text()},
         {"version", version},
         {"command", row.command},
         {"config_hash", row.config_hash},
         {"layout", row.layout},
         {"devices", row.devices},
         {"model", row.model},
         {"parameters", row.parameters},
         {"trainable", row.trainable},
         {"resumed_from", row.resumed_from.empty() ? Json(nullptr) : Json(row.resumed_from)},
         {"total_steps", row.total_steps},
         {"steps_per_epoch", row.steps_per_epoch},
         {"tokens_per_step", row.tokens_per_step},
         {"instruction_set", row.instruction_set},
         {"libraries", row.libraries}});
}

void MetricsFile::step(const StepRow& row, std::optional<double> eta) {
  const double percent = row.total_steps > 0 ? 100.0 * static_cast<double>(row.step) /
                                                   static_cast<double>(row.total_steps)
                                             : 0.0;
  Json json = {{"event", "step"},
               {"step", row.step},
               {"total_steps", row.total_steps},
               {"epoch", row.epoch},
               {"percent", percent},
               {"loss", row.computed() ? Json(row.loss) : Json(nullptr)},
               {"lr", row.lr},
               {"grad_norm", row.computed() ? Json(row.grad_norm) : Json(nullptr)},
               {"loss_scale", row.loss_scale},
               {"beta2", row.beta2},
               {"skipped", row.skipped},
               {"skip_reason", row.skip_reason.empty() ? Json(nullptr) : Json(row.skip_reason)},
               {"tokens", row.tokens},
               {"trained_tokens", row.trained_tokens},
               {"total_tokens", row.total_tokens},
               {"fill_rate", row.fill_rate},
               {"tokens_per_s", row.tokens_per_s},
               {"tokens_per_s_per_device", row.tokens_per_s_per_device},
               {"mfu", optional_number(row.mfu)},
               {"mfu_noncausal", optional_number(row.mfu_noncausal)},
               {"reference_tflops", optional_number(row.reference_tflops)},
               {"step_time", row.step_time},
               {"data_time", row.data_time},
               {"comm_time", row.comm_time},
               {"mem_peak", row.mem_peak},
               {"mem_reserved", row.mem_reserved},
               {"mem_limit", row.mem_limit > 0 ? Json(row.mem_limit) : Json(nullptr)},
               {"elapsed", row.elapsed},
               {"eta", optional_number(eta)}};
  for (const auto& [name, norm] : row.group_norms) json["grad_norms"][name] = norm;
  write(json);
}

void MetricsFile::eval(const EvalRow& row) {
  Json sets = Json::object();
  int64_t tokens = 0;
  for (const EvalSetRow& set : row.sets) {
    sets[set.name] = {{"loss", set.loss},
                      {"perplexity", std::exp(set.loss)},
                      {"accuracy", set.accuracy},
                      {"tokens", set.tokens}};
    tokens += set.tokens;
  }
  const double loss = mean_loss(row);
  write({{"event", "eval"},
         {"step", row.step},
         {"eval_loss", loss},
         {"perplexity", std::exp(loss)},
         {"datasets", sets},
         {"tokens", tokens},
         {"time", row.seconds}});
}

void MetricsFile::checkpoint(const CheckpointRow& row) {
  write({{"event", "checkpoint"},
         {"step", row.step},
         {"path", row.path},
         {"bytes", row.bytes},
         {"seconds", row.seconds},
         {"best", row.best},
         {"loss_spike", row.loss_spike}});
}

void MetricsFile::sample(const SampleRow& row) {
  write({{"event", "sample"},
         {"step", row.step},
         {"prompt", row.prompt},
         {"text", row.text},
         {"stop_reason", row.stop_reason},
         {"tokens", row.tokens}});
}

void MetricsFile::warning(const std::string& code, const std::string& text) {
  write({{"event", "warning"}, {"code", code}, {"text", text}});
}

void MetricsFile::spike(const SpikeRow& row, const std::string& text) {
  write({{"event", "warning"},
         {"code", "loss_spike"},
         {"text", text},
         {"step", row.step},
         {"loss", row.loss},
         {"reference", row.reference},
         {"length", row.length},
         {"action", row.action},
         {"packs", row.packs}});
}

void MetricsFile::rollback(const RollbackRow& row, const std::string& text) {
  write({{"event", "warning"},
         {"code", "rollback"},
         {"text", text},
         {"step", row.step},
         {"to", row.to},
         {"passed_over", {row.first, row.last}},
         {"count", row.count}});
}

void MetricsFile::self_check(const SelfCheckRow& row) {
  write({{"event", "self_check"},
         {"step", row.step},
         {"grad_norm", optional_number(row.grad_norm)},
         {"recomputed", optional_number(row.recomputed)},
         {"ranks", row.ranks},
         {"compared", row.compared},
         {"seconds", row.seconds}});
}

void MetricsFile::end(const EndRow& row) {
  write({{"event", "end"},
         {"step", row.step},
         {"final_loss", row.final_loss},
         {"reason", row.reason},
         {"total_tokens", row.total_tokens},
         {"elapsed", row.elapsed}});
}

double mean_loss(const EvalRow& row) {
  double sum = 0, tokens = 0;
  for (const EvalSetRow& set : row.sets) {
    sum += set.loss * static_cast<double>(set.tokens);
    tokens += static_cast<double>(set.tokens);
  }
  return tokens > 0 ? sum / tokens : 0;
}

void read_metrics(
    const std::filesystem::path& path,
    const std::function<void(const nlohmann::json&, const std::string& place)>& each) {
  std::ifstream file(path);
  if (!file) throw Error(ExitCode::kIo, path.string(), "cannot read");
  std::string line;
  for (int64_t number = 1; std::getline(file, line); ++number) {
    const std::string place = fmt::format("{}:{}", path.string(), number);
    const nlohmann::json row = parse_json(line, place);
    if (!row.is_object())
      throw Error(ExitCode::kBadInput, place, "expected an object, got " + describe_json(row));
    each(row, place);
  }
}

}  // namespace ink
