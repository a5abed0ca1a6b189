// The picture: well-formed, bounded, with everything that was added.
#include "launch/report/loss_plot.h"

#include <cmath>
#include <limits>

#include "tests/report/rows.h"
#include "tests/report/well_formed.h"

namespace ink {
namespace {

// Points of the polyline of a class, 0 when there is none.
size_t points_of(const std::string& svg, const std::string& style) {
  size_t count = 0;
  const std::string opening = "<polyline class=\"" + style + "\" points=\"";
  for (size_t at = svg.find(opening); at != std::string::npos; at = svg.find(opening, at + 1)) {
    const size_t begin = at + opening.size();
    count += count_of(svg.substr(begin, svg.find('"', begin) - begin), ",");
  }
  return count;
}

TEST(LossPlot, ShowsStepsEvaluationsAndTheRate) {
  LossPlot plot;
  for (int64_t step = 1; step <= 40; ++step)
    plot.add_step(step, 10.0 / static_cast<double>(step), 1e-3);
  plot.add_eval(20, 0.75);
  plot.add_eval(40, 0.5);
  const std::string svg = plot.svg("a < b & \"c\"");
  expect_well_formed(svg);
  EXPECT_EQ(points_of(svg, "raw"), 40U);
  EXPECT_EQ(points_of(svg, "smooth"), 40U);
  EXPECT_EQ(points_of(svg, "lr"), 40U);
  EXPECT_NE(svg.find("<title>step 20: 0.7500</title>"), std::string::npos);
  EXPECT_NE(svg.find("<title>step 40: 0.5000</title>"), std::string::npos);
  EXPECT_NE(svg.find("a &lt; b &amp; &quot;c&quot;"), std::string::npos);
  for (const char* word : {">smoothed<", ">evaluation<", ">step<", ">loss<", ">lr<"})
    EXPECT_NE(svg.find(word), std::string::npos) << word;
}

TEST(LossPlot, EmptyAndSinglePointsAreDrawn) {
  LossPlot plot;
  EXPECT_TRUE(plot.empty());
  expect_well_formed(plot.svg("empty"));
  plot.add_step(5, 0.0, 0.0);
  const std::string svg = plot.svg("one");
  expect_well_formed(svg);
  EXPECT_EQ(count_of(svg, "<circle class=\"raw\""), 1U);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

TEST(LossPlot, ALongRunStaysSmallAndKeepsItsSpike) {
  LossPlot plot, calm;
  for (int64_t step = 1; step <= 100'000; ++step) {
    plot.add_step(step, step == 54'321 ? 9.0 : 2.0 + 1e-6 * static_cast<double>(step), 1e-4);
    calm.add_step(step, 2.0 + 1e-6 * static_cast<double>(step), 1e-4);
  }
  const std::string svg = plot.svg("long");
  EXPECT_LT(svg.size(), 100'000U);
  // The spike is the top of the loss axis, which it alone stretches.
  EXPECT_NE(svg.find(">8</text>"), std::string::npos);
  EXPECT_EQ(calm.svg("long").find(">8</text>"), std::string::npos);
}

TEST(LossPlot, NonFiniteValuesLeaveAGap) {
  LossPlot plot;
  for (int64_t step = 1; step <= 20; ++step)
    plot.add_step(step, step == 10 ? std::nan("") : step == 15 ? INFINITY : 2.0, 1e-4);
  const std::string svg = plot.svg("gap");
  expect_well_formed(svg);
  EXPECT_EQ(count_of(svg, "<polyline class=\"raw\""), 3U);
  EXPECT_EQ(points_of(svg, "raw"), 18U);
  EXPECT_EQ(svg.find("inf"), std::string::npos);
}

TEST(LossPlot, AStepThatIsAddedAgainReplacesWhatFollowed) {
  LossPlot plot;
  for (int64_t step = 1; step <= 30; ++step) plot.add_step(step, 2.0, 1e-4);
  plot.add_eval(25, 1.25);
  plot.add_step(21, 3.0, 1e-4);
  std::string svg = plot.svg("again");
  EXPECT_EQ(points_of(svg, "lr"), 21U);
  EXPECT_EQ(svg.find("step 25"), std::string::npos);
  plot.cut_after(10);
  EXPECT_EQ(points_of(plot.svg("cut"), "lr"), 10U);
}

TEST(EscapeMarkup, LeavesNothingThatBreaksAPage) {
  EXPECT_EQ(escape_markup("<b> & \"x\"\n\x01\x1b"), "&lt;b&gt; &amp; &quot;x&quot;\n");
  EXPECT_EQ(escape_markup("a\xff z"), "a\xef\xbf\xbd z");  // invalid UTF-8
  EXPECT_EQ(escape_markup("\xe4\xb8\xad"), "\xe4\xb8\xad");
}

}  // namespace
}  // namespace ink
