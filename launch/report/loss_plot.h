// The picture of a run: raw and smoothed loss with the evaluations, and the learning rate below.
//
// RunLog adds what happens and asks for the picture at every save; after a resume it adds the rows
// of the earlier parts first. A step that is added again takes the place of the old one and of all
// later ones. The picture is one self-contained SVG of bounded size, however long the run was.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ink {

class PlotAxis;

class LossPlot {
 public:
  // Values that are not finite leave a gap.
  void add_step(int64_t step, double loss, double lr);
  void add_eval(int64_t step, double loss);
  // Forgets what came after this step.
  void cut_after(int64_t step);

  [[nodiscard]] bool empty() const { return points_.empty() && evals_.empty(); }
  [[nodiscard]] std::string svg(const std::string& title) const;

 private:
  struct Point {
    int64_t step;
    double loss, lr;
  };
  struct EvalPoint {
    int64_t step;
    double loss;
  };
  [[nodiscard]] std::string curves(const PlotAxis& x, const PlotAxis& loss,
                                   const PlotAxis& rate) const;

  std::vector<Point> points_;
  std::vector<EvalPoint> evals_;
};

// Text inside XML or HTML: & < > " escaped, control characters dropped, invalid UTF-8 replaced.
[[nodiscard]] std::string escape_markup(const std::string& text);

}  // namespace ink
