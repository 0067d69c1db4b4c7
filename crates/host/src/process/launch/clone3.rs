//! The system call `clone3` with a stack of its own for the child, which no C library offers.
//!
//! In flow the call's arguments and what the child runs, out flows the child's number. Elsewhere than on x86-64 it says
//! that there is no such call, and the caller has another way. Knows nothing of what the child does.

use std::ffi::{c_int, c_void};
use std::io;

/// Makes a child that calls `run` with `arg`, which must not return.
///
/// # Safety
/// The arguments name memory that outlives the child's use of it, among it a stack; `run` keeps to what a child that shares
/// memory may do.
#[cfg(target_arch = "x86_64")]
pub unsafe fn clone3(
    args: &mut libc::clone_args,
    run: extern "C" fn(*mut c_void) -> c_int,
    arg: *mut c_void,
) -> io::Result<i32> {
    let result: i64;
    // SAFETY: the parent goes on behind the block as after any system call, with `rcx` and `r11` overwritten. The child
    // begins with the parent's registers, a zero and the other stack, whose end is aligned for a call, and never leaves
    // the block.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, {arg}",
            "call {run}",
            "ud2",
            "2:",
            arg = in(reg) arg,
            run = in(reg) run,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") std::ptr::from_mut(args),
            in("rsi") size_of::<libc::clone_args>(),
            out("rcx") _,
            out("r11") _,
        );
    }
    match i32::try_from(result) {
        Ok(pid) if pid > 0 => Ok(pid),
        _ => Err(io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(libc::EINVAL))),
    }
}

/// There is none.
///
/// # Safety
/// Nothing is done.
#[cfg(not(target_arch = "x86_64"))]
pub unsafe fn clone3(
    _args: &mut libc::clone_args,
    _run: extern "C" fn(*mut c_void) -> c_int,
    _arg: *mut c_void,
) -> io::Result<i32> {
    Err(io::Error::from_raw_os_error(libc::ENOSYS))
}
