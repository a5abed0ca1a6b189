// What is told of cuDNN when it does not do attention: versions, messages of several lines, memory
// that ran out in it, and every refusal once.
#include "engine/kernels/cuda/cudnn_messages.h"

#include <gtest/gtest.h>

#include "engine/kernels/tuning.h"
#include "engine/tensor/out_of_memory.h"
#include "tests/cuda/card.h"

namespace ink::cudnn {
namespace {

TEST(CudnnMessages, VersionsAsTheyAreCalled) {
  EXPECT_EQ(version_text(90600), "9.6.0");
  EXPECT_EQ(version_text(91001), "9.10.1");
}

TEST(CudnnMessages, NameTheVersionThatACardNeeds) {
  EXPECT_EQ(too_old(90501, 90, false), "cuDNN 9.5.1 is older than 9.6.0");
  EXPECT_EQ(too_old(90600, 90, false), "");
  EXPECT_EQ(too_old(90501, 100, true), "cuDNN 9.5.1 is older than 9.6.0");
  EXPECT_EQ(too_old(90600, 100, true), "");
  EXPECT_EQ(too_old(91701, 90, true),
            "cuDNN 9.17.1 is older than 9.18.0, the first whose backward is right on cards of 9.0");
  EXPECT_EQ(too_old(91800, 90, true), "");
}

TEST(CudnnMessages, BecomeOneLine) {
  EXPECT_EQ(one_line("No valid execution plans built.\nPlan at index 0: not supported\n"),
            "No valid execution plans built.; Plan at index 0: not supported");
  EXPECT_EQ(one_line("\n\na\tb\r\n\r\nc"), "a b; c");
  EXPECT_EQ(one_line(std::string(241, 'x')), std::string(240, 'x') + "...");
  EXPECT_EQ(one_line(std::string(239, 'x') + "\xc3\xa9y"), std::string(239, 'x') + "...");
}

TEST(CudnnMessages, SayWhenMemoryRanOut) {
  for (const char* text :
       {"cudnnCreate(&handle), and code: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED",
        "Plan at index 0: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED", "cudaMalloc: out of memory"})
    EXPECT_TRUE(says_out_of_memory(text)) << text;
  for (const char* text : {"CUDNN_STATUS_NOT_SUPPORTED_SHARED_MEMORY_INSUFFICIENT",
                           "CUDNN_STATUS_SUBLIBRARY_LOADING_FAILED", ""})
    EXPECT_FALSE(says_out_of_memory(text)) << text;
}

TEST(CudnnMessages, ARefusalIsToldOncePerSlot) {
  KernelTuning tuning("a card");
  tuning.refuse({"attention_forward", "cudnn", "first"});
  tuning.refuse({"attention_forward", "cudnn", "second"});
  tuning.refuse({"attention_backward", "cudnn", "first"});
  const auto told = tuning.take_refusals();
  ASSERT_EQ(told.size(), 2u);
  EXPECT_EQ(told[0].slot, "attention_forward");
  EXPECT_EQ(told[0].reason, "first");
  EXPECT_EQ(told[1].slot, "attention_backward");
  tuning.refuse({"attention_backward", "cudnn", "third"});
  EXPECT_TRUE(tuning.take_refusals().empty());
}

class CudnnRefusal : public testing::Test {
 protected:
  void SetUp() override {
    if (const std::string why = why_no_card(); !why.empty()) GTEST_SKIP() << why;
    backend_ = make_backend(Device::kCuda);
  }
  [[nodiscard]] const CudaBackend& backend() const {
    return static_cast<const CudaBackend&>(*backend_);
  }
  std::unique_ptr<DeviceBackend> backend_;
};

TEST_F(CudnnRefusal, IsTheMessage) { EXPECT_EQ(refusal_of(backend(), "no\nengine"), "no; engine"); }

TEST_F(CudnnRefusal, OfMemoryEndsWithTheTable) {
  try {
    static_cast<void>(
        refusal_of(backend(), "CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"));
    ADD_FAILURE() << "no error";
  } catch (const OutOfMemory& error) {
    EXPECT_EQ(error.code(), ExitCode::kOutOfMemory);
    EXPECT_EQ(error.line().find("error[7]: memory: [cuDNN: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_"),
              0u)
        << error.line();
    EXPECT_NE(error.line().find("workspace"), std::string::npos);
  }
}

// The library may have met it in a call of the runtime; the next launch does not report it again.
TEST_F(CudnnRefusal, KnowsWhatTheRuntimeKept) {
  void* memory = nullptr;
  ASSERT_EQ(cudaMalloc(&memory, size_t{1} << 60), cudaErrorMemoryAllocation);
  EXPECT_THROW(static_cast<void>(refusal_of(backend(), "CUDNN_STATUS_EXECUTION_FAILED_CUDART")),
               OutOfMemory);
  EXPECT_EQ(cudaGetLastError(), cudaSuccess);
}

}  // namespace
}  // namespace ink::cudnn
