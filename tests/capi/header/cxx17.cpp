// blockgtq.h in C++17, with all warnings; nothing to run.
#include "blockgtq.h"

static_assert(BLOCKGTQ_INTERFACE == 1);

blockgtq_status describe_nothing();
blockgtq_status describe_nothing() {
  blockgtq_description description = {};
  description.struct_size = sizeof description;
  return blockgtq_describe(nullptr, &description);
}
