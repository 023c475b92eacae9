# Read by `init`: process 1 is systemd, which starts `guest` as a service.
units=/new/run/systemd/system
$b mkdir -p $units
{
    echo "[Unit]"
    echo "DefaultDependencies=no"
    echo "[Service]"
    echo "Type=oneshot"
    echo "StandardOutput=tty"
    echo "StandardError=tty"
    echo "TTYPath=/dev/ttyS0"
    echo "TimeoutStartSec=infinity"
    echo "ExecStart=/bin/bash $top/tests/vm/guest $top $python $arguments"
} >$units/guest.service
{
    echo "[Unit]"
    echo "Requires=guest.service"
    echo "After=guest.service"
} >$units/guest.target
# What needs hardware, modules or minutes.
for unit in systemd-udevd.service systemd-udev-trigger.service systemd-udev-settle.service \
    systemd-tmpfiles-setup.service systemd-tmpfiles-setup-dev.service systemd-sysusers.service \
    systemd-sysctl.service systemd-hwdb-update.service systemd-random-seed.service \
    systemd-modules-load.service systemd-binfmt.service systemd-remount-fs.service \
    systemd-fsck-root.service systemd-update-utmp.service systemd-user-sessions.service \
    systemd-journal-flush.service systemd-timesyncd.service modprobe@.service ldconfig.service \
    apparmor.service networking.service ifupdown-pre.service keyboard-setup.service \
    console-setup.service cron.service getty.target dev-hugepages.mount dev-mqueue.mount \
    sys-kernel-debug.mount sys-kernel-tracing.mount sys-kernel-config.mount \
    sys-fs-fuse-connections.mount; do
    $b ln -sf /dev/null $units/$unit
done
: >/new/etc/fstab
$b umount /new/sys/fs/cgroup
exec $b switch_root /new /lib/systemd/systemd --unit=guest.target --log-target=null --show-status=0
