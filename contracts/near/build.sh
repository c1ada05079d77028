#!/usr/bin/env bash
# Builds the contracts into deai/chain/artifacts/near, or with --check compares them byte for byte.
# `--check-source` needs no toolchain: was anything changed since the shipped wasm was built?
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

# All that decides the bytes: one line for each file.
sources() {
  find Cargo.toml Cargo.lock toolchain.sh package-lock.json {token,compute,channels,rewards}/{Cargo.toml,src} -type f \
    ! -path '*/tests/*' ! -name tests.rs | LC_ALL=C sort | xargs sha256sum
}
if [ "${1:-}" = --check-source ]; then
  diff built-from <(sources) || { echo "built from other sources: make -C contracts/near build" >&2; exit 1; }
  cd ../../deai/chain/artifacts/near && exec sha256sum --check --quiet SHA256SUMS
fi
./toolchain.sh
toolchain=${NEAR_TOOLCHAIN:-$PWD/.toolchain}
toolchain=$(cd "$toolchain" && pwd)
artifacts=$PWD/../../deai/chain/artifacts/near
target=wasm32-unknown-unknown
made=${CARGO_TARGET_DIR:-$PWD/target}

# No path of this machine may get into the bytes.
cargo fetch --locked --quiet
flags="--sysroot $toolchain/sysroot -Ctarget-cpu=mvp -Ctarget-feature=+sign-ext,+mutable-globals"
flags="$flags --remap-path-prefix=$PWD=/deai/contracts/near"
for crates in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*; do
  flags="$flags --remap-path-prefix=$crates=/crates"
done
CARGO_TARGET_DIR=$made CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS=$flags CARGO_INCREMENTAL=0 \
  cargo build --locked --release --target $target

out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
for name in token compute channels rewards; do
  # A sixth smaller, and checked to need nothing beyond the first WebAssembly version and sign extension.
  node "$toolchain/node_modules/binaryen/bin/wasm-opt" -Oz --mvp-features --enable-sign-ext \
    --enable-mutable-globals --strip-debug --strip-producers \
    "$made/$target/release/deai_$name.wasm" -o "$out/$name.wasm"
done
(cd "$out" && sha256sum channels.wasm compute.wasm rewards.wasm token.wasm > SHA256SUMS)
if [ "${1:-}" = --check ]; then
  # One command a line: `set -e` overlooks what fails on the left of an `&&`.
  diff "$artifacts/SHA256SUMS" "$out/SHA256SUMS"
  cd "$artifacts"
  sha256sum --check --quiet SHA256SUMS
  echo "deai/chain/artifacts/near is what this source builds to"
else
  mkdir -p "$artifacts"
  cp "$out"/* "$artifacts/"
  sources > built-from
  cat "$artifacts/SHA256SUMS"
fi
