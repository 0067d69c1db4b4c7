//! The filter of system calls: what would widen rights, other ways in, and sockets where the network is restricted.
//!
//! In flows whether there are a network and a namespace, out flows a program for the kernel. Everything that is not named is
//! let through: files are kept by mounts and Landlock, not here.

use std::collections::BTreeMap;
use std::io;

use seccompiler::SeccompCmpArgLen::Dword;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{BpfProgram, SeccompAction, SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter};

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
pub fn programs(network: bool, namespaces: bool) -> io::Result<Vec<BpfProgram>> {
    let arch: TargetArch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let mut refuse = |call: libc::c_long, conditions: &[Condition]| -> io::Result<()> {
        let conditions = conditions.iter().map(Condition::compile).collect::<io::Result<_>>()?;
        rules.entry(call).or_default().push(SeccompRule::new(conditions).map_err(io::Error::other)?);
        Ok(())
    };
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
        let mut refuse_pair = |kind: libc::c_int| {
            let kind = family(kind);
            let condition = Condition { arg: 1, op: MaskedEq(0xf), value: kind }.compile()?;
            let rule = SeccompRule::new(vec![condition]).map_err(io::Error::other)?;
            rules.entry(libc::SYS_socketpair).or_default().push(rule);
            io::Result::Ok(())
        };
        refuse_pair(libc::SOCK_DGRAM)?;
        refuse_pair(libc::SOCK_RAW)?;
    }
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(io::Error::other)?;
    Ok(vec![numbers(), filter.try_into().map_err(io::Error::other)?])
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
