// Where each key of a run came from, so that a check made long after parsing still names the line.
#pragma once

#include <map>
#include <string>

namespace ink {

// Key path (`train.steps`, `data.train.0.path`) -> `run.yaml:7:3` or `command line`.
class Places {
 public:
  void set(const std::string& key, std::string place) { by_key_[key] = std::move(place); }
  [[nodiscard]] bool has(const std::string& key) const { return by_key_.contains(key); }

  // The place of the key, or of the nearest section around it that was written, or nothing.
  [[nodiscard]] std::string of(const std::string& key) const {
    for (std::string path = key; !path.empty();) {
      if (auto found = by_key_.find(path); found != by_key_.end()) return found->second;
      const size_t dot = path.rfind('.');
      if (dot == std::string::npos) break;
      path.resize(dot);
    }
    return {};
  }

 private:
  std::map<std::string, std::string> by_key_;
};

}  // namespace ink
