#include <algorithm>

#include "engine/core/parallel_for.h"
#include "engine/kernels/cpu/gemm.h"
#include "engine/tensor/tensor.h"

namespace ink {
namespace {

// Block sizes. A panel pair of kDepth stays near the first-level cache, kAPanels panels of a in the
// second level, a block of b in the last level; kRows bounds the memory for unfinished sums.
constexpr int64_t kDepth = 384;
constexpr int64_t kAPanels = 16;
constexpr int64_t kCols = 1024;
constexpr int64_t kRows = 2048;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// How the threads share the tiles of a block: by rows first, by columns where there are few rows.
struct Grid {
  int64_t rows = 1, cols = 1;
};

Grid make_grid(int64_t row_panels, int64_t col_panels, int64_t threads) {
  Grid best;
  int64_t least = row_panels * col_panels;
  for (int64_t rows = threads; rows >= 1; --rows) {
    if (threads % rows != 0) continue;
    const int64_t cols = threads / rows;
    const int64_t largest = ceil_div(row_panels, rows) * ceil_div(col_panels, cols);
    if (largest < least) {
      least = largest;
      best = {rows, cols};
    }
  }
  return best;
}

struct Range {
  int64_t begin, end;
};

Range share(int64_t count, int64_t parts, int64_t which) {
  return {count * which / parts, count * (which + 1) / parts};
}

// One block of c, [row, row + rows) x [col, col + cols), at one block of the depth.
struct Block {
  int64_t row, rows, col, cols, depth_begin, depth;
  bool first, last;  // of the depth
};

template <class Acc>
class PackedGemm {
 public:
  PackedGemm(Runtime& runtime, const Gemm& gemm, const GemmKernels<Acc>& kernels)
      : gemm_(gemm), kernels_(kernels), threads_(thread_count()) {
    depth_blocks_ = std::max<int64_t>(1, ceil_div(gemm.k, kDepth));
    depth_ = ceil_div(gemm.k, depth_blocks_);
    tile_ = kernels.a_width * kernels.b_width;
    const int64_t row_panels = ceil_div(std::min(gemm.m, kRows), kernels.a_width);
    const int64_t col_panels = ceil_div(std::min(gemm.n, kCols), kernels.b_width);
    sums_size_ = depth_blocks_ > 1 ? row_panels * col_panels * tile_ : 0;
    b_size_ = col_panels * kernels.b_width * depth_;
    a_size_ = std::min(row_panels, kAPanels) * kernels.a_width * depth_;
    own_size_ = (a_size_ + tile_ + 63) / 64 * 64;
    workspace_ = Tensor(runtime, Shape{b_size_ + sums_size_ + threads_ * own_size_ + 64},
                        dtype_of<Acc>::value, MemoryTag::kWorkspace);
    own_ = workspace_.data<Acc>();
    b_ = own_ + threads_ * own_size_;
    sums_ = b_ + b_size_;
  }

  // Called by every thread of the team.
  void run() const {
    for (int64_t row = 0; row < gemm_.m; row += kRows) {
      for (int64_t col = 0; col < gemm_.n; col += kCols) {
        for (int64_t d = 0; d < depth_blocks_; ++d) {
          const int64_t begin = d * depth_;
          run_block({row, std::min(kRows, gemm_.m - row), col, std::min(kCols, gemm_.n - col),
                     begin, std::max<int64_t>(0, std::min(depth_, gemm_.k - begin)), d == 0,
                     d + 1 == depth_blocks_});
        }
      }
    }
  }

 private:
  void run_block(const Block& block) const {
    const int64_t col_panels = ceil_div(block.cols, kernels_.b_width);
    const int64_t row_panels = ceil_div(block.rows, kernels_.a_width);
#pragma omp for schedule(static)
    for (int64_t j = 0; j < col_panels; ++j) {
      const int64_t at = j * kernels_.b_width;
      kernels_.pack_b(gemm_.b, block.col + at, std::min(kernels_.b_width, block.cols - at),
                      block.depth_begin, block.depth, b_ + at * block.depth);
    }
    const Grid grid = make_grid(row_panels, col_panels, threads_);
#pragma omp for schedule(static)
    for (int64_t job = 0; job < grid.rows * grid.cols; ++job) {
      const Range cols = share(col_panels, grid.cols, job % grid.cols);
      const Range rows = share(row_panels, grid.rows, job / grid.cols);
      for (int64_t i = rows.begin; i < rows.end; i += kAPanels)
        run_panels(block, {i, std::min(i + kAPanels, rows.end)}, cols, row_panels);
    }
  }

  void run_panels(const Block& block, Range rows, Range cols, int64_t row_panels) const {
    Acc* a = own_ + thread_index() * own_size_;
    Acc* own_tile = a + a_size_;
    const int64_t a_width = kernels_.a_width, b_width = kernels_.b_width;
    for (int64_t i = rows.begin; i < rows.end; ++i) {
      kernels_.pack_a(gemm_.a, block.row + i * a_width, std::min(a_width, block.rows - i * a_width),
                      block.depth_begin, block.depth, a + (i - rows.begin) * a_width * block.depth);
    }
    for (int64_t j = cols.begin; j < cols.end; ++j) {
      const Acc* b = b_ + j * b_width * block.depth;
      for (int64_t i = rows.begin; i < rows.end; ++i) {
        Acc* tile = depth_blocks_ > 1 ? sums_ + (j * row_panels + i) * tile_ : own_tile;
        kernels_.multiply(block.depth, a + (i - rows.begin) * a_width * block.depth, b,
                          block.first ? WriteMode::kOverwrite : WriteMode::kAccumulate, tile);
        if (block.last) {
          kernels_.store(tile, std::min(a_width, block.rows - i * a_width),
                         std::min(b_width, block.cols - j * b_width), gemm_.c,
                         block.row + i * a_width, block.col + j * b_width);
        }
      }
    }
  }

  const Gemm& gemm_;
  const GemmKernels<Acc>& kernels_;
  int64_t threads_;
  int64_t depth_blocks_, depth_, tile_, sums_size_, b_size_, a_size_, own_size_;
  Tensor workspace_;
  Acc *own_, *b_, *sums_;
};

}  // namespace

template <class Acc>
void gemm_packed(Runtime& runtime, const Gemm& gemm, const GemmKernels<Acc>& kernels) {
  if (gemm.m == 0 || gemm.n == 0) return;
  const PackedGemm<Acc> packed(runtime, gemm, kernels);
#pragma omp parallel
  packed.run();
}

template void gemm_packed(Runtime&, const Gemm&, const GemmKernels<float>&);
template void gemm_packed(Runtime&, const Gemm&, const GemmKernels<double>&);

}  // namespace ink
