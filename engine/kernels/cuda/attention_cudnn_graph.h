// Graphs of cudnn-frontend for attention over packed documents: what attention_cudnn.cpp runs, as a
// function of shapes alone, so that a machine without a card can ask cuDNN whether it takes them
// (tests/cuda/cudnn_graph_test.cpp).
//
// What the headers of cudnn-frontend 1.32 say of it (include/cudnn_frontend/node). The test shows
// what cuDNN 9.19 accepts, by which kernels and with how much workspace; the numbers only a card
// can.
//   * sdpa_support_surface.h (forward): ragged offsets need a padding mask. Gradient, see below:
//     ragged offsets with grouped heads need cuDNN 9.6. Both are kept here.
//   * scaled_dot_product_flash_attention.h: statistics must be f32 (SDPANodeBase). A packed BHSD
//     layout is asked of them only where they have no ragged offset (both nodes). With one and
//     max_total_seq_len_q, the workspace that goes with them takes their stride and offset, "sized
//     TH1" (CompositeSDPABackwardNode): the layout [T, H] of this file. Their dimensions are not
//     looked at, so wrong ones would not be refused.
//   * The same node refuses what forward takes: cuDNN 9.10.0 and 9.10.1, ragged statistics on 8.x
//     and 12.x. Then backward is flash_mma's, with the same lse.
//   * A longest document of one token is refused backward. Forward cuDNN 9.26 and 9.27 write ragged
//     statistics of the first head of a group alone, on every card (NVIDIA/cudnn-frontend, issue
//     1083; older ones were not tried there), and the backward of another kernel would read what
//     lay there. So it is not asked at all.
//   * Where it has to be deterministic it keeps one product of queries and keys, 2 bytes for each
//     pair of the padded lengths, per document and head (use_dp_workspace): gigabytes for long
//     documents. Such a graph is refused here, and flash_mma, which repeats its bits, takes it.
//   * Documents of no tokens: the tests of cudnn-frontend ask for cuDNN 9.25. TransformerEngine has
//     them behind the last one since 9.6, and that is where ragged_bounds() puts them.
//   * It sums gradients of shared heads from a copy per query head: the stride of dK and dV times
//     the heads of a group, 4 bytes per element. So dK and dV are packed here: T * H * D elements.
//   * Heads lie at one distance (a stride of the tensor): rope_qkv() brings those of a fused wqkv,
//     which lie in groups, side by side.
#pragma once

#include <cudnn_frontend.h>

#include <compare>
#include <cstdint>
#include <memory>

#include "engine/core/dtype.h"

namespace ink::cudnn {

// Names of a graph's tensors; the offsets of one are its name + kOffset.
enum Name : int64_t { kQ = 1, kK, kV, kOut, kStats, kDout, kDq, kDk, kDv, kLengths };
constexpr int64_t kOffset = 100;

// What a graph is built for: shapes, and nothing of a step.
struct GraphKey {
  int64_t documents = 0, longest = 0, tokens = 0, heads = 0, kv_heads = 0, dim = 0;
  // Elements from one token to the next in the tensors of the same names.
  struct Rows {
    int64_t q = 0, k = 0, v = 0, out = 0, dout = 0, dq = 0, dk = 0, dv = 0;
    auto operator<=>(const Rows&) const = default;
  } row;
  DType dtype = DType::kBF16;
  bool backward = false, deterministic = false;
  auto operator<=>(const GraphKey&) const = default;
};

// Is cuDNN asked at all? What it says of the rest needs the graph.
[[nodiscard]] bool is_asked(const GraphKey& key);

// The graph, to be built for a card. Documents are `longest` tokens at most, tensors of `tokens`
// rows.
std::shared_ptr<cudnn_frontend::graph::Graph> attention_graph(const GraphKey& key);

// The workspace of a graph that grows with the tokens alone, at most: bytes.
int64_t most_attention_workspace(const GraphKey& key);

}  // namespace ink::cudnn
