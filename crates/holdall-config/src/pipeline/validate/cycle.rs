//! Cycles between jobs through `passed`.

use crate::diagnostic::Diagnostic;
use crate::yaml::Reader;

use super::super::decode::Decoded;
use super::{Index, at};

/// Reports the first cycle, named after the job in it that was found first. It keeps no call stack, so that no chain of
/// jobs is too long.
pub(super) fn check(reader: &mut Reader, decoded: &Decoded<'_>, index: &Index<'_>) {
    let jobs = &decoded.pipeline.jobs;
    let edges = |job: usize| {
        let mut edges: Vec<usize> =
            index.passed[job].iter().filter_map(|entry| index.matching(entry)).flatten().collect();
        edges.reverse();
        edges
    };
    let (mut done, mut open) = (vec![false; jobs.len()], vec![false; jobs.len()]);
    for start in 0..jobs.len() {
        if done[start] {
            continue;
        }
        open[start] = true;
        let mut stack = vec![(start, edges(start))];
        while let Some((job, rest)) = stack.last_mut() {
            match rest.pop() {
                Some(next) if open[next] => {
                    let message = format!("pipeline contains a cycle that starts at Job '{}'", jobs[next].name);
                    let mut names: Vec<&str> = stack.iter().map(|(job, _)| jobs[*job].name.as_str()).collect();
                    names.drain(..names.iter().position(|name| *name == jobs[next].name).unwrap_or(0));
                    names.push(&jobs[next].name);
                    let found = Diagnostic::error("cycle", message)
                        .at(at(decoded.jobs[next], "name").span)
                        .under(format!("jobs.{}", jobs[next].name));
                    reader.push(found.help(format!("each needs the next to have passed: {}", names.join(" -> "))));
                    return;
                }
                Some(next) if !done[next] => {
                    open[next] = true;
                    stack.push((next, edges(next)));
                }
                Some(_) => {}
                None => {
                    (open[*job], done[*job]) = (false, true);
                    stack.pop();
                }
            }
        }
    }
}
