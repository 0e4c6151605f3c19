#include "capi/status.h"

#include <cstdio>
#include <cstring>
#include <new>

#include "base/error.h"

namespace blockgtq::capi {
namespace {

thread_local char text[2048] = "";  // no allocation: memory may have run out

blockgtq_status keep(blockgtq_status status, const char* call, const char* what, const char* hint) noexcept {
  std::snprintf(text, sizeof text, "%s: %s%s%s", call, what, *hint ? "; " : "", hint);
  for (char* c = text; *c; ++c)
    if (*c == '\n') *c = ' ';
  return status;
}

blockgtq_status status_of(Exit code) {
  switch (code) {
    case Exit::usage:
      return BLOCKGTQ_USAGE;
    case Exit::input:
    case Exit::nonfinite:
      return BLOCKGTQ_INPUT;
    case Exit::device:
      return BLOCKGTQ_DEVICE;
    default:
      return BLOCKGTQ_DEFECT;
  }
}

}  // namespace

blockgtq_status take_exception(const char* call) noexcept {
  try {
    throw;
  } catch (const Fault& fault) {
    return keep(fault.status, call, fault.what(), "");
  } catch (const Error& error) {
    return keep(status_of(error.code), call, error.what(), error.hint.c_str());
  } catch (const std::bad_alloc&) {
    return keep(BLOCKGTQ_MEMORY, call, "out of host memory", "");
  } catch (const std::exception& defect) {
    return keep(BLOCKGTQ_DEFECT, call, defect.what(), "this is a defect of blockgtq");
  } catch (...) {
    return keep(BLOCKGTQ_DEFECT, call, "an unknown exception", "this is a defect of blockgtq");
  }
}

const char* last_text() noexcept {
  return text;
}

}  // namespace blockgtq::capi
