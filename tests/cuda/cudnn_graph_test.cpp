// What cuDNN says of the graphs of attention, without a card: it is told the properties of one,
// chooses an engine and compiles its kernels (driver_stand_in.cpp takes them). Shows which shapes
// run by cuDNN, by which kernels and in how much memory; what they compute only a card can show.
#include <cuda_runtime.h>
#include <dlfcn.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <ostream>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "engine/kernels/cuda/attention_cudnn_graph.h"

namespace ink::cudnn {
namespace {

namespace fe = cudnn_frontend;

// Compute capability, multiprocessors, shared memory of a block in bytes: the CUDA C++ Programming
// Guide, "Compute Capabilities", and NVIDIA's pages of the cards. What else cuDNN is told is an
// H100's or less.
struct Card {
  const char* name = "";
  int capability = 0, multiprocessors = 0, shared = 0;
};
constexpr Card kH100{"H100", 90, 132, 232448}, kB200{"B200", 100, 148, 232448},
    kRtx5090{"RTX 5090", 120, 170, 101376}, kA100{"A100", 80, 108, 166912};

// The card that cudnn-frontend sees when it asks the runtime.
const Card*& current_card() {
  static const Card* card = &kH100;
  return card;
}

// driver_stand_in.cpp. Its soname is the driver's: loaded first, it is what cuDNN gets.
class Driver {
 public:
  Driver() : library_(dlopen(INKSTONE_DRIVER_STAND_IN, RTLD_NOW)) {
    if (library_ == nullptr) throw std::runtime_error(dlerror());
    take_ = reinterpret_cast<Take>(dlsym(library_, "take_looked_up_kernels"));
  }
  [[nodiscard]] std::vector<std::string> take_looked_up_kernels() const {
    std::vector<std::string> kernels;
    take_([](void* to,
             const char* name) { static_cast<std::vector<std::string>*>(to)->emplace_back(name); },
          &kernels);
    return kernels;
  }

 private:
  using Take = void (*)(void (*)(void*, const char*), void*);
  void* library_;  // stays open: cuDNN holds it too
  Take take_ = nullptr;
};

std::shared_ptr<fe::DeviceProperties> properties_of(const Card& card) {
  const std::string json = fmt::format(
      R"({{"version":1,"cudaDeviceId":0,"deviceVer":{},"driverVer":13000,"totalGlobalMem":34359738368,)"
      R"("maxGridSize":[2147483647,65535,65535],"maxBlockSize":[1024,1024,64],"regsPerBlock":65536,)"
      R"("multiProcessorCount":{},"warpSize":32,"maxSharedMemoryPerBlock":49152,)"
      R"("maxSharedMemoryPerBlockOptin":{},"reservedSharedMemoryPerBlock":1024,)"
      R"("maxRegistersPerSM":65536,"maxCtasPerSM":24,"maxThreadsPerBlock":1024,)"
      R"("maxThreadsPerSM":1536,"pciDeviceId":0,"isTccDriver":0,"supportCoopLaunch":1,)"
      R"("smClockRateKHz":1980000,"memClockRateKHz":2619000,"l2CacheSize":52428800,)"
      R"("deviceName":"{}"}})",
      card.capability * 10, card.multiprocessors, card.shared, card.name);
  auto properties = std::make_shared<fe::DeviceProperties>();
  auto status = properties->deserialize({json.begin(), json.end()});
  if (status.is_bad()) throw std::runtime_error(status.get_message());
  return properties;
}

struct Verdict {
  bool accepted = false;
  std::string why;
  int64_t workspace = 0;
  std::vector<std::string> kernels;
  std::set<int64_t> tensors;  // whose pointers it wants at each run
};

// All that the graph reads and writes, less its constants and what it keeps in the workspace.
std::set<int64_t> tensors_of(const fe::graph::Graph& graph) {
  std::vector<uint8_t> data;
  if (graph.serialize(data, false).is_bad()) return {};
  const auto plan = nlohmann::json::from_ubjson(data);
  std::set<int64_t> tensors;
  for (const auto& tensor : plan["variant_pack_uids"]) tensors.insert(tensor.get<int64_t>());
  for (const char* own : {"pass_by_values", "workspace_modifications"})
    for (const auto& [tensor, value] : plan[own].items()) tensors.erase(std::stoll(tensor));
  return tensors;
}

Verdict ask(const GraphKey& key, const Card& card = kH100) {
  static const Driver driver;
  current_card() = &card;
  (void)driver.take_looked_up_kernels();
  const auto graph = attention_graph(key);
  graph->set_device_properties(properties_of(card)).set_sm_count(card.multiprocessors);
  auto status = graph->validate();
  if (status.is_good()) status = graph->build_operation_graph();
  if (status.is_good()) status = graph->create_execution_plans({fe::HeurMode_t::A});
  if (status.is_good()) status = graph->check_support();
  if (status.is_good()) status = graph->build_plans();
  Verdict verdict{status.is_good(), status.get_message(), 0, driver.take_looked_up_kernels(), {}};
  if (verdict.accepted) {
    verdict.workspace = graph->get_workspace_size();
    verdict.tensors = tensors_of(*graph);
  }
  return verdict;
}

struct Shape {
  int64_t tokens = 0, documents = 0, longest = 0, heads = 0, kv_heads = 0, dim = 0;
};
constexpr Shape k7B{4096, 16, 4096, 32, 8, 128};
std::ostream& operator<<(std::ostream& to, const Shape& s) {
  return to << s.tokens << " tokens, " << s.documents << " documents of at most " << s.longest
            << ", " << s.heads << " heads, " << s.kv_heads << " kv heads of " << s.dim;
}

GraphKey key_of(const Shape& s, bool backward) {
  const int64_t row = s.heads * s.dim, kv_row = s.kv_heads * s.dim;
  GraphKey key{.documents = s.documents,
               .longest = s.longest,
               .tokens = s.tokens,
               .heads = s.heads,
               .kv_heads = s.kv_heads,
               .dim = s.dim,
               .row = {.q = row, .k = kv_row, .v = kv_row, .out = row},
               .backward = backward};
  if (backward) key.row.dout = key.row.dq = row, key.row.dk = key.row.dv = kv_row;
  return key;
}

class CudnnGraphs : public testing::Test {
 protected:
  void SetUp() override {
    if (cudnnGetVersion() < 90800)
      GTEST_SKIP() << "cuDNN " << cudnnGetVersion()
                   << " compiles for the card at hand alone, 9.8 for others";
  }
};
class CudnnGraph : public CudnnGraphs, public testing::WithParamInterface<Shape> {};

TEST_P(CudnnGraph, IsAcceptedWithinItsWorkspace) {
  for (const bool backward : {false, true}) {
    const GraphKey key = key_of(GetParam(), backward);
    ASSERT_TRUE(is_asked(key));
    const Verdict verdict = ask(key);
    ASSERT_TRUE(verdict.accepted) << verdict.why;
    EXPECT_LE(verdict.workspace, most_attention_workspace(key));
    ASSERT_FALSE(verdict.kernels.empty());
    for (const std::string& kernel : verdict.kernels)
      EXPECT_NE(kernel.find("sm90_flash"), std::string::npos) << kernel;
  }
}

INSTANTIATE_TEST_SUITE_P(ModelsAndOddShapes, CudnnGraph,
                         testing::Values(Shape{16384, 64, 4096, 16, 8, 128},    // 1.8B
                                         k7B,                                   //
                                         Shape{8192, 8, 8192, 32, 2, 128},      // InternLM3 8B
                                         Shape{131072, 8, 131072, 48, 8, 128},  // 20B, long
                                         Shape{1024, 1, 1024, 12, 12, 64},      //
                                         Shape{1000, 4, 333, 9, 3, 64},         //
                                         Shape{1000, 4, 333, 5, 1, 80},         //
                                         Shape{33, 32, 2, 4, 2, 8}));

TEST_F(CudnnGraphs, InF16) {
  for (const bool backward : {false, true}) {
    GraphKey key = key_of(k7B, backward);
    key.dtype = DType::kF16;
    const Verdict verdict = ask(key);
    EXPECT_TRUE(verdict.accepted) << verdict.why;
  }
}

// attention_cudnn.cpp has to give a pointer to each of them; that it does is not tried here.
TEST_F(CudnnGraphs, WantTheNamedTensorsAndTheirOffsets) {
  const auto with_offsets = [](std::set<int64_t> names) {
    std::set<int64_t> all{kLengths};
    for (const int64_t name : names) all.insert({name, name + kOffset});
    return all;
  };
  EXPECT_EQ(ask(key_of(k7B, false)).tensors, with_offsets({kQ, kK, kV, kOut, kStats}));
  EXPECT_EQ(ask(key_of(k7B, true)).tensors,
            with_offsets({kQ, kK, kV, kOut, kStats, kDout, kDq, kDk, kDv}));
}

// cuDNN takes them forward, and writes statistics of some heads alone.
TEST_F(CudnnGraphs, OfOneTokenPerDocumentAreNotAskedFor) {
  for (const bool backward : {false, true}) {
    EXPECT_FALSE(is_asked(key_of({8, 8, 1, 4, 2, 64}, backward)));
    EXPECT_TRUE(is_asked(key_of({8, 4, 2, 4, 2, 64}, backward)));
  }
  EXPECT_FALSE(ask(key_of({8, 8, 1, 4, 2, 64}, true)).accepted);
}

// The reason for the limit: a fixed order costs memory by the square of the length on sm_90.
TEST_F(CudnnGraphs, InAFixedOrderNeedTheSquareOfTheLength) {
  GraphKey key = key_of(k7B, true);
  key.deterministic = true;
  const Verdict verdict = ask(key);
  ASSERT_TRUE(verdict.accepted) << verdict.why;
  EXPECT_GE(verdict.workspace, 2 * k7B.documents * k7B.heads * k7B.longest * k7B.longest);
  EXPECT_GT(verdict.workspace, most_attention_workspace(key));

  key = key_of({512, 4, 128, 8, 2, 64}, true);
  key.deterministic = true;
  const Verdict few = ask(key);
  ASSERT_TRUE(few.accepted) << few.why;
  EXPECT_LE(few.workspace, most_attention_workspace(key));
}

// 10.x goes both ways; before 9.0 and on 12.x backward is refused.
TEST_F(CudnnGraphs, ByCard) {
  for (const Card* card : {&kB200, &kRtx5090, &kA100}) {
    const Verdict forward = ask(key_of(k7B, false), *card);
    EXPECT_TRUE(forward.accepted) << card->name << ": " << forward.why;
    const Verdict backward = ask(key_of(k7B, true), *card);
    EXPECT_EQ(backward.accepted, card == &kB200) << card->name << ": " << backward.why;
  }
}

TEST_F(CudnnGraphs, OfHeadsThatAreNoMultipleOf8AreRefused) {
  const GraphKey key = key_of({64, 2, 32, 2, 2, 12}, false);
  EXPECT_FALSE(ask(key).accepted);
  EXPECT_FALSE(is_asked(key));
}

}  // namespace
}  // namespace ink::cudnn

// In place of the runtime's, which would ask the driver: cudnn-frontend takes the capability from
// here.
extern "C" cudaError_t cudaGetDevice(int* device) {
  *device = 0;
  return cudaSuccess;
}
extern "C" cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  const int capability = ink::cudnn::current_card()->capability;
  if (attribute == cudaDevAttrComputeCapabilityMajor) {
    *value = capability / 10;
  } else if (attribute == cudaDevAttrComputeCapabilityMinor) {
    *value = capability % 10;
  } else {
    return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}
