//! What a process gives up for good: capabilities, files by Landlock, system calls by a filter.
//!
//! In flows a [`Plan`], out flows a process that can do less, and so can all that it starts. Without namespaces this is all
//! there is, and every part of it must hold.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, LandlockStatus, RestrictionStatus, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, capabilities, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits, set_no_new_privs,
};

use super::around::Around;
use super::filter;
use super::mounts::Mounts;
use super::plan::{Grants, Plan};

/// The newest that is asked for; a kernel that has less gives what it has.
const NEWEST: ABI = ABI::V7;
/// Enough where nothing else keeps files from being changed: it knows truncation.
const ENOUGH: ABI = ABI::V3;
/// How many capabilities the kernel's sets can hold.
const CAPABILITIES: u32 = 64;

/// What Landlock is on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Landlock {
    /// It is not there or not switched on.
    Absent,
    /// It does not know all that matters.
    Old,
    /// It does.
    Enough,
}

/// Raises it.
///
/// # Errors
/// A part of it does not hold: the process must end.
pub fn raise(plan: &Plan, namespaces: bool) -> io::Result<()> {
    drop_capabilities()?;
    set_no_new_privs(true)?;
    // Without namespaces it is what leaves other processes alone, where the kernel has that.
    let needed = plan.grants.is_some() || plan.execute.is_some();
    if needed || !namespaces {
        // Mounts make control groups read-only elsewhere: whoever writes there holds to no limit.
        let groups = if namespaces { Vec::new() } else { Mounts::read()?.groups() };
        let status = restrict(plan, namespaces, &groups).map_err(io::Error::other)?;
        if needed && !namespaces && strength(&status.landlock) != Landlock::Enough {
            return Err(io::Error::other("the kernel's Landlock is absent or too old"));
        }
        // What may be executed is kept by nothing else.
        if needed && (!namespaces || plan.execute.is_some()) && status.ruleset == RulesetStatus::NotEnforced {
            return Err(io::Error::other("Landlock is not enforced"));
        }
    }
    for program in filter::programs(plan, namespaces)? {
        seccompiler::apply_filter(&program).map_err(io::Error::other)?;
    }
    Ok(())
}

/// What Landlock is here. Looking restricts nothing.
pub fn landlock() -> Landlock {
    // A ruleset with nothing in it is refused, and says so only where there is Landlock at all.
    let with = |abi| {
        let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
        ruleset.handle_access(AccessFs::from_all(abi)).and_then(Ruleset::create).is_ok()
    };
    match (with(ENOUGH), with(ABI::V1)) {
        (true, _) => Landlock::Enough,
        (false, true) => Landlock::Old,
        (false, false) => Landlock::Absent,
    }
}

fn strength(status: &LandlockStatus) -> Landlock {
    match status {
        LandlockStatus::Available { effective_abi, .. } if *effective_abi >= ENOUGH => Landlock::Enough,
        LandlockStatus::Available { .. } => Landlock::Old,
        _ => Landlock::Absent,
    }
}

/// `groups` are left out of what may be written.
fn restrict(plan: &Plan, namespaces: bool, groups: &[PathBuf]) -> Result<RestrictionStatus, landlock::RulesetError> {
    let paths = |list: &[super::job::Raw]| list.iter().map(|raw| raw.as_path().to_owned()).collect::<Vec<_>>();
    // Where there is a list of what may be executed, nothing else gives that right.
    let listed = if plan.execute.is_some() { AccessFs::Execute.into() } else { BitFlags::empty() };
    let execute = path_beneath_rules(plan.execute.as_deref().map(paths).unwrap_or_default(), AccessFs::Execute);
    let Some(Grants { read, write }) = &plan.grants else {
        // What is not named here would be refused all the same: moving and linking files to other directories.
        let moves = path_beneath_rules(["/"], AccessFs::Refer);
        let ruleset = Ruleset::default().handle_access(AccessFs::Execute | AccessFs::Refer)?;
        let anything = plan.execute.is_none().then_some("/");
        let anything = path_beneath_rules(anything, AccessFs::Execute);
        if namespaces {
            return ruleset.create()?.add_rules(moves)?.add_rules(execute)?.add_rules(anything)?.restrict_self();
        }
        let around = Around::of(&["/".into()], groups);
        let written = if around.ways.is_empty() { vec!["/".into()] } else { around.names() };
        let ruleset = scoped(ruleset.handle_access(AccessFs::WriteFile)?, plan.network)?.create()?;
        let ruleset = ruleset.add_rules(path_beneath_rules(written, AccessFs::WriteFile))?;
        return ruleset.add_rules(moves)?.add_rules(execute)?.add_rules(anything)?.restrict_self();
    };
    let ruleset = scoped(Ruleset::default().handle_access(AccessFs::from_all(NEWEST))?, plan.network)?;
    let (mut read, mut write) = (paths(read), paths(write));
    let mut around = Around::default();
    // Open as long as it is named.
    let outside_groups;
    if namespaces {
        read.push("/proc".into());
        write.push("/dev".into());
    } else {
        around = Around::of(&read, &paths(&plan.masked));
        read.retain(|path| !around.ways.contains(path));
        write.retain(|path| !groups.iter().any(|group| path.starts_with(group)));
        outside_groups = Around::of(&write, groups);
        write.retain(|path| !outside_groups.ways.contains(path));
        write.extend(outside_groups.names());
        write.extend(["/dev/null", "/dev/zero", "/dev/full", "/dev/tty"].map(Into::into));
    }
    ruleset
        .create()?
        .add_rules(path_beneath_rules(read, AccessFs::from_read(NEWEST) & !listed))?
        .add_rules(path_beneath_rules(around.names(), AccessFs::from_read(NEWEST) & !listed))?
        .add_rules(path_beneath_rules(around.ways, AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(write, AccessFs::from_all(NEWEST) & !listed))?
        .add_rules(execute)?
        .restrict_self()
}

/// Leaves processes outside alone, and without the network their sockets without a file.
fn scoped(ruleset: Ruleset, network: bool) -> Result<Ruleset, landlock::RulesetError> {
    let ruleset = ruleset.scope(Scope::Signal)?;
    if network { Ok(ruleset) } else { ruleset.scope(Scope::AbstractUnixSocket) }
}

/// All of them, so that no program gets any back, whoever owns it and whoever runs it.
fn drop_capabilities() -> io::Result<()> {
    let held = capabilities(None)?;
    if held.effective.contains(CapabilitySet::SETPCAP) {
        for number in 0..CAPABILITIES {
            match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
                // The kernel has no more.
                Err(Errno::INVAL) => break,
                done => done?,
            }
        }
        let bits = CapabilitiesSecureBits::NO_ROOT
            | CapabilitiesSecureBits::NO_ROOT_LOCKED
            | CapabilitiesSecureBits::NO_SETUID_FIXUP
            | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
            | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
            | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED;
        set_capabilities_secure_bits(bits)?;
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(())
}
