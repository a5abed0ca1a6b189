// report.html: one self-contained page that shows a run to somebody who was not there.
//
// RunLog fills the contents while the run lasts and writes the page at every save and at the end.
// No file beside it and no network is needed to read it.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "launch/report/run_log.h"

namespace ink {

struct ReportContents {
  std::string title;
  RunRow run;
  StepRow last;
  std::vector<EvalRow> evals;
  std::vector<SampleRow> samples;
  std::vector<CheckpointRow> checkpoints;
  std::vector<std::pair<std::string, std::string>> warnings;  // code, text; repeated codes too
  std::vector<std::string> notes;                             // the memory table among them
  std::string config;                                         // the resolved run.yaml
  std::string exit_reason;                                    // empty while the run goes on
  void cut_after(int64_t step);
};

// `picture` is the SVG of LossPlot.
[[nodiscard]] std::string html_report(const ReportContents& contents, const std::string& picture);

}  // namespace ink
