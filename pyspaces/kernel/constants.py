"""Numbers of the Linux ABI, grouped by the kernel header that defines them.

Plain integers; runs in any process. The values are the same on every architecture unless a
comment says otherwise.
"""

from __future__ import annotations

# include/uapi/linux/sched.h; cloning.py has the flags that only it knows
CLONE_NEWTIME = 0x00000080
CLONE_PIDFD = 0x00001000
CLONE_PARENT = 0x00008000
CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
CLONE_INTO_CGROUP = 0x200000000  # clone3(2) only

# include/uapi/asm-generic/unistd.h: calls numbered 424 and above are the same everywhere
SYS_pidfd_send_signal = 424
SYS_open_tree = 428
SYS_move_mount = 429
SYS_fsopen = 430
SYS_fsconfig = 431
SYS_fsmount = 432
SYS_pidfd_open = 434
SYS_clone3 = 435
SYS_openat2 = 437
SYS_pidfd_getfd = 438
SYS_mount_setattr = 442
SYS_landlock_create_ruleset = 444
SYS_landlock_add_rule = 445
SYS_landlock_restrict_self = 446

# arch/*/include/uapi/asm/unistd*.h: clone(2) predates the common table. The key is the
# machine name of uname(2) and the size of a pointer in bytes (a 32-bit interpreter may run
# on a 64-bit kernel). s390 is not listed: it swaps the first two arguments.
SYS_clone = {
    ("x86_64", 8): 56,
    ("aarch64", 8): 220,
    ("riscv64", 8): 220,
    ("loongarch64", 8): 220,
    ("ppc64le", 8): 120,
    ("i686", 4): 120,
    ("x86_64", 4): 120,
    ("armv7l", 4): 120,
    ("aarch64", 4): 120,
}

# The same for keyctl(2), by the same key.
SYS_keyctl = {
    ("x86_64", 8): 250,
    ("aarch64", 8): 219,
    ("riscv64", 8): 219,
    ("loongarch64", 8): 219,
    ("ppc64le", 8): 271,
    ("s390x", 8): 280,
    ("i686", 4): 288,
    ("x86_64", 4): 288,
    ("armv7l", 4): 311,
    ("aarch64", 4): 311,
}

# The same for seccomp(2), ioprio_set(2) and rt_sigaction(2).
SYS_seccomp = {
    ("x86_64", 8): 317,
    ("aarch64", 8): 277,
    ("riscv64", 8): 277,
    ("loongarch64", 8): 277,
    ("ppc64le", 8): 358,
    ("s390x", 8): 348,
    ("i686", 4): 354,
    ("x86_64", 4): 354,
    ("armv7l", 4): 383,
    ("aarch64", 4): 383,
}
SYS_ioprio_set = {
    ("x86_64", 8): 251,
    ("aarch64", 8): 30,
    ("riscv64", 8): 30,
    ("loongarch64", 8): 30,
    ("ppc64le", 8): 273,
    ("s390x", 8): 282,
    ("i686", 4): 289,
    ("x86_64", 4): 289,
    ("armv7l", 4): 314,
    ("aarch64", 4): 314,
}
SYS_rt_sigaction = {
    ("x86_64", 8): 13,
    ("aarch64", 8): 134,
    ("riscv64", 8): 134,
    ("loongarch64", 8): 134,
    ("ppc64le", 8): 173,
    ("s390x", 8): 174,
}

# include/uapi/linux/keyctl.h
KEYCTL_JOIN_SESSION_KEYRING = 1

# include/uapi/asm-generic/signal.h; alpha, mips and sparc differ and are not supported
SIGCHLD = 17
SIGXCPU, SIGXFSZ, SIGSYS = 24, 25, 31
SIGKILL = 9
SIGTERM = 15
SIGNAL_MAX = 64

# include/uapi/linux/mount.h
MS_RDONLY = 1
MS_NOSUID = 1 << 1
MS_NODEV = 1 << 2
MS_NOEXEC = 1 << 3
MS_REMOUNT = 1 << 5
MS_BIND = 1 << 12
MS_REC = 1 << 14
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6

# include/linux/fs.h of the kernel, sys/mount.h of the C library
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# include/uapi/linux/fcntl.h
AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000

# include/uapi/asm-generic/mman-common.h, include/uapi/linux/mman.h
PROT_READ = 1
PROT_WRITE = 2
MAP_SHARED = 1
MAP_ANONYMOUS = 0x20

# include/uapi/linux/stat.h: a bit of what is asked for, the place of its answer, the size of all
STATX_INO, STATX_INO_OFFSET = 0x100, 32
STATX_DEVICE_OFFSET = 136  # its major and minor number, of four bytes each
STATX_MNT_ID = 0x1000
STATX_MNT_ID_OFFSET = 144
STATX_SIZE = 256

# include/uapi/linux/openat2.h
RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

# include/uapi/linux/prctl.h
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_SECCOMP = 22
PR_CAPBSET_DROP = 24
PR_GET_SECUREBITS = 27
PR_SET_NO_NEW_PRIVS = 38
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2

# include/uapi/linux/seccomp.h
SECCOMP_MODE_FILTER = 2
SECCOMP_SET_MODE_FILTER = 1
SECCOMP_FILTER_FLAG_LOG = 1 << 1
SECCOMP_FILTER_FLAG_SPEC_ALLOW = 1 << 2
SECCOMP_FILTER_FLAG_NEW_LISTENER = 1 << 3
SECCOMP_RET_KILL_PROCESS = 0x80000000
SECCOMP_RET_KILL_THREAD = 0
SECCOMP_RET_TRAP = 0x00030000
SECCOMP_RET_ERRNO = 0x00050000
SECCOMP_RET_USER_NOTIF = 0x7FC00000
SECCOMP_RET_TRACE = 0x7FF00000
SECCOMP_RET_LOG = 0x7FFC0000
SECCOMP_RET_ALLOW = 0x7FFF0000
SECCOMP_RET_ACTION_FULL = 0xFFFF0000
SECCOMP_RET_DATA = 0xFFFF
# include/uapi/linux/bpf_common.h: instructions of one program, 8 bytes each
BPF_MAXINSNS = 4096

# include/uapi/linux/capability.h
CAP_CHOWN = 0
CAP_KILL = 5
CAP_SYS_ADMIN = 21
CAP_SETGID = 6
CAP_SETUID = 7
CAP_SETPCAP = 8
CAP_NET_BIND_SERVICE = 10
CAP_SYS_NICE = 23
CAP_SYS_RESOURCE = 24
CAP_SETFCAP = 31
LINUX_CAPABILITY_VERSION_3 = 0x20080522

# include/uapi/linux/securebits.h: a bit number
SECURE_NOROOT = 0

# include/linux/socket.h, include/uapi/linux/net.h
AF_UNIX = 1
AF_INET = 2
SOCK_DGRAM = 2
SOCK_SEQPACKET = 5
SOCK_CLOEXEC = 0o2000000
MSG_NOSIGNAL = 0x4000

# include/uapi/linux/sockios.h, include/uapi/linux/if.h
SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
SIOCGSKNS = 0x894C
IFNAMSIZ = 16
IFF_UP = 1

# include/uapi/linux/signalfd.h, include/uapi/asm-generic/fcntl.h
SFD_NONBLOCK = 0o4000
SFD_CLOEXEC = 0o2000000
SIGNALFD_SIGINFO_SIZE = 128

# include/uapi/asm-generic/siginfo.h
SI_QUEUE, SI_TIMER = -1, -2
CLOCK_MONOTONIC = 1
SIGINFO_SIZE = 128

# kernel/user_namespace.c: UID_GID_MAP_MAX_EXTENTS, and the page that one write may fill
MAP_MAX_EXTENTS = 340
MAP_MAX_BYTES = 4095

# include/uapi/linux/nsfs.h: _IO(0xb7, n)
NS_GET_USERNS = 0xB701
NS_GET_PARENT = 0xB702
NS_GET_NSTYPE = 0xB703
NS_GET_OWNER_UID = 0xB704
NS_GET_TGID_IN_PIDNS = 0x8004B709  # since Linux 6.11

# include/linux/proc_ns.h, inside the kernel; since Linux 6.18 include/uapi/linux/nsfs.h
PROC_USER_INIT_INO = 0xEFFFFFFD
# include/linux/proc_fs.h, inside the kernel: of /proc itself
PROC_ROOT_INO = 1

# include/uapi/linux/rtnetlink.h, include/uapi/linux/net_namespace.h, include/uapi/linux/netlink.h
NETLINK_ROUTE = 0
NLM_F_REQUEST = 1
RTM_NEWNSID = 88
RTM_GETNSID = 90
NETNSA_NSID = 1
NETNSA_FD = 3

# include/uapi/linux/utsname.h
UTS_NAME_MAX = 64

# linux/sched.h: in the flags of /proc/PID/stat, of a process that is on its way out.
PF_EXITING = 0x4
