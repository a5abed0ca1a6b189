// What the processor offers, asked once. Kernel candidates use these as their supports().
#pragma once

#include <string>

namespace ink {

[[nodiscard]] bool has_avx2();         // AVX2 and FMA
[[nodiscard]] bool has_avx512();       // F, BW, DQ, VL
[[nodiscard]] bool has_avx512_bf16();  // VDPBF16PS, VCVTNEPS2BF16
[[nodiscard]] bool has_amx_bf16();
[[nodiscard]] std::string instruction_set();  // "avx512+bf16", for logs and manifests

}  // namespace ink
