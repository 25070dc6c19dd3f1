#!/usr/bin/env bash
# A box: a small Debian with a real systemd, booted in namespaces of its own on a copy-on-write layer.
# Not a container engine, and nothing of the host can be changed from inside. Needs root, apt-get, and
# a cgroup v2 mount. Used by the tests beside this file; by hand:
#
#   box.sh up NAME                    boot a fresh box (the first time builds the tree: a minute)
#   box.sh run NAME COMMAND ARG...    run COMMAND inside as root; its exit status is passed on
#   box.sh pid NAME                   print the host's pid of the box's systemd
#   box.sh reboot NAME                power off, and boot again with what is on its disk
#   box.sh down NAME                  power off, and remove its disk
#
# BOX_CACHE is where trees and boxes are kept. Packages come from the mirrors that the host uses.
# Memory, task and CPU limits load in a box, but may limit nothing: those controllers are not in it.
set -u

PACKAGES=systemd,systemd-sysv,libnss-systemd,dbus,procps,iproute2,nginx-light
BOOT_SECONDS=60

fail() {
    echo "box: $*" >&2
    exit 1
}

# ---- the tree that all boxes share, read-only

build() {
    local tree=$1 sources=() file unit
    exec 9>"$BOX_CACHE/build.lock"
    flock 9
    if [ ! -e "$tree" ]; then
        if ! command -v mmdebstrap >/dev/null; then
            apt-get update -qq >&2 && DEBIAN_FRONTEND=noninteractive \
                apt-get install -y -qq --no-install-recommends mmdebstrap >&2 || fail 'apt-get failed'
        fi
        for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list; do
            [ -s "$file" ] && sources=("$file") && break
        done
        rm -rf "$tree.new"
        mmdebstrap --variant=minbase --include="$PACKAGES" --dpkgopt='path-exclude=/usr/share/doc/*' \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
            "$(suite)" "$tree.new" "${sources[@]}" >"$BOX_CACHE/build.log" 2>&1 ||
            fail "the tree could not be built: $BOX_CACHE/build.log"
        echo box >"$tree.new/etc/hostname"
        echo '127.0.0.1 localhost box' >"$tree.new/etc/hosts"
        : >"$tree.new/etc/machine-id"
        mkdir -p "$tree.new/var/log/journal"
        ln -sfn /lib/systemd/system/multi-user.target "$tree.new/etc/systemd/system/default.target"
        # Nothing that looks after hardware or a whole machine, and no proxy before a test wants it.
        for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
            fstrim.timer systemd-timesyncd.service console-getty.service getty.target nginx.service \
            systemd-journald-audit.socket systemd-udevd.service systemd-udev-trigger.service \
            systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-firstboot.service \
            sys-kernel-debug.mount sys-kernel-tracing.mount sys-fs-fuse-connections.mount \
            dev-hugepages.mount dev-mqueue.mount systemd-sysctl.service \
            systemd-modules-load.service systemd-remount-fs.service; do
            ln -sfn /dev/null "$tree.new/etc/systemd/system/$unit"
        done
        mv "$tree.new" "$tree"
    fi
    exec 9>&-
}

suite() {
    (. /etc/os-release && echo "$VERSION_CODENAME")
}

# ---- a box

up() {
    down
    mkdir -p "$BOX/layer/upper" "$BOX/layer/work" "$BOX/root"
    boot
}

boot() {
    local tree group pid second
    tree=$BOX_CACHE/tree-$(suite)-$(echo "$PACKAGES" | cksum | cut -d' ' -f1)
    build "$tree"
    group=$(awk '$3 == "cgroup2" {print $2; exit}' /proc/mounts)
    [ -n "$group" ] || fail 'no cgroup v2 is mounted'
    group=$group/paidup-box-$NAME
    mkdir -p "$group"
    echo "$group" >"$BOX/cgroup"
    (
        echo "$BASHPID" >"$group/cgroup.procs" || exit 1
        BOX=$BOX TREE=$tree INIT="$(declare -f init); init" setsid bash -c 'echo $$ >"$BOX/outer-pid"
            exec unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child=KILL \
                --propagation private bash -c "$INIT"' </dev/null >"$BOX/console" 2>&1 &
    )
    for ((second = 0; second < BOOT_SECONDS * 10; second++)); do
        sleep 0.1
        if [ ! -s "$BOX/pid" ]; then
            pid=$(cat "/proc/$(cat "$BOX/outer-pid" 2>/dev/null)/task/"*/children 2>/dev/null | tr -d ' ')
            case $(readlink "/proc/${pid:-none}/exe" 2>/dev/null) in
                */systemd) echo "$pid $(start_time "$pid")" >"$BOX/pid" ;;
            esac
            continue
        fi
        case $(run systemctl is-system-running 2>/dev/null) in
            running) return 0 ;;
            degraded) run systemctl --no-legend --plain --failed >&2 && return 0 ;;
        esac
    done
    tail -n 20 "$BOX/console" >&2
    fail "box $NAME did not come up"
}

# The first process of the new namespaces: makes the box's file systems and becomes systemd.
init() {
    set -e
    local root=$BOX/root node path
    mount -t overlay -o "lowerdir=$TREE,upperdir=$BOX/layer/upper,workdir=$BOX/layer/work" box "$root"
    mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
    for path in sys bus fs irq sysrq-trigger; do
        [ -e "$root/proc/$path" ] || continue
        mount --bind "$root/proc/$path" "$root/proc/$path"
        mount -o remount,bind,ro "$root/proc/$path"
    done
    mount -t sysfs -o ro,nosuid,nodev,noexec sysfs "$root/sys"
    mount -t cgroup2 -o nosuid,nodev,noexec cgroup2 "$root/sys/fs/cgroup"
    mount -t tmpfs -o nosuid,mode=0755,size=4m tmpfs "$root/dev"
    for node in null zero full random urandom tty; do
        : >"$root/dev/$node"
        mount --bind "/dev/$node" "$root/dev/$node"
    done
    mkdir "$root/dev/pts" "$root/dev/shm"
    mount -t devpts -o newinstance,ptmxmode=0666,mode=620,gid=5 devpts "$root/dev/pts"
    ln -s pts/ptmx "$root/dev/ptmx"
    ln -s /proc/self/fd "$root/dev/fd"
    ln -s /proc/self/fd/1 "$root/dev/stdout"
    ln -s /proc/self/fd/2 "$root/dev/stderr"
    : >"$root/dev/console"
    mount --bind "$BOX/console" "$root/dev/console"
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/dev/shm"
    mount -t tmpfs -o nosuid,nodev,mode=0755 tmpfs "$root/run"
    mount -t tmpfs -o nosuid,nodev,mode=1777 tmpfs "$root/tmp"
    ip link set lo up
    hostname box
    cd "$root"
    mkdir -p .old
    pivot_root . .old
    # A shared root, as systemd expects it: it mounts credentials from a child. And none of the powers
    # by which clock, modules or devices of the host could be touched.
    exec chroot . /bin/bash -c 'umount -l /.old && rmdir /.old && mount --make-rshared / || exit 1
        exec env -i container=box PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 setpriv --bounding-set \
            -sys_time,-sys_module,-sys_rawio,-syslog,-mac_admin,-mac_override,-audit_control,-audit_read,-wake_alarm,-block_suspend,-sys_boot \
            /lib/systemd/systemd --show-status=no'
}

run() {
    nsenter --target "$(pid)" --mount --uts --ipc --net --pid --cgroup --root --wd \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
        LANG=C.UTF-8 SYSTEMD_PAGER= SYSTEMD_COLORS=0 "$@"
}

# Fails when the box is off. The start time tells whether the pid is another process's by now.
pid() {
    local pid start
    read -r pid start 2>/dev/null <"$BOX/pid" && [ "$(start_time "$pid")" = "$start" ] && echo "$pid"
}

start_time() {
    local stat
    stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
    # shellcheck disable=SC2086
    set -- ${stat##*) }
    [ "$1" = Z ] || echo "${20}"
}

off() {
    local pid turn group
    if pid=$(pid); then
        kill -s RTMIN+4 "$pid" # what systemd takes for: power off
        for ((turn = 0; turn < 300; turn++)); do
            pid >/dev/null || break
            sleep 0.1
        done
        pid >/dev/null && kill -KILL "$pid"
    fi
    # Whatever is left was started in this box.
    group=$(cat "$BOX/cgroup" 2>/dev/null)
    [ -n "$group" ] && [ -e "$group/cgroup.kill" ] && echo 1 >"$group/cgroup.kill"
    for ((turn = 0; turn < 50 && ${#group}; turn++)); do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null
        [ -d "$group" ] || break
        sleep 0.1
    done
    rm -f "$BOX/pid" "$BOX/outer-pid"
}

reboot() {
    off
    boot
}

down() {
    [ ! -e "$BOX" ] || off
    rm -rf --one-file-system "$BOX"
}

verb=${1:-} NAME=${2:-}
case $verb in up | run | pid | reboot | down) ;; *) fail 'first words: up, run, pid, reboot or down, and a NAME' ;; esac
case $NAME in '' | *[!a-z0-9_-]*) fail "a box's name is a-z, 0-9, _ and -: '$NAME'" ;; esac
[ "$(id -u)" = 0 ] || fail 'needs root'
mkdir -p "${BOX_CACHE:?says where boxes are kept}"
BOX=$BOX_CACHE/$NAME
shift 2
"$verb" "$@"
