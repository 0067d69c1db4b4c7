# The first process of a machine of its own: systemd, with the units of packaging/ to be started by it. Nothing that is written
# in here is there afterwards: what could be changed lies on memory file systems. $1 is our binary, $2 the folder with the units.
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/lock /run/layers
cp "$1" /run/layers/exedra
cp -r "$2" /run/layers/packaging
mount -t tmpfs -o mode=1777 tmpfs /tmp
for dir in /etc /var /root /home /usr/bin; do
  upper=/run/layers/upper$dir work=/run/layers/work$dir
  mkdir -p "$upper" "$work"
  mount -t overlay -o "lowerdir=$dir,upperdir=$upper,workdir=$work" overlay "$dir"
done
# Of what a machine does at its start it needs the log alone; the kernel's settings are not its own.
mount -t tmpfs tmpfs /usr/lib/systemd/system/sysinit.target.wants
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
umount -R /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
ip link set lo up
cp /run/layers/exedra /usr/bin/exedra
cp /run/layers/packaging/*.service /run/layers/packaging/*.socket /etc/systemd/system/
mkdir -p /etc/exedra /var/backups
useradd --system --create-home exedra
# As systemd finds them where it is the first: units' credentials are mounts of their own.
mount --make-rshared /
export container=exedra
exec /lib/systemd/systemd --system --unit=basic.target --log-target=null --show-status=0
