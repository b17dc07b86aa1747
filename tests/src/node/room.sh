# Runs as the first process of fresh network, mount and process namespaces and makes them look like a machine of its
# own: /run, /var/lib and /var/log are private, files that must outlive a mount or be seen from outside lie in $1, the
# cgroups of pods below $2. Ends only when it is killed, and then everything in here ends with it.
set -eu
folder=$1
cgroup=$2

ip link set lo up
# The kubelet refuses loopback as the node's address and wants a default route; not every kernel has dummy devices.
ip link add node0 type veth peer name node0p
ip link set node0p up
ip link set node0 up
ip address add 10.99.0.1/24 dev node0
ip route add default via 10.99.0.2 dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

# The kubelet sets these for the whole machine. It may have its way with files that look like them.
mkdir "$folder/sysctl"
for name in vm/overcommit_memory kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
    file="$folder/sysctl/$(echo "$name" | tr / .)"
    cat "/proc/sys/$name" >"$file"
    mount --bind "$file" "/proc/sys/$name"
done

# Nothing of the machine can be changed but the files of this run; kubelet and containerd make folders in odd places.
mount --bind "$(dirname "$folder")" "$(dirname "$folder")"
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir /run/netns
for name in kubelet containerd cni log; do
    mkdir "$folder/$name"
    [ "$name" = log ] && at=/var/log || at=/var/lib/$name
    [ -d "$at" ] || mkdir "$at"
    mount --bind "$folder/$name" "$at"
done
# As on a machine that systemd has started: mounts of the kubelet reach containers that ask for them.
mount --make-rshared /

# One cgroup for all pods, in each hierarchy (v1) or the only one (v2). A cpuset without processors takes no process.
for hierarchy in /sys/fs/cgroup /sys/fs/cgroup/*; do
    [ -f "$hierarchy/cgroup.procs" ] || continue
    mkdir "$hierarchy/$cgroup"
    for name in cpuset.cpus cpuset.mems; do
        [ ! -f "$hierarchy/$name" ] || cat "$hierarchy/$name" >"$hierarchy/$cgroup/$name"
    done
    [ ! -f "$hierarchy/cgroup.subtree_control" ] || for controller in $(cat "$hierarchy/cgroup.controllers"); do
        echo "+$controller" >"$hierarchy/cgroup.subtree_control" || :
        echo "+$controller" >"$hierarchy/$cgroup/cgroup.subtree_control" || :
    done
done

# Overlays do not lie on overlays: where the machine is a container itself, layers are copied.
mkdir "$folder/try" "$folder/try/lower" "$folder/try/upper" "$folder/try/work" "$folder/try/merged"
if mount -t overlay -o "lowerdir=$folder/try/lower,upperdir=$folder/try/upper,workdir=$folder/try/work" try "$folder/try/merged"; then
    umount "$folder/try/merged"
    echo overlayfs >"$folder/snapshotter"
else
    echo native >"$folder/snapshotter"
fi

echo ready >"$folder/ready"
# As first process it must also bury the orphans; a shell's wait does.
while :; do
    sleep 3600 &
    wait $!
done
