#include "store/h5_handle.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

#include "base/error.h"
#include "store/schema.h"

namespace blockgtq {

// H5Pset_file_locking exists from 1.10.7 on, and on the other branch from 1.12.1 on.
#if H5_VERSION_GE(1, 12, 1) || (H5_VERSION_GE(1, 10, 7) && !H5_VERSION_GE(1, 12, 0))
#define BLOCKGTQ_HAS_FILE_LOCKING 1
#else
#define BLOCKGTQ_HAS_FILE_LOCKING 0
#endif

void prepare_hdf5() {
  static std::once_flag once;
  std::call_once(once, [] {
#if !BLOCKGTQ_HAS_FILE_LOCKING
    setenv("HDF5_USE_FILE_LOCKING", "FALSE", 0);
#endif
    H5dont_atexit();  // fails where the library is initialized already: then nothing can be done
  });
  if (H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr) < 0) throw std::bad_alloc();  // for this thread
}

namespace {

struct Reason {
  std::string text;
  bool no_memory = false;
};

/// What the system said, where it said something, else the innermost description.
herr_t pick_reason(unsigned depth, const H5E_error2_t* entry, void* out) {
  auto& reason = *static_cast<Reason*>(out);
  const std::string text = entry->desc ? entry->desc : "";
  static const std::string mark = "error message = '";
  if (const size_t at = text.find(mark); at != std::string::npos) {
    reason = {text.substr(at + mark.size(), text.find('\'', at + mark.size()) - at - mark.size())};
    return 1;  // ends the walk
  }
  reason.no_memory |= is_lack_of_memory(*entry);
  if (depth == 0) reason.text = text;
  return 0;
}

/// An identifier that only a lack of memory keeps HDF5 from making.
hid_t made(hid_t id) {
  if (id < 0) throw std::bad_alloc();
  return id;
}

}  // namespace

// The numbers themselves: their macros are calls, which would disturb the stack of errors.
bool is_lack_of_memory(const H5E_error2_t& entry) {
  return entry.min_num == H5E_NOSPACE_g || entry.min_num == H5E_CANTALLOC_g ||
         (entry.desc && std::strstr(entry.desc, "memory allocation failed"));
}

std::string last_error() {
  Reason picked;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, pick_reason, &picked);
  if (picked.no_memory) throw std::bad_alloc();
  std::string reason = std::move(picked.text);
  if (reason.empty()) reason = "unknown failure of HDF5";
  reason.resize(std::min<size_t>(reason.size(), 200));
  std::replace_if(
      reason.begin(), reason.end(), [](unsigned char c) { return c < 32 || c == 127; }, ' ');
  return reason;
}

Handle read_handle(hid_t id, herr_t (*close)(hid_t), const std::string& where) {
  if (id < 0) fail_input("{}: cannot be read: {}", where, last_error());
  return Handle(id, close);
}

Handle file_access() {
  const hid_t id = made(H5Pcreate(H5P_FILE_ACCESS));
  bool ok = H5Pset_fapl_sec2(id) >= 0 && H5Pset_libver_bounds(id, H5F_LIBVER_V110, H5F_LIBVER_V110) >= 0;
#if BLOCKGTQ_HAS_FILE_LOCKING
  ok = ok && H5Pset_file_locking(id, false, true) >= 0;
#endif
  return Handle(made(ok ? id : -1), H5Pclose);
}

Handle number_type(H5Type type) {
  hid_t id = -1;
  switch (type) {
    case H5Type::u8:
      id = H5Tcopy(H5T_STD_U8LE);
      break;
    case H5Type::u16:
      id = H5Tcopy(H5T_STD_U16LE);
      break;
    case H5Type::i32:
      id = H5Tcopy(H5T_STD_I32LE);
      break;
    case H5Type::i64:
      id = H5Tcopy(H5T_STD_I64LE);
      break;
    case H5Type::u64:
      id = H5Tcopy(H5T_STD_U64LE);
      break;
    case H5Type::f32:
      id = H5Tcopy(H5T_IEEE_F32LE);
      break;
    case H5Type::f64:
      id = H5Tcopy(H5T_IEEE_F64LE);
      break;
    case H5Type::f16:  // sign 15, exponent 10..14 with bias 15, mantissa 0..9
      id = made(H5Tcopy(H5T_IEEE_F32LE));
      check(H5Tset_fields(id, 15, 10, 5, 0, 10) >= 0 && H5Tset_size(id, 2) >= 0 && H5Tset_ebias(id, 15) >= 0,
            "HDF5 half type");
      break;
  }
  return Handle(made(id), H5Tclose);
}

uint64_t item_bytes(H5Type type) {
  switch (type) {
    case H5Type::u8:
      return 1;
    case H5Type::u16:
    case H5Type::f16:
      return 2;
    case H5Type::i32:
    case H5Type::f32:
      return 4;
    default:
      return 8;
  }
}

Handle text_type(size_t bytes) {
  const hid_t id = made(H5Tcopy(H5T_C_S1));
  check(H5Tset_size(id, bytes) >= 0 && H5Tset_strpad(id, H5T_STR_NULLPAD) >= 0 &&
            H5Tset_cset(id, H5T_CSET_UTF8) >= 0,
        "HDF5 text type");
  return Handle(id, H5Tclose);
}

}  // namespace blockgtq
