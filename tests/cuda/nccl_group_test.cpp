// The NCCL transport: the cases of every transport on device tensors, how its calls are ordered
// with kernels, how waits end when a rank hangs, leaves or meets an error, and gradients reduced
// over it. Ranks are threads. On a machine with cards there are as many ranks as cards; on the host
// implementation also with streams that work as late as they may.
#include "parallel/comm/nccl_group.h"

#include <gtest/gtest.h>

#include <future>

#include "engine/nn/builder.h"
#include "engine/tensor/cuda_backend.h"
#include "parallel/comm/device_group.h"
#include "parallel/comm/self_group.h"
#include "parallel/comm/wait_watch.h"
#include "parallel/data_parallel/reducer.h"
#include "tests/cuda/card.h"
#include "tests/parallel/group_cases.h"
#include "tests/support/group_ranks.h"
#include "tests/support/values.h"

#ifdef INKSTONE_CUDA_ON_CPU_TEST
#include "tests/support/cuda_on_cpu/toolkit/nccl.h"
#endif

namespace ink {
namespace {

constexpr int kMostRanks = 4;

enum class Streams { kAtOnce, kLate };

// The host implementation offers as many cards as the tests want.
class Cards {
 public:
  explicit Cards(Streams streams = Streams::kAtOnce) {
#ifdef INKSTONE_CUDA_ON_CPU_TEST
    cuda_on_cpu::set_devices(kMostRanks);
    cuda_on_cpu::set_streams(streams == Streams::kLate ? cuda_on_cpu::Streams::kLate
                                                       : cuda_on_cpu::Streams::kAtOnce);
#else
    static_cast<void>(streams);
#endif
  }
  ~Cards() {
#ifdef INKSTONE_CUDA_ON_CPU_TEST
    cuda_on_cpu::set_devices(1);
    cuda_on_cpu::set_streams(cuda_on_cpu::Streams::kAtOnce);
    cuda_on_cpu::repair_cards();
#endif
  }
  Cards(const Cards&) = delete;
  Cards& operator=(const Cards&) = delete;
};

using Body = std::function<void(Runtime&, ProcessGroup& cards, ProcessGroup& host)>;

void run_on_cards(int ranks, const Body& body, const GroupOptions& options = {}) {
  run_group(ranks, [&](ProcessGroup& host) {
    Runtime runtime({}, make_backend(Device::kCuda, host.rank()));
    const auto cards = make_nccl_group(runtime, host, options);
    body(runtime, *cards, host);
  });
}

using Param = std::tuple<GroupCase, int, Streams>;

class NcclGroup : public testing::TestWithParam<Param> {};

TEST_P(NcclGroup, Case) {
  const auto& [group_case, ranks, streams] = GetParam();
  const Cards there(streams);
  if (const std::string why = why_no_card(ranks); !why.empty()) GTEST_SKIP() << why;
  run_on_cards(ranks,
               [&group_case = group_case](Runtime& runtime, ProcessGroup& cards, ProcessGroup&) {
                 group_case.run(runtime, cards);
               });
}

INSTANTIATE_TEST_SUITE_P(Cases, NcclGroup,
                         testing::Combine(testing::ValuesIn(group_cases().begin(),
                                                            group_cases().end()),
                                          testing::Values(1, 2, 3, 4),
                                          testing::Values(Streams::kAtOnce, Streams::kLate)),
                         [](const testing::TestParamInfo<Param>& info) {
                           return fmt::format(
                               "{}_{}{}", std::get<0>(info.param).name, std::get<1>(info.param),
                               std::get<2>(info.param) == Streams::kLate ? "_late" : "");
                         });

TEST(NcclGroupMemory, ATensorThatIsDroppedStaysUntilTheCallIsDone) {
  const Cards there(Streams::kLate);
  if (const std::string why = why_no_card(2); !why.empty()) GTEST_SKIP() << why;
  constexpr int64_t kCount = 1 << 20;
  run_on_cards(2, [](Runtime& runtime, ProcessGroup& cards, ProcessGroup&) {
    const int64_t before = runtime.allocator().report().total;
    auto sum = std::make_unique<Tensor>(zeros(runtime, {kCount}, DType::kF32));
    const void* memory = sum->raw();
    {
      const auto work = cards.all_reduce(*sum, ReduceOp::kSum);
      sum.reset();
    }
    const Tensor other = zeros(runtime, {kCount}, DType::kF32);
    EXPECT_NE(other.raw(), memory) << "handed out while the call may still write it";
    cards.barrier();
    EXPECT_EQ(runtime.allocator().report().total, before + other.bytes());
  });
}

TEST(NcclGroupMemory, IsCountedAsCommunication) {
  const Cards there;
  if (const std::string why = why_no_card(1); !why.empty()) GTEST_SKIP() << why;
  run_on_cards(1, [](Runtime& runtime, ProcessGroup&, ProcessGroup&) {
    const MemoryReport report = runtime.allocator().report();
    EXPECT_EQ(report.in_use[static_cast<size_t>(MemoryTag::kCommunication)], report.total);
    EXPECT_GT(report.total, 0);
  });
}

TEST(NcclGroup, TensorsOfTheProcessorAreRefused) {
  const Cards there;
  if (const std::string why = why_no_card(1); !why.empty()) GTEST_SKIP() << why;
  run_on_cards(1, [](Runtime&, ProcessGroup& cards, ProcessGroup&) {
    Runtime processor;
    const Tensor t = zeros(processor, {4}, DType::kF32);
    EXPECT_THROW(static_cast<void>(cards.all_reduce(t, ReduceOp::kSum)), InternalError);
  });
}

TEST(DeviceGroup, TheHostsGroupServesTheProcessorAndASingleRank) {
  const Cards there;
  run_group(2, [](ProcessGroup& host) {
    Runtime processor;
    EXPECT_EQ(make_device_group(processor, host), nullptr);
  });
  if (const std::string why = why_no_card(1); !why.empty()) GTEST_SKIP() << why;
  Runtime card({}, make_backend(Device::kCuda));
  const auto alone = make_self_group();
  EXPECT_EQ(make_device_group(card, *alone), nullptr);
}

// Gradients of two parameters are written by the host in place of kernels: what counts is that
// every rank ends with the sum, in buckets that leave one by one.
TEST(NcclReducer, SumsGradientsOnTheCards) {
  for (const int ranks : {2, 4}) {
    const Cards there(Streams::kLate);
    if (const std::string why = why_no_card(ranks); !why.empty()) GTEST_SKIP() << why;
    run_on_cards(ranks, [&](Runtime& runtime, ProcessGroup& cards, ProcessGroup&) {
      ParameterTable table;
      SerialBuilder builder(table);
      const auto first = builder.linear("first", 4, 6, {});
      const auto second = builder.linear("second", 6, 3, {});
      table.materialize(runtime, DType::kF32);
      Reducer reducer(runtime, table, cards, {.bucket_bytes = 1});
      EXPECT_EQ(reducer.bucket_count(), 2u);
      reducer.arm();
      for (const char* name : {"second.weight", "first.weight"}) {
        Leaf& leaf = *table.find(name)->leaf();
        const std::vector<float> mine(static_cast<size_t>(leaf.grad.numel()),
                                      1.0f + static_cast<float>(cards.rank()));
        runtime.backend().copy_from_host(leaf.grad.raw(), mine.data(), leaf.grad.bytes());
        leaf.has_grad = true;
        leaf.on_grad_ready(leaf);
      }
      EXPECT_EQ(cards.recorder().last().bytes, 24 * 4) << "buckets leave while backward runs";
      reducer.finish();
      for (const char* name : {"first.weight", "second.weight"}) {
        for (const float value :
             to_vector<float>(table.find(name)->grad().reshape({table.find(name)->grad().numel()})))
          ASSERT_EQ(value, static_cast<float>(ranks * (ranks + 1)) / 2) << name;
      }
    });
  }
}

// A copy, a sum over the ranks, and both again at every launch.
struct RecordedSum {
  RecordedSum(Runtime& runtime, ProcessGroup& cards)
      : mine(from_values(runtime, Values(8, 1.0 + cards.rank()), {8}, DType::kF32)),
        sum(empty_like(mine)) {
    DeviceBackend& backend = runtime.backend();
    graph = backend.record([this, &backend, &cards] {
      copy(sum, mine);
      backend.interlude([this, &cards] { work = cards.all_reduce(sum, ReduceOp::kSum); });
    });
  }
  Tensor mine, sum;
  std::unique_ptr<Work> work;
  std::unique_ptr<DeviceGraph> graph;
};

TEST(NcclRecording, EveryLaunchMakesACallOfItsOwn) {
  const Cards there(Streams::kLate);
  if (const std::string why = why_no_card(2); !why.empty()) GTEST_SKIP() << why;
  run_on_cards(2, [](Runtime& runtime, ProcessGroup& cards, ProcessGroup&) {
    RecordedSum recorded(runtime, cards);
    const int64_t before = cards.recorder().last().sequence;
    for (int64_t launch = 1; launch <= 3; ++launch) {
      recorded.graph->launch();
      EXPECT_EQ(cards.recorder().last().sequence, before + launch);
      EXPECT_STREQ(cards.recorder().last().op, "all_reduce");
      recorded.work->wait();
      EXPECT_EQ(to_values(recorded.sum), Values(8, 3.0));
      EXPECT_GE(cards.recorder().last().completed_at, 0);
    }
  });
}

#ifdef INKSTONE_CUDA_ON_CPU_TEST

// Runs f and returns the text of the Error 6 it must throw.
std::string peer_error(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& error) {
    EXPECT_EQ(static_cast<int>(error.code()), static_cast<int>(ExitCode::kPeer)) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "no error";
  return {};
}
// What the host implementation is there to find: kernels that do not wait for a call read what was
// there before.
TEST(NcclGroupOrder, AMissingWaitIsSeen) {
  const Cards there(Streams::kLate);
  run_on_cards(2, [](Runtime& runtime, ProcessGroup& cards, ProcessGroup&) {
    const Values mine(8, 1.0 + cards.rank()), sum(8, 3.0);
    const Tensor t = from_values(runtime, mine, {8}, DType::kF32), copied = empty_like(t);
    const auto work = cards.all_reduce(t, ReduceOp::kSum);
    Tensor early = copied;
    copy(early, t);  // on the stream of the kernels
    EXPECT_EQ(to_values(early), mine);
    work->wait();
    EXPECT_EQ(to_values(t), sum);
  });
}

// A call takes what kernels issued before it have written.
TEST(NcclGroupOrder, ACallWaitsForTheKernelsBeforeIt) {
  const Cards there(Streams::kLate);
  run_on_cards(2, [](Runtime& runtime, ProcessGroup& cards, ProcessGroup&) {
    const Tensor mine = from_values(runtime, Values(8, 1.0 + cards.rank()), {8}, DType::kF32);
    Tensor t = empty_like(mine);
    copy(t, mine);
    cards.all_reduce(t, ReduceOp::kSum)->wait();
    EXPECT_EQ(to_values(t), Values(8, 3.0));
  });
}

class NcclGroupFaults : public testing::TestWithParam<Streams> {
 protected:
  Cards there_{GetParam()};
};
INSTANTIATE_TEST_SUITE_P(Streams, NcclGroupFaults,
                         testing::Values(Streams::kAtOnce, Streams::kLate), [](const auto& info) {
                           return info.param == Streams::kLate ? "Late" : "AtOnce";
                         });

// Rank 1 stays away until rank 0 has met its error.
void run_with_absent_peer(const std::function<void(Runtime&, ProcessGroup&)>& body,
                          const GroupOptions& options) {
  std::promise<void> over;
  const std::shared_future<void> end = over.get_future().share();
  run_on_cards(
      2,
      [&](Runtime& runtime, ProcessGroup& cards, ProcessGroup& host) {
        host.barrier();  // a fault is not to meet the peer while it joins
        if (cards.rank() == 1) return end.wait();
        try {
          body(runtime, cards);
        } catch (const std::exception& error) {
          ADD_FAILURE() << error.what();
        }
        over.set_value();
      },
      options);
}

TEST_P(NcclGroupFaults, AnAbsentRankEndsInATimeOutThatNamesTheCall) {
  run_with_absent_peer(
      [](Runtime& runtime, ProcessGroup& cards) {
        const Tensor t = zeros(runtime, {5}, DType::kF32);
        const auto work = cards.all_reduce(t, ReduceOp::kSum);
        work->wait();  // the host is not held up
        const std::string text = peer_error([&] { static_cast<void>(to_values(t)); });
        EXPECT_NE(text.find("rank 0 of 2 waited 1."), std::string::npos) << text;
        EXPECT_NE(text.find("s in all_reduce (call 2, 20 bytes)"), std::string::npos) << text;
        EXPECT_LT(cards.recorder().last().completed_at, 0) << "the call is shown as complete";
        // Nothing works afterwards, and what the card holds is not handed out.
        EXPECT_EQ(peer_error([&] { work->wait(); }), text);
        EXPECT_EQ(peer_error([&] { cards.barrier(); }), text);
        EXPECT_EQ(peer_error([&] { static_cast<void>(to_values(t)); }), text);
      },
      {.timeout = std::chrono::seconds(1)});
}

TEST_P(NcclGroupFaults, ALaunchThatHangsNamesItsCall) {
  run_with_absent_peer(
      [](Runtime& runtime, ProcessGroup& cards) {
        RecordedSum recorded(runtime, cards);
        recorded.graph->launch();
        recorded.work->wait();
        const std::string text = peer_error([&] { static_cast<void>(to_values(recorded.sum)); });
        EXPECT_NE(text.find("s in all_reduce (call 2, 32 bytes)"), std::string::npos) << text;
        EXPECT_EQ(peer_error([&] { recorded.graph->launch(); }), text);
      },
      {.timeout = std::chrono::seconds(1)});
}

// A graph that held calls could not be ended by a deadline.
TEST_P(NcclGroupFaults, ACallInsideOfARecordingIsRefused) {
  run_on_cards(2, [](Runtime& runtime, ProcessGroup& cards, ProcessGroup& host) {
    const Tensor t = zeros(runtime, {8}, DType::kF32);
    EXPECT_THROW(static_cast<void>(runtime.backend().record(
                     [&] { cards.all_reduce(t, ReduceOp::kSum)->wait(); })),
                 InternalError);
    host.barrier();
  });
}

TEST_P(NcclGroupFaults, AnAbsentRankIsNoticedAtABarrier) {
  run_with_absent_peer(
      [](Runtime&, ProcessGroup& cards) {
        const std::string text = peer_error([&] { cards.barrier(); });
        EXPECT_NE(text.find("in barrier"), std::string::npos) << text;
      },
      {.timeout = std::chrono::seconds(1)});
}

TEST_P(NcclGroupFaults, AnAbsentRankIsNoticedWhenTheRanksMeet) {
  run_group(2, [](ProcessGroup& host) {
    Runtime runtime({}, make_backend(Device::kCuda, host.rank()));
    if (host.rank() == 1) {  // hears the id and does nothing with it
      Runtime processor;
      host.broadcast(Tensor(processor, {NCCL_UNIQUE_ID_BYTES}, DType::kU8), 0)->wait();
      return;
    }
    const std::string text = peer_error([&] {
      static_cast<void>(make_nccl_group(runtime, host, {.timeout = std::chrono::seconds(1)}));
    });
    EXPECT_NE(text.find("in init"), std::string::npos) << text;
  });
}

TEST_P(NcclGroupFaults, AnErrorOfTheLibraryEndsTheWait) {
  run_with_absent_peer(
      [](Runtime&, ProcessGroup& cards) {
        cuda_on_cpu::set_async_error(ncclRemoteError);
        const std::string text = peer_error([&] { cards.barrier(); });
        cuda_on_cpu::set_async_error(ncclSuccess);
        EXPECT_NE(text.find("barrier (call 2, 0 bytes, rank 0 of 2): NCCL: remote process error"),
                  std::string::npos)
            << text;
      },
      {});
}

// What rank 0 of two reads when a call meets that failure. The group has ended behind it.
std::string shortage_error(ncclResult_t result, const char* last_error,
                           const std::function<void(ProcessGroup&)>& call) {
  std::string text;
  run_with_absent_peer(
      [&](Runtime&, ProcessGroup& cards) {
        cuda_on_cpu::set_async_error(result, last_error);
        try {
          call(cards);
          ADD_FAILURE() << "no error";
        } catch (const Error& error) {
          text = error.line();
        }
        cuda_on_cpu::set_async_error(ncclSuccess);
        EXPECT_EQ(peer_error([&] { cards.barrier(); }).find("barrier (call 2"), 0u);
      },
      {});
  return text;
}

// Buffers of the library are not the allocator's: a card that tensors have filled shows there.
TEST_P(NcclGroupFaults, ACardThatIsFullEndsWithTheTable) {
  for (const char* last_error : {"Cuda failure 'out of memory'", "Cuda failure 2 'out of memory'",
                                 "Failed to CUDA calloc async 4194304 bytes"}) {
    const std::string text = shortage_error(ncclUnhandledCudaError, last_error,
                                            [](ProcessGroup& cards) { cards.barrier(); });
    EXPECT_TRUE(
        text.starts_with("error[7]: memory: [barrier (call 2, 0 bytes, rank 0 of 2): NCCL: "
                         "unhandled cuda error: " +
                         std::string(last_error) + "]"))
        << text;
    for (const char* word : {"communication", "activations", "hint: "})
      EXPECT_NE(text.find(word), std::string::npos) << text;
  }
}

TEST_P(NcclGroupFaults, AHostThatIsFullIsNamed) {
  for (const char* last_error :
       {"Failed to malloc 32 bytes", "Failed to CUDA host alloc 1048576 bytes",
        "Error while creating shared memory segment /dev/shm/nccl-a (size 9637888), error: No "
        "space "
        "left on device (28)"}) {
    const std::string text =
        shortage_error(ncclSystemError, last_error, [](ProcessGroup& cards) { cards.barrier(); });
    EXPECT_TRUE(
        text.starts_with("error[7]: memory: barrier (call 2, 0 bytes, rank 0 of 2): NCCL: "
                         "unhandled system error: " +
                         std::string(last_error)))
        << text;
    EXPECT_NE(text.find("--shm-size"), std::string::npos) << text;
  }
}

TEST_P(NcclGroupFaults, WhatIsNoShortageIsAPeersFailure) {
  run_with_absent_peer(
      [](Runtime&, ProcessGroup& cards) {
        cuda_on_cpu::set_async_error(ncclUnhandledCudaError,
                                     "Cuda failure 'an illegal memory access was encountered'");
        const std::string text = peer_error([&] { cards.barrier(); });
        cuda_on_cpu::set_async_error(ncclSuccess);
        EXPECT_NE(text.find("illegal memory access"), std::string::npos) << text;
      },
      {});
}

// The transport looks at its calls while the host waits, and sees the failure as well.
TEST(NcclGroupFailedKernel, IsNamedWhileACallIsOpen) {
  const Cards there(Streams::kLate);
  run_with_absent_peer(
      [](Runtime& runtime, ProcessGroup& cards) {
        CudaBackend& card = cuda_backend(zeros(runtime, {1}, DType::kF32));
        const Tensor t = zeros(runtime, {5}, DType::kF32);
        const auto open = cards.all_reduce(t, ReduceOp::kSum);
        cuda_on_cpu::enqueue(card.stream(), [] { throw std::runtime_error("a broken kernel"); });
        card.launched("swiglu_forward");
        try {
          card.synchronize();
          ADD_FAILURE() << "no error";
        } catch (const std::exception& error) {
          const std::string_view text = error.what();
          EXPECT_NE(text.find("[one of the ops launched last: swiglu_forward"), text.npos) << text;
        }
      },
      {});
}

// When ranks meet, the library takes the most memory.
TEST_P(NcclGroupFaults, ACardThatIsFullWhenTheRanksMeet) {
  cuda_on_cpu::set_async_error(ncclUnhandledCudaError, "Failed to CUDA malloc 9437184 bytes");
  run_group(2, [](ProcessGroup& host) {
    Runtime runtime({}, make_backend(Device::kCuda, host.rank()));
    try {
      static_cast<void>(make_nccl_group(runtime, host, {}));
      ADD_FAILURE() << "no error";
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kOutOfMemory) << error.what();
      EXPECT_NE(error.line().find("[init (call 1, 0 bytes, rank "), std::string::npos)
          << error.line();
    }
  });
  cuda_on_cpu::set_async_error(ncclSuccess);
}

class Impatient final : public WaitWatch {
 public:
  void waiting(const ProcessGroup& group, const FlightRecord& call, double seconds) override {
    throw Error(ExitCode::kPeer, group.name(), describe_wait(group, call, seconds) + ": enough");
  }
};

TEST_P(NcclGroupFaults, TheWatchDecidesHowLongAWaitLasts) {
  run_with_absent_peer(
      [](Runtime&, ProcessGroup& cards) {
        const std::string text = peer_error([&] { cards.barrier(); });
        EXPECT_TRUE(text.ends_with("in barrier (call 2, 0 bytes): enough")) << text;
      },
      {.watch = std::make_shared<Impatient>()});
}

TEST_P(NcclGroupFaults, AbortEndsTheGroupAndItsSplits) {
  run_on_cards(2,
               [](Runtime& runtime, ProcessGroup& cards, ProcessGroup& host) {
                 const auto part = cards.split(0, cards.rank());
                 const Tensor t = zeros(runtime, {4}, DType::kF32);
                 if (cards.rank() == 0) {
                   const auto open = part->all_reduce(t, ReduceOp::kSum);
                   EXPECT_EQ(peer_error([&] { cards.abort("rank 0 met a bad row"); }),
                             "rank 0 met a bad row");
                   EXPECT_EQ(peer_error([&] { open->wait(); }), "rank 0 met a bad row");
                   EXPECT_EQ(peer_error([&] { part->barrier(); }), "rank 0 met a bad row");
                 }
                 host.barrier();
                 if (cards.rank() == 1) {  // is not told, and finds out
                   const std::string text = peer_error([&] { cards.barrier(); });
                   EXPECT_NE(text.find("waited 1."), std::string::npos) << text;
                 }
                 host.barrier();
               },
               {.timeout = std::chrono::seconds(1)});
}

TEST_P(NcclGroupFaults, CallsThatDoNotMatchAreReported) {
  run_on_cards(2,
               [](Runtime& runtime, ProcessGroup& cards, ProcessGroup& host) {
                 const Tensor t = zeros(runtime, {4 + cards.rank()}, DType::kF32);
                 const std::string text = peer_error([&] {
                   cards.all_reduce(t, ReduceOp::kSum)->wait();
                   static_cast<void>(to_values(t));
                 });
                 EXPECT_NE(text.find("all_reduce (call 2"), std::string::npos) << text;
                 host.barrier();
               },
               {.timeout = std::chrono::seconds(5)});
}
#endif

}  // namespace
}  // namespace ink
