// One thread's part of the asynchronous products (wgmma) of its warpgroup, in groups. A product
// reads its operands and writes its results as late as the waits allow: until then the results are
// NaN, and what a thread writes to them is lost. Where the order of threads is descending it does
// both at once: a kernel that reuses an operand too early gives different bits in one of the two.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <functional>
#include <limits>
#include <map>
#include <vector>

namespace ink::cuda_on_cpu {

class AsyncProducts {
 public:
  using Add = std::function<void(float*)>;

  void reset(bool at_once) { *this = AsyncProducts{}, at_once_ = at_once; }
  void fence() { fenced_ = true; }
  // add(values) adds the product to `count` results. Without a fence since the last group nobody
  // knows which values it finds.
  void start(float* results, std::size_t count, Add add) {
    if (!fenced_) add = [count](float* values) { std::fill_n(values, count, kNothing); };
    if (at_once_) return add(results);
    const auto [at, first] = values_.try_emplace(results, results, results + count);
    if (first) std::fill_n(results, count, kNothing);
    open_.push_back({results, std::move(add)});
  }
  void commit() {
    groups_.push_back(std::move(open_));
    open_.clear();
    fenced_ = false;
  }
  void wait(std::size_t groups_left) {
    while (groups_.size() > groups_left) {
      for (const Product& product : groups_.front())
        product.add(values_.at(product.results).data());
      groups_.pop_front();
    }
    std::erase_if(values_, [this](const auto& entry) {
      const auto& [results, values] = entry;
      if (under_way(results)) return false;
      std::copy(values.begin(), values.end(), results);
      return true;
    });
  }

 private:
  static constexpr float kNothing = std::numeric_limits<float>::quiet_NaN();
  struct Product {
    float* results;
    Add add;
  };
  [[nodiscard]] bool under_way(const float* results) const {
    const auto has = [results](const std::vector<Product>& group) {
      return std::any_of(group.begin(), group.end(),
                         [results](const Product& p) { return p.results == results; });
    };
    return has(open_) || std::any_of(groups_.begin(), groups_.end(), has);
  }

  bool at_once_ = false, fenced_ = false;
  std::vector<Product> open_;
  std::deque<std::vector<Product>> groups_;
  std::map<float*, std::vector<float>> values_;  // what the results will be
};

}  // namespace ink::cuda_on_cpu
