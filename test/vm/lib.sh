# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
# shellcheck disable=SC2154
# What the scripts of this directory share. They have $here and $build.

source=$(readlink -f "$here/../..")
cache=${XDG_CACHE_HOME:-/var/cache}/ckpt-vm
modules=(virtio_pci 9p 9pnet_virtio overlay virtio_rng)

need() {
        command -v "$1" >/dev/null || { echo "$0: needs $1 (apt-get install $2)" >&2; exit 2; }
}

need_all() {
        need qemu-system-x86_64 qemu-system-x86
        need busybox busybox-static
        need depmod kmod
        need cpio cpio
}

# unpack_kernel PACKAGE
unpack_kernel() {
        local package=$1 root=$cache/$1

        [ -d "$root/lib/modules" ] && return
        mkdir -p "$cache/download"
        (cd "$cache/download" && rm -f "$package"_*.deb && apt-get download "$package" >/dev/null 2>&1) ||
                { echo "$0: cannot download $package" >&2; exit 2; }
        # One that was interrupted is no kernel.
        rm -rf "$root.new"
        dpkg-deb -x "$cache/download/$package"_*.deb "$root.new"
        depmod -b "$root.new" "${package#linux-image-}"
        rm -rf "$root"
        mv "$root.new" "$root"
}

# list_modules PACKAGE: in the order in which they need one another
list_modules() {
        for module in "${modules[@]}"; do
                modprobe -S "${1#linux-image-}" -d "$cache/$1" --show-depends "$module" |
                        sed -n 's/^insmod \([^ ]*\).*/\1/p'
        done | awk '!seen[$0]++'
}

# make_initrd PACKAGE FILE
make_initrd() {
        local tree n=0 file
        tree=$(mktemp -d)
        mkdir -p "$tree"/{bin,proc,sys,dev,lower,upper,new,modules}
        cp "$(command -v busybox)" "$tree/bin/busybox"
        cp "$here/init" "$tree/init"
        while read -r file; do
                n=$((n + 1))
                case $file in
                *.xz) xz -dc "$file" >"$tree/modules/$(printf %03d $n).ko" ;;
                *) cp "$file" "$tree/modules/$(printf %03d $n).ko" ;;
                esac
        done < <(list_modules "$1")
        (cd "$tree" && find . | cpio -o -H newc --quiet | gzip -1) >"$2"
        rm -r "$tree"
}

# command_line GUEST SHARED
command_line() {
        echo "console=ttyS0 panic=-1 quiet guest=$1 shared=$2 seen=$build seen=$source seen=$cache"
}

# boot PACKAGE INITRD GUEST SHARED [ARGUMENTS of qemu]
boot() {
        local package=$1 initrd=$2 guest=$3 shared=$4 accel=(-accel 'tcg,thread=multi' -cpu max) more
        shift 4
        read -ra more <<<"${CKPT_VM_QEMU:-}"
        # Nested KVM may be there and not work: only if asked for.
        [ -n "${CKPT_VM_KVM:-}" ] && accel=(-accel kvm -cpu host)
        qemu-system-x86_64 "${accel[@]}" -m "${CKPT_VM_MEMORY:-6144}" -smp "$(nproc)" -nographic -no-reboot \
                -kernel "$cache/$package/boot/vmlinuz-${package#linux-image-}" -initrd "$initrd" \
                -append "$(command_line "$guest" "$shared")" \
                -virtfs local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap \
                -virtfs "local,path=$shared,mount_tag=shared,security_model=none" \
                -device virtio-rng-pci -monitor none -rtc clock=vm -serial "file:$shared/console" \
                "$@" "${more[@]}" </dev/null
}
