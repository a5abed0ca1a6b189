#include "engine/ops/attention.h"

namespace ink {
namespace {

void check_columns(const char* name, const Tensor& x_TC, int64_t columns) {
  CHECK_OP("attention", x_TC.rank() == 2 && x_TC.cols() == columns, "{} is {}, expected [T, {}]",
           name, x_TC.shape().str(), columns);
}

void check(const Tensor& q_TC, const Tensor& k_TC, const Tensor& v_TC, const AttentionShape& shape,
           const Documents& documents) {
  CHECK_OP(
      "attention", shape.kv_heads > 0 && shape.head_dim > 0 && shape.heads % shape.kv_heads == 0,
      "{} query heads, {} kv heads of {} elements", shape.heads, shape.kv_heads, shape.head_dim);
  CHECK_OP("attention",
           documents.cu_seqlens.dtype() == DType::kI32 && documents.cu_seqlens.contiguous() &&
               documents.cu_seqlens.numel() >= 1,
           "cu_seqlens is {} {}", name_of(documents.cu_seqlens.dtype()),
           documents.cu_seqlens.shape().str());
  check_columns("q_TC", q_TC, shape.heads * shape.head_dim);
  check_columns("k_TC", k_TC, shape.kv_heads * shape.head_dim);
  check_columns("v_TC", v_TC, shape.kv_heads * shape.head_dim);
  CHECK_OP("attention", k_TC.rows() == q_TC.rows() && v_TC.rows() == q_TC.rows(),
           "q has {} rows, k {}, v {}", q_TC.rows(), k_TC.rows(), v_TC.rows());
  CHECK_OP("attention", k_TC.dtype() == q_TC.dtype() && v_TC.dtype() == q_TC.dtype(),
           "q is {}, k {}, v {}", name_of(q_TC.dtype()), name_of(k_TC.dtype()),
           name_of(v_TC.dtype()));
}

}  // namespace

Tensor attention(const Tensor& q_TC, const Tensor& k_TC, const Tensor& v_TC,
                 const AttentionShape& shape, const Documents& documents) {
  check(q_TC, k_TC, v_TC, shape, documents);
  Runtime& runtime = q_TC.runtime();
  const DType statistics = q_TC.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  Tensor out_TC(runtime, q_TC.shape(), q_TC.dtype());
  Tensor lse_HT(runtime, {shape.heads, q_TC.rows()}, statistics);
  const int64_t dim = shape.head_dim;
  attention_forward(q_TC.device(), {q_TC.detach(), dim}, {k_TC.detach(), dim}, {v_TC.detach(), dim},
                    documents, out_TC, lse_HT);
  return record(
      out_TC,
      {.op = "attention",
       .inputs = {q_TC, k_TC, v_TC},
       .saved = {q_TC, k_TC, v_TC, out_TC, lse_HT, documents.cu_seqlens},
       .handles = {},
       .backward = [dim, longest = documents.max_seqlen](Node& self, Grads& dys) -> Grads {
         const Tensor q = self.saved[0].get(), k = self.saved[1].get(), v = self.saved[2].get();
         HeadsView dq{empty_like(q), dim}, dk{empty_like(k), dim}, dv{empty_like(v), dim};
         attention_backward(q.device(), dys[0], {q, dim}, {k, dim}, {v, dim}, self.saved[3].get(),
                            self.saved[4].get(), {self.saved[5].get(), longest}, dq, dk, dv);
         return {dq.x_TC, dk.x_TC, dv.x_TC};
       },
       .rematerialize = nullptr});
}

}  // namespace ink
