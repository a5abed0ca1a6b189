// Who has come to a folder where ranks meet: every rank takes the seat of its number, a file that
// names its process, and waits until all are taken. A rank that does not come, one that was started
// twice and a folder of an earlier job are found here, before anything is exchanged.
#pragma once

#include <chrono>
#include <filesystem>

#include "launch/rendezvous/peers.h"

namespace ink {

// Error(kConfig) when the seat is taken.
void take_seat(const std::filesystem::path& folder, const Peer& self);
// Error(kConfig) when a seat is that of a process of this machine that was gone before;
// Error(kPeer) when one leaves meanwhile, and after `limit`, with the ranks that have not come.
void await_seats(const std::filesystem::path& folder, const Peer& self, int size,
                 std::chrono::seconds limit);

}  // namespace ink
