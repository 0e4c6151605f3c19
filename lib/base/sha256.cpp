#include "base/sha256.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <new>

#include "base/error.h"

namespace blockgtq {

struct Sha256::State {
  EVP_MD_CTX* context = EVP_MD_CTX_new();
  bool done = false;
  ~State() { EVP_MD_CTX_free(context); }
};

namespace {

/// Threads that hash files may outlive main(), so OpenSSL must not clean up before they end.
const int kStays = OPENSSL_init_crypto(OPENSSL_INIT_NO_ATEXIT, nullptr);

}  // namespace

Sha256::Sha256() : state_(std::make_unique<State>()) {
  if (!state_->context) throw std::bad_alloc();
  check(kStays == 1 && EVP_DigestInit_ex(state_->context, EVP_sha256(), nullptr) == 1,
        "SHA-256 is not available");
}

Sha256::~Sha256() = default;

void Sha256::update(std::span<const std::byte> bytes) {
  check(!state_->done, "Sha256::update after hex");
  check(EVP_DigestUpdate(state_->context, bytes.data(), bytes.size()) == 1, "SHA-256 failed");
}

void Sha256::update(std::string_view text) {
  update(std::as_bytes(std::span(text)));
}

std::string Sha256::hex() {
  check(!state_->done, "Sha256::hex twice");
  state_->done = true;
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned size = 0;
  check(EVP_DigestFinal_ex(state_->context, digest, &size) == 1 && size == 32, "SHA-256 failed");
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned i = 0; i < size; ++i) {
    text += kDigits[digest[i] >> 4];
    text += kDigits[digest[i] & 15];
  }
  return text;
}

std::string sha256_hex(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hash.hex();
}

}  // namespace blockgtq
