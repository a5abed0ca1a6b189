// Loss and gradient of rows of logits, one block per row. Per logit 4 bytes are read for the
// log-sum-exp, 2 or 4 written, and two exponentials taken. For the gradient a row is kept in shared
// memory as far as it goes (14 of the 23 turns of the block over 92544 logits on sm_90); what it
// cannot hold is read again, backwards: of the few rows that are under way then, one for each SM,
// that is 20 MB, which the second-level cache has room for.
#include <algorithm>
#include <cfloat>

#include "engine/kernels/cuda/device.cuh"
#include "engine/kernels/cuda/label_check.h"
#include "engine/kernels/cuda/launch.h"
#include "engine/kernels/cuda/matrix.h"
#include "engine/kernels/cuda/visit.h"
#include "engine/ops/lm_loss.h"

namespace ink {
namespace {

constexpr int kThreads = 1024;
constexpr int kInFlight = 4;  // loads of a thread before the first is used

// What a block keeps of its row: its first turns over the row, a pack of each thread per turn. A
// thread reads what it alone has stored.
template <int N>
struct KeptTurns {
  float* at;
  int count;
  __device__ __forceinline__ float* of(int turn) const {
    return at + (turn * static_cast<int>(blockDim.x) + thread_of_block()) * N;
  }
};

// What the first pass of a thread leaves: its largest logit and the first pack that has it,
// exp(logit - max) summed and, where labels are smoothed, the logits summed.
template <bool kSmooths>
struct Partial {
  float max = -FLT_MAX;  // finite: logits of -infinity give no NaN
  float exps = 0.0f, logits = 0.0f;
  int64_t at = 0;

  template <int N>
  __device__ __forceinline__ void add(const Pack<float, N>& pack, int64_t begin) {
    float largest = pack.v[0];
#pragma unroll
    for (int i = 1; i < N; ++i) largest = fmaxf(largest, pack.v[i]);
    if (largest > max) {
      exps *= __expf(max - largest);
      max = largest;
      at = begin;
    }
#pragma unroll
    for (int i = 0; i < N; ++i) {
      exps += __expf(pack.v[i] - max);
      if constexpr (kSmooths) logits += pack.v[i];
    }
  }
};

struct alignas(16) RowScratch {  // behind it lie the kept turns
  BlockScratch<float> floats;
  BlockScratch<double> doubles;
};

// The same numbers in every thread of the block; logits only where labels are smoothed.
struct RowSums {
  float max;
  double exps, logits = 0.0;
  bool label_is_first_max;
};

template <bool kSmooths, int N>
__device__ __forceinline__ Partial<kSmooths> read_row(const float* logits, int64_t vocabulary,
                                                      KeptTurns<N> kept) {
  const int64_t step = int64_t{blockDim.x} * N;
  int64_t c = int64_t{threadIdx.x} * N;
  int turn = 0;
  Partial<kSmooths> partial;
  const auto take = [&](const Pack<float, N>& pack, int k) {
    if (turn + k < kept.count) store_pack(kept.of(turn + k), pack);
    partial.add(pack, c + k * step);
  };
  for (; c + (kInFlight - 1) * step < vocabulary; c += kInFlight * step, turn += kInFlight) {
    Pack<float, N> packs[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) packs[k] = load_pack<N>(logits + c + k * step);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) take(packs[k], k);
  }
  for (; c < vocabulary; c += step, ++turn) take(load_pack<N>(logits + c), 0);
  return partial;
}

template <bool kSmooths, int N>
__device__ __forceinline__ RowSums sum_row(const float* logits, int64_t vocabulary, int64_t label,
                                           KeptTurns<N> kept, RowScratch& scratch) {
  const Partial<kSmooths> mine = read_row<kSmooths>(logits, vocabulary, kept);
  RowSums row;
  row.max = block_max(mine.max, scratch.floats);
  row.exps =
      block_sum(static_cast<double>(mine.exps * __expf(mine.max - row.max)), scratch.doubles);
  if constexpr (kSmooths) row.logits = block_sum(static_cast<double>(mine.logits), scratch.doubles);
  // Does an earlier column hold the same largest logit? Only the first pack of a thread matters.
  float earlier = 0.0f;
  if (mine.max == row.max) {
    int64_t first = mine.at;
    while (first < vocabulary && logits[first] != row.max) ++first;
    earlier = first < label ? 1.0f : 0.0f;
  }
  row.label_is_first_max = logits[label] == row.max && block_max(earlier, scratch.floats) == 0.0f;
  return row;
}

// d logit = factor * exp(logit - max) - shift, less at_label where the label is.
struct Gradient {
  float max, factor, shift, at_label;
  int64_t label;

  template <class T, int N>
  __device__ __forceinline__ Pack<T, N> of(const Pack<float, N>& logits, int64_t begin) const {
    Pack<T, N> out;
#pragma unroll
    for (int i = 0; i < N; ++i) {
      const float slope = __expf(logits.v[i] - max) * factor - shift;
      out.v[i] = from_float<T>(begin + i == label ? slope - at_label : slope);
    }
    return out;
  }
};

// The gradient may be the memory of the logits: a thread writes what it alone has read.
template <class T, int N>
__device__ __forceinline__ void write_row(const float* logits, int64_t vocabulary,
                                          const Gradient& gradient, KeptTurns<N> kept, T* out) {
  const int64_t step = int64_t{blockDim.x} * N, first = int64_t{threadIdx.x} * N;
  if (first >= vocabulary) return;
  int left = static_cast<int>((vocabulary - first + step - 1) / step);
  const auto store = [&](const Pack<float, N>& pack, int turn) {
    const int64_t c = first + turn * step;
    store_pack(out + c, gradient.of<T, N>(pack, c));
  };
  for (; left - kInFlight >= kept.count; left -= kInFlight) {
    Pack<float, N> packs[kInFlight];
#pragma unroll
    for (int k = 0; k < kInFlight; ++k)
      packs[k] = load_pack<N>(logits + first + (left - 1 - k) * step);
#pragma unroll
    for (int k = 0; k < kInFlight; ++k) store(packs[k], left - 1 - k);
  }
  for (; left > kept.count; --left)
    store(load_pack<N>(logits + first + (left - 1) * step), left - 1);
  for (; left > 0; --left) store(load_pack<N>(kept.of(left - 1)), left - 1);
}

template <class T, int N>
__device__ __forceinline__ void zero_row(T* out, int64_t vocabulary) {
  const Pack<T, N> zeros{};
  for (int64_t c = int64_t{threadIdx.x} * N; c < vocabulary; c += int64_t{blockDim.x} * N)
    store_pack(out + c, zeros);
}

// By value into the kernel. The state, where there is one, holds divisor and loss scale.
struct Task {
  int64_t vocabulary;
  int kept_turns;
  const int32_t* labels;
  const float* weights;  // or null: 1
  const StepState* state;
  double divisor, smoothing, z_loss;
  Matrix<float> logits;
  float* loss;
  int32_t* correct;
  BadLabel* bad;
};

__device__ __forceinline__ double gradient_scale(const Task& task, int64_t row) {
  const double weight = task.weights == nullptr ? 1.0 : static_cast<double>(task.weights[row]);
  if (task.state == nullptr) return weight / task.divisor;
  return weight / task.state->batch.divisor * task.state->loss_scale;
}

__device__ __forceinline__ void report_bad(const Task& task, int64_t row, int32_t label) {
  task.bad->vocabulary = task.vocabulary;
  __threadfence_system();
  task.bad->row_and_label = static_cast<uint64_t>(row + 1) << 32 | static_cast<uint32_t>(label);
}

template <class T, int N, bool kSmooths>
__global__ void __launch_bounds__(kThreads, 1) rows_of_loss(Task task, Matrix<T> dlogits) {
  auto& scratch = shared_memory<RowScratch>();
  const int64_t row = blockIdx.x, V = task.vocabulary;
  const int32_t label = task.labels[row];
  if (label < 0 || label >= V) {
    if (dlogits.data != nullptr) zero_row<T, N>(dlogits.row(row), V);
    if (threadIdx.x != 0) return;
    task.loss[row] = 0.0f;
    task.correct[row] = 0;
    if (label >= V) report_bad(task, row, label);
    return;
  }
  const float* logits = task.logits.row(row);
  const KeptTurns<N> kept{reinterpret_cast<float*>(&scratch + 1), task.kept_turns};
  const RowSums sums = sum_row<kSmooths>(logits, V, label, kept, scratch);
  const double lse = static_cast<double>(sums.max) + log(sums.exps);
  const double s = task.smoothing, z = task.z_loss;
  if (threadIdx.x == 0) {
    const double of_label = static_cast<double>(logits[label]);
    double loss = (1.0 - s) * (lse - of_label) + z * lse * lse;
    if constexpr (kSmooths) loss += s * (lse - sums.logits / static_cast<double>(V));
    task.loss[row] = static_cast<float>(loss);
    task.correct[row] = sums.label_is_first_max ? 1 : 0;
  }
  if (dlogits.data == nullptr) return;
  __syncthreads();  // the label's logit is read before it may be overwritten
  const double scale = gradient_scale(task, row);
  const Gradient gradient{sums.max, static_cast<float>(scale * (1.0 + 2.0 * z * lse) / sums.exps),
                          static_cast<float>(scale * s / static_cast<double>(V)),
                          static_cast<float>(scale * (1.0 - s)), label};
  write_row<T, N>(logits, V, gradient, kept, dlogits.row(row));
}

const StepState* device_state(const Tensor& state) {
  return static_cast<const StepState*>(state.raw());
}

// As many turns of a block as the card's shared memory holds, or as the row has.
int kept_turns(const CudaBackend& backend, int64_t vocabulary, int64_t turn_bytes) {
  const auto room = static_cast<int64_t>(backend.properties().sharedMemPerBlockOptin);
  const int64_t turns = (vocabulary * int64_t{sizeof(float)} + turn_bytes - 1) / turn_bytes;
  return static_cast<int>(std::min(turns, (room - int64_t{sizeof(RowScratch)}) / turn_bytes));
}

void forward(const Tensor& labels_R, const Tensor& weight_R, const LmLossOptions& options,
             Tensor& logits_RV, Tensor& dlogits_RV, Tensor& loss_R, Tensor& correct_R) {
  CudaBackend& backend = cuda_backend(logits_RV);
  Task task{.vocabulary = logits_RV.cols(),
            .kept_turns = 0,
            .labels = labels_R.data<int32_t>(),
            .weights = weight_R.defined() ? weight_R.data<float>() : nullptr,
            .state = device_state(options.step_state),
            .divisor = options.divisor,
            .smoothing = options.label_smoothing,
            .z_loss = options.z_loss,
            .logits = matrix<float>(logits_RV),
            .loss = loss_R.data<float>(),
            .correct = correct_R.data<int32_t>(),
            .bad = backend.resource<LabelCheck>().report()};
  constexpr int kPack = 4;
  const int64_t rows = logits_RV.rows();
  const bool packed = task.vocabulary % kPack == 0 && rows_on_16_bytes(logits_RV, rows) &&
                      rows_on_16_bytes(dlogits_RV, rows);
  const int64_t turn_bytes = int64_t{kThreads} * (packed ? kPack : 1) * int64_t{sizeof(float)};
  if (dlogits_RV.defined()) task.kept_turns = kept_turns(backend, task.vocabulary, turn_bytes);
  const LaunchShape shape{
      .grid = dim3(blocks_for(labels_R.numel(), 1), 1, 1),
      .block = dim3(kThreads, 1, 1),
      .shared_bytes = int64_t{sizeof(RowScratch)} + task.kept_turns * turn_bytes};
  const DType out = dlogits_RV.defined() ? dlogits_RV.dtype() : DType::kF32;
  visit_device_float(out, [&]<class T>() {
    const auto start = [&]<bool kSmooths>() {
      launch(backend, "cross_entropy", shape,
             packed ? rows_of_loss<T, kPack, kSmooths> : rows_of_loss<T, 1, kSmooths>, task,
             matrix<T>(dlogits_RV));
    };
    task.smoothing > 0.0 ? start.template operator()<true>() : start.template operator()<false>();
  });
}

constexpr int kMeanThreads = 512;

// One block: a stream has some ten thousand tokens, 4 bytes each. The order of the sum is fixed.
__global__ void __launch_bounds__(kMeanThreads)
    mean_of_tokens(int64_t tokens, const float* token_loss, const float* weights,
                   const StepState* state, double divisor, float* loss) {
  auto& scratch = shared_memory<BlockScratch<double>>();
  double sum = 0.0;
  for (int64_t t = threadIdx.x; t < tokens; t += blockDim.x)
    sum += (weights == nullptr ? 1.0 : static_cast<double>(weights[t])) *
           static_cast<double>(token_loss[t]);
  sum = block_sum(sum, scratch);
  if (threadIdx.x == 0)
    *loss = static_cast<float>(sum / (state == nullptr ? divisor : state->batch.divisor));
}

void mean(const Tensor& token_loss_T, const Tensor& weight_T, const LmLossOptions& options,
          Tensor& loss) {
  launch(cuda_backend(loss), "weighted_mean",
         {.grid = dim3(1, 1, 1),
          .block = dim3(kMeanThreads, 1, 1),
          .shared_bytes = sizeof(BlockScratch<double>)},
         mean_of_tokens, token_loss_T.numel(), token_loss_T.data<float>(),
         weight_T.defined() ? weight_T.data<float>() : nullptr, device_state(options.step_state),
         options.divisor, loss.data<float>());
}

REGISTER_KERNEL(cross_entropy, kCuda, rows, forward);
REGISTER_KERNEL(weighted_mean, kCuda, block, mean);

}  // namespace
}  // namespace ink
