// Rank 0 decides, the others hear: texts that travel to every rank, and the comparison of what all
// ranks must have in common.
#pragma once

#include <string>
#include <vector>

#include "launch/rendezvous/rendezvous.h"

namespace ink {

// The text of rank 0, on every rank. Collective.
[[nodiscard]] std::string share_text(Launch& launch, const std::string& mine);

// Something that must be equal on all ranks: a dump of several lines, or one value.
struct CommonFact {
  std::string name, text;
};

// Collective. Error(kConfig) on every rank that differs from rank 0, with the fact and the first
// line that differs (of an indented dump: with the keys above it).
void require_common(Launch& launch, const std::vector<CommonFact>& facts);

// This executable, and the variables that change what ranks compute or how they talk.
[[nodiscard]] std::vector<CommonFact> program_facts();

}  // namespace ink
