//! Fills a database in bulk, for measurements: rows as years of use leave them, without running anything. `cargo xtask
//! bench` calls it through the example `fill`. Nothing of a running server is to write to the database meanwhile.

use holdall_engine::ids::JobId;
use holdall_engine::version::Version;

use crate::{Store, StoreError, Tx, params};

/// The kinds of history in which inputs are resolved for measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A job with 10 inputs, each with 5,400 versions, that two jobs must both have passed. Those have 6,000 builds
    /// each with all 10 inputs: 120,000 outputs. The newest versions that both have passed are a few builds back.
    TenInputs,
    /// A job with one input of 54,000 versions that 25 jobs must all have passed. Those have 4,800 builds each: 120,000
    /// outputs. Each took another one of every eleven versions, so that they agree only now and then: the newest
    /// version that all have passed has 500 builds of each job after it.
    ManyPassed,
}

/// How many versions there are in a [`Shape`], over all resources.
const VERSIONS: i64 = 54_000;

/// How many rows there are of what succeeded builds vouch for.
const OUTPUTS: i64 = 120_000;

/// How far back the newest version is that all jobs of [`Shape::ManyPassed`] have passed, in builds of one job.
const AGREED: i64 = 500;

/// Gives each job from `first` to `last` as many succeeded builds, each with an input, what it vouches for, a journal
/// of five rows and an attempt. The versions are ones that are not there any more, so that nothing starts by them.
///
/// # Errors
/// Those of the database.
pub fn builds(tx: &mut Tx<'_>, first: JobId, last: JobId, each: i64) -> Result<(), StoreError> {
    let jobs = params![first, last];
    tx.execute(
        "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < ?3) \
         INSERT INTO build (pipeline_id, job_id, number, name, ord, status, created_at, started_at, ended_at, plan, \
         worker, next_seq, next_fence, forgotten) \
         SELECT j.pipeline_id, j.id, j.next_number + n.i - 1, CAST(j.next_number + n.i - 1 AS TEXT), 0, 'succeeded', \
         n.i * 1000000, n.i * 1000000, n.i * 1000000 + 500000, '{}', 'local', 5, 2, 1 \
         FROM job j CROSS JOIN n WHERE j.id BETWEEN ?1 AND ?2",
        params![first, last, each],
    )?;
    tx.execute("UPDATE build SET ord = id WHERE ord = 0 AND job_id BETWEEN ?1 AND ?2", jobs)?;
    tx.execute("UPDATE job SET next_number = next_number + ?3 WHERE id BETWEEN ?1 AND ?2", params![first, last, each])?;
    let digest = "'0123456789abcdef0123456789abcdef0123456789abcdef' || CAST(b.id + 1000000000000000 AS TEXT)";
    tx.execute(
        &format!(
            "INSERT INTO build_input (build_id, job_id, name, resource_id, digest, version, first_occurrence) \
             SELECT b.id, b.job_id, i.name, i.resource_id, {digest}, '{{\"ref\":\"gone\"}}', 1 \
             FROM build b JOIN job_input i ON i.job_id = b.job_id WHERE b.job_id BETWEEN ?1 AND ?2"
        ),
        jobs,
    )?;
    tx.execute(
        &format!(
            "INSERT INTO vouched (build_id, position, job_id, ord, resource_id, digest) \
             SELECT b.id, i.position, b.job_id, b.ord, i.resource_id, {digest} \
             FROM build b JOIN job_input i ON i.job_id = b.job_id WHERE b.job_id BETWEEN ?1 AND ?2"
        ),
        jobs,
    )?;
    tx.execute(
        "WITH RECURSIVE n(i) AS (SELECT CAST(0 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < 4) \
         INSERT INTO build_event (build_id, seq, at, kind, step, payload) \
         SELECT b.id, n.i, b.started_at, 'note', '1', 'what a build of a trivial job leaves in its journal' \
         FROM build b CROSS JOIN n WHERE b.job_id BETWEEN ?1 AND ?2",
        jobs,
    )?;
    tx.execute(
        "INSERT INTO attempt (id, build_id, step, fence, state, team, tags, worker, assignment, created_at, \
         assigned_at, started_at, finished_at, ending, forgotten) \
         SELECT CAST(b.id AS TEXT) || '-1-1', b.id, '1', 1, 'finished', 'load', '[]', 'local', '{}', b.created_at, \
         b.created_at, b.started_at, b.ended_at, '{\"ending\":\"exited\",\"status\":0,\"artifacts\":[]}', 1 \
         FROM build b WHERE b.job_id BETWEEN ?1 AND ?2",
        jobs,
    )?;
    Ok(())
}

/// Makes a history of that shape in an empty database; gives the job whose inputs are to be resolved. `part`: only one
/// of so many versions and builds, so that a test does not take long; 1 for all of them.
///
/// # Errors
/// Those of the database.
pub fn history(tx: &mut Tx<'_>, shape: Shape, part: i64) -> Result<JobId, StoreError> {
    let (versions, outputs, agreed) = (VERSIONS / part, OUTPUTS / part, AGREED / part);
    let (resources, upstream) = match shape {
        Shape::TenInputs => (10, 2),
        Shape::ManyPassed => (1, 25),
    };
    tx.execute("INSERT INTO team (id, name) VALUES (1, 'main')", &[])?;
    tx.execute(
        "INSERT INTO pipeline (id, team_id, name, config, config_version, created_at, updated_at) \
         VALUES (1, 1, 'history', '{}', 1, 0, 0)",
        &[],
    )?;
    for job in 1..=upstream + 1 {
        tx.execute(
            "INSERT INTO job (id, pipeline_id, name, position, spec) VALUES (?1, 1, ?2, ?1, '{}')",
            params![job, format!("job-{job}")],
        )?;
    }
    for resource in 1..=resources {
        self::resource(tx, resource, versions / resources)?;
        let name = format!("resource-{resource}");
        tx.execute(
            "INSERT INTO job_input (job_id, position, name, resource_id, choice, is_trigger, has_passed) \
             VALUES (1, ?1, ?2, ?1, 'latest', 1, 1)",
            params![resource, &name],
        )?;
        for job in 2..=upstream + 1 {
            tx.execute(
                "INSERT INTO job_input_passed (job_id, input, passed_job_id) VALUES (1, ?1, ?2)",
                params![&name, job],
            )?;
        }
    }
    let each = outputs / resources / upstream;
    let of = versions / resources;
    // The place of the version that the build `n.i` of a job took.
    let took = match shape {
        // The second job is three builds behind the first.
        Shape::TenInputs => {
            let at = "CASE WHEN n.i > 3 * (j.id - 2) THEN n.i - 3 * (j.id - 2) ELSE 1 END";
            format!("1 + ({at} - 1) * {of} / {each}")
        }
        Shape::ManyPassed => {
            let (width, at) = (of / each, each - agreed);
            format!("(n.i - 1) * {width} + 1 + CASE WHEN n.i = {at} THEN 0 ELSE (n.i * 7 + j.id * 3) % {width} END")
        }
    };
    // It stands in `created_at` until the next statement has read it.
    tx.execute(
        &format!(
            "WITH RECURSIVE n(i) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT i + 1 FROM n WHERE i < {each}) \
             INSERT INTO build (id, pipeline_id, job_id, number, name, ord, status, created_at, forgotten) \
             SELECT (n.i - 1) * {upstream} + j.id - 1, 1, j.id, n.i, CAST(n.i AS TEXT), \
             (n.i - 1) * {upstream} + j.id - 1, 'succeeded', {took}, 1 \
             FROM n CROSS JOIN job j WHERE j.id > 1"
        ),
        &[],
    )?;
    tx.execute(
        "INSERT INTO vouched (build_id, position, job_id, ord, resource_id, digest) \
         SELECT b.id, r.position, b.job_id, b.ord, r.id, \
         (SELECT v.digest FROM version v WHERE v.scope_id = r.scope_id AND v.check_order = b.created_at) \
         FROM build b CROSS JOIN resource r",
        &[],
    )?;
    tx.execute("UPDATE build SET created_at = id", &[])?;
    Ok(JobId(1))
}

/// A resource with its scope and versions, whose places are their numbers.
fn resource(tx: &mut Tx<'_>, id: i64, versions: i64) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO scope (id, type, source_hash, source, next_order, last_check_at) \
         VALUES (?1, 'git', ?2, '{}', ?3, 1)",
        params![id, format!("source-{id}"), versions + 1],
    )?;
    tx.execute(
        "INSERT INTO resource (id, pipeline_id, name, position, type, scope_id, is_trigger) \
         VALUES (?1, 1, ?2, ?1, 'git', ?1, 1)",
        params![id, format!("resource-{id}")],
    )?;
    for order in 1..=versions {
        let version = Version::of("ref", &format!("{id:08x}{order:032x}"));
        tx.execute(
            "INSERT INTO version (scope_id, digest, version, check_order, created_at) VALUES (?1, ?2, ?3, ?4, ?4)",
            params![id, &version.digest(), &version, order],
        )?;
    }
    Ok(())
}

/// Lets PostgreSQL look at what was filled in, as it does by itself after a while. SQLite never does.
///
/// # Errors
/// Those of the database.
pub fn settle(store: &Store) -> Result<(), StoreError> {
    match store.backend() {
        "postgresql" => store.write_blocking(|tx| tx.execute("ANALYZE", &[]).map(drop)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use holdall_engine::resolve::resolve_inputs;

    use super::*;
    use crate::history::TxHistory;
    use crate::jobs;

    mod both {
        crate::on_both_databases!(histories_resolve_to_what_they_say, jobs_get_their_builds);
    }

    fn histories_resolve_to_what_they_say(store: Store) {
        for (shape, newest) in [(Shape::TenInputs, 1 + 116 * 108 / 120), (Shape::ManyPassed, (96 - 10 - 1) * 11 + 1)] {
            let found: i64 = store
                .write_blocking(move |tx| {
                    tx.undone(|tx| {
                        let job = history(tx, shape, 50)?;
                        let inputs: Vec<_> =
                            jobs::job_inputs(tx, job)?.iter().map(jobs::InputRow::to_resolve).collect();
                        let resolved = resolve_inputs(&inputs, job, &mut TxHistory::new(tx))?;
                        let Some(Ok(first)) = resolved.inputs.first().map(|input| input.result.as_ref()) else {
                            return Err(StoreError::Inconsistent(format!("{shape:?}: {resolved:?}")));
                        };
                        tx.query_one(
                            "SELECT check_order FROM version WHERE scope_id = 1 AND digest = ?1",
                            params![&first.version.digest()],
                        )?
                        .ok_or_else(|| StoreError::Inconsistent("no such version".to_owned()))?
                        .get(0)
                    })
                })
                .expect("it resolves");
            assert_eq!(found, newest, "{shape:?}");
        }
    }

    fn jobs_get_their_builds(store: Store) {
        let counted = store
            .write_blocking(|tx| {
                history(tx, Shape::TenInputs, 50)?;
                tx.execute("DELETE FROM vouched", &[])?;
                tx.execute("DELETE FROM build", &[])?;
                builds(tx, JobId(1), JobId(1), 7)?;
                tx.query_one(
                    "SELECT COUNT(*), MAX(b.number), (SELECT COUNT(*) FROM build_event), (SELECT COUNT(*) FROM attempt), \
                     (SELECT next_number FROM job WHERE id = 1) FROM build b WHERE b.job_id = 1 AND b.ord = b.id",
                    &[],
                )
            })
            .expect("it is filled")
            .expect("a row");
        let numbers: Vec<i64> = (0..5).map(|at| counted.get(at).expect("a number")).collect();
        assert_eq!(numbers, [7, 7, 35, 7, 8]);
    }
}
