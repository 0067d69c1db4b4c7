//! The filter of system calls: what would widen rights, other ways in, and sockets where the network is restricted.
//!
//! In flow a plan and whether there are namespaces, out flows a program for the kernel. Everything that is not named is let
//! through: files are kept by mounts and Landlock, and here only what Landlock does not know, where there are no mounts.

use std::collections::BTreeMap;
use std::io;

use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter};

use super::plan::Plan;

/// Since Linux 6.15, by one number on all machine types; not in the `libc` crate.
const OPEN_TREE_ATTR: libc::c_long = 467;

/// Refused whatever the arguments.
const REFUSED: &[libc::c_long] = &[
    // Another view of the files.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_mount_setattr,
    OPEN_TREE_ATTR,
    libc::SYS_open_by_handle_at,
    libc::SYS_setns,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Another way to any system call.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // What the kernel keeps for itself, or has had more holes than users.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
];

/// Changes of files that Landlock does not know: modes, owners, times, attributes. A descriptor to read will do for some of
/// them, so that no argument tells which file it is about.
const METADATA: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    FILE_SETATTR,
];
/// The same on every machine type, and newer than the library's list.
const SETXATTRAT: libc::c_long = 463;
const REMOVEXATTRAT: libc::c_long = 466;
const FILE_SETATTR: libc::c_long = 469;
/// `FS_IOC_SETFLAGS`, `FS_IOC32_SETFLAGS` and `FS_IOC_FSSETXATTR`: attributes again.
const ATTRIBUTES: [u64; 3] = [0x4008_6602, 0x4004_6602, 0x401c_5820];
/// What reaches processes outside where there is no namespace for it: shared memory, queues and semaphores by number.
const BY_NUMBER: &[libc::c_long] = &[
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
];
/// Of a file without a name: it is never executed (`MFD_NOEXEC_SEAL`).
const NEVER_EXECUTED: u64 = 8;

/// Every namespace that a process can be born or moved into: mount, cgroup, UTS, IPC, user, PID, network, time.
const NAMESPACES: [u64; 8] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0000_0080];
/// `TIOCSTI` and `TIOCLINUX`: input put into the terminal that is shared with whoever is outside.
const TYPING: [u64; 2] = [0x5412, 0x541c];
/// Numbers from here on are those of x32, which has its own for everything.
const X32: u32 = 0x4000_0000;

/// The filters, to be applied in this order.
///
/// # Errors
/// There is none for this machine.
pub fn programs(plan: &Plan, namespaces: bool) -> io::Result<Vec<BpfProgram>> {
    let network = plan.network;
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let mut refuse = |call: libc::c_long, conditions: &[Condition]| add(&mut rules, call, conditions);
    for flag in NAMESPACES {
        refuse(libc::SYS_unshare, &[Condition { arg: 0, op: MaskedEq(flag), value: flag }])?;
        // The lowest byte of clone's flags is the signal of its end.
        if flag > 0xff {
            refuse(libc::SYS_clone, &[Condition { arg: 0, op: MaskedEq(flag), value: flag }])?;
        }
    }
    for request in TYPING {
        refuse(libc::SYS_ioctl, &[Condition { arg: 1, op: Eq, value: request }])?;
    }
    if plan.execute.is_some() {
        // Landlock looks at no file that never had a name.
        refuse(libc::SYS_memfd_create, &[Condition { arg: 1, op: MaskedEq(NEVER_EXECUTED), value: 0 }])?;
    }
    if !namespaces && plan.grants.is_some() {
        for request in ATTRIBUTES {
            refuse(libc::SYS_ioctl, &[Condition { arg: 1, op: Eq, value: request }])?;
        }
        rules.extend(METADATA.iter().map(|call| (*call, Vec::new())));
    }
    if !namespaces {
        rules.extend(BY_NUMBER.iter().map(|call| (*call, Vec::new())));
    }
    let mut refuse = |call: libc::c_long, conditions: &[Condition]| add(&mut rules, call, conditions);
    match (network, namespaces) {
        (true, _) => {}
        // What is opened leads nowhere but to the sandbox itself.
        (false, true) => {
            let (inet, inet6, netlink) = (family(libc::AF_INET), family(libc::AF_INET6), family(libc::AF_NETLINK));
            let other = [inet, inet6, netlink].map(|value| Condition { arg: 0, op: Ne, value });
            refuse(libc::SYS_socket, &other)?;
            let routes = u64::from(libc::NETLINK_ROUTE.unsigned_abs());
            let not_routes = Condition { arg: 2, op: Ne, value: routes };
            refuse(libc::SYS_socket, &[Condition { arg: 0, op: Eq, value: netlink }, not_routes])?;
        }
        (false, false) => {
            rules.insert(libc::SYS_socket, Vec::new());
        }
    }
    if !network {
        // Of a pair, one that keeps no connection could be pointed at any other socket. Raw ones are of this kind.
        for kind in [libc::SOCK_DGRAM, libc::SOCK_RAW] {
            let kind = Condition { arg: 1, op: MaskedEq(0xf), value: family(kind) };
            add(&mut rules, libc::SYS_socketpair, &[kind])?;
        }
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(io::Error::other)?;
    Ok(vec![numbers(), filter.try_into().map_err(io::Error::other)?])
}

fn add(rules: &mut BTreeMap<i64, Vec<SeccompRule>>, call: libc::c_long, conditions: &[Condition]) -> io::Result<()> {
    let conditions = conditions.iter().map(Condition::compile).collect::<io::Result<_>>()?;
    rules.entry(call).or_default().push(SeccompRule::new(conditions).map_err(io::Error::other)?);
    Ok(())
}

struct Condition {
    arg: u8,
    op: seccompiler::SeccompCmpOp,
    value: u64,
}

impl Condition {
    fn compile(&self) -> io::Result<SeccompCondition> {
        SeccompCondition::new(self.arg, Dword, self.op.clone(), self.value).map_err(io::Error::other)
    }
}

fn family(number: libc::c_int) -> u64 {
    u64::from(number.unsigned_abs())
}

/// What no rule over arguments can say: the numbers of x32 do not exist, and neither does `clone3`, whose flags lie where no
/// filter sees them; libraries fall back on `clone`.
fn numbers() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const JUMP_IF_NOT_BELOW: u16 = 0x35;
    const RETURN: u16 = 0x06;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let unknown = libc::SECCOMP_RET_ERRNO | libc::ENOSYS.unsigned_abs();
    let clone3 = u32::try_from(libc::SYS_clone3).unwrap_or(u32::MAX);
    let x32 = if cfg!(target_arch = "x86_64") { X32 } else { u32::MAX };
    vec![
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 2, 0, clone3),
        step(JUMP_IF_NOT_BELOW, 1, 0, x32),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, 0, unknown),
    ]
}
