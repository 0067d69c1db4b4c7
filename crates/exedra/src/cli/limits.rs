//! Flags of `exec` that limit what the command may use, with all that it starts.
//!
//! In flow times, sizes and counts as people write them, out flow the limits of the request.

use std::time::Duration;

use clap::Args;
use exedra_proto::limits::ResourceLimits;

use super::duration;

/// Units with their bytes.
const UNITS: &[(&str, u64)] = &[("", 1), ("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30), ("T", 1 << 40)];

/// Limits of the command.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Limits of the command and of all that it starts; over one it is ended")]
pub struct CommandLimits {
    /// Time from its start
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub limit_time: Option<Duration>,
    /// CPU time, in whole seconds
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub limit_cpu: Option<Duration>,
    /// Memory, as in 512M or 2G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub limit_memory: Option<u64>,
    /// Processes and threads at a time
    #[arg(long, value_name = "N")]
    pub limit_processes: Option<u64>,
    /// Open files of each process; beyond it they cannot be opened
    #[arg(long, value_name = "N")]
    pub limit_files: Option<u64>,
    /// Output, as in 512M or 2G
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub limit_output: Option<u64>,
    /// Run it without the limits that cannot be held there, instead of not at all
    #[arg(long)]
    pub limit_best_effort: bool,
}

impl CommandLimits {
    /// For the request; none if there is no limit.
    pub fn limits(&self) -> Option<ResourceLimits> {
        let whole = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let limits = ResourceLimits {
            wall_ms: self.limit_time.map(whole),
            // A part of a second counts as a whole one.
            cpu_seconds: self.limit_cpu.map(|time| whole(time).div_ceil(1_000)),
            memory_bytes: self.limit_memory,
            processes: self.limit_processes,
            open_files: self.limit_files,
            output_bytes: self.limit_output,
            best_effort: false,
        };
        let any = limits != ResourceLimits::default();
        any.then_some(ResourceLimits { best_effort: self.limit_best_effort, ..limits })
    }
}

fn size(text: &str) -> Result<u64, String> {
    let expected = || format!("`{text}` is no size; write a number of bytes, or one and a unit, as in 64K, 512M, 2G");
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| expected())?;
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
    number.checked_mul(*factor).ok_or_else(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("64K"), Ok(65_536));
        assert_eq!(size("2G"), Ok(2 << 30));
        for bad in ["", "M", "-1", "1.5G", "1 G", "1g", "99999999999999999999", "99999999T"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_flag_is_no_limit() {
        assert_eq!(CommandLimits { limit_best_effort: true, ..CommandLimits::default() }.limits(), None);
        let limited = CommandLimits { limit_cpu: Some(Duration::from_millis(1_500)), ..CommandLimits::default() };
        assert_eq!(limited.limits().and_then(|limits| limits.cpu_seconds), Some(2));
    }
}
