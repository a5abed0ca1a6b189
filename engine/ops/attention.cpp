#include "engine/ops/attention.h"

namespace ink {
namespace {

struct Qkv {
  HeadsView q, k, v;
};

Qkv fused_views(const Tensor& qkv_TC, const AttentionShape& shape) {
  const int64_t dim = shape.head_dim, ratio = shape.heads / shape.kv_heads;
  const int64_t group = (ratio + 2) * dim;
  const auto view = [&](int64_t heads, int64_t first, int64_t per_group) {
    return HeadsView{qkv_TC, heads, dim, first, per_group, group};
  };
  return {view(shape.heads, 0, ratio), view(shape.kv_heads, ratio * dim, 1),
          view(shape.kv_heads, (ratio + 1) * dim, 1)};
}

HeadsView separate_view(const Tensor& x_TC, int64_t heads, int64_t head_dim) {
  return {x_TC, heads, head_dim, 0, heads, heads * head_dim};
}

void check(const char* op, const AttentionShape& shape, const Documents& documents) {
  CHECK_OP(op, shape.kv_heads > 0 && shape.head_dim > 0 && shape.heads % shape.kv_heads == 0,
           "{} query heads, {} kv heads of {} elements", shape.heads, shape.kv_heads,
           shape.head_dim);
  CHECK_OP(op,
           documents.cu_seqlens.dtype() == DType::kI32 && documents.cu_seqlens.contiguous() &&
               documents.cu_seqlens.numel() >= 1,
           "cu_seqlens is {} {}", name_of(documents.cu_seqlens.dtype()),
           documents.cu_seqlens.shape().str());
}

void check_columns(const char* op, const char* name, const Tensor& x_TC, int64_t columns) {
  CHECK_OP(op, x_TC.rank() == 2 && x_TC.cols() == columns, "{} is {}, expected [T, {}]", name,
           x_TC.shape().str(), columns);
}

struct Attended {
  Tensor out_TC, lse_HT;
};

Attended attend(const Qkv& in, const Documents& documents) {
  const Tensor& x_TC = in.q.x_TC;
  const DType statistics = x_TC.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  Attended result{Tensor(x_TC.runtime(), {x_TC.rows(), in.q.heads * in.q.head_dim}, x_TC.dtype()),
                  Tensor(x_TC.runtime(), {in.q.heads, x_TC.rows()}, statistics)};
  attention_forward(x_TC.device(), in.q, in.k, in.v, documents, result.out_TC, result.lse_HT);
  return result;
}

}  // namespace

Tensor attention_qkv(const Tensor& qkv_TC, const AttentionShape& shape,
                     const Documents& documents) {
  check("attention_qkv", shape, documents);
  check_columns("attention_qkv", "qkv_TC", qkv_TC,
                (shape.heads + 2 * shape.kv_heads) * shape.head_dim);
  const Attended result = attend(fused_views(qkv_TC.detach(), shape), documents);
  return record(
      result.out_TC,
      {.op = "attention_qkv",
       .inputs = {qkv_TC},
       .saved = {qkv_TC, result.out_TC, result.lse_HT, documents.cu_seqlens},
       .handles = {},
       .backward = [shape, longest = documents.max_seqlen](Node& self, Grads& dys) -> Grads {
         const Tensor qkv = self.saved[0].get();
         Tensor dqkv = empty_like(qkv);
         const Qkv in = fused_views(qkv, shape);
         Qkv grad = fused_views(dqkv, shape);
         attention_backward(qkv.device(), dys[0], in.q, in.k, in.v, self.saved[1].get(),
                            self.saved[2].get(), {self.saved[3].get(), longest}, grad.q, grad.k,
                            grad.v);
         return {dqkv};
       },
       .rematerialize = nullptr});
}

Tensor attention(const Tensor& q_TC, const Tensor& k_TC, const Tensor& v_TC,
                 const AttentionShape& shape, const Documents& documents) {
  check("attention", shape, documents);
  check_columns("attention", "q_TC", q_TC, shape.heads * shape.head_dim);
  check_columns("attention", "k_TC", k_TC, shape.kv_heads * shape.head_dim);
  check_columns("attention", "v_TC", v_TC, shape.kv_heads * shape.head_dim);
  CHECK_OP("attention", k_TC.rows() == q_TC.rows() && v_TC.rows() == q_TC.rows(),
           "q has {} rows, k {}, v {}", q_TC.rows(), k_TC.rows(), v_TC.rows());
  CHECK_OP("attention", k_TC.dtype() == q_TC.dtype() && v_TC.dtype() == q_TC.dtype(),
           "q is {}, k {}, v {}", name_of(q_TC.dtype()), name_of(k_TC.dtype()),
           name_of(v_TC.dtype()));
  const auto views = [shape](const Tensor& q, const Tensor& k, const Tensor& v) -> Qkv {
    return {separate_view(q, shape.heads, shape.head_dim),
            separate_view(k, shape.kv_heads, shape.head_dim),
            separate_view(v, shape.kv_heads, shape.head_dim)};
  };
  const Attended result = attend(views(q_TC.detach(), k_TC.detach(), v_TC.detach()), documents);
  return record(
      result.out_TC,
      {.op = "attention",
       .inputs = {q_TC, k_TC, v_TC},
       .saved = {q_TC, k_TC, v_TC, result.out_TC, result.lse_HT, documents.cu_seqlens},
       .handles = {},
       .backward = [views, longest = documents.max_seqlen](Node& self, Grads& dys) -> Grads {
         const Tensor q = self.saved[0].get(), k = self.saved[1].get(), v = self.saved[2].get();
         Tensor dq = empty_like(q), dk = empty_like(k), dv = empty_like(v);
         const Qkv in = views(q, k, v);
         Qkv grad = views(dq, dk, dv);
         attention_backward(q.device(), dys[0], in.q, in.k, in.v, self.saved[3].get(),
                            self.saved[4].get(), {self.saved[5].get(), longest}, grad.q, grad.k,
                            grad.v);
         return {dq, dk, dv};
       },
       .rematerialize = nullptr});
}

}  // namespace ink
