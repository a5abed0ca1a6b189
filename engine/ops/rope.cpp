#include "engine/ops/rope.h"

#include <cmath>

#include "engine/autograd/backward.h"

namespace ink {

double dynamic_ntk_theta(double theta, double factor, int64_t length, int64_t max_position,
                         int64_t head_dim) {
  if (length <= max_position) return theta;
  const double stretch =
      factor * static_cast<double>(length) / static_cast<double>(max_position) - (factor - 1);
  const auto dim = static_cast<double>(head_dim);
  return theta * std::pow(stretch, dim / (dim - 2));
}

Tensor rope_table(const Tensor& positions_T, int64_t head_dim, const RopeOptions& options,
                  DType dtype) {
  CHECK_OP("rope_table", positions_T.rank() == 1 && positions_T.dtype() == DType::kI32,
           "positions are {} {}, expected i32 [T]", name_of(positions_T.dtype()),
           positions_T.shape().str());
  CHECK_OP("rope_table", head_dim > 0 && head_dim % 2 == 0, "head_dim {} is odd", head_dim);
  CHECK_OP("rope_table", dtype == DType::kF32 || dtype == DType::kF64, "table dtype {}",
           name_of(dtype));
  Tensor table_TD(positions_T.runtime(), {positions_T.numel(), head_dim}, dtype);
  rope_angles(table_TD.device(), positions_T, options, table_TD);
  return table_TD;
}

Tensor rope(const Tensor& x_TC, const Tensor& table_TD, const RopeHeads& heads) {
  CHECK_OP("rope",
           x_TC.rank() == 2 && x_TC.cols() == heads.groups * heads.group_heads * heads.head_dim,
           "x_TC is {}, heads are {} groups of {} heads of {} elements", x_TC.shape().str(),
           heads.groups, heads.group_heads, heads.head_dim);
  CHECK_OP("rope", heads.rotated <= heads.group_heads && heads.head_dim % 2 == 0,
           "{} of {} heads of {} elements", heads.rotated, heads.group_heads, heads.head_dim);
  CHECK_OP("rope", table_TD.rows() == x_TC.rows() && table_TD.cols() == heads.head_dim,
           "table_TD is {}, expected [{}, {}]", table_TD.shape().str(), x_TC.rows(),
           heads.head_dim);
  CHECK_OP("rope", (table_TD.dtype() == DType::kF64) == (x_TC.dtype() == DType::kF64),
           "table is {}, x_TC {}", name_of(table_TD.dtype()), name_of(x_TC.dtype()));
  Tensor y_TC = x_TC.detach();
  rope_rotate(y_TC.device(), table_TD, heads, Rotation::kForward, y_TC);
  return record(y_TC, {.op = "rope",
                       .inputs = {x_TC},
                       .saved = {table_TD},
                       .handles = {},
                       .backward = [heads](Node& self, Grads& dys) -> Grads {
                         Tensor dx = std::move(dys[0]);
                         if (!dx.sole_owner() || !dx.contiguous()) {
                           Tensor own = empty_like(dx);
                           cast(dx.device(), dx, own);
                           dx = std::move(own);
                         }
                         rope_rotate(dx.device(), self.saved[0].get(), heads, Rotation::kInverse,
                                     dx);
                         return {dx};
                       },
                       .rematerialize = nullptr});
}

}  // namespace ink
