#include "tests/parallel/group_cases.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tests/support/values.h"

namespace ink {
namespace {

// Element i of what rank r brings.
double brought(int rank, int64_t i) { return static_cast<double>((rank + 1) * 100 + i % 37); }

Values brought_by(int rank, int64_t count) {
  Values values;
  for (int64_t i = 0; i < count; ++i) values.push_back(brought(rank, i));
  return values;
}

Values sum_of_all(int size, int64_t count) {
  Values sum(static_cast<size_t>(count), 0.0);
  for (int r = 0; r < size; ++r) {
    for (int64_t i = 0; i < count; ++i) sum[static_cast<size_t>(i)] += brought(r, i);
  }
  return sum;
}

Tensor filled(Runtime& runtime, const Shape& shape, DType dtype = DType::kF32) {
  return from_values(runtime, Values(static_cast<size_t>(shape.numel()), -1.0), shape, dtype);
}

void all_reduce_sum(Runtime& runtime, ProcessGroup& group) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kI32, DType::kI64}) {
    for (const int64_t count : {1, 5, 1000}) {
      const Tensor t = from_values(runtime, brought_by(group.rank(), count), {count}, dtype);
      group.all_reduce(t, ReduceOp::kSum)->wait();
      EXPECT_EQ(to_values(t), sum_of_all(group.size(), count)) << ink::name_of(dtype);
    }
  }
}

void all_reduce_max(Runtime& runtime, ProcessGroup& group) {
  for (const DType dtype : {DType::kF32, DType::kF64, DType::kI32, DType::kI64}) {
    // Every rank has the largest value somewhere; all are negative.
    Values mine(static_cast<size_t>(group.size()), -50.0), want;
    mine[static_cast<size_t>(group.rank())] = -1.0 - group.rank();
    for (int r = 0; r < group.size(); ++r) want.push_back(-1.0 - r);
    const Tensor t = from_values(runtime, mine, {group.size()}, dtype);
    group.all_reduce(t, ReduceOp::kMax)->wait();
    EXPECT_EQ(to_values(t), want) << ink::name_of(dtype);
  }
}

// Sums whose value depends on the order of additions: every rank has to hold the same bits.
void reductions_are_bit_equal(Runtime& runtime, ProcessGroup& group) {
  constexpr int64_t kCount = 4099;
  const Values mine = normal_values(fmt::format("rank {}", group.rank()), kCount);
  const Tensor sum = from_values(runtime, mine, {kCount}, DType::kF32);
  group.all_reduce(sum, ReduceOp::kSum)->wait();
  const Tensor all = filled(runtime, {group.size(), kCount});
  group.all_gather(sum, all)->wait();
  const Values values = to_values(sum);
  for (int r = 0; r < group.size(); ++r)
    EXPECT_EQ(to_values(all.slice(r, 1)), values) << "rank " << r;
  double want = 0;
  for (int r = 0; r < group.size(); ++r)
    want += normal_values(fmt::format("rank {}", r), kCount)[7];
  EXPECT_NEAR(values[7], want, 1e-5);
}

// Whole numbers below 256 have no rounding, those of 256 and above every second one.
void bf16_is_added_and_rounded(Runtime& runtime, ProcessGroup& group) {
  Values mine;
  for (int64_t i = 0; i < 600; ++i) mine.push_back(static_cast<double>(i % 50 + group.rank()));
  Values want(mine.size()), largest(mine.size());
  for (size_t i = 0; i < mine.size(); ++i) {
    for (int r = 0; r < group.size(); ++r) want[i] += static_cast<double>(i % 50) + r;
    largest[i] = static_cast<double>(i % 50) + group.size() - 1;
  }
  const auto tensor = [&](const Values& values) {
    return from_values(runtime, values, {static_cast<int64_t>(values.size())}, DType::kBF16);
  };
  const Tensor sum = tensor(mine), most = tensor(mine), odd = tensor(Values(3, 129.0));
  group.all_reduce(sum, ReduceOp::kSum)->wait();
  group.all_reduce(most, ReduceOp::kMax)->wait();
  EXPECT_EQ(to_values(sum), want);
  EXPECT_EQ(to_values(most), largest);
  if (group.size() != 3) return;
  group.all_reduce(odd, ReduceOp::kSum)->wait();  // 258 + 129 = 387, a tie between 386 and 388
  EXPECT_EQ(to_values(odd), Values(3, 388.0));
}

void reduction_of_f16_is_refused(Runtime& runtime, ProcessGroup& group) {
  if (group.size() == 1) return;  // nothing to add
  const Tensor t = filled(runtime, {4}, DType::kF16);
  EXPECT_THROW(group.all_reduce(t, ReduceOp::kSum)->wait(), InternalError);
}

void all_gather(Runtime& runtime, ProcessGroup& group) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kI64, DType::kU8}) {
    Values mine;
    for (int i = 0; i < 7; ++i) mine.push_back(group.rank() * 7 + i);
    Values want;
    for (int i = 0; i < 7 * group.size(); ++i) want.push_back(i);
    const Tensor out =
        from_values(runtime, Values(want.size(), 99.0), {static_cast<int64_t>(want.size())}, dtype);
    group.all_gather(from_values(runtime, mine, {7}, dtype), out)->wait();
    EXPECT_EQ(to_values(out), want) << ink::name_of(dtype);
  }
}

void reduce_scatter(Runtime& runtime, ProcessGroup& group) {
  constexpr int64_t kPart = 9;
  const int64_t count = kPart * group.size();
  const Tensor in = from_values(runtime, brought_by(group.rank(), count), {count}, DType::kF32);
  const Tensor out = filled(runtime, {kPart});
  group.reduce_scatter(in, out)->wait();
  const Values sum = sum_of_all(group.size(), count);
  const auto first = sum.begin() + group.rank() * kPart;
  EXPECT_EQ(to_values(out), Values(first, first + kPart));
  EXPECT_EQ(to_values(in), brought_by(group.rank(), count)) << "the input is not to be changed";
}

void all_to_all(Runtime& runtime, ProcessGroup& group) {
  Values mine, want;
  for (int p = 0; p < group.size(); ++p) {
    for (int i = 0; i < 3; ++i) {
      mine.push_back(group.rank() * 1000 + p * 10 + i);
      want.push_back(p * 1000 + group.rank() * 10 + i);
    }
  }
  const Tensor in = from_values(runtime, mine, {group.size(), 3}, DType::kF32);
  const Tensor out = filled(runtime, {group.size(), 3});
  group.all_to_all(in, out)->wait();
  EXPECT_EQ(to_values(out), want);
}

// Rank r sends (r + 2 p) % 4 rows to rank p, some of them none.
void all_to_all_v(Runtime& runtime, ProcessGroup& group) {
  const auto rows = [](int from, int to) { return int64_t{(from + 2 * to) % 4}; };
  std::vector<int64_t> send, receive;
  Values mine, want;
  for (int p = 0; p < group.size(); ++p) {
    send.push_back(rows(group.rank(), p));
    receive.push_back(rows(p, group.rank()));
    for (int64_t i = 0; i < 2 * send.back(); ++i)
      mine.push_back(static_cast<double>(group.rank() * 100 + p * 10 + i));
    for (int64_t i = 0; i < 2 * receive.back(); ++i)
      want.push_back(static_cast<double>(p * 100 + group.rank() * 10 + i));
  }
  const auto count = [](const Values& v) { return static_cast<int64_t>(v.size()) / 2; };
  const Tensor in = from_values(runtime, mine, {count(mine), 2}, DType::kF32);
  const Tensor out = filled(runtime, {count(want), 2});
  group.all_to_all_v(in, send, out, receive)->wait();
  EXPECT_EQ(to_values(out), want);
}

void broadcast(Runtime& runtime, ProcessGroup& group) {
  for (int root = 0; root < group.size(); ++root) {
    const Tensor t = from_values(runtime, brought_by(group.rank(), 11), {11}, DType::kF64);
    group.broadcast(t, root)->wait();
    EXPECT_EQ(to_values(t), brought_by(root, 11)) << "root " << root;
  }
}

// Everybody sends to both neighbours at once; a ring of plain blocking sends would lock up.
void exchange_ring(Runtime& runtime, ProcessGroup& group) {
  const int size = group.size(), next = (group.rank() + 1) % size;
  const int previous = (group.rank() + size - 1) % size;
  constexpr int64_t kCount = 50'000;  // above what a transport buffers
  const Tensor mine = from_values(runtime, brought_by(group.rank(), kCount), {kCount}, DType::kF32);
  const Tensor from_previous = filled(runtime, {kCount}), from_next = filled(runtime, {kCount});
  group.exchange({{.peer = next, .send = mine}, {.peer = previous, .receive = from_previous}})
      ->wait();
  group.exchange({{.peer = next, .receive = from_next}, {.peer = previous, .send = mine}})->wait();
  EXPECT_EQ(to_values(from_previous), brought_by(previous, kCount));
  EXPECT_EQ(to_values(from_next), brought_by(next, kCount));
}

void exchange_keeps_the_order_of_messages(Runtime& runtime, ProcessGroup& group) {
  const int next = (group.rank() + 1) % group.size();
  const int previous = (group.rank() + group.size() - 1) % group.size();
  const Tensor a = from_values(runtime, brought_by(group.rank(), 3), {3}, DType::kF32);
  const Tensor b = from_values(runtime, brought_by(group.rank() + 10, 3), {3}, DType::kF32);
  const Tensor first = filled(runtime, {3}), second = filled(runtime, {3});
  group
      .exchange({{.peer = next, .send = a},
                 {.peer = next, .send = b},
                 {.peer = previous, .receive = first},
                 {.peer = previous, .receive = second}})
      ->wait();
  EXPECT_EQ(to_values(first), brought_by(previous, 3));
  EXPECT_EQ(to_values(second), brought_by(previous + 10, 3));
}

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Nobody leaves before the last has come. The clock is that of the machine, shared by processes.
void barrier(Runtime& runtime, ProcessGroup& group) {
  std::this_thread::sleep_for(std::chrono::milliseconds(20 * group.rank()));
  const Tensor came = from_values(runtime, {seconds_now()}, {1}, DType::kF64);
  group.barrier();
  const double left = seconds_now();
  const Tensor all = filled(runtime, {group.size()}, DType::kF64);
  group.all_gather(came, all)->wait();
  const Values times = to_values(all);
  EXPECT_GE(left, *std::max_element(times.begin(), times.end()));
}

void split_by_color_and_key(Runtime& runtime, ProcessGroup& group) {
  const int color = group.rank() % 2;
  const auto half = group.split(color, -group.rank());  // the order is turned round
  const int members = (group.size() + 1 - color) / 2;
  EXPECT_EQ(half->size(), members);
  EXPECT_EQ(half->rank(), members - 1 - group.rank() / 2);
  const Tensor t = from_values(runtime, {1.0 + group.rank()}, {1}, DType::kF32);
  half->all_reduce(t, ReduceOp::kSum)->wait();
  double want = 0;
  for (int r = color; r < group.size(); r += 2) want += 1.0 + r;
  EXPECT_EQ(to_values(t)[0], want);
  const auto single = half->split(half->rank(), 0);
  EXPECT_EQ(single->size(), 1);
  // The parent goes on, and splits again.
  const auto whole = group.split(7, group.rank());
  EXPECT_EQ(whole->size(), group.size());
  EXPECT_EQ(whole->rank(), group.rank());
  whole->barrier();
}

void works_may_be_waited_for_in_any_order(Runtime& runtime, ProcessGroup& group) {
  std::vector<Tensor> tensors;
  std::vector<std::unique_ptr<Work>> works;
  for (int i = 0; i < 5; ++i) {
    tensors.push_back(from_values(runtime, brought_by(group.rank() + i, 100), {100}, DType::kF32));
    works.push_back(group.all_reduce(tensors.back(), ReduceOp::kSum));
  }
  std::reverse(works.begin(), works.end());
  for (const auto& work : works) work->wait();
  for (int i = 0; i < 5; ++i) {
    double want = 0;
    for (int r = 0; r < group.size(); ++r) want += brought(r + i, 0);
    EXPECT_EQ(to_values(tensors[static_cast<size_t>(i)])[0], want) << "call " << i;
  }
}

void empty_tensors(Runtime& runtime, ProcessGroup& group) {
  const Tensor none(runtime, {0}, DType::kF32);
  group.all_reduce(none, ReduceOp::kSum)->wait();
  group.all_gather(none, none)->wait();
  group.broadcast(none, 0)->wait();
  const std::vector<int64_t> zeros(static_cast<size_t>(group.size()), 0);
  const Tensor rows(runtime, {0, 3}, DType::kF32);
  group.all_to_all_v(rows, zeros, rows, zeros)->wait();
}

void calls_are_recorded(Runtime& runtime, ProcessGroup& group) {
  const int64_t before = group.recorder().last().sequence;
  const Tensor t = filled(runtime, {6});
  group.all_reduce(t, ReduceOp::kSum)->wait();
  group.barrier();
  const auto records = group.recorder().records();
  ASSERT_GE(records.size(), 2u);
  const FlightRecord& reduce = records[records.size() - 2];
  EXPECT_EQ(reduce.sequence, before + 1);
  EXPECT_STREQ(reduce.op, "all_reduce");
  EXPECT_EQ(reduce.bytes, 24);
  EXPECT_GE(reduce.completed_at, reduce.issued_at);
  EXPECT_STREQ(records.back().op, "barrier");
}

void sizes_that_do_not_fit_are_refused(Runtime& runtime, ProcessGroup& group) {
  const Tensor in = filled(runtime, {3}), out = filled(runtime, {3 * group.size() + 1});
  EXPECT_THROW(group.all_gather(in, out)->wait(), InternalError);
  EXPECT_THROW(group.reduce_scatter(out, in)->wait(), InternalError);
}

constexpr GroupCase kCases[] = {
    {"AllReduceSum", all_reduce_sum},
    {"AllReduceMax", all_reduce_max},
    {"ReductionsAreBitEqual", reductions_are_bit_equal},
    {"Bf16IsAddedAndRounded", bf16_is_added_and_rounded},
    {"ReductionOfF16IsRefused", reduction_of_f16_is_refused},
    {"AllGather", all_gather},
    {"ReduceScatter", reduce_scatter},
    {"AllToAll", all_to_all},
    {"AllToAllV", all_to_all_v},
    {"Broadcast", broadcast},
    {"ExchangeRing", exchange_ring},
    {"ExchangeKeepsTheOrderOfMessages", exchange_keeps_the_order_of_messages},
    {"Barrier", barrier},
    {"SplitByColorAndKey", split_by_color_and_key},
    {"WorksMayBeWaitedForInAnyOrder", works_may_be_waited_for_in_any_order},
    {"EmptyTensors", empty_tensors},
    {"CallsAreRecorded", calls_are_recorded},
    {"SizesThatDoNotFitAreRefused", sizes_that_do_not_fit_are_refused},
};

}  // namespace

std::span<const GroupCase> group_cases() { return kCases; }

}  // namespace ink
