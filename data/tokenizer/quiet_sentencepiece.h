// The SentencePiece library writes progress and warnings to standard error by itself; errors reach
// us as statuses as well. Nothing below `launch` prints, so its own messages are switched off
// before first use.
#pragma once

namespace ink {

// Idempotent, any thread; the level is a property of the library, process-wide.
void quiet_sentencepiece();

}  // namespace ink
