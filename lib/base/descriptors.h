#pragma once

namespace blockgtq {

/// Occupies descriptors 0, 1 and 2 where the caller left them closed; call it before anything is opened.
/// Otherwise an output file would get one of them, and printed text would go into it. The placeholder can be
/// neither read nor written, so the first use fails as it would have without it.
void reserve_standard_descriptors() noexcept;

}  // namespace blockgtq
