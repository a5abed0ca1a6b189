#include <algorithm>
#include <span>

#include "engine/core/parallel_for.h"
#include "engine/kernels/cpu/gemm.h"
#include "engine/tensor/tensor.h"

namespace ink {
namespace {

// A panel pair of kDepth passes through the first-level cache; the panels of one job at one such
// depth stay in the second level; both packed blocks of kRows, kCols and kDeep in the last.
constexpr int64_t kDepth = 256;
constexpr int64_t kDeep = 4 * kDepth;
constexpr int64_t kRows = 1024;
constexpr int64_t kCols = 1024;
// A job: about this many rows and columns of c, fewer where that leaves a thread too few jobs to
// even out cores of different speed.
constexpr int64_t kJobRows = 256, kJobCols = 288;
constexpr int64_t kJobsPerThread = 12;
// Outer indices that are packed at a time: whole cache lines of a row that is read across.
constexpr int64_t kPacked = 64;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Equal blocks of about `most` outer indices, of whole panels.
int64_t block_size(int64_t count, int64_t width, int64_t most) {
  return ceil_div(ceil_div(count, width), std::max<int64_t>(1, ceil_div(count, most))) * width;
}

struct Range {
  int64_t begin, end;
};

struct Job {
  Range rows, cols;
};

// Panels of a block, cut into jobs.
struct Grid {
  int64_t row_panels, col_panels, job_rows, job_cols;

  [[nodiscard]] int64_t row_jobs() const { return ceil_div(row_panels, job_rows); }
  [[nodiscard]] int64_t col_jobs() const { return ceil_div(col_panels, job_cols); }
  [[nodiscard]] int64_t jobs() const { return row_jobs() * col_jobs(); }
  [[nodiscard]] Job job(int64_t number) const {
    const int64_t i = number % row_jobs() * job_rows, j = number / row_jobs() * job_cols;
    return {{i, std::min(i + job_rows, row_panels)}, {j, std::min(j + job_cols, col_panels)}};
  }
};

// One block of c, [row, row + rows) x [col, col + cols), at one block of the depth.
struct Block {
  int64_t row, rows, col, cols, begin, deep;
  bool first, last;  // of the depth
};

// Both operands of a block are packed by all threads, then threads take jobs as they come: whoever
// computes a tile, its sums run over the depth in the same order.
template <class Acc>
class PackedGemm {
 public:
  PackedGemm(Runtime& runtime, const Gemm& gemm, const GemmKernels<Acc>& kernels)
      : gemm_(gemm),
        kernels_(kernels),
        tile_(kernels.a_width * kernels.b_width),
        deep_blocks_(std::max<int64_t>(1, ceil_div(gemm.k, kDeep))),
        deep_(ceil_div(gemm.k, deep_blocks_)),
        rows_(block_size(gemm.m, kernels.a_width, kRows)),
        cols_(block_size(gemm.n, kernels.b_width, kCols)) {
    set_job_size();
    const Grid grid = grid_of(rows_, cols_);
    const int64_t a_size = aligned(grid.row_panels * kernels.a_width * deep_);
    const int64_t b_size = aligned(grid.col_panels * kernels.b_width * deep_);
    const int64_t sums_size = deep_blocks_ > 1 ? grid.row_panels * grid.col_panels * tile_ : 0;
    own_size_ = aligned(grid.job_rows * grid.job_cols * tile_);
    workspace_ = Tensor(runtime, Shape{a_size + b_size + sums_size + thread_count() * own_size_},
                        dtype_of<Acc>::value, MemoryTag::kWorkspace);
    a_ = workspace_.data<Acc>();
    b_ = a_ + a_size;
    own_ = b_ + b_size;
    sums_ = own_ + thread_count() * own_size_;
  }

  // Called by every thread of the team.
  void run() const {
    for (int64_t row = 0; row < gemm_.m; row += rows_) {
      for (int64_t col = 0; col < gemm_.n; col += cols_) {
        for (int64_t d = 0; d < deep_blocks_; ++d) {
          const int64_t begin = d * deep_;
          run_block({row, std::min(rows_, gemm_.m - row), col, std::min(cols_, gemm_.n - col),
                     begin, std::max<int64_t>(0, std::min(deep_, gemm_.k - begin)), d == 0,
                     d + 1 == deep_blocks_});
        }
      }
    }
  }

 private:
  // What a job needs at one depth. Each tile that is computed before then fetches a share of it.
  struct Panels {
    std::span<const Acc> a, b;
    int64_t size;

    [[nodiscard]] const Acc* share(int64_t tile) const {
      const auto at = static_cast<size_t>(tile * size);
      if (at < b.size()) return b.data() + at;
      return at < b.size() + a.size() ? a.data() + (at - b.size()) : nullptr;
    }
  };

  static int64_t aligned(int64_t count) { return ceil_div(count, 64) * 64; }

  // Of the largest block; more and smaller jobs along the longer side of a job.
  void set_job_size() {
    const int64_t row_panels = rows_ / kernels_.a_width, col_panels = cols_ / kernels_.b_width;
    int64_t row_jobs = ceil_div(rows_, kJobRows), col_jobs = ceil_div(cols_, kJobCols);
    while (row_jobs * col_jobs < kJobsPerThread * thread_count() && row_jobs * 4 < row_panels)
      ++(rows_ * col_jobs >= cols_ * row_jobs || col_jobs >= col_panels ? row_jobs : col_jobs);
    job_rows_ = ceil_div(row_panels, row_jobs);
    job_cols_ = ceil_div(col_panels, col_jobs);
  }

  [[nodiscard]] Grid grid_of(int64_t rows, int64_t cols) const {
    return {ceil_div(rows, kernels_.a_width), ceil_div(cols, kernels_.b_width), job_rows_,
            job_cols_};
  }

  void run_block(const Block& block) const {
    const Grid grid = grid_of(block.rows, block.cols);
    // What is packed already stays: a over the columns, b over the rows, where all depth fits.
    if (deep_blocks_ > 1 || block.col == 0) {
      pack(gemm_.a, kernels_.pack_a, kernels_.a_width, block.row, block.rows, block, a_);
    }
    if (deep_blocks_ > 1 || gemm_.n > cols_ || block.row == 0) {
      pack(gemm_.b, kernels_.pack_b, kernels_.b_width, block.col, block.cols, block, b_);
    }
#pragma omp barrier
#pragma omp for schedule(dynamic, 1)
    for (int64_t job = 0; job < grid.jobs(); ++job)  // likely next: the first no thread has now
      run_job(block, grid, grid.job(job),
              grid.job(std::min(job + thread_count(), grid.jobs() - 1)));
  }

  // Panels of one operand: for every kDepth of the block, all of its panels side by side.
  void pack(const GemmOperand& x, typename GemmKernels<Acc>::Pack pack_panels, int64_t width,
            int64_t outer, int64_t count, const Block& block, Acc* to) const {
    const int64_t panels = ceil_div(count, width), together = std::max<int64_t>(1, kPacked / width);
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t i = 0; i < panels; i += together) {
      for (int64_t d = 0; d < block.deep; d += kDepth) {
        const int64_t depth = std::min(kDepth, block.deep - d);
        pack_panels(x, outer + i * width, std::min(together * width, count - i * width),
                    block.begin + d, depth, to + (d * panels + i * depth) * width);
      }
    }
  }

  void run_job(const Block& block, const Grid& grid, const Job& job, const Job& next) const {
    const auto [rows, cols] = job;
    const int64_t a_width = kernels_.a_width, b_width = kernels_.b_width;
    Acc* own = own_ + thread_index() * own_size_;
    const auto tile_at = [&](int64_t i, int64_t j) {
      return deep_blocks_ > 1 ? sums_ + (j * grid.row_panels + i) * tile_
                              : own + ((j - cols.begin) * grid.job_rows + i - rows.begin) * tile_;
    };
    int64_t d = 0;
    do {  // once for an empty depth too: it makes the sums zero
      const int64_t depth = std::min(kDepth, block.deep - d);
      const WriteMode mode = block.first && d == 0 ? WriteMode::kOverwrite : WriteMode::kAccumulate;
      const bool last = block.last && d + depth == block.deep;
      const Panels soon = d + depth < block.deep ? panels_of(grid, block, job, d + depth)
                                                 : panels_of(grid, block, next, 0);
      for (int64_t j = cols.begin; j < cols.end; ++j) {
        const Acc* b = b_ + (d * grid.col_panels + j * depth) * b_width;
        for (int64_t i = rows.begin; i < rows.end; ++i) {
          Acc* tile = tile_at(i, j);
          if (last) fetch(block, i, j);
          kernels_.multiply(
              depth, a_ + (d * grid.row_panels + i * depth) * a_width, b, mode, tile,
              soon.share((j - cols.begin) * (rows.end - rows.begin) + i - rows.begin));
          if (last) {
            kernels_.store(tile, std::min(a_width, block.rows - i * a_width),
                           std::min(b_width, block.cols - j * b_width), gemm_.c,
                           block.row + i * a_width, block.col + j * b_width);
          }
        }
      }
      d += depth;
    } while (d < block.deep);
  }

  [[nodiscard]] Panels panels_of(const Grid& grid, const Block& block, const Job& job,
                                 int64_t d) const {
    const int64_t depth = std::min(kDepth, block.deep - d);
    const auto part = [=](const Acc* panels, int64_t all, const Range& range, int64_t width) {
      return std::span(panels + (d * all + range.begin * depth) * width,
                       static_cast<size_t>((range.end - range.begin) * depth * width));
    };
    return {part(a_, grid.row_panels, job.rows, kernels_.a_width),
            part(b_, grid.col_panels, job.cols, kernels_.b_width),
            depth / kFetchStep * static_cast<int64_t>(64 / sizeof(Acc))};
  }

  // The lines of c that tile (i, j) will be stored to, on their way while it is computed.
  void fetch(const Block& block, int64_t i, int64_t j) const {
    const int64_t size = size_of(gemm_.c.dtype);
    const int64_t row = i * kernels_.a_width, col = j * kernels_.b_width;
    const char* to = static_cast<const char*>(gemm_.c.data) +
                     ((block.row + row) * gemm_.c.row_stride + block.col + col) * size;
    const int64_t rows = std::min(kernels_.a_width, block.rows - row);
    const int64_t bytes = std::min(kernels_.b_width, block.cols - col) * size;
    for (int64_t r = 0; r < rows; ++r, to += gemm_.c.row_stride * size)
      for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch(to + at, 1);
  }

  const Gemm& gemm_;
  const GemmKernels<Acc>& kernels_;
  int64_t tile_, deep_blocks_, deep_, rows_, cols_, own_size_;
  int64_t job_rows_ = 0, job_cols_ = 0;
  Tensor workspace_;
  Acc *a_, *b_, *own_, *sums_;
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
