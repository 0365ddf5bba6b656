# The box as a virtual machine: started, asked to run things, ended. By QEMU's emulation, which needs nothing of the
# machine and shows function, not speed. Sourced.
#
# NICs sit behind an emulated Intel IOMMU, in pairs, each on a tap of ours: first the client's side, then the server's.
# shellcheck shell=bash disable=SC2154

GUEST_DIR= GUEST_PID= GUEST_JOBS=0
# Nothing here may hang: QEMU ends by itself after so many seconds.
GUEST_LIFE=${SLUICE_BOX_LIFE:-2400}
GUEST_BOOT_PATIENCE=480
# As on a real box, and what an emulated one needs that other programs keep waiting: its timers are late, not broken, and
# a boot that ended in a panic all the same is tried again.
GUEST_KERNEL='console=ttyS0 quiet mitigations=off intel_iommu=on iommu=pt no_timer_check tsc=reliable panic=-1'

# PCI addresses in the guest, by pair: client's side, server's side.
declare -A BOX_PCI=(
    [virtio]='0000:00:10.0 0000:00:11.0'
    [igb]='0000:01:00.0 0000:02:00.0'
    [e1000e]='0000:03:00.0 0000:04:00.0'
)

# guest_start NAMESPACE DIR: boots; taps virtioA, virtioB, igbA … are made in NAMESPACE, to be moved while QEMU holds them.
guest_start() {
    local ns=$1 kind side tap nic n=0 arguments
    GUEST_DIR=$2
    mkdir -p "$GUEST_DIR"/share/{jobs,boots} || return 1
    arguments=(-nodefaults -no-user-config -display none -pidfile "$GUEST_DIR/pid" -serial "file:$GUEST_DIR/console"
        -M q35 -accel 'tcg,thread=multi' -cpu max -smp 2 -m 2048
        -kernel "$BOX_VMLINUZ" -initrd "$BOX/initrd" -append "$GUEST_KERNEL"
        -drive "file=$BOX/root.img,format=raw,if=none,id=root,snapshot=on,cache=unsafe" -device 'virtio-blk-pci,drive=root'
        -virtfs "local,path=$GUEST_DIR/share,mount_tag=host,security_model=none,id=share"
        -device 'intel-iommu,intremap=on,device-iotlb=on,caching-mode=on')
    for kind in virtio igb e1000e; do
        for side in A B; do
            tap=$kind$side
            n=$((n + 1))
            if [ $kind = virtio ]; then
                ip -n "$ns" tuntap add "$tap" mode tap multi_queue || return 1
                arguments+=(-netdev "tap,id=$tap,ifname=$tap,script=no,downscript=no,vhost=off,queues=4")
                nic="virtio-net-pci,netdev=$tap,addr=0x$((9 + n)),mq=on,vectors=10,rss=on,hash=on,iommu_platform=on,disable-legacy=on"
            else
                ip -n "$ns" tuntap add "$tap" mode tap || return 1
                arguments+=(-netdev "tap,id=$tap,ifname=$tap,script=no,downscript=no"
                    -device "pcie-root-port,id=port$n,chassis=$n,slot=$n,addr=0x$((9 + n))")
                nic="$kind,netdev=$tap,bus=port$n"
            fi
            arguments+=(-device "$nic,mac=52:54:00:77:00:0$n")
        done
    done
    ip netns exec "$ns" nice -n "${SLUICE_BOX_NICE:-5}" timeout -k 5 "$GUEST_LIFE" qemu-system-x86_64 "${arguments[@]}" >"$GUEST_DIR/qemu.log" 2>&1 &
    GUEST_PID=$!
    guest_booted 1
}

guest_alive() { kill -0 "$GUEST_PID" 2>/dev/null; }

# guest_booted N: waits for the Nth boot.
guest_booted() {
    local end=$((SECONDS + GUEST_BOOT_PATIENCE))
    until [ "$(find "$GUEST_DIR/share/boots" -type f | wc -l)" -ge "$1" ]; do
        guest_alive || { echo 'QEMU has ended:'; cat "$GUEST_DIR/qemu.log" "$GUEST_DIR/console"; return 1; } >&2
        [ $SECONDS -lt $end ] || { echo "no boot within $GUEST_BOOT_PATIENCE s:"; tail -n 40 "$GUEST_DIR/console"; return 1; } >&2
        sleep 0.2
    done
}

# guest [-t SECONDS] COMMAND: runs it in a shell of the guest; its output and exit code, 124 where it took too long.
guest() {
    local patience=120 job end
    [ "$1" = -t ] && { patience=$2; shift 2; }
    GUEST_JOBS=$((GUEST_JOBS + 1))
    job=$GUEST_DIR/share/jobs/$(printf '%s-%04d' "$BASHPID" $GUEST_JOBS)
    end=$((SECONDS + patience))
    printf '%s\n' "$1" >"$job.new" && mv "$job.new" "$job.job"
    until [ -e "$job.rc" ]; do
        guest_alive || { echo 'QEMU has ended'; return 125; }
        [ $SECONDS -lt $end ] || { cat "$job.out" 2>/dev/null; echo "no answer from the guest within $patience s"; return 124; }
        sleep 0.1
    done
    cat "$job.out"
    return "$(cat "$job.rc")"
}

# guest_stop: by its pidfile, and only this one.
guest_stop() {
    local pid
    pid=$(cat "$GUEST_DIR/pid" 2>/dev/null)
    [ -n "$pid" ] && kill "$pid" 2>/dev/null
    [ -n "$GUEST_PID" ] && wait "$GUEST_PID" 2>/dev/null
    return 0
}
