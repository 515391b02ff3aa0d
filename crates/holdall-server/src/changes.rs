//! Change lists: what lies between two bags, service by service, with the commits as far as they are known.

use holdall_engine::bag::Bag;
use holdall_protocol::api::{ChangeDirection, Commit, ServiceChange, Time};
use holdall_store::environments::EnvironmentRow;
use holdall_store::versions::{VersionRow, version_between, version_get};
use holdall_store::{StoreError, Tx, resources};

/// How many commits one service's change lists at most.
const MOST_COMMITS: i64 = 100;

/// What changes from one bag (nothing: `None`) to another. `packing`: where the services' versions are found.
pub fn service_changes(
    tx: &mut Tx<'_>,
    packing: &EnvironmentRow,
    from: Option<&Bag>,
    to: &Bag,
) -> Result<Vec<ServiceChange>, StoreError> {
    let mut changes = Vec::new();
    for (name, after) in &to.services {
        let before = from.and_then(|bag| bag.services.get(name));
        if before.is_some_and(|before| before.version == after.version) {
            continue;
        }
        let mut change = ServiceChange {
            service: name.clone(),
            direction: ChangeDirection::Gains,
            from: before.map(|before| before.version.0.clone()),
            to: Some(after.version.0.clone()),
            commits: Vec::new(),
            complete: false,
        };
        if let Some(before) = before {
            between(tx, packing, name, before, after, &mut change)?;
        }
        changes.push(change);
    }
    for (name, before) in from.iter().flat_map(|bag| &bag.services) {
        if !to.services.contains_key(name) {
            changes.push(ServiceChange {
                service: name.clone(),
                direction: ChangeDirection::Loses,
                from: Some(before.version.0.clone()),
                to: None,
                commits: Vec::new(),
                complete: false,
            });
        }
    }
    Ok(changes)
}

/// Lists the versions between two of a service, in whichever direction they lie.
fn between(
    tx: &mut Tx<'_>,
    packing: &EnvironmentRow,
    service: &str,
    before: &holdall_engine::bag::BagService,
    after: &holdall_engine::bag::BagService,
    change: &mut ServiceChange,
) -> Result<(), StoreError> {
    change.direction = ChangeDirection::Unknown;
    let Some(scope) = resources::resource_find(tx, packing.pipeline, service)?.and_then(|row| row.scope) else {
        return Ok(());
    };
    let old = version_get(tx, scope, &before.version.digest())?;
    let new = version_get(tx, scope, &after.version.digest())?;
    let (Some(old), Some(new)) = (old, new) else { return Ok(()) };
    let (low, high) = if old.order <= new.order {
        change.direction = ChangeDirection::Gains;
        (old.order, new.order)
    } else {
        change.direction = ChangeDirection::Loses;
        (new.order, old.order)
    };
    let found = version_between(tx, scope, low, high, MOST_COMMITS)?;
    change.complete = i64::try_from(found.len()).unwrap_or(i64::MAX) == high - low;
    change.commits = found.iter().rev().map(commit_of).collect();
    Ok(())
}

/// What a version says of itself as a commit: the metadata that the `git` type gives, else the version.
pub fn commit_of(row: &VersionRow) -> Commit {
    let field = |name: &str| row.metadata.iter().find(|(key, _)| key == name).map(|(_, value)| value.trim().to_owned());
    let version = row.version.0.get("ref").or_else(|| row.version.0.get("digest")).cloned();
    let at = field("author_date").or_else(|| field("committer_date")).and_then(|text| parse_date(&text));
    Commit {
        id: field("commit").or(version).unwrap_or_else(|| row.version.to_string()),
        author: field("author"),
        at,
        message: field("message").and_then(|text| text.lines().next().map(str::to_owned)),
        url: field("url"),
    }
}

/// A date as git prints it (`2026-11-24 10:15:02 +0000`, or ISO 8601).
fn parse_date(text: &str) -> Option<Time> {
    if let Ok(at) = text.parse::<jiff::Timestamp>() {
        return Some(Time(at.as_microsecond()));
    }
    jiff::Zoned::strptime("%Y-%m-%d %H:%M:%S %z", text)
        .or_else(|_| jiff::Zoned::strptime("%a %b %d %H:%M:%S %Y %z", text))
        .ok()
        .map(|at| Time(at.timestamp().as_microsecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_read_as_git_prints_them() {
        for text in ["2026-11-24 10:15:02 +0000", "2026-11-24T10:15:02Z", "Tue Nov 24 10:15:02 2026 +0000"] {
            assert_eq!(parse_date(text).map(|at| at.to_string()).as_deref(), Some("2026-11-24T10:15:02Z"), "{text}");
        }
        assert_eq!(parse_date("yesterday"), None);
    }
}
