//! Runs one case so many times and nothing else, to have its instructions counted.

use crate::Group;

/// `GROUP/CASE N` runs the case N times; without words the cases are named.
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
