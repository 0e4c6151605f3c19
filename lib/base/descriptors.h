#pragma once

namespace blockgtq {

/// Takes the numbers 0, 1 and 2 where the caller left them closed, before anything is opened: else an output
/// file would get one, and what is printed would go into it. What takes their place can be neither read nor
/// written, so that the first use is the error it would have been.
void reserve_standard_descriptors() noexcept;

}  // namespace blockgtq
