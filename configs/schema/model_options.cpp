#include "configs/schema/model_options.h"

namespace ink {
namespace {

struct LayerSizes {
  int64_t matmul, biases, norms;
};

LayerSizes layer_sizes(const ModelOptions& m) {
  const int64_t q_rows = m.num_attention_heads * m.head_dim;
  const int64_t qkv_rows = q_rows + 2 * m.num_key_value_heads * m.head_dim;
  LayerSizes sizes{.matmul = m.hidden_size * (qkv_rows + q_rows + 3 * m.intermediate_size),
                   .biases = 0,
                   .norms = 2 * m.hidden_size};
  if (m.qkv_bias) sizes.biases += qkv_rows;
  if (m.o_bias) sizes.biases += m.hidden_size;
  if (m.mlp_bias) sizes.biases += 2 * m.intermediate_size + m.hidden_size;
  return sizes;
}

}  // namespace

int64_t parameter_count(const ModelOptions& m) {
  const LayerSizes layer = layer_sizes(m);
  const int64_t table = m.vocab_size * m.hidden_size;
  return m.num_hidden_layers * (layer.matmul + layer.biases + layer.norms) + m.hidden_size +
         (m.tie_word_embeddings ? table : 2 * table);
}

int64_t matmul_parameter_count(const ModelOptions& m) {
  return m.num_hidden_layers * layer_sizes(m).matmul + m.vocab_size * m.hidden_size;
}

double training_flops(const ModelOptions& m, int64_t tokens, double squared_lengths) {
  const double attention_width = static_cast<double>(m.num_attention_heads * m.head_dim);
  return 6.0 * static_cast<double>(matmul_parameter_count(m)) * static_cast<double>(tokens) +
         6.0 * static_cast<double>(m.num_hidden_layers) * attention_width * squared_lengths;
}

}  // namespace ink
