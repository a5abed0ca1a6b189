// What the flash attention kernels take, the visit of their template arguments, and their
// launch.
#pragma once

#include "engine/kernels/cuda/attention_rows.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/tensor/cuda_backend.h"

namespace ink {

// 16-bit heads of 64 or 128 elements on 16 bytes; bf16 needs sm_80.
[[nodiscard]] inline bool flash_takes(const HeadsView& q, const HeadsView& k, const HeadsView& v) {
  const DType dtype = q.x_TC.dtype();
  const int capability = cuda_backend(q.x_TC).capability();
  return (dtype == DType::kF16 || (dtype == DType::kBF16 && capability >= 80)) &&
         (q.head_dim == 64 || q.head_dim == 128) && heads_on_16_bytes(q) && heads_on_16_bytes(k) &&
         heads_on_16_bytes(v);
}

[[nodiscard]] inline bool flash_takes_backward(const Tensor& dout_TC, const HeadsView& q,
                                               const HeadsView& k, const HeadsView& v,
                                               const HeadsView& dq, const HeadsView& dk,
                                               const HeadsView& dv) {
  return flash_takes(q, k, v) && heads_on_16_bytes(dout_TC, q.head_dim) && heads_on_16_bytes(dq) &&
         heads_on_16_bytes(dk) && heads_on_16_bytes(dv);
}

// Calls f.operator()<T, head_dim>().
template <class F>
void visit_flash(DType dtype, int64_t head_dim, F&& f) {
  const auto with_type = [&]<class T>() {
    if (head_dim == 64) return f.template operator()<T, 64>();
    CHECK(head_dim == 128, "no flash attention for head_dim {}", head_dim);
    f.template operator()<T, 128>();
  };
  if (dtype == DType::kBF16) return with_type.template operator()<bf16>();
  CHECK(dtype == DType::kF16, "no flash attention for {}", name_of(dtype));
  with_type.template operator()<f16>();
}

// One launch over the tiles of a problem (AttentionForward, AttentionBackward): a block for every
// item and key head, the heads of an item one after the other, as BlockPlace (attention_place.cuh)
// reads it.
template <class C, class Problem, class A>
void launch_tiles(const char* op, const Problem& p, TileOf of, int64_t size, int threads,
                  void (*kernel)(A)) {
  const Tensor items =
      plan_attention(p.sequences, {.of = of, .size = size, .ratio = p.ratio()}, p.rows_TC());
  launch(cuda_backend(items), op,
         {.grid = dim3(blocks_for(items.rows() * p.k.heads(), 1), 1, 1),
          .block = dim3(static_cast<unsigned>(threads), 1, 1),
          .shared_bytes = sizeof(typename C::Shared)},
         kernel, arguments_of<typename C::Type>(p, items));
}

}  // namespace ink
