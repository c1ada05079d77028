#!/usr/bin/env bash
# Makes .toolchain/: the standard library for wasm32-unknown-unknown, built by the local rustc from Debian's
# `rust-src` of the very same version, and wasm-opt from npm. Nothing is installed elsewhere, no root is needed.
#
# rustc's own prebuilt library will not do: it contains bulk-memory instructions, which old protocol versions
# refuse, and what the library is built with decides the bytes of the contract. Everything comes from package
# registries: Debian (signature checked by apt) and npm (integrity in package-lock.json).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

rust=1.95.0 # with which the shipped wasm was built
target=wasm32-unknown-unknown
dir=${NEAR_TOOLCHAIN:-$PWD/.toolchain}
keys=/usr/share/keyrings/debian-archive-keyring.gpg

die() { echo "error: $*" >&2; exit 1; }

[ "$(rustc -V | cut -d' ' -f2)" = $rust ] || die "rustc $rust is needed (have: $(rustc -V))"
if [ -e "$dir/ready" ]; then exit 0; fi
command -v apt-get >/dev/null || die "apt-get is needed to fetch and check Debian's rust-src"
[ -e $keys ] || die "$keys is missing (package debian-archive-keyring)"
mkdir -p "$dir"; dir=$(cd "$dir" && pwd)

mirror=${DEBIAN_MIRROR:-$(cat /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null | grep -v '^ *#' |
  grep -oE 'https?://[^ ]+/debian( |$)' | sed 's,/debian *$,,;q' || true)}
mirror=${mirror:-https://deb.debian.org}
apt=$dir/apt
mkdir -p "$apt"/{state/lists/partial,cache/archives/partial,etc/preferences.d}
: > "$apt/state/status"
for suite in trixie-backports sid; do echo "deb [signed-by=$keys] $mirror/debian $suite main"; done > "$apt/sources.list"
options=(-q -o Dir::State="$apt/state" -o Dir::State::status="$apt/state/status" -o Dir::Cache="$apt/cache"
  -o Dir::Etc="$apt/etc" -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts=/dev/null
  -o APT::Sandbox::User=root -o APT::Architecture=amd64 -o APT::Architectures=amd64
  -o Acquire::Languages=none)
apt-get "${options[@]}" update >&2
version=$(apt-cache "${options[@]}" madison rust-src |
  awk -F'|' -v v=$rust '{gsub(/ /,"",$2); if (index($2, v"+")==1) {print $2; exit}}')
[ -n "$version" ] || die "no Debian suite has rust-src $rust any more"

build=$dir/build
rm -rf "$build" "$dir/src" "$dir/sysroot"
mkdir -p "$build/src" "$build/.cargo" "$dir/src"
(cd "$dir/src" && apt-get "${options[@]}" download "rust-src=$version" >&2 && dpkg-deb -x ./*.deb .)
source=$(echo "$dir"/src/usr/src/rustc-*)
printf '[workspace]\n[package]\nname="stdbuild"\nversion="0.0.0"\nedition="2021"\n[profile.release]\ncodegen-units=1\n' > "$build/Cargo.toml"
echo '#![no_std]' > "$build/src/lib.rs"
printf '[source.crates-io]\nreplace-with="vendored"\n[source.vendored]\ndirectory="%s/library/vendor"\n' "$source" > "$build/.cargo/config.toml"
# Cargo names the crates of a standard library after the path of their source, and what rustc calls the symbols
# (and how the linker orders them) follows from that name. Here it follows from the package, wherever this folder is.
cat > "$build/rustc" <<'EOF'
#!/usr/bin/env bash
arguments=()
for one in "$@"; do
  case $one in metadata=*) one=metadata=$CARGO_PKG_NAME-$CARGO_PKG_VERSION ;; esac
  arguments+=("$one")
done
exec "${arguments[@]}"
EOF
chmod +x "$build/rustc"
# Bitcode is embedded for the contract's link-time optimisation.
flags="-Ctarget-cpu=mvp -Ctarget-feature=+sign-ext,+mutable-globals -Cembed-bitcode=yes"
(cd "$build" && env -u CARGO_TARGET_DIR RUSTC_WRAPPER="$build/rustc" RUSTC_BOOTSTRAP=1 __CARGO_TESTS_ONLY_SRC_ROOT="$source/library" \
  CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUSTFLAGS="$flags --remap-path-prefix=$source=/rustc/$rust" \
  cargo build -q --offline --release --target $target -Zbuild-std=std,panic_abort)
libraries=$dir/sysroot/lib/rustlib
mkdir -p "$libraries/$target/lib"
find "$build/target/$target/release/deps" -name '*.rlib' ! -name 'libstdbuild*' -exec cp {} "$libraries/$target/lib/" \;
host=$(rustc -vV | sed -n 's/^host: //p')
ln -s "$(rustc --print sysroot)/lib/rustlib/$host" "$libraries/$host" # for rust-lld
rm -rf "$build" "$dir/src" "$apt"

cp package.json package-lock.json "$dir/"
(cd "$dir" && npm ci --silent --no-audit --no-fund --ignore-scripts)
touch "$dir/ready"
