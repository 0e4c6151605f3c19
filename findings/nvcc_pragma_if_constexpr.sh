#!/usr/bin/env bash
# nvcc 13.0.88 loses a declaration behind an `if constexpr` without braces whose statement is a loop with `#pragma unroll`
# around another such loop, where a later loop has an `if constexpr` too: with the condition false, a name declared further
# on "is undefined" in the very next line. With braces around the outer loop the same kernel compiles; smaller kernels do.
#
# Seen (packages of PyPI: nvidia-cuda-nvcc, nvidia-nvvm, nvidia-cuda-crt and nvidia-cuda-runtime 13.0.88; a host g++):
#   error: identifier "place" is undefined
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/python" -m pip --disable-pip-version-check -q install --target "$dir/cuda" nvidia-cuda-nvcc==13.0.88 \
  nvidia-nvvm==13.0.88 nvidia-cuda-crt==13.0.88 nvidia-cuda-runtime==13.0.88
root="$dir/cuda/nvidia/cu13"
chmod +x "$root"/bin/* "$root"/nvvm/bin/*
cat > "$dir/plain.cu" <<'CU'
template <int kTiles, bool kFlag>
__global__ void kernel(float* out, int n, float cap) {
  float factor[kTiles][2];
#pragma unroll
  for (int t = 0; t < kTiles; ++t)
#pragma unroll
    for (int j = 0; j < 2; ++j) factor[t][j] = n;
  [[maybe_unused]] float inner[kTiles][2];
  if constexpr (kFlag)
#pragma unroll
    for (int t = 0; t < kTiles; ++t)
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        inner[t][j] = factor[t][j] / cap;
        if (cap > 0) factor[t][j] = 1;
      }
#pragma unroll 1
  for (int i = 0; i < n; ++i) {
    if constexpr (kFlag) out[i] = inner[0][0];
  }
  const long long place = n * 2;
  out[place] = factor[0][0];
}
void launch(float* out) {
  kernel<1, false><<<1, 1>>>(out, 3, 1.f);
}
CU
sed 's/if constexpr (kFlag)$/if constexpr (kFlag) {/; s/^      }$/      }}/' "$dir/plain.cu" > "$dir/braces.cu"
"$root/bin/nvcc" --version | grep release
compile() { "$root/bin/nvcc" -std=c++20 -arch=sm_90 -I "$root/include" -ptx "$dir/$1.cu" -o "$dir/$1.ptx" 2>&1; }
compile braces
if found=$(compile plain); then
  echo "changed: the kernel without braces compiles"
  exit 1
fi
printf '%s\n' "$found"
grep -q 'identifier "place" is undefined' <<<"$found" || { echo "changed: another error"; exit 1; }
