#include "engine/kernels/cuda/attention_cudnn_graph.h"

#include <cmath>

namespace ink::cudnn {
namespace {

namespace fe = cudnn_frontend;
using fe::graph::Graph;
using Attributes = std::shared_ptr<fe::graph::Tensor_attributes>;

class GraphBuilder {
 public:
  explicit GraphBuilder(const GraphKey& key) : key_(key), graph_(std::make_shared<Graph>()) {
    graph_
        ->set_io_data_type(key.dtype == DType::kBF16 ? fe::DataType_t::BFLOAT16
                                                     : fe::DataType_t::HALF)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    lengths_ = graph_->tensor(fe::graph::Tensor_attributes()
                                  .set_uid(kLengths)
                                  .set_dim({key.documents, 1, 1, 1})
                                  .set_stride({1, 1, 1, 1})
                                  .set_data_type(fe::DataType_t::INT32));
  }

  std::shared_ptr<Graph> forward() {
    auto options = fe::graph::SDPA_attributes();
    set_common(options);
    options.set_generate_stats(true);
    auto [out, stats] =
        graph_->sdpa(heads(kQ, key_.heads, key_.row.q), heads(kK, key_.kv_heads, key_.row.k),
                     heads(kV, key_.kv_heads, key_.row.v), options);
    set_heads(out, kOut, key_.heads, key_.row.out);
    set_statistics(stats);
    stats->set_output(true);
    return graph_;
  }

  std::shared_ptr<Graph> backward() {
    auto options = fe::graph::SDPA_backward_attributes();
    set_common(options);
    options.set_deterministic_algorithm(key_.deterministic);
    auto stats = graph_->tensor(fe::graph::Tensor_attributes());
    set_statistics(stats);
    auto [dq, dk, dv] = graph_->sdpa_backward(
        heads(kQ, key_.heads, key_.row.q), heads(kK, key_.kv_heads, key_.row.k),
        heads(kV, key_.kv_heads, key_.row.v), heads(kOut, key_.heads, key_.row.out),
        heads(kDout, key_.heads, key_.row.dout), stats, options);
    set_heads(dq, kDq, key_.heads, key_.row.dq);
    set_heads(dk, kDk, key_.kv_heads, key_.row.dk);
    set_heads(dv, kDv, key_.kv_heads, key_.row.dv);
    return graph_;
  }

 private:
  template <class Options>
  void set_common(Options& options) const {
    options.set_attn_scale(1.0f / std::sqrt(static_cast<float>(key_.dim)))
        .set_causal_mask(true)
        .set_padding_mask(true)
        .set_seq_len_q(lengths_)
        .set_seq_len_kv(lengths_)
        .set_max_total_seq_len_q(key_.tokens)
        .set_max_total_seq_len_kv(key_.tokens);
  }
  Attributes offsets(int64_t name) {
    return graph_->tensor(fe::graph::Tensor_attributes()
                              .set_uid(name + kOffset)
                              .set_dim({key_.documents + 1, 1, 1, 1})
                              .set_stride({1, 1, 1, 1})
                              .set_data_type(fe::DataType_t::INT32));
  }
  Attributes heads(int64_t name, int64_t count, int64_t row) {
    Attributes tensor = graph_->tensor(fe::graph::Tensor_attributes());
    set_layout(tensor, name, count, row);
    return tensor;
  }
  void set_heads(const Attributes& tensor, int64_t name, int64_t count, int64_t row) {
    set_layout(tensor, name, count, row);
    tensor->set_output(true);
  }
  void set_layout(const Attributes& tensor, int64_t name, int64_t count, int64_t row) {
    tensor->set_uid(name)
        .set_dim({key_.documents, count, key_.longest, key_.dim})
        .set_stride({key_.longest * row, key_.dim, row, 1})
        .set_ragged_offset(offsets(name));
  }
  // log-sum-exp, [T, H].
  void set_statistics(const Attributes& tensor) {
    tensor->set_uid(kStats)
        .set_dim({key_.documents, key_.heads, key_.longest, 1})
        .set_stride({key_.heads * key_.longest, 1, key_.heads, 1})
        .set_ragged_offset(offsets(kStats))
        .set_data_type(fe::DataType_t::FLOAT);
  }

  const GraphKey& key_;
  std::shared_ptr<Graph> graph_;
  Attributes lengths_;
};

}  // namespace

bool is_asked(const GraphKey& key) {
  if (key.tokens == 0 || key.documents == 0 || key.longest <= 1) return false;
  if (key.dtype != DType::kBF16 && key.dtype != DType::kF16) return false;
  return key.dim % 8 == 0 && key.dim <= 128;
}

std::shared_ptr<Graph> attention_graph(const GraphKey& key) {
  GraphBuilder builder(key);
  return key.backward ? builder.backward() : builder.forward();
}

// f32: gradients of queries, and of keys and values per query head; a sum per row.
int64_t most_attention_workspace(const GraphKey& key) {
  return (int64_t{32} << 20) + key.tokens * key.heads * (12 * key.dim + 4);
}

}  // namespace ink::cudnn
