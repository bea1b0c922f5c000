"""The default system call filter: what Docker's default allows, as our own table. Pure data; imported only to compile.

Everything that is not listed fails with EPERM, but for what needs ENOSYS so that the C library falls back.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

REVISION: Final = 1
"""Part of every cache key: raise it with each change of this file."""

_ALWAYS: Final = """
open openat openat2 creat close close_range read readv pread64 preadv preadv2 write writev pwrite64 pwritev pwritev2
lseek _llseek dup dup2 dup3 pipe pipe2 fcntl fcntl64 flock ioctl sendfile sendfile64 splice tee vmsplice copy_file_range
readahead fadvise64 fadvise64_64 fallocate truncate truncate64 ftruncate ftruncate64 sync syncfs fsync fdatasync
sync_file_range cachestat
stat stat64 lstat lstat64 fstat fstat64 fstatat64 newfstatat statx statfs statfs64 fstatfs fstatfs64 access faccessat
faccessat2 readlink readlinkat getdents getdents64 readdir getcwd chdir fchdir name_to_handle_at
chmod fchmod fchmodat fchmodat2 chown chown32 lchown lchown32 fchown fchown32 fchownat umask utime utimes futimesat
utimensat utimensat_time64 link linkat symlink symlinkat unlink unlinkat rename renameat renameat2 mkdir mkdirat rmdir
mknod mknodat
getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat listxattr llistxattr flistxattr
listxattrat removexattr lremovexattr fremovexattr removexattrat
inotify_init inotify_init1 inotify_add_watch inotify_rm_watch fanotify_mark
select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64 epoll_create epoll_create1 epoll_ctl epoll_ctl_old
epoll_wait epoll_wait_old epoll_pwait epoll_pwait2 eventfd eventfd2 signalfd signalfd4
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
socketpair socketcall bind listen accept accept4 connect shutdown getsockname getpeername getsockopt setsockopt
send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
brk mmap mmap2 munmap mremap mprotect madvise msync mincore mlock mlock2 mlockall munlock munlockall remap_file_pages
memfd_create memfd_secret membarrier map_shadow_stack mseal pkey_alloc pkey_free pkey_mprotect process_mrelease
fork vfork execve execveat exit exit_group wait4 waitid waitpid getpid getppid gettid getpgid getpgrp getsid setpgid
setsid set_tid_address set_robust_list get_robust_list rseq prctl set_thread_area get_thread_area restart_syscall
futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue
kill tkill tgkill pause alarm sigaltstack sigprocmask sigreturn rt_sigaction rt_sigpending rt_sigprocmask
rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 pidfd_open
pidfd_send_signal
getuid getuid32 geteuid geteuid32 getgid getgid32 getegid getegid32 getresuid getresuid32 getresgid getresgid32
getgroups getgroups32 setuid setuid32 setgid setgid32 setreuid setreuid32 setregid setregid32 setresuid setresuid32
setresgid setresgid32 setfsuid setfsuid32 setfsgid setfsgid32 setgroups setgroups32 capget capset
getrlimit ugetrlimit setrlimit prlimit64 getrusage times getpriority setpriority ioprio_get ioprio_set getcpu
sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam sched_getscheduler
sched_setscheduler sched_get_priority_max sched_get_priority_min sched_rr_get_interval sched_rr_get_interval_time64
sched_yield
time gettimeofday clock_gettime clock_gettime64 clock_getres clock_getres_time64 clock_nanosleep clock_nanosleep_time64
clock_adjtime clock_adjtime64 adjtimex nanosleep getitimer setitimer timer_create timer_delete timer_getoverrun
timer_gettime timer_gettime64 timer_settime timer_settime64
ipc shmget shmat shmctl shmdt semget semop semctl semtimedop semtimedop_time64 msgget msgsnd msgrcv msgctl
mq_open mq_unlink mq_notify mq_getsetattr mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
uname sysinfo getrandom seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
process_vm_readv process_vm_writev ptrace uretprobe
"""

_BY_ARCHITECTURE: Final[Mapping[str, str]] = {
    "x86_64": "arch_prctl modify_ldt",
    "aarch64": "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    "ppc64le": "sync_file_range2 swapcontext",
    "s390x": "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr",
    "riscv64": "riscv_flush_icache riscv_hwprobe",
}

_BY_CAPABILITY: Final[Mapping[str, str]] = {
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_SYS_ADMIN": (
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick listmount lookup_dcookie lsm_get_self_attr "
        "lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl "
        "quotactl_fd setdomainname sethostname setns statmount syslog umount umount2 unshare"
    ),
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "delete_module finit_module init_module",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": "kcmp pidfd_getfd process_madvise",
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
    "CAP_SYS_NICE": "get_mempolicy mbind set_mempolicy set_mempolicy_home_node migrate_pages move_pages",
    "CAP_SYSLOG": "syslog",
    "CAP_BPF": "bpf",
    "CAP_PERFMON": "perf_event_open",
}

_ARCHITECTURES: Final[Mapping[str, tuple[str, ...]]] = {
    "x86_64": ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"),
    "aarch64": ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"),
    "ppc64le": ("SCMP_ARCH_PPC64LE",),
    "s390x": ("SCMP_ARCH_S390X", "SCMP_ARCH_S390"),
    "riscv64": ("SCMP_ARCH_RISCV64",),
}

_DOCKER_ARCHITECTURES: Final[Mapping[str, str]] = {
    "amd64": "x86_64",
    "x86": "x86_64",
    "x32": "x86_64",
    "arm64": "aarch64",
    "arm": "aarch64",
    "s390": "s390x",
}

_AF_VSOCK: Final = 40
_ENOSYS: Final = 38
_NAMESPACE_FLAGS: Final = 0x7E020000
"""Every CLONE_NEW* flag of clone(2)."""

_PERSONALITIES: Final = (0x0, 0x8, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, both with UNAME26, and the query."""


def render_default_profile(capabilities: Iterable[str], machine: str) -> dict[str, Any]:
    """The default profile as the OCI runtime specification's ``linux.seccomp``, for a process with `capabilities`."""
    held = frozenset(capabilities)
    allowed = _ALWAYS.split() + _BY_ARCHITECTURE.get(machine, "").split()
    for capability, names in _BY_CAPABILITY.items():
        if capability in held:
            allowed += names.split()
    rules: list[dict[str, Any]] = [
        {"names": sorted(set(allowed)), "action": "SCMP_ACT_ALLOW"},
        _when("socket", 0, _AF_VSOCK, "SCMP_CMP_NE"),
    ]
    rules += [_when("personality", 0, value, "SCMP_CMP_EQ") for value in _PERSONALITIES]
    if "CAP_SYS_ADMIN" not in held:
        # On s390 the flags are the second argument of clone.
        position = 1 if machine.startswith("s390") else 0
        rules.append(_when("clone", position, _NAMESPACE_FLAGS, "SCMP_CMP_MASKED_EQ"))
        # clone3 hides its flags in memory, where a filter cannot look; with ENOSYS the C library turns to clone.
        rules.append({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": _ENOSYS})
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": list(_ARCHITECTURES.get(machine, ())),
        "syscalls": rules,
    }


def _when(name: str, index: int, value: int, operator: str) -> dict[str, Any]:
    condition = {"index": index, "value": value, "valueTwo": 0, "op": operator}
    return {"names": [name], "action": "SCMP_ACT_ALLOW", "args": [condition]}


def flatten_profile(
    profile: Mapping[str, Any], capabilities: Iterable[str], machine: str, kernel: tuple[int, int]
) -> dict[str, Any]:
    """Turn a profile in Docker's form (archMap, includes, excludes) into ``linux.seccomp``.

    A profile in the OCI form passes through. KeyError, TypeError or ValueError: it is neither.
    """
    held = frozenset(capabilities)
    rules = []
    for rule in profile.get("syscalls") or ():
        if _applies(rule, held, machine, kernel):
            names = rule.get("names") or [rule["name"]]
            flat: dict[str, Any] = {"names": list(names), "action": rule["action"]}
            if rule.get("args"):
                flat["args"] = [dict(one) for one in rule["args"]]
            if rule.get("errnoRet") is not None:
                flat["errnoRet"] = rule["errnoRet"]
            rules.append(flat)
    architectures = profile.get("architectures") or [
        name
        for entry in profile.get("archMap") or ()
        if entry["architecture"] == _ARCHITECTURES.get(machine, ("",))[0]
        for name in (entry["architecture"], *(entry.get("subArchitectures") or ()))
    ]
    flattened: dict[str, Any] = {
        "defaultAction": profile["defaultAction"],
        "architectures": list(architectures),
        "syscalls": rules,
    }
    for key in ("defaultErrnoRet", "flags", "listenerPath", "listenerMetadata"):
        if profile.get(key) is not None:
            flattened[key] = profile[key]
    return flattened


def _applies(rule: Mapping[str, Any], held: frozenset[str], machine: str, kernel: tuple[int, int]) -> bool:
    includes, excludes = rule.get("includes") or {}, rule.get("excludes") or {}

    def machines(condition: Mapping[str, Any]) -> set[str]:
        return {_DOCKER_ARCHITECTURES.get(one, one) for one in condition.get("arches") or ()}

    def minimum(condition: Mapping[str, Any]) -> tuple[int, int]:
        major, _, minor = str(condition["minKernel"]).partition(".")
        return int(major), int(minor.partition(".")[0] or 0)

    if includes.get("caps") and not held.issuperset(includes["caps"]):
        return False
    if includes.get("arches") and machine not in machines(includes):
        return False
    if includes.get("minKernel") and kernel < minimum(includes):
        return False
    if not held.isdisjoint(excludes.get("caps") or ()):
        return False
    if machine in machines(excludes):
        return False
    return not (excludes.get("minKernel") and kernel >= minimum(excludes))
