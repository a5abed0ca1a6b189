#include "launch/report/html_report.h"

#include <fmt/format.h>

#include <cmath>

#include "launch/report/console.h"
#include "launch/report/loss_plot.h"

namespace ink {
namespace {

constexpr const char* kHead =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"/>"
    "<style>body{font:14px sans-serif;max-width:920px;margin:24px auto;padding:0 12px;color:#222}"
    "table{border-collapse:collapse}td,th{padding:3px 12px 3px 0;text-align:left;"
    "border-bottom:1px solid #eee;vertical-align:top}pre{background:#f6f6f6;padding:10px;"
    "overflow:auto;white-space:pre-wrap}svg{max-width:100%;height:auto}</style>";

std::string cell_row(const std::vector<std::string>& cells, const char* tag = "td") {
  std::string out = "<tr>";
  for (const std::string& cell : cells)
    out += fmt::format("<{0}>{1}</{0}>", tag, escape_markup(cell));
  return out + "</tr>\n";
}

std::string section(const char* title, const std::string& body) {
  return body.empty() ? "" : fmt::format("<h2>{}</h2>\n{}", title, body);
}

std::string table(const std::vector<std::string>& head, const std::string& rows) {
  return rows.empty() ? "" : "<table>\n" + cell_row(head, "th") + rows + "</table>\n";
}

std::string facts(const ReportContents& c) {
  std::string rows = cell_row({"command", c.run.command}) + cell_row({"model", c.run.model});
  rows +=
      cell_row({"parameters", fmt::format("{}, {} trainable", c.run.parameters, c.run.trainable)});
  rows += cell_row({"layout", c.run.layout}) + cell_row({"devices", c.run.devices});
  rows += cell_row({"machine", c.run.instruction_set + ", " + c.run.libraries});
  if (!c.run.resumed_from.empty()) rows += cell_row({"resumed from", c.run.resumed_from});
  rows += cell_row({"state", c.exit_reason.empty() ? "running" : c.exit_reason});
  if (c.last.step > 0) {
    rows += cell_row({"step", fmt::format("{} of {}", c.last.step, c.last.total_steps)});
    rows += cell_row({"loss", fmt::format("{:.4f}", c.last.loss)});
    rows += cell_row({"tokens", fmt::format("{}", c.last.total_tokens)});
    rows +=
        cell_row({"speed of the last step", fmt::format("{:.0f} tokens/s", c.last.tokens_per_s)});
    if (c.last.mfu) rows += cell_row({"causal MFU", fmt::format("{:.1f}%", 100 * *c.last.mfu)});
    rows += cell_row({"elapsed in this part", clock_text(c.last.elapsed)});
  }
  return "<table>\n" + rows + "</table>\n";
}

std::string evaluations(const ReportContents& c) {
  std::string rows;
  for (const EvalRow& eval : c.evals)
    for (const EvalSetRow& set : eval.sets)
      rows += cell_row({std::to_string(eval.step), set.name, fmt::format("{:.4f}", set.loss),
                        fmt::format("{:.2f}", std::exp(set.loss)),
                        fmt::format("{:.1f}%", 100 * set.accuracy), std::to_string(set.tokens)});
  return table({"step", "set", "loss", "perplexity", "accuracy", "tokens"}, rows);
}

// The latest samples open, the earlier ones folded.
std::string samples(const ReportContents& c) {
  std::string out;
  for (size_t i = c.samples.size(); i-- > 0;) {
    const SampleRow& s = c.samples[i];
    out += fmt::format(
        "<details{}><summary>step {} ({} tokens, {})</summary><pre><b>{}</b>{}</pre></details>\n",
        s.step == c.samples.back().step ? " open=\"open\"" : "", s.step, s.tokens,
        escape_markup(s.stop_reason), escape_markup(s.prompt), escape_markup(s.text));
  }
  return out;
}

std::string checkpoints(const ReportContents& c) {
  std::string rows;
  for (const CheckpointRow& k : c.checkpoints)
    rows += cell_row({std::to_string(k.step), k.path,
                      fmt::format("{:.3f} GB", static_cast<double>(k.bytes) / 1e9),
                      fmt::format("{:.1f} s", k.seconds)});
  return table({"step", "path", "size", "time"}, rows);
}

std::string warnings(const ReportContents& c) {
  std::string rows;
  for (const auto& [code, text] : c.warnings) rows += cell_row({code, text});
  return table({"code", "text"}, rows);
}

}  // namespace

void ReportContents::cut_after(int64_t step) {
  const auto later = [step](const auto& row) { return row.step > step; };
  std::erase_if(evals, later);
  std::erase_if(samples, later);
  std::erase_if(checkpoints, later);
}

std::string html_report(const ReportContents& c, const std::string& picture) {
  std::string page = fmt::format("{}<title>{}</title></head>\n<body>\n<h1>{}</h1>\n", kHead,
                                 escape_markup(c.title), escape_markup(c.title));
  page += facts(c) + section("Loss", picture) + section("Evaluations", evaluations(c));
  page += section("Samples", samples(c)) + section("Checkpoints", checkpoints(c));
  page += section("Warnings", warnings(c));
  std::string notes;
  for (const std::string& note : c.notes) notes += "<pre>" + escape_markup(note) + "</pre>\n";
  page += section("Memory and data", notes);
  if (!c.config.empty())
    page += section("Configuration", "<pre>" + escape_markup(c.config) + "</pre>\n");
  return page + "</body></html>\n";
}

}  // namespace ink
