//! Runs one case a given number of times and nothing else, so that its instructions can be counted.

use crate::Group;

/// `GROUP/CASE N` runs the case N times; without arguments the cases are listed.
pub fn run(groups: &[Group]) {
    sunder::base::buffer::prepare_thread();
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    match &words[..] {
        [] => {
            for (group, cases) in groups {
                cases().iter().for_each(|(name, _)| println!("{group}/{name}"));
            }
        }
        [wanted, times] => {
            let (group, name) = wanted.split_once('/').expect("GROUP/CASE");
            let times: u64 = times.parse().expect("a number of times");
            let (_, cases) = groups.iter().find(|(known, _)| *known == group).expect("a group");
            let mut cases = cases();
            let (_, run) = cases.iter_mut().find(|(known, _)| *known == name).expect("a case");
            for _ in 0..times {
                run();
            }
        }
        _ => panic!("usage: [GROUP/CASE TIMES]"),
    }
}
