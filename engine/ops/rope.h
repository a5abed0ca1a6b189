// Rotary position embedding, half-split layout: elements i and i + D/2 of a head are rotated
// together by the angle p * theta^(-2i/D). Angles are computed in f64 and stored as f32 cosines and
// sines; the rotation is done in f32 (f64 for f64) and rounded to the dtype of x.
//
// The table is made once per batch and shared by all layers. Positions are data: they restart per
// document.
#pragma once

#include "engine/autograd/node.h"
#include "engine/kernels/kernel.h"

namespace ink {

struct RopeOptions {
  double theta = 10000.0;
  double position_scale = 1.0;  // linear scaling divides positions by its factor: 1 / factor
};

// theta of dynamic NTK scaling: theta * (factor * length / max_position - (factor - 1))^(D / (D -
// 2)) once length > max_position, else theta.
[[nodiscard]] double dynamic_ntk_theta(double theta, double factor, int64_t length,
                                       int64_t max_position, int64_t head_dim);

// table_TD: f32 (f64 when asked), cos in the first half of a row, sin in the second. positions are
// i32.
[[nodiscard]] Tensor rope_table(const Tensor& positions_T, int64_t head_dim,
                                const RopeOptions& options, DType dtype = DType::kF32);

// Every head of every row, C / D of them. Rotates in place: x's memory becomes the result, so x
// must not be needed by anybody else (a linear's output is not).
[[nodiscard]] Tensor rope(const Tensor& x_TC, const Tensor& table_TD);

// q [T, K * r * D], k and v [T, K * D].
struct Qkv {
  Tensor q_TC, k_TC, v_TC;
};
// Takes apart the rows of a fused wqkv, K groups of (r query heads, key, value), and rotates
// queries and keys on the way: what attention reads then lies as every library of attention wants
// it, and moving a row costs what rotating it in place would, plus its value heads.
[[nodiscard]] Qkv rope_qkv(const Tensor& qkv_TC, const Tensor& table_TD, int64_t kv_heads);

enum class Rotation : uint8_t { kForward, kInverse };
DECLARE_KERNEL(rope_angles,
               void(const Tensor& positions_T, const RopeOptions& options, Tensor& table_TD));
DECLARE_KERNEL(rope_rotate, void(const Tensor& table_TD, Rotation rotation, Tensor& x_TC));
DECLARE_KERNEL(rope_split, void(const Tensor& table_TD, const Tensor& qkv_TC, Qkv& parts));
// The gradient of rope_split: rotates back and puts the parts together.
DECLARE_KERNEL(rope_join, void(const Tensor& table_TD, const Qkv& parts, Tensor& qkv_TC));

}  // namespace ink
