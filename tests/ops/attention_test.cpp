// Attention against the composed form, and what a packed stream promises: documents do not see each
// other, threads change nothing, a cache gives what the whole sequence gives.
#include "engine/ops/attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "engine/autograd/backward.h"
#include "tests/support/compare.h"
#include "tests/support/op_case.h"
#include "tests/support/threads.h"

namespace ink {
namespace {

using Lengths = std::vector<int64_t>;

int64_t total(const Lengths& lengths) {
  return std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
}

// Documents of these lengths, cut off where the stream has fewer tokens.
Documents documents_of(Runtime& runtime, const Lengths& lengths, int64_t tokens) {
  std::vector<int32_t> bounds = {0};
  int64_t longest = 0;
  for (const int64_t length : lengths) {
    const int64_t end = std::min<int64_t>(bounds.back() + length, tokens);
    longest = std::max(longest, end - bounds.back());
    bounds.push_back(static_cast<int32_t>(end));
  }
  return {to_tensor(runtime, bounds), longest};
}

int64_t width(const AttentionShape& s) { return (s.heads + 2 * s.kv_heads) * s.head_dim; }

// Tests keep q, k and v as one list of values: all query heads of a token, its keys, its values.
int64_t k_column(const AttentionShape& s, int64_t g) { return (s.heads + g) * s.head_dim; }
int64_t v_column(const AttentionShape& s, int64_t g) { return k_column(s, s.kv_heads + g); }

// One query row at x[query] over keys [first, query], written to out (head_dim elements).
void attend_row(const Values& x, const AttentionShape& s, int64_t h, int64_t query, int64_t first,
                double* out) {
  const int64_t g = h / (s.heads / s.kv_heads);
  const double* q = &x[static_cast<size_t>(query * width(s) + h * s.head_dim)];
  Values scores;
  for (int64_t t = first; t <= query; ++t) {
    const double* k = &x[static_cast<size_t>(t * width(s) + k_column(s, g))];
    scores.push_back(std::inner_product(q, q + s.head_dim, k, 0.0) /
                     std::sqrt(static_cast<double>(s.head_dim)));
  }
  const double most = *std::max_element(scores.begin(), scores.end());
  double sum = 0;
  for (double& score : scores) sum += score = std::exp(score - most);
  for (int64_t t = first; t <= query; ++t) {
    const double p = scores[static_cast<size_t>(t - first)] / sum;
    const double* v = &x[static_cast<size_t>(t * width(s) + v_column(s, g))];
    for (int64_t d = 0; d < s.head_dim; ++d) out[d] += p * v[d];
  }
}

Values composed(const Values& x, const AttentionShape& s, const Lengths& lengths) {
  const int64_t tokens = static_cast<int64_t>(x.size()) / width(s);
  Values out(static_cast<size_t>(tokens * s.heads * s.head_dim), 0.0);
  int64_t first = 0;
  for (const int64_t length : lengths) {
    const int64_t end = std::min(first + length, tokens);
    for (int64_t t = first; t < end; ++t) {
      for (int64_t h = 0; h < s.heads; ++h)
        attend_row(x, s, h, t, first, &out[static_cast<size_t>((t * s.heads + h) * s.head_dim)]);
    }
    first = end;
  }
  return out;
}

Values together(const std::vector<Values>& qkv, const AttentionShape& s) {
  const int64_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
  const int64_t tokens = static_cast<int64_t>(qkv[0].size()) / q_width;
  Values x;
  const auto append = [&](const Values& from, int64_t t, int64_t columns) {
    x.insert(x.end(), from.begin() + t * columns, from.begin() + (t + 1) * columns);
  };
  for (int64_t t = 0; t < tokens; ++t) {
    append(qkv[0], t, q_width);
    append(qkv[1], t, kv_width);
    append(qkv[2], t, kv_width);
  }
  return x;
}

// {q, k, v}
std::vector<Tensor> apart(Runtime& runtime, const Values& x, const AttentionShape& s, DType dtype) {
  const int64_t tokens = static_cast<int64_t>(x.size()) / width(s);
  const auto columns = [&](int64_t first, int64_t count) {
    Values part;
    for (int64_t t = 0; t < tokens; ++t) {
      const auto row = x.begin() + t * width(s) + first;
      part.insert(part.end(), row, row + count);
    }
    return from_values(runtime, part, {tokens, count}, dtype);
  };
  const int64_t kv_width = s.kv_heads * s.head_dim;
  return {columns(0, s.heads * s.head_dim), columns(k_column(s, 0), kv_width),
          columns(v_column(s, 0), kv_width)};
}

OpCase attention_case(const std::string& name, const AttentionShape& s, const Lengths& lengths) {
  const int64_t tokens = total(lengths);
  return {
      .name = name,
      .inputs = {{.name = "q_TC", .shape = {tokens, s.heads * s.head_dim}, .low = -2, .high = 2},
                 {.name = "k_TC", .shape = {tokens, s.kv_heads * s.head_dim}, .low = -2, .high = 2},
                 {.name = "v_TC", .shape = {tokens, s.kv_heads * s.head_dim}}},
      .run = [=](const std::vector<Tensor>& in) -> std::vector<Tensor> {
        return {attention(in[0], in[1], in[2], s,
                          documents_of(in[0].runtime(), lengths, in[0].rows()))};
      },
      .composed = [=](const std::vector<Values>& in) -> std::vector<Values> {
        return {composed(together(in, s), s, lengths)};
      },
      // Twice the least error of a gradient of torch's scaled_dot_product_attention.
      .tolerance = {.gradient_bf16 = 5.1e-3, .gradient_f16 = 6.4e-4},
      .slots = {&attention_forward, &attention_backward}};
}

REGISTER_OP_CASE(attention_case("attention_gqa2_dim8", {4, 2, 8}, {1, 7, 0, 12}));
REGISTER_OP_CASE(attention_case("attention_gqa4_dim64", {4, 1, 64}, {66, 1, 3}));
REGISTER_OP_CASE(attention_case("attention_dim80", {1, 1, 80}, {0, 9, 12}));
REGISTER_OP_CASE(attention_case("attention_gqa3_dim16", {3, 1, 16}, {71, 2}));
REGISTER_OP_CASE(attention_case("attention_dim20", {5, 1, 20}, {41}));
REGISTER_OP_CASE(attention_case("attention_gqa1_dim32", {2, 2, 32}, {3, 70}));
REGISTER_OP_CASE(attention_case("attention_gqa2_dim128", {2, 1, 128}, {4, 66, 0, 1}));
REGISTER_OP_CASE(attention_case("attention_gqa32_dim8", {32, 1, 8}, {19, 6}));

// A slot's candidate for the life of the scope.
class Choice {
 public:
  Choice(KernelSlotBase& slot, std::string_view label) : slot_(slot) {
    slot_.choose(Device::kCpu, label);
  }
  ~Choice() { slot_.choose(Device::kCpu, {}); }
  Choice(const Choice&) = delete;
  Choice& operator=(const Choice&) = delete;

 private:
  KernelSlotBase& slot_;
};

void for_each_candidate(const std::function<void()>& body) {
  for (const std::string_view label : attention_forward.labels(Device::kCpu)) {
    SCOPED_TRACE(label);
    const Choice forward(attention_forward, label), backward(attention_backward, label),
        cached(attention_cached, label);
    body();
  }
}

struct Result {
  Values out, dqkv;
};

Values test_rows(const AttentionShape& shape, const Lengths& lengths, double scale = 1) {
  Values x = normal_values("attention rows", total(lengths) * width(shape));
  for (double& value : x) value *= scale;
  return x;
}

Result run(const Values& x, const Values& dout, const AttentionShape& shape, const Lengths& lengths,
           DType dtype) {
  Runtime runtime;
  const int64_t tokens = total(lengths);
  std::vector<Tensor> in = apart(runtime, x, shape, dtype);
  for (Tensor& tensor : in) tensor = make_leaf(tensor, "input", dtype);
  const Tensor out = attention(in[0], in[1], in[2], shape, documents_of(runtime, lengths, tokens));
  backward({out}, {from_values(runtime, dout, out.shape(), dtype)});
  std::vector<Values> grads;
  for (const Tensor& tensor : in) grads.push_back(to_values(leaf_of(tensor)->grad));
  return {to_values(out), together(grads, shape)};
}

bool same_bits(const Values& a, const Values& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(double)) == 0;
}

Values part(const Values& x, int64_t row, int64_t rows, int64_t columns) {
  return {x.begin() + row * columns, x.begin() + (row + rows) * columns};
}

TEST(Attention, APackedDocumentEqualsTheDocumentAlone) {
  const AttentionShape s{4, 2, 16};
  const Lengths lengths = {5, 90, 1, 130};
  const int64_t columns = s.heads * s.head_dim;
  const Values x = test_rows(s, lengths), dout = normal_values("dout", total(lengths) * columns);
  for_each_candidate([&] {
    const Result packed = run(x, dout, s, lengths, DType::kF32);
    int64_t row = 0;
    for (const int64_t length : lengths) {
      const Result alone = run(part(x, row, length, width(s)), part(dout, row, length, columns), s,
                               {length}, DType::kF32);
      EXPECT_LE(rel_frobenius(part(packed.out, row, length, columns), alone.out), 1e-6);
      EXPECT_LE(rel_frobenius(part(packed.dqkv, row, length, width(s)), alone.dqkv), 1e-6);
      row += length;
    }
  });
}

TEST(Attention, EditingOneDocumentChangesNoBitOfAnother) {
  const AttentionShape s{4, 1, 16};
  const Lengths lengths = {37, 80, 20};
  const int64_t columns = s.heads * s.head_dim;
  const Values x = test_rows(s, lengths), dout = normal_values("dout", total(lengths) * columns);
  Values edited = x;
  for (int64_t i = 37 * width(s); i < (37 + 80) * width(s); ++i)
    edited[static_cast<size_t>(i)] = -3 * x[static_cast<size_t>(i)] + 1;
  for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
    const Result before = run(x, dout, s, lengths, dtype);
    const Result after = run(edited, dout, s, lengths, dtype);
    EXPECT_TRUE(same_bits(part(before.out, 0, 37, columns), part(after.out, 0, 37, columns)));
    EXPECT_TRUE(same_bits(part(before.out, 117, 20, columns), part(after.out, 117, 20, columns)));
    EXPECT_TRUE(same_bits(part(before.dqkv, 0, 37, width(s)), part(after.dqkv, 0, 37, width(s))));
    EXPECT_TRUE(
        same_bits(part(before.dqkv, 117, 20, width(s)), part(after.dqkv, 117, 20, width(s))));
    EXPECT_FALSE(same_bits(before.out, after.out));
  }
}

TEST(Attention, LongDocuments) {
  const AttentionShape s{3, 1, 16};
  const Lengths lengths = {300, 2, 200};
  const Values x = rounded(test_rows(s, lengths), DType::kBF16);
  const Values dout = rounded(normal_values("dout", total(lengths) * 48), DType::kBF16);
  const Result want = run(x, dout, s, lengths, DType::kF64);
  EXPECT_LE(rel_frobenius(want.out, composed(x, s, lengths)), 1e-12);
  for_each_candidate([&] {
    const Result f32 = run(x, dout, s, lengths, DType::kF32);
    EXPECT_LE(rel_frobenius(f32.out, want.out), 1e-6);
    EXPECT_LE(rel_frobenius(f32.dqkv, want.dqkv), 2e-6);
    const Result half = run(x, dout, s, lengths, DType::kBF16);
    EXPECT_LE(rel_frobenius(half.out, want.out), 4e-3);
    EXPECT_LE(rel_frobenius(half.dqkv, want.dqkv), 6e-3);
  });
}

// A single long document is cut into tiles for several threads; one thread takes it as a whole.
TEST(Attention, TheNumberOfThreadsChangesNoBit) {
  const AttentionShape s{3, 1, 24};
  for (const Lengths& lengths : {Lengths{260}, Lengths{200, 3, 64, 65}}) {
    const Values x = test_rows(s, lengths);
    const Values dout = normal_values("dout", total(lengths) * s.heads * s.head_dim);
    for_each_candidate([&] {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        const ScopedThreads one(1);
        const Result want = run(x, dout, s, lengths, dtype);
        for (const int threads : {2, 3, 8}) {
          const ScopedThreads several(threads);
          const Result got = run(x, dout, s, lengths, dtype);
          EXPECT_TRUE(same_bits(got.out, want.out)) << threads;
          EXPECT_TRUE(same_bits(got.dqkv, want.dqkv)) << threads;
        }
      }
    });
  }
}

// Scores near +80 and -80: exp of either alone would leave f32's range.
TEST(Attention, LargeScoresAreStable) {
  const AttentionShape s{2, 1, 64};
  const Lengths lengths = {150};
  const Values dout = normal_values("dout", 150 * s.heads * s.head_dim);
  for (const double scale : {3.0, 5.0}) {
    const Values x = rounded(test_rows(s, lengths, scale), DType::kF32);
    const Result want = run(x, dout, s, lengths, DType::kF64);
    EXPECT_LE(rel_frobenius(want.out, composed(x, s, lengths)), 1e-12);
    for_each_candidate([&] {
      const Result got = run(x, dout, s, lengths, DType::kF32);
      EXPECT_LE(rel_frobenius(got.out, want.out), 5e-6);
      EXPECT_LE(rel_frobenius(got.dqkv, want.dqkv), 1e-4);
    });
  }
}

// The largest score of this row changes with every key tile, in both directions.
TEST(Attention, RisingAndFallingScores) {
  const AttentionShape s{1, 1, 8};
  const Lengths lengths = {256};
  Values x(static_cast<size_t>(256 * width(s)), 0.5);
  for (int64_t t = 0; t < 256; ++t) {
    x[static_cast<size_t>(t * width(s))] = t % 2 == 0 ? 15.0 : -15.0;
    x[static_cast<size_t>(t * width(s) + 8)] = static_cast<double>(t) / 16;
    x[static_cast<size_t>(t * width(s) + 16)] = std::sin(static_cast<double>(t));
  }
  const Values want = composed(x, s, lengths), dout(256 * 8, 1.0);
  for_each_candidate([&] {
    const Result got = run(x, dout, s, lengths, DType::kF32);
    EXPECT_LE(rel_frobenius(got.out, want), 5e-6);
  });
}

TEST(Attention, LogSumExpOfEveryRow) {
  const int64_t tokens = 90, dim = 16;
  const Values q = normal_values("q", tokens * 32), kv = normal_values("kv", tokens * 32);
  Runtime runtime;
  const HeadsView qs{from_values(runtime, q, {tokens, 32}, DType::kF32), dim};
  const Tensor both = from_values(runtime, kv, {tokens, 32}, DType::kF32);
  const HeadsView ks{both.columns(0, dim), dim}, vs{both.columns(dim, dim), dim};
  Tensor out(runtime, {tokens, 32}, DType::kF32), lse(runtime, {2, tokens}, DType::kF32);
  attention_forward(Device::kCpu, qs, ks, vs, documents_of(runtime, {tokens}, tokens), out, lse);
  for (int64_t h = 0; h < 2; ++h) {
    for (int64_t t = 0; t < tokens; ++t) {
      double sum = 0;
      for (int64_t n = 0; n <= t; ++n)
        sum += std::exp(std::inner_product(q.begin() + t * 32 + h * dim,
                                           q.begin() + t * 32 + (h + 1) * dim, kv.begin() + n * 32,
                                           0.0) /
                        4.0);
      EXPECT_NEAR(lse.data<float>()[h * tokens + t], std::log(sum), 2e-6);
    }
  }
}

TEST(Attention, NanInAQueryShowsInItsRow) {
  const AttentionShape s{1, 1, 8};
  Values x = test_rows(s, {70});
  x[static_cast<size_t>(40 * width(s))] = std::nan("");
  for_each_candidate([&] {
    Runtime runtime;
    const std::vector<Tensor> in = apart(runtime, x, s, DType::kF32);
    const Tensor out = attention(in[0], in[1], in[2], s, documents_of(runtime, {70}, 70));
    EXPECT_TRUE(std::isnan(out.data<float>()[40 * 8]));
    EXPECT_FALSE(std::isnan(out.data<float>()[41 * 8]));
  });
}

TEST(Attention, ArgumentsAreChecked) {
  Runtime runtime;
  const Tensor q = zeros(runtime, {4, 24}, DType::kF32), k = zeros(runtime, {4, 8}, DType::kF32);
  const Documents documents = documents_of(runtime, {4}, 4);
  EXPECT_THROW((void)attention(q, k, k, {3, 2, 8}, documents), InternalError);
  EXPECT_THROW((void)attention(q, k, k, {2, 1, 8}, documents), InternalError);
  EXPECT_THROW((void)attention(q, k, q, {3, 1, 8}, documents), InternalError);
  EXPECT_NO_THROW((void)attention(q, k, k, {3, 1, 8}, documents));
}

// A cache of one layer, filled step by step: sequence s has lengths[s] tokens in all, `step[s]` of
// them are new in each call.
class CacheRun {
 public:
  CacheRun(Runtime& runtime, const AttentionShape& shape, const Lengths& lengths, int64_t block,
           DType dtype)
      : runtime_(runtime), shape_(shape), lengths_(lengths), dtype_(dtype), done_(lengths.size()) {
    const int64_t longest = *std::max_element(lengths.begin(), lengths.end());
    const int64_t per_sequence = (longest + block - 1) / block;
    const auto sequences = static_cast<int64_t>(lengths.size());
    const int64_t blocks = sequences * per_sequence;
    std::vector<int32_t> table(static_cast<size_t>(blocks));
    for (int64_t i = 0; i < blocks; ++i)  // 7 has no factor in common with the counts used here
      table[static_cast<size_t>(i)] = static_cast<int32_t>((i * 7 + 3) % blocks);
    const int64_t columns = shape.kv_heads * shape.head_dim;
    const Values unused(static_cast<size_t>(blocks * block * columns), std::nan(""));
    cache_ = {from_values(runtime, unused, {blocks * block, columns}, dtype),
              from_values(runtime, unused, {blocks * block, columns}, dtype),
              to_tensor<int32_t>(runtime, table, {sequences, per_sequence}),
              {},
              {},
              block};
  }

  // Row i of the result is the i-th new token, sequence by sequence.
  Tensor step(const Values& x, const Lengths& news) {
    const int64_t columns = width(shape_);
    Values rows;
    std::vector<int32_t> lengths, bounds = {0};
    int64_t first = 0;
    for (size_t s = 0; s < lengths_.size(); ++s) {
      const Values fresh = part(x, first + done_[s], news[s], columns);
      rows.insert(rows.end(), fresh.begin(), fresh.end());
      done_[s] += news[s];
      lengths.push_back(static_cast<int32_t>(done_[s]));
      bounds.push_back(bounds.back() + static_cast<int32_t>(news[s]));
      first += lengths_[s];
    }
    cache_.cached_lengths = to_tensor(runtime_, lengths);
    cache_.cu_queries = to_tensor(runtime_, bounds);
    const std::vector<Tensor> in = apart(runtime_, rows, shape_, dtype_);
    kv_cache_append(Device::kCpu, in[1], in[2], cache_);
    Tensor out = empty_like(in[0]);
    attention_cached(Device::kCpu, {in[0], shape_.head_dim}, cache_, out);
    return out;
  }

 private:
  Runtime& runtime_;
  AttentionShape shape_;
  Lengths lengths_;
  DType dtype_;
  Lengths done_;
  KvCacheView cache_;
};

TEST(Attention, CachedEqualsTheWholeSequenceStepByStep) {
  const AttentionShape s{4, 2, 16};
  const Lengths lengths = {90, 23, 9};
  const std::vector<Lengths> steps = {{5, 1, 0}, {1, 1, 1}, {60, 2, 3}, {1, 1, 1},
                                      {1, 1, 1}, {2, 3, 0}, {0, 4, 1},  {20, 10, 2}};
  const int64_t columns = s.heads * s.head_dim;
  for_each_candidate([&] {
    for (const DType dtype : {DType::kF64, DType::kF32, DType::kBF16, DType::kF16}) {
      const Values x = rounded(test_rows(s, lengths), dtype);
      const Values want = composed(x, s, lengths);
      Runtime runtime;
      CacheRun run(runtime, s, lengths, 8, dtype);
      Lengths done(lengths.size());
      for (const Lengths& news : steps) {
        const Values got = to_values(run.step(x, news));
        Values expected;
        int64_t first = 0;
        for (size_t i = 0; i < lengths.size(); ++i) {
          const Values rows = part(want, first + done[i], news[i], columns);
          expected.insert(expected.end(), rows.begin(), rows.end());
          done[i] += news[i];
          first += lengths[i];
        }
        const double tolerance = dtype == DType::kF64    ? 1e-12
                                 : dtype == DType::kF32  ? 1e-6
                                 : dtype == DType::kBF16 ? 1e-2
                                                         : 2e-3;
        EXPECT_LE(rel_frobenius(got, expected), tolerance) << name_of(dtype);
      }
    }
  });
}

// Half of the tokens are one sequence's, the rest another's, all new, in one call.
Tensor run_cache_row(const std::vector<Tensor>& qkv, const AttentionShape& s) {
  const Tensor& q = qkv[0];
  Runtime& runtime = q.runtime();
  const int64_t tokens = q.rows(), half = tokens / 2;
  const std::vector<int32_t> table = {2, 0, 3, 1}, lengths = {static_cast<int32_t>(half),
                                                              static_cast<int32_t>(tokens - half)};
  const std::vector<int32_t> bounds = {0, static_cast<int32_t>(half), static_cast<int32_t>(tokens)};
  Tensor keys = zeros(runtime, {8, s.kv_heads * s.head_dim}, q.dtype()),
         values = zeros(runtime, keys.shape(), q.dtype());
  KvCacheView cache{keys,
                    values,
                    to_tensor<int32_t>(runtime, table, {2, 2}),
                    to_tensor(runtime, lengths),
                    to_tensor(runtime, bounds),
                    2};
  kv_cache_append(q.device(), qkv[1], qkv[2], cache);
  Tensor out = empty_like(q);
  attention_cached(q.device(), {q, s.head_dim}, cache, out);
  return out;
}

OpCase cached_case(const std::string& name, const AttentionShape& s) {
  const int64_t q_width = s.heads * s.head_dim, kv_width = s.kv_heads * s.head_dim;
  return {.name = name,
          .inputs = {{.name = "q_TC", .shape = {6, q_width}},
                     {.name = "k_TC", .shape = {6, kv_width}},
                     {.name = "v_TC", .shape = {6, kv_width}}},
          .run = [s](const std::vector<Tensor>& in) -> std::vector<Tensor> {
            return {run_cache_row(in, s)};
          },
          .composed = [s](const std::vector<Values>& in) -> std::vector<Values> {
            const Values x = together(in, s);
            const int64_t tokens = static_cast<int64_t>(x.size()) / width(s);
            return {composed(x, s, {tokens / 2, tokens - tokens / 2})};
          },
          .slots = {&kv_cache_append, &attention_cached},
          .differentiable = 0};
}

REGISTER_OP_CASE(cached_case("attention_cached", {4, 2, 8}));
REGISTER_OP_CASE(cached_case("attention_cached_dim64", {2, 1, 64}));

}  // namespace
}  // namespace ink
