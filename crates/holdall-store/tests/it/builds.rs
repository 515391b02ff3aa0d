//! Lists of builds: what a filter keeps, page by page.

use holdall_engine::ids::{BuildId, DeploymentId, JobId, PipelineId};
use holdall_engine::status::BuildStatus;
use holdall_store::builds::{BuildFilter, BuildRow, Within, build_list, build_search};
use holdall_store::testing::load;
use holdall_store::{Store, StoreError, params};

/// So many pipelines have two jobs each.
const PIPELINES: i64 = 130;
/// How many builds each job has.
const EACH: i64 = 6;

const STATUSES: [BuildStatus; 6] = [
    BuildStatus::Pending,
    BuildStatus::Started,
    BuildStatus::Succeeded,
    BuildStatus::Failed,
    BuildStatus::Errored,
    BuildStatus::Aborted,
];

mod both {
    holdall_store::on_both_databases!(a_filter_keeps_what_fits_it_newest_first);
}

/// Builds of every status, some of them of a deployment.
fn fill(store: &Store) -> Vec<BuildRow> {
    store
        .write_blocking(|tx| {
            tx.execute("INSERT INTO team (id, name) VALUES (1, 'main')", &[])?;
            for pipeline in 1..=PIPELINES {
                tx.execute(
                    "INSERT INTO pipeline (id, team_id, name, config, config_version, created_at, updated_at) \
                     VALUES (?1, 1, ?2, '{}', 1, 0, 0)",
                    params![pipeline, format!("p{pipeline}")],
                )?;
                for job in [2 * pipeline - 1, 2 * pipeline] {
                    tx.execute(
                        "INSERT INTO job (id, pipeline_id, name, position, spec) VALUES (?1, ?2, ?3, ?1, '{}')",
                        params![job, pipeline, format!("j{job}")],
                    )?;
                }
            }
            load::builds(tx, JobId(1), JobId(2 * PIPELINES), EACH)?;
            for (place, status) in STATUSES.iter().enumerate() {
                tx.execute(
                    "UPDATE build SET status = ?1 WHERE (id + id / 7) % 6 = ?2",
                    params![status.as_str(), place as i64],
                )?;
            }
            tx.execute("UPDATE build SET deployment_id = id % 3 WHERE id % 3 > 0", &[])?;
            build_list(tx, None, 10_000)
        })
        .expect("builds")
}

fn a_filter_keeps_what_fits_it_newest_first(store: Store) {
    let all = fill(&store);
    assert_eq!(all.len() as i64, 2 * PIPELINES * EACH);
    let within = [
        None,
        Some(Within::Pipelines(Vec::new())),
        Some(Within::Pipelines(vec![PipelineId(3)])),
        Some(Within::Pipelines((1..=PIPELINES).rev().map(PipelineId).collect())),
        Some(Within::Jobs(vec![JobId(4), JobId(1), JobId(999)])),
        Some(Within::Jobs((1..=2 * PIPELINES).map(JobId).collect())),
    ];
    for within in within {
        for status in STATUSES.into_iter().map(Some).chain([None]) {
            for deployment in [None, Some(DeploymentId(2))] {
                let filter = BuildFilter { within: within.clone(), deployment, status };
                let fits = |row: &&BuildRow| {
                    let is_within = match &filter.within {
                        None => true,
                        Some(Within::Pipelines(ids)) => ids.contains(&row.pipeline),
                        Some(Within::Jobs(ids)) => ids.contains(&row.job),
                    };
                    is_within
                        && status.is_none_or(|status| row.status == status)
                        && deployment.is_none_or(|deployment| row.deployment == Some(deployment))
                };
                let expected: Vec<BuildId> = all.iter().filter(fits).map(|row| row.id).collect();
                assert_eq!(in_pages(&store, &filter, 1_000), expected, "{filter:?}");
                let few = &expected[..expected.len().min(20)];
                assert_eq!(in_pages(&store, &filter, 7)[..few.len()], *few, "{filter:?}");
            }
        }
    }
}

/// The builds of a list that is read in pages, the first few pages of it.
fn in_pages(store: &Store, filter: &BuildFilter, page: i64) -> Vec<BuildId> {
    let mut found: Vec<BuildId> = Vec::new();
    for _ in 0..3 {
        let below = found.last().copied();
        let rows = store.read_blocking(|tx| build_search(tx, filter, below, page)).expect("a page");
        assert!(rows.len() as i64 <= page);
        found.extend(rows.iter().map(|row| row.id));
    }
    found
}

#[test]
fn a_connection_keeps_a_bounded_number_of_statements() {
    let Some(made) = holdall_store::testing::postgres() else {
        assert!(std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(), "no PostgreSQL server");
        eprintln!("NOT RUN on PostgreSQL: HOLDALL_TEST_POSTGRES is not set; use cargo xtask test");
        return;
    };
    let (store, _) = made.expect("a store");
    let kept: Result<i64, StoreError> = store.read_blocking(|tx| {
        for number in 0..1_500 {
            tx.query(&format!("SELECT {number}"), &[])?;
        }
        let kept = tx.query_one("SELECT COUNT(*) FROM pg_prepared_statements", &[])?.expect("a row");
        kept.get(0)
    });
    let kept = kept.expect("a count");
    assert!((2..=1_024).contains(&kept), "{kept}");
}
