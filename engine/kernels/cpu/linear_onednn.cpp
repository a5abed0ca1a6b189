// Linear by oneDNN's matmul, which takes the operands as they lie: f32, and bf16 with f32 sums and
// f32 or bf16 results. Without AMX its bf16 is slower than widening (docs/benchmarks), so there it
// has to be chosen by name. The whole file is empty in builds without oneDNN.
#ifdef INKSTONE_ONEDNN

#include <list>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <tuple>
#include <unordered_map>

#include "engine/core/cpu_features.h"
#include "engine/core/parallel_for.h"
#include "engine/kernels/cpu/linear_gemm.h"
#include "engine/tensor/tensor.h"

namespace ink {
namespace {

using Dims = dnnl::memory::dims;
using Key = std::tuple<int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
                       DType, DType, bool, WriteMode, int>;

struct Matmul {
  dnnl::memory::desc a, b, c, bias, scratch;
  dnnl::matmul primitive;
};

dnnl::memory::data_type type_of(DType dtype) {
  return dtype == DType::kBF16 ? dnnl::memory::data_type::bf16 : dnnl::memory::data_type::f32;
}

Matmul make_matmul(const dnnl::engine& engine, const Gemm& g) {
  Matmul made;
  made.a = {Dims{g.m, g.k}, type_of(g.a.dtype), Dims{g.a.outer_stride, g.a.depth_stride}};
  made.b = {Dims{g.k, g.n}, type_of(g.b.dtype), Dims{g.b.depth_stride, g.b.outer_stride}};
  made.c = {Dims{g.m, g.n}, type_of(g.c.dtype), Dims{g.c.row_stride, 1}};
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  if (g.c.mode == WriteMode::kAccumulate) {
    dnnl::post_ops sum;
    sum.append_sum(1.0F);
    attributes.set_post_ops(sum);
  }
  const bool with_bias = g.c.bias != nullptr;
  if (with_bias) made.bias = {Dims{1, g.n}, type_of(g.c.bias_dtype), Dims{g.n, 1}};
  const dnnl::matmul::desc what = with_bias ? dnnl::matmul::desc(made.a, made.b, made.bias, made.c)
                                            : dnnl::matmul::desc(made.a, made.b, made.c);
  const dnnl::matmul::primitive_desc description(what, attributes, engine);
  made.scratch = description.scratchpad_desc();
  made.primitive = dnnl::matmul(description);
  return made;
}

// Primitives of one thread, the longest unused dropped first. oneDNN partitions a primitive by the
// thread count of its creation, so the count is part of the key.
class MatmulCache {
 public:
  const Matmul& get(const Gemm& g) {
    const Key key{g.m,
                  g.n,
                  g.k,
                  g.a.outer_stride,
                  g.a.depth_stride,
                  g.b.outer_stride,
                  g.b.depth_stride,
                  g.c.row_stride,
                  g.a.dtype,
                  g.c.dtype,
                  g.c.bias != nullptr,
                  g.c.mode,
                  thread_count()};
    const auto found = places_.find(key);
    if (found != places_.end()) {
      recent_.splice(recent_.begin(), recent_, found->second);
      return found->second->second;
    }
    recent_.emplace_front(key, make_matmul(engine, g));
    places_.emplace(key, recent_.begin());
    if (recent_.size() > kCapacity) {
      places_.erase(recent_.back().first);
      recent_.pop_back();
    }
    return recent_.front().second;
  }

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};

 private:
  static constexpr size_t kCapacity = 256;
  std::list<std::pair<Key, Matmul>> recent_;
  std::map<Key, std::list<std::pair<Key, Matmul>>::iterator> places_;
};

void run(Runtime& runtime, const Gemm& g) {
  thread_local MatmulCache cache;
  const Matmul& matmul = cache.get(g);
  const Tensor scratch(runtime, Shape{static_cast<int64_t>(matmul.scratch.get_size())}, DType::kU8,
                       MemoryTag::kWorkspace);
  const auto bind = [&](const dnnl::memory::desc& description, const void* data) {
    // oneDNN takes sources through the same mutable pointer as results.
    return dnnl::memory(description, cache.engine, const_cast<void*>(data));
  };
  std::unordered_map<int, dnnl::memory> arguments{
      {DNNL_ARG_SRC, bind(matmul.a, g.a.data)},
      {DNNL_ARG_WEIGHTS, bind(matmul.b, g.b.data)},
      {DNNL_ARG_DST, bind(matmul.c, g.c.data)},
      {DNNL_ARG_SCRATCHPAD, bind(matmul.scratch, scratch.raw())}};
  if (g.c.bias != nullptr) arguments.emplace(DNNL_ARG_BIAS, bind(matmul.bias, g.c.bias));
  matmul.primitive.execute(cache.stream, arguments);
  cache.stream.wait();
}

bool takes_shape(const Gemm& g) { return g.m > 0 && g.n > 0 && g.k > 0; }

bool takes_f32(const Gemm& g) {
  return g.a.dtype == DType::kF32 && g.c.dtype == DType::kF32 && takes_shape(g);
}
bool takes_bf16(const Gemm& g) {
  return has_avx512_bf16() && g.a.dtype == DType::kBF16 &&
         (g.c.dtype == DType::kBF16 || g.c.dtype == DType::kF32) && takes_shape(g);
}
bool takes(const Gemm& g) { return takes_f32(g) || (has_amx_bf16() && takes_bf16(g)); }

void forward(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O, Tensor& y_TO) {
  run(y_TO.runtime(), forward_gemm(x_TI, w_OI, bias_O, y_TO));
}
template <bool (*kTakes)(const Gemm&)>
bool takes_forward(const Tensor& x_TI, const Tensor& w_OI, const Tensor& bias_O, Tensor& y_TO) {
  return kTakes(forward_gemm(x_TI, w_OI, bias_O, y_TO));
}

void backward_input(const Tensor& dy_TO, const Tensor& w_OI, WriteMode mode, Tensor& dx_TI) {
  run(dx_TI.runtime(), input_gemm(dy_TO, w_OI, mode, dx_TI));
}
template <bool (*kTakes)(const Gemm&)>
bool takes_input(const Tensor& dy_TO, const Tensor& w_OI, const WriteMode& mode, Tensor& dx_TI) {
  return kTakes(input_gemm(dy_TO, w_OI, mode, dx_TI));
}

void backward_weight(const Tensor& dy_TO, const Tensor& x_TI, WriteMode mode, Tensor& dw_OI) {
  run(dw_OI.runtime(), weight_gemm(dy_TO, x_TI, mode, dw_OI));
}
template <bool (*kTakes)(const Gemm&)>
bool takes_weight(const Tensor& dy_TO, const Tensor& x_TI, const WriteMode& mode, Tensor& dw_OI) {
  return kTakes(weight_gemm(dy_TO, x_TI, mode, dw_OI));
}

REGISTER_KERNEL(linear_forward, kCpu, onednn, forward, .priority = 30,
                .supports = takes_forward<takes>);
REGISTER_KERNEL(linear_forward, kCpu, avx512_bf16_onednn, forward, .priority = -1,
                .supports = takes_forward<takes_bf16>);
REGISTER_KERNEL(linear_backward_input, kCpu, onednn, backward_input, .priority = 30,
                .supports = takes_input<takes>);
REGISTER_KERNEL(linear_backward_input, kCpu, avx512_bf16_onednn, backward_input, .priority = -1,
                .supports = takes_input<takes_bf16>);
REGISTER_KERNEL(linear_backward_weight, kCpu, onednn, backward_weight, .priority = 30,
                .supports = takes_weight<takes>);
REGISTER_KERNEL(linear_backward_weight, kCpu, avx512_bf16_onednn, backward_weight, .priority = -1,
                .supports = takes_weight<takes_bf16>);

}  // namespace
}  // namespace ink

#endif
