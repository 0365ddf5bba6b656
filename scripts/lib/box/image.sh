# What the box boots from: a kernel of Debian's, unpacked and not installed; a root file system of packages; an initrd of
# one program. All of it is kept under target/box, and made again only when something that it is made of has changed. Sourced.
# shellcheck shell=bash disable=SC2154

BOX=$TARGET/box
# The cloud kernel lacks igb, e1000e and 9p.
BOX_KERNEL_PACKAGE=linux-image-amd64
# What makes a machine that an operator would recognise; beside it what the programs are linked with, see `box_libraries`.
BOX_PACKAGES=(dbus driverctl iproute2 iputils-ping kmod pciutils procps systemd systemd-sysv udev)
# In the root file system: the NICs as the kernel drives them before they are bound, what they are bound to, the share, taps.
BOX_MODULES=(virtio_net igb e1000e vfio-pci vfio_iommu_type1 uio_pci_generic 9p 9pnet_virtio tun)
# In the initrd, to find the root.
BOX_ROOT_MODULES=(virtio_pci virtio_blk ext4)
# QEMU of Debian 12 (7.2) has no igb, and hangs when a guest reboots.
BOX_QEMU_AT_LEAST=8.0

qemu_is_new_enough() {
    local have
    have=$(dpkg-query -W -f='${Version}' qemu-system-x86 2>/dev/null) || return 1
    dpkg --compare-versions "${have#*:}" ge "$BOX_QEMU_AT_LEAST"
}

# QEMU from backports. Where the machine has no such source, one is used for this installation only.
box_install_qemu() {
    qemu_is_new_enough && return 0
    need_root 'installing qemu-system-x86'
    local apt=$BOX/apt options
    mkdir -p "$apt/parts" "$apt/lists/partial" || return 1
    cp /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list "$apt/parts/" 2>/dev/null
    [ -e /etc/apt/sources.list ] && cp /etc/apt/sources.list "$apt/parts/main.list"
    echo 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main' >"$apt/parts/box-backports.list"
    options=(-o "Dir::Etc::SourceParts=$apt/parts" -o Dir::Etc::SourceList=/dev/null -o "Dir::State::Lists=$apt/lists")
    step 'installing QEMU from bookworm-backports (a source for this installation only)' sh -c \
        'apt-get "$@" update -q && apt-get "$@" install -y -q --no-install-recommends -t bookworm-backports qemu-system-x86 seabios' \
        sh "${options[@]}" || return 1
    rm -rf "$apt"
    qemu_is_new_enough || die "QEMU $BOX_QEMU_AT_LEAST or newer is needed: bookworm-backports has it"
}

# The packages of the libraries that both programs are linked with: the guest is the same Debian, without a network.
box_libraries() {
    ldd "$@" | awk '$3 ~ "^/" { print $3 }' | sort -u | while read -r library; do
        # The same file by either name, as /lib is a link to /usr/lib.
        dpkg-query -S "$library" 2>/dev/null || dpkg-query -S "$(realpath "$library")" 2>/dev/null
    done | cut -d: -f1 | sort -u
}

box_kernel_name() { apt-cache show --no-all-versions $BOX_KERNEL_PACKAGE | sed -n 's/^Depends:.*\(linux-image-[^ ,]*\).*/\1/p'; }

# In a shell of its own: it goes elsewhere.
box_unpack_kernel() (
    name=$1 version=${1#linux-image-}
    rm -rf "$BOX/kernel" && mkdir -p "$BOX/kernel" && cd "$BOX/kernel" || exit 1
    apt-get -o APT::Sandbox::User=root download -q "$name" && dpkg-deb -x ./*.deb . && rm -f ./*.deb || exit 1
    depmod -b . "$version"
)

# box_module_files VERSION MODULE...: their files and those that they need, in the order of loading.
box_module_files() {
    local version=$1 module
    shift
    for module in "$@"; do
        modprobe -d "$BOX/kernel" -S "$version" --show-depends "$module" || return 1
    done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }'
}

box_make_initrd() {
    local version=$1 root=$BOX/initrd.d file files
    rm -rf "$root" && mkdir -p "$root"/{bin,proc,sys,dev,root,modules} || return 1
    cp /bin/busybox "$root/bin/" && ln -s busybox "$root/bin/sh" || return 1
    files=$(box_module_files "$version" "${BOX_ROOT_MODULES[@]}") || return 1
    {
        echo '#!/bin/sh'
        echo 'b=/bin/busybox; $b mount -t proc proc /proc; $b mount -t sysfs sys /sys; $b mount -t devtmpfs dev /dev'
        for file in $files; do
            cp "$file" "$root/modules/" && echo "\$b insmod /modules/${file##*/}"
        done
        echo 'while ! [ -b /dev/vda ]; do $b sleep 0.1; done'
        echo '$b mount -t ext4 /dev/vda /root && exec $b switch_root /root /sbin/init'
    } >"$root/init"
    chmod +x "$root/init"
    (cd "$root" && find . | cpio -o -H newc --quiet | gzip -1) >"$BOX/initrd.new" && mv "$BOX/initrd.new" "$BOX/initrd" && rm -rf "$root"
}

box_make_root() {
    local version=$1 root=$BOX/root.d file files packages
    shift
    rm -rf "$root" && mkdir -p "$root" || return 1
    packages=$(printf '%s,' "$@")
    mmdebstrap --quiet --variant=minbase --include="${packages%,}" --dpkgopt='path-exclude=/usr/share/{doc,man,locale,info}/*' \
        bookworm "$root" || return 1
    files=$(box_module_files "$version" "${BOX_MODULES[@]}") || return 1
    for file in $files; do
        file=${file#"$BOX/kernel"}
        file=/${file#/}
        install -D -m 644 "$BOX/kernel$file" "$root$file" || return 1
    done
    cp "$BOX/kernel/lib/modules/$version"/modules.{order,builtin,builtin.modinfo} "$root/lib/modules/$version/" && depmod -b "$root" "$version" || return 1
    install -m 755 "$ROOT/scripts/lib/box/agent" "$root/usr/local/sbin/box-agent" || return 1
    cat >"$root/etc/systemd/system/box-agent.service" <<'UNIT'
[Unit]
Description=Runs what the test puts into the shared folder
[Service]
ExecStart=/usr/local/sbin/box-agent
KillMode=process
[Install]
WantedBy=multi-user.target
UNIT
    ln -sf /etc/systemd/system/box-agent.service "$root/etc/systemd/system/multi-user.target.wants/box-agent.service"
    ln -sf /lib/systemd/system/multi-user.target "$root/etc/systemd/system/default.target"
    for file in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer fstrim.timer getty@tty1.service systemd-timesyncd.service; do
        ln -sf /dev/null "$root/etc/systemd/system/$file"
    done
    echo box >"$root/etc/hostname"
    echo '127.0.0.1 localhost box' >"$root/etc/hosts"
    mkdir -p "$root/host" "$root/etc/systemd/system.conf.d"
    printf '[Manager]\nDefaultTimeoutStopSec=10s\n' >"$root/etc/systemd/system.conf.d/box.conf"
    rm -f "$BOX/root.img"
    truncate -s 2G "$BOX/root.new" && mkfs.ext4 -q -F -d "$root" "$BOX/root.new" && mv "$BOX/root.new" "$BOX/root.img" && rm -rf "$root"
}

# box_prepare PROGRAM...: everything that a boot needs, for guests that run these programs.
box_prepare() {
    install_packages busybox-static cpio e2fsprogs kmod mmdebstrap && box_install_qemu || return 1
    mkdir -p "$BOX"
    local name packages key
    [ -n "$(box_kernel_name)" ] || step 'reading the lists of packages' apt-get update -q || return 1
    name=$(box_kernel_name)
    [ -n "$name" ] || die "no package $BOX_KERNEL_PACKAGE is known to apt"
    if [ "$(cat "$BOX/kernel.key" 2>/dev/null)" != "$name" ]; then
        step "unpacking $name" box_unpack_kernel "$name" || return 1
        echo "$name" >"$BOX/kernel.key"
    fi
    mapfile -t packages < <({ printf '%s\n' "${BOX_PACKAGES[@]}"; box_libraries "$@"; } | sort -u)
    key="$name ${packages[*]} $(cat "$ROOT"/scripts/lib/box/{image.sh,agent} | sha256sum)"
    if [ "$(cat "$BOX/root.key" 2>/dev/null)" != "$key" ]; then
        step 'building the initrd' box_make_initrd "${name#linux-image-}" || return 1
        step 'building the root file system' box_make_root "${name#linux-image-}" "${packages[@]}" || return 1
        echo "$key" >"$BOX/root.key"
    fi
    BOX_VMLINUZ=$BOX/kernel/boot/vmlinuz-${name#linux-image-}
}
