#!/usr/bin/env bash
# Installs what the build lacks on Debian: a C++ compiler and libclang, for RocksDB's bindings.
set -euo pipefail

missing=()
command -v c++ >/dev/null || missing+=(g++)
command -v make >/dev/null || missing+=(make)
# libclang-cpp is another library, which other packages bring along.
compgen -G '/usr/lib/llvm-*/lib/libclang.so*' >/dev/null ||
    compgen -G '/usr/lib/*/libclang.so*' >/dev/null ||
    compgen -G '/usr/lib/*/libclang-[0-9]*.so*' >/dev/null || missing+=(libclang-dev)
[ -e /usr/include/linux/version.h ] || missing+=(libc6-dev)

if [ ${#missing[@]} -gt 0 ]; then
    command -v apt-get >/dev/null || {
        echo "please install these by hand, this is not Debian: ${missing[*]}" >&2
        exit 1
    }
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    echo "installing ${missing[*]}"
    "${root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq "${missing[@]}" >/dev/null
fi

command -v cargo >/dev/null || {
    echo "cargo is not on the PATH: install Rust 1.95 or later from https://rustup.rs first" >&2
    exit 1
}
