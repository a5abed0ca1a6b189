// Attention and its gradient written as products, softmax and products again, in f64, every result
// rounded to a dtype as a framework that stores them would. Rounded to f64 it is the reference.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "engine/ops/attention.h"
#include "tests/support/values.h"

namespace ink {

struct ComposedAttention {
  Values out, lse;  // [T, H * D], [H, T]
  Values dqkv;      // as qkv
};

// Columns of a row that holds all query heads of a token, its keys, its values.
class QkvColumns {
 public:
  explicit QkvColumns(const AttentionShape& s) : s_(s) {}
  [[nodiscard]] int64_t width() const { return v(s_.kv_heads); }
  [[nodiscard]] int64_t q(int64_t head) const { return head * s_.head_dim; }
  [[nodiscard]] int64_t k(int64_t group) const { return (s_.heads + group) * s_.head_dim; }
  [[nodiscard]] int64_t v(int64_t group) const { return k(s_.kv_heads + group); }

 private:
  AttentionShape s_;
};

class ComposeAttention {
 public:
  ComposeAttention(const Values& qkv, const Values& dout, const AttentionShape& shape,
                   DType rounding)
      : x_(qkv), dout_(dout), shape_(shape), at_(shape), rounding_(rounding) {
    tokens_ = static_cast<int64_t>(qkv.size()) / at_.width();
    result_.out.resize(static_cast<size_t>(tokens_ * shape.heads * shape.head_dim));
    result_.lse.resize(static_cast<size_t>(tokens_ * shape.heads));
    result_.dqkv.resize(qkv.size());
  }

  ComposedAttention run(const std::vector<int64_t>& lengths) {
    int64_t first = 0;
    for (const int64_t length : lengths) {
      for (int64_t group = 0; group < shape_.kv_heads; ++group) attend(first, length, group);
      first += length;
    }
    for (double& x : result_.dqkv) x = round(x);
    return result_;
  }

 private:
  [[nodiscard]] double round(double x) const { return rounded({x}, rounding_)[0]; }
  [[nodiscard]] double* gradient(int64_t token, int64_t column) {
    return &result_.dqkv[static_cast<size_t>(token * at_.width() + column)];
  }
  [[nodiscard]] const double* input(int64_t token, int64_t column) const {
    return &x_[static_cast<size_t>(token * at_.width() + column)];
  }
  [[nodiscard]] double dot(const double* a, const double* b) const {
    double sum = 0;
    for (int64_t d = 0; d < shape_.head_dim; ++d) sum += a[d] * b[d];
    return sum;
  }

  void attend(int64_t first, int64_t length, int64_t group) {
    const int64_t ratio = shape_.heads / shape_.kv_heads, dim = shape_.head_dim;
    for (int64_t head = group * ratio; head < (group + 1) * ratio; ++head) {
      Values dk(static_cast<size_t>(length * dim)), dv(dk);
      for (int64_t i = 0; i < length; ++i) row(first, i, group, head, dk, dv);
      for (int64_t j = 0; j < length; ++j) {
        for (int64_t d = 0; d < dim; ++d) {
          gradient(first + j, at_.k(group))[d] += round(dk[static_cast<size_t>(j * dim + d)]);
          gradient(first + j, at_.v(group))[d] += round(dv[static_cast<size_t>(j * dim + d)]);
        }
      }
    }
  }

  void row(int64_t first, int64_t i, int64_t group, int64_t head, Values& dk, Values& dv) {
    const int64_t dim = shape_.head_dim, token = first + i;
    const double scale = 1 / std::sqrt(static_cast<double>(dim));
    const double* q = input(token, at_.q(head));
    const double* dout = &dout_[static_cast<size_t>((token * shape_.heads + head) * dim)];
    double* out = &result_.out[static_cast<size_t>((token * shape_.heads + head) * dim)];
    Values p, dp;
    double most = -INFINITY, sum = 0, delta = 0;
    for (int64_t j = 0; j <= i; ++j) {
      p.push_back(round(round(dot(q, input(first + j, at_.k(group)))) * scale));
      dp.push_back(round(dot(dout, input(first + j, at_.v(group)))));
      most = std::max(most, p.back());
    }
    for (double& score : p) sum += score = std::exp(score - most);
    result_.lse[static_cast<size_t>(head * tokens_ + token)] = most + std::log(sum);
    for (size_t j = 0; j < p.size(); ++j) {
      p[j] = round(p[j] / sum);
      delta += p[j] * dp[j];
    }
    double* dq = gradient(token, at_.q(head));
    for (int64_t j = 0; j <= i; ++j) {
      const auto n = static_cast<size_t>(j);
      const double ds = round(p[n] * (dp[n] - delta)) * scale;
      const double *k = input(first + j, at_.k(group)), *v = input(first + j, at_.v(group));
      for (int64_t d = 0; d < dim; ++d) {
        out[d] += p[n] * v[d];
        dq[d] += ds * k[d];
        dk[static_cast<size_t>(j * dim + d)] += ds * q[d];
        dv[static_cast<size_t>(j * dim + d)] += p[n] * dout[d];
      }
    }
    for (int64_t d = 0; d < dim; ++d) out[d] = round(out[d]);
  }

  const Values &x_, &dout_;
  AttentionShape shape_;
  QkvColumns at_;
  DType rounding_;
  int64_t tokens_ = 0;
  ComposedAttention result_;
};

}  // namespace ink
