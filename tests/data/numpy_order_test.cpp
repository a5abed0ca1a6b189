// The order of train.compat.sampler, against NumPy 2.4.6:
//   r = numpy.random.RandomState(1024); a = numpy.arange(10); r.shuffle(a); print(a.tolist())
// and so on; a second shuffle of the same generator is one of a new numpy.arange.
#include "data/loader/numpy_order.h"

#include <gtest/gtest.h>

#include <set>

#include "data/loader/loader.h"
#include "data/loader/synthetic.h"
#include "tests/data/store_support.h"

namespace ink {
namespace {

using test::error_of;
using Order = std::vector<uint32_t>;

const Order kFirst = {2, 3, 7, 0, 6, 8, 5, 4, 9, 1};   // RandomState(1024), shuffle of 10
const Order kSecond = {8, 6, 5, 4, 1, 9, 7, 0, 2, 3};  // the next one

TEST(NumpyShuffle, GivesNumpysNumbersShuffleAfterShuffle) {
  NumpyShuffle shuffle(1024);
  EXPECT_EQ(shuffle.next(10), kFirst);
  EXPECT_EQ(shuffle.next(10), kSecond);
  EXPECT_EQ(NumpyShuffle(4294967295U).next(6), (Order{1, 4, 5, 0, 2, 3}));
  EXPECT_EQ(shuffle.next(0), Order{});
  EXPECT_EQ(shuffle.next(1), Order{0});
}

// RandomState(42): shuffles of 257 and then of 100003; the sum is (a * arange % 1000003).sum().
TEST(NumpyShuffle, GivesNumpysNumbersPastPowersOfTwo) {
  NumpyShuffle shuffle(42);
  const Order small = shuffle.next(257);
  EXPECT_EQ(Order(small.begin(), small.begin() + 8), (Order{165, 186, 82, 30, 9, 6, 200, 24}));
  EXPECT_EQ(Order(small.end() - 4, small.end()), (Order{14, 92, 179, 102}));
  const Order large = shuffle.next(100003);
  EXPECT_EQ(large[0], 95277U);
  EXPECT_EQ(large[50000], 61243U);
  EXPECT_EQ(large[100002], 8680U);
  uint64_t sum = 0;
  for (uint64_t i = 0; i < large.size(); ++i) sum += large[i] * i % 1000003;
  EXPECT_EQ(sum, 49952568458U);
}

TEST(NumpyOrder, SourcesFollowEachOtherAndTheTailIsLeftOut) {
  NumpyOrder order({4, 6}, 4, 1024);
  EXPECT_EQ(order.length(), 8);
  for (const int64_t epoch : {1, 0}) {  // back to an epoch before, too
    for (int64_t place = 0; place < 8; ++place) {
      const int64_t global = (epoch == 0 ? kFirst : kSecond)[static_cast<size_t>(place)];
      const SourcePack pack = order.at({.epoch = epoch, .place = place});
      EXPECT_EQ(pack.source, global < 4 ? 0 : 1);
      EXPECT_EQ(pack.pack, global < 4 ? global : global - 4);
    }
  }
}

TEST(NumpyOrder, RefusesLessThanABatch) {
  const Error error = error_of([] { NumpyOrder({1, 2}, 4, 1024); });
  EXPECT_STREQ(error.what(), "expected at least 4 full packs, a global batch, got 3");
}

// Document d is one token, d.
TEST(NumpyOrder, AStoreLaysDocumentsInTheOrderOfTheShuffle) {
  const test::TestFolder folder;
  std::vector<TokenDocument> documents;
  for (int32_t d = 0; d < 10; ++d) documents.push_back(test::make_document({d}, d + 1));
  StoreHeader header = test::small_header(10);
  EXPECT_EQ(header.to_json().find("order"), std::string::npos) << "old stores keep their bytes";
  header.seed = 1024;
  header.order = DocumentOrder::kNumpy;
  test::write_store(folder / "a.h5", documents, header);
  const auto store = TokenStore::open(folder / "a.h5");
  EXPECT_EQ(store->header().order, DocumentOrder::kNumpy);
  const TokenRange pack = store->read_pack(Split::kTrain, 0);
  EXPECT_EQ(Order(pack.ids.begin(), pack.ids.end()), kFirst);
  store->verify();
  header.seed = uint64_t{1} << 32;
  EXPECT_EQ(error_of([&] { TokenStoreWriter(folder / "b.h5", header); }).code(), ExitCode::kConfig);
}

// 84 tokens in packs of 8: ten full ones and a short one, which takes no part.
std::vector<LoaderSource> ten_and_a_half() {
  return {
      {synthetic_source(
           {.size = {.documents = 12, .length = 7}, .vocab_size = 50, .max_length = 8, .seed = 1}),
       {}}};
}

LoaderOptions options(int64_t dp_rank, int64_t dp_size, int64_t steps) {
  LoaderOptions o;
  o.dp_rank = dp_rank;
  o.dp_size = dp_size;
  o.max_length = 8;
  o.plan.global_batch_size = 4;
  o.seed = 1024;
  o.numpy_order = true;
  o.steps = steps;
  return o;
}

std::vector<std::vector<int64_t>> own_packs(const LoaderOptions& options,
                                            const std::optional<SamplerState>& resume = {}) {
  Loader loader(ten_and_a_half(), options, resume);
  std::vector<std::vector<int64_t>> packs;
  while (const auto step = loader.next()) packs.push_back(step->sample_ids);
  return packs;
}

// Two batches of four an epoch: rank r of 2 takes indices[r::2].
TEST(NumpyOrder, RanksTakeEveryNthIndexAndEpochsGoOnWithTheGenerator) {
  const std::vector<std::vector<int64_t>> one = {
      {2, 3, 7, 0}, {6, 8, 5, 4}, {8, 6, 5, 4}, {1, 9, 7, 0}};
  EXPECT_EQ(own_packs(options(0, 1, 4)), one);
  EXPECT_EQ(own_packs(options(0, 2, 4)),
            (std::vector<std::vector<int64_t>>{{2, 7}, {6, 5}, {8, 5}, {1, 7}}));
  EXPECT_EQ(own_packs(options(1, 2, 4)),
            (std::vector<std::vector<int64_t>>{{3, 0}, {8, 4}, {6, 4}, {9, 0}}));
}

TEST(NumpyOrder, AResumeGoesOnInTheSameOrder) {
  const auto whole = own_packs(options(0, 1, 7));
  Loader loader(ten_and_a_half(), options(0, 1, 7));
  for (size_t at = 1; at < 7; ++at) {
    const SamplerState state = loader.next()->state;
    const SamplerState read =
        SamplerState::from_json(nlohmann::json::parse(state.to_json().dump()), "state");
    EXPECT_EQ(read, state);
    const auto rest = own_packs(options(0, 1, 7), read);
    EXPECT_EQ(rest, std::vector(whole.begin() + static_cast<std::ptrdiff_t>(at), whole.end()));
  }
}

TEST(NumpyOrder, AStateOfAnotherKindOfOrderIsRefused) {
  LoaderOptions own = options(0, 1, 3);
  own.numpy_order = false;
  Loader loader(ten_and_a_half(), own);
  const SamplerState state = loader.next()->state;
  EXPECT_STREQ(error_of([&] { Loader(ten_and_a_half(), options(0, 1, 3), state); }).what(),
               "data state: expected train.compat.sampler false as in the save, got true");
  Loader numpy(ten_and_a_half(), options(0, 1, 3));
  SamplerState bad = numpy.next()->state;
  bad.numpy->epoch = 1000;
  EXPECT_EQ(error_of([&] { Loader(ten_and_a_half(), options(0, 1, 3), bad); }).code(),
            ExitCode::kBadInput);
}

}  // namespace
}  // namespace ink
