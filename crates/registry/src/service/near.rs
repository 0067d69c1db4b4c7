//! Which ids are nearly the one that somebody asked for.

use exedra_proto::ids::ExecutorId;

/// Most names that are offered.
const OFFERED: usize = 3;

/// The nearest of `known`, nearest first: a few slips away, or with `wanted` at the start.
pub fn near(wanted: &ExecutorId, known: Vec<ExecutorId>) -> Vec<ExecutorId> {
    let wanted = wanted.as_str().to_ascii_lowercase();
    let slips = (wanted.len() / 3).max(1);
    let distance = |executor: &ExecutorId| {
        let id = executor.as_str().to_ascii_lowercase();
        let within = id.len().abs_diff(wanted.len()) <= slips;
        let distance = within.then(|| strsim::damerau_levenshtein(&wanted, &id)).filter(|distance| *distance <= slips);
        distance.or_else(|| id.starts_with(&wanted).then_some(slips + 1))
    };
    let mut found: Vec<_> = known.into_iter().filter_map(|id| distance(&id).map(|distance| (distance, id))).collect();
    found.sort();
    found.into_iter().take(OFFERED).map(|(_, id)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_come_first_and_strangers_not_at_all() {
        let ids = |texts: &[&str]| texts.iter().map(|text| ExecutorId::parse(text).unwrap()).collect::<Vec<_>>();
        let near = |wanted: &str, known: &[&str]| near(&ids(&[wanted])[0], ids(known));
        assert_eq!(
            near("gpu-box1", &["gpu-box", "laptop", "gpu-box2", "GPU-box1"]),
            ids(&["GPU-box1", "gpu-box", "gpu-box2"])
        );
        assert_eq!(near("bxo", &["box", "fox"]), ids(&["box"]), "two letters swapped are one slip");
        assert_eq!(near("gpu", &["gpu-lab-1", "cpu", "a-gpu-lab"]), ids(&["cpu", "gpu-lab-1"]));
        assert_eq!(near("a", &["b", "c", "d", "e"]).len(), 3);
        assert_eq!(near("zzzzzz", &["box", "lab"]), []);
        assert_eq!(near("x", &[]), []);
    }
}
