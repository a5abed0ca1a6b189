#include "engine/ops/rope.h"

#include <cmath>

#include "engine/autograd/backward.h"
#include "engine/autograd/writable.h"

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

namespace {

void check(const char* op, const Tensor& x_TC, const Tensor& table_TD) {
  CHECK_OP(op, x_TC.rank() == 2 && table_TD.rank() == 2 && table_TD.rows() == x_TC.rows(),
           "x_TC is {}, table_TD {}", x_TC.shape().str(), table_TD.shape().str());
  const int64_t head_dim = table_TD.cols();
  CHECK_OP(op, head_dim > 0 && head_dim % 2 == 0 && x_TC.cols() % head_dim == 0,
           "x_TC is {}, a head has {} elements", x_TC.shape().str(), head_dim);
  CHECK_OP(op, (table_TD.dtype() == DType::kF64) == (x_TC.dtype() == DType::kF64),
           "table is {}, x_TC {}", name_of(table_TD.dtype()), name_of(x_TC.dtype()));
}

// A gradient that may be written over.
Tensor owned(Tensor dx) {
  if (writable(dx)) return dx;
  Tensor own = empty_like(dx);
  cast(dx.device(), dx, own);
  return own;
}

// The gradient of an output that nobody used is zero.
Tensor or_zeros(const Tensor& dy, const Tensor& like_TD, int64_t cols, DType dtype) {
  return dy.defined() ? dy : zeros(like_TD.runtime(), {like_TD.rows(), cols}, dtype);
}

}  // namespace

Tensor rope(const Tensor& x_TC, const Tensor& table_TD) {
  check("rope", x_TC, table_TD);
  Tensor y_TC = x_TC.detach();
  rope_rotate(y_TC.device(), table_TD, Rotation::kForward, y_TC);
  return record(y_TC, {.op = "rope",
                       .inputs = {x_TC},
                       .saved = {table_TD},
                       .handles = {},
                       .backward = [](Node& self, Grads& dys) -> Grads {
                         Tensor dx = owned(std::move(dys[0]));
                         rope_rotate(dx.device(), self.saved[0].get(), Rotation::kInverse, dx);
                         return {dx};
                       },
                       .rematerialize = nullptr});
}

Qkv rope_qkv(const Tensor& qkv_TC, const Tensor& table_TD, int64_t kv_heads) {
  check("rope_qkv", qkv_TC, table_TD);
  const int64_t kv_width = kv_heads * table_TD.cols(), width = qkv_TC.cols();
  CHECK_OP("rope_qkv", kv_heads > 0 && width % kv_width == 0 && width / kv_width > 2,
           "qkv_TC is {}, {} groups of heads of {}", qkv_TC.shape().str(), kv_heads,
           table_TD.cols());
  Runtime& runtime = qkv_TC.runtime();
  const DType dtype = qkv_TC.dtype();
  const int64_t tokens = qkv_TC.rows(), q_width = width - 2 * kv_width;
  Qkv parts{Tensor(runtime, {tokens, q_width}, dtype), Tensor(runtime, {tokens, kv_width}, dtype),
            Tensor(runtime, {tokens, kv_width}, dtype)};
  rope_split(qkv_TC.device(), table_TD, qkv_TC, parts);
  record({&parts.q_TC, &parts.k_TC, &parts.v_TC},
         {.op = "rope_qkv",
          .inputs = {qkv_TC},
          .saved = {table_TD},
          .handles = {},
          .backward = [q_width, kv_width, dtype](Node& self, Grads& dys) -> Grads {
            const Tensor table = self.saved[0].get();
            const Qkv grads{or_zeros(dys[0], table, q_width, dtype),
                            or_zeros(dys[1], table, kv_width, dtype),
                            or_zeros(dys[2], table, kv_width, dtype)};
            Tensor dqkv(table.runtime(), {table.rows(), q_width + 2 * kv_width}, dtype);
            rope_join(dqkv.device(), table, grads, dqkv);
            return {dqkv};
          },
          .rematerialize = nullptr});
  return parts;
}

}  // namespace ink
