// Ranks and coordinates, chunks of a sequence, and the cut of a batch along them.
#include "parallel/mesh/mesh.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "parallel/slice_batch.h"
#include "tests/io/temporary_folder.h"

namespace ink {
namespace {

std::vector<MeshShape> some_shapes() {
  return {{},
          {.tensor = 4},
          {.data = 3},
          {.tensor = 2, .head = 2, .context = 3, .data = 2, .pipeline = 2},
          {.head = 4, .context = 2, .data = 5},
          {.context = 4, .pipeline = 3}};
}

TEST(Mesh, EveryRankHasItsOwnCoordinates) {
  for (const MeshShape& shape : some_shapes()) {
    for (int rank = 0; rank < shape.world(); ++rank) {
      const MeshCoordinates at = coordinates_of(shape, rank);
      EXPECT_EQ(rank_of(shape, at), rank);
      EXPECT_LT(at.tensor, shape.tensor);
      EXPECT_LT(at.pipeline, shape.pipeline);
    }
  }
}

TEST(Mesh, TensorChangesFastestAndPipelineSlowest) {
  const MeshShape shape{.tensor = 2, .head = 3, .context = 2, .data = 2, .pipeline = 2};
  EXPECT_EQ(rank_of(shape, {.tensor = 1}), 1);
  EXPECT_EQ(rank_of(shape, {.head = 1}), 2);
  EXPECT_EQ(rank_of(shape, {.context = 1}), 6);
  EXPECT_EQ(rank_of(shape, {.data = 1}), 12);
  EXPECT_EQ(rank_of(shape, {.pipeline = 1}), 24);
  EXPECT_EQ(rank_of(shape, {1, 2, 1, 1, 1}), 47);
}

TEST(Mesh, GroupsDivideTheWorld) {
  for (const MeshShape& shape : some_shapes()) {
    for (const Direction direction : {Direction::kTensor, Direction::kHead, Direction::kContext,
                                      Direction::kData, Direction::kPipeline}) {
      std::set<std::vector<int>> groups;
      for (int rank = 0; rank < shape.world(); ++rank) {
        const std::vector<int> group = group_of(shape, rank, direction);
        EXPECT_NE(std::find(group.begin(), group.end(), rank), group.end());
        EXPECT_TRUE(std::is_sorted(group.begin(), group.end()));
        groups.insert(group);
      }
      size_t members = 0;
      for (const auto& group : groups) members += group.size();
      EXPECT_EQ(members, static_cast<size_t>(shape.world()));
    }
  }
  EXPECT_EQ(group_of({.tensor = 2, .data = 3}, 3, Direction::kData), (std::vector<int>{1, 3, 5}));
  EXPECT_EQ(group_of({.tensor = 2, .data = 3}, 3, Direction::kTensor), (std::vector<int>{2, 3}));
}

TEST(Mesh, DataIsWhatIsLeft) {
  EXPECT_EQ(mesh_for_world(24, 2, 1, 3, 2),
            (MeshShape{.tensor = 2, .context = 3, .data = 2, .pipeline = 2}));
  expect_error(ExitCode::kConfig, {"6 ranks", "tensor 2 * sequence 1 * ring 1 * pipeline 2 = 4"},
               [] { (void)mesh_for_world(6, 2, 1, 1, 2); });
  expect_error(ExitCode::kConfig, {"tensor 0"}, [] { (void)mesh_for_world(6, 0, 1, 1, 1); });
  EXPECT_THROW((void)coordinates_of({.data = 2}, 2), InternalError);
  EXPECT_THROW((void)rank_of({.data = 2}, {.data = 2}), InternalError);
}

using Chunks = std::vector<std::vector<int>>;

Chunks chunks_of_all_ranks(int head, int context) {
  const MeshShape shape{.head = head, .context = context};
  Chunks all;
  for (int rank = 0; rank < shape.world(); ++rank)
    all.push_back(sequence_chunks(shape, coordinates_of(shape, rank)));
  return all;
}

// The cases of the two-dimensional layout, head first.
TEST(SequenceChunks, GoldenCases) {
  EXPECT_EQ(chunks_of_all_ranks(2, 4),
            (Chunks{{0, 1}, {14, 15}, {2, 3}, {12, 13}, {4, 5}, {10, 11}, {6, 7}, {8, 9}}));
  EXPECT_EQ(chunks_of_all_ranks(4, 2),
            (Chunks{{0, 1}, {2, 3}, {12, 13}, {14, 15}, {4, 5}, {6, 7}, {8, 9}, {10, 11}}));
  EXPECT_EQ(chunks_of_all_ranks(1, 4), (Chunks{{0, 7}, {1, 6}, {2, 5}, {3, 4}}));
  EXPECT_EQ(chunks_of_all_ranks(3, 1), (Chunks{{0, 1}, {2, 3}, {4, 5}}));
}

TEST(SequenceChunks, EveryChunkOnce) {
  for (const int head : {1, 2, 4, 6, 8}) {
    for (const int context : {1, 2, 3, 4, 8}) {
      std::set<int> seen;
      for (const auto& chunks : chunks_of_all_ranks(head, context))
        seen.insert(chunks.begin(), chunks.end());
      EXPECT_EQ(seen.size(), static_cast<size_t>(2 * head * context)) << head << " x " << context;
      EXPECT_EQ(*seen.rbegin(), 2 * head * context - 1);
    }
  }
}

// What the ranks of one head group hold together are the two zigzag halves of their ring rank.
TEST(SequenceChunks, HeadGroupsHoldZigzagHalves) {
  const MeshShape shape{.head = 4, .context = 3};
  for (int context = 0; context < 3; ++context) {
    std::set<int> held, want;
    for (int head = 0; head < 4; ++head) {
      for (const int chunk : sequence_chunks(shape, {.head = head, .context = context}))
        held.insert(chunk);
    }
    for (int i = 0; i < 4; ++i) {
      want.insert(context * 4 + i);
      want.insert((2 * 3 - 1 - context) * 4 + i);
    }
    EXPECT_EQ(held, want) << "ring rank " << context;
  }
}

TEST(SequenceChunks, OddHeadsBesideARingAreRefused) {
  expect_error(ExitCode::kConfig, {"1 or an even number", "3"},
               [] { (void)sequence_chunks({.head = 3, .context = 2}, {}); });
}

Batch numbered_batch(Runtime& runtime, int32_t length) {
  std::vector<int32_t> count(static_cast<size_t>(length));
  std::iota(count.begin(), count.end(), 0);
  Batch batch;
  batch.tokens_T = to_tensor(runtime, count);
  batch.labels_T = to_tensor(runtime, count);
  batch.positions_T = to_tensor(runtime, count);
  batch.token_id_T = to_tensor(runtime, std::vector<int64_t>(count.begin(), count.end()));
  batch.loss_weight_T = to_tensor(runtime, std::vector<float>(count.begin(), count.end()));
  batch.documents = {.cu_seqlens = to_tensor(runtime, std::vector<int32_t>{0, 5, length}),
                     .max_seqlen = length - 5};
  return batch;
}

TEST(SliceBatch, EveryFieldIsCutAlike) {
  Runtime runtime;
  const Batch batch = numbered_batch(runtime, 32);
  const MeshShape shape{.head = 2, .context = 2, .data = 3};
  std::set<int32_t> seen;
  for (int rank = 0; rank < 4; ++rank) {
    const MeshCoordinates at = coordinates_of(shape, rank);
    const Batch mine = slice_batch(batch, shape, at);
    const std::vector<int32_t> tokens = to_vector<int32_t>(mine.tokens_T);
    std::vector<int32_t> want;
    for (const int chunk : sequence_chunks(shape, at)) {
      for (int32_t i = 0; i < 4; ++i) want.push_back(chunk * 4 + i);
    }
    EXPECT_EQ(tokens, want) << "rank " << rank;
    EXPECT_EQ(to_vector<int32_t>(mine.labels_T), want);
    EXPECT_EQ(to_vector<int32_t>(mine.positions_T), want);
    EXPECT_EQ(to_vector<int64_t>(mine.token_id_T), std::vector<int64_t>(want.begin(), want.end()));
    EXPECT_EQ(to_vector<float>(mine.loss_weight_T), std::vector<float>(want.begin(), want.end()));
    EXPECT_FALSE(mine.document_T.defined());
    EXPECT_EQ(to_vector<int32_t>(mine.documents.cu_seqlens), (std::vector<int32_t>{0, 5, 32}));
    seen.insert(tokens.begin(), tokens.end());
  }
  EXPECT_EQ(seen.size(), 32u);
}

TEST(SliceBatch, OneRankPerSequenceKeepsTheBatch) {
  Runtime runtime;
  const Batch batch = numbered_batch(runtime, 7);
  const Batch mine = slice_batch(batch, {.tensor = 2, .data = 2}, {.tensor = 1, .data = 1});
  EXPECT_TRUE(mine.tokens_T.shares_storage(batch.tokens_T));
  EXPECT_EQ(to_vector<int32_t>(mine.tokens_T), to_vector<int32_t>(batch.tokens_T));
}

TEST(SliceBatch, LengthMustDivide) {
  Runtime runtime;
  const Batch batch = numbered_batch(runtime, 12);
  expect_error(ExitCode::kConfig, {"data.max_length", "12 tokens", "= 8"},
               [&] { (void)slice_batch(batch, {.head = 2, .context = 2}, {}); });
}

}  // namespace
}  // namespace ink
