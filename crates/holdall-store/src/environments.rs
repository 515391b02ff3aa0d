//! Environments and their deployments.

mod lists;

use holdall_engine::ids::{BuildId, DeploymentId, EnvironmentId, LockId, PipelineId, SystemId};
use holdall_engine::time::Timestamp;

use crate::params;
use crate::value::Row;
use crate::{Signal, StoreError, Tx};

pub use lists::{
    PipelineOwner, deployment_durations, deployment_get_many, deployment_last_begun, deployment_list_deployed,
    deployment_list_of_bags, pipeline_owners,
};

/// An environment.
#[derive(Debug, Clone)]
pub struct EnvironmentRow {
    /// Its id.
    pub id: EnvironmentId,
    /// Its system.
    pub system: SystemId,
    /// Its system's name.
    pub system_name: String,
    /// Its name.
    pub name: String,
    /// Whether the system file still has it.
    pub active: bool,
    /// Its place in the file.
    pub position: i64,
    /// Its lock.
    pub lock: LockId,
    /// Its pipeline.
    pub pipeline: PipelineId,
    /// What the system file compiled to, but for the pipeline: JSON.
    pub spec: String,
    /// The next pipeline and spec, which wait for the deployment under way to end: JSON.
    pub waiting: Option<String>,
    /// Why nothing starts by itself until a person says so.
    pub held: Option<Held>,
}

/// Why an environment waits for a person.
#[derive(Debug, Clone)]
pub struct Held {
    /// `held-after-unlock` or `restored`.
    pub code: String,
    /// Since when.
    pub at: Timestamp,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

const SELECT: &str = "SELECT e.id, e.system_id, s.name, e.name, e.active, e.position, e.lock_id, e.pipeline_id, \
     e.spec, e.waiting, e.held_code, e.held_at, e.held_by, e.held_reason \
     FROM environment e JOIN system s ON s.id = e.system_id";

fn from_row(row: &Row) -> Result<EnvironmentRow, StoreError> {
    let held = match row.get::<Option<String>>(10)? {
        None => None,
        Some(code) => Some(Held { code, at: row.get(11)?, by: row.get(12)?, reason: row.get(13)? }),
    };
    Ok(EnvironmentRow {
        id: row.get(0)?,
        system: row.get(1)?,
        system_name: row.get(2)?,
        name: row.get(3)?,
        active: row.get(4)?,
        position: row.get(5)?,
        lock: row.get(6)?,
        pipeline: row.get(7)?,
        spec: row.get(8)?,
        waiting: row.get(9)?,
        held,
    })
}

fn one(tx: &mut Tx<'_>, filter: &str, args: &[crate::Value]) -> Result<Option<EnvironmentRow>, StoreError> {
    tx.query_one(&format!("{SELECT} WHERE {filter}"), args)?.map(|row| from_row(&row)).transpose()
}

/// An environment by its id.
pub fn environment_get(tx: &mut Tx<'_>, id: EnvironmentId) -> Result<EnvironmentRow, StoreError> {
    one(tx, "e.id = ?1", params![id])?.ok_or_else(|| StoreError::Inconsistent(format!("environment {id} is gone")))
}

/// An environment of a system by its name.
pub fn environment_find(tx: &mut Tx<'_>, system: SystemId, name: &str) -> Result<Option<EnvironmentRow>, StoreError> {
    one(tx, "e.system_id = ?1 AND e.name = ?2 AND e.active = 1", params![system, name])
}

/// The environment whose pipeline that is.
pub fn environment_of_pipeline(tx: &mut Tx<'_>, pipeline: PipelineId) -> Result<Option<EnvironmentRow>, StoreError> {
    one(tx, "e.pipeline_id = ?1 AND e.active = 1", params![pipeline])
}

/// The environments of a system in the order of its file.
pub fn environment_list(tx: &mut Tx<'_>, system: SystemId) -> Result<Vec<EnvironmentRow>, StoreError> {
    tx.query(&format!("{SELECT} WHERE e.system_id = ?1 AND e.active = 1 ORDER BY e.position"), params![system])?
        .iter()
        .map(from_row)
        .collect()
}

/// All environments of a system, also those that its file has no more.
pub fn environment_list_all(tx: &mut Tx<'_>, system: SystemId) -> Result<Vec<EnvironmentRow>, StoreError> {
    tx.query(&format!("{SELECT} WHERE e.system_id = ?1 ORDER BY e.position, e.id"), params![system])?
        .iter()
        .map(from_row)
        .collect()
}

/// The environments that a lock is for.
pub fn environment_list_of_lock(tx: &mut Tx<'_>, lock: LockId) -> Result<Vec<EnvironmentRow>, StoreError> {
    tx.query(&format!("{SELECT} WHERE e.lock_id = ?1 AND e.active = 1 ORDER BY e.id"), params![lock])?
        .iter()
        .map(from_row)
        .collect()
}

/// Saves an environment under its name; one that was removed comes back with its history.
pub fn environment_save(
    tx: &mut Tx<'_>,
    system: SystemId,
    name: &str,
    position: i64,
    lock: LockId,
    pipeline: PipelineId,
    spec: &str,
) -> Result<EnvironmentId, StoreError> {
    let id = tx.insert(
        "INSERT INTO environment (system_id, name, position, lock_id, pipeline_id, spec) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (system_id, name) DO UPDATE SET active = 1, \
         position = excluded.position, lock_id = excluded.lock_id, pipeline_id = excluded.pipeline_id, \
         spec = excluded.spec, waiting = NULL RETURNING id",
        params![system, name, position, lock, pipeline, spec],
    )?;
    tx.signal(Signal::Board);
    Ok(EnvironmentId(id))
}

/// Moves an environment to another place in the file, without touching anything else.
pub fn environment_set_position(tx: &mut Tx<'_>, id: EnvironmentId, position: i64) -> Result<(), StoreError> {
    tx.execute("UPDATE environment SET position = ?2 WHERE id = ?1", params![id, position])?;
    Ok(())
}

/// Renames an environment. One of that name that was removed makes room: it is kept under a name that nothing can have.
pub fn environment_rename(tx: &mut Tx<'_>, id: EnvironmentId, name: &str) -> Result<(), StoreError> {
    let sql = "SELECT id FROM environment WHERE name = ?2 AND active = 0 \
               AND system_id = (SELECT own.system_id FROM environment own WHERE own.id = ?1)";
    if let Some(row) = tx.query_one(sql, params![id, name])? {
        let gone: EnvironmentId = row.get(0)?;
        let kept = format!("{name} (removed {gone})");
        tx.execute("UPDATE environment SET name = ?2 WHERE id = ?1", params![gone, kept])?;
    }
    tx.execute("UPDATE environment SET name = ?2 WHERE id = ?1", params![id, name])?;
    tx.signal(Signal::Board);
    Ok(())
}

/// Sets what the system file compiled to, but for the pipeline: JSON.
pub fn environment_set_spec(tx: &mut Tx<'_>, id: EnvironmentId, spec: &str) -> Result<(), StoreError> {
    tx.execute("UPDATE environment SET spec = ?2 WHERE id = ?1", params![id, spec])?;
    Ok(())
}

/// Keeps a pipeline and spec (JSON) that are to be taken when the deployment under way ends.
pub fn environment_set_waiting(tx: &mut Tx<'_>, id: EnvironmentId, waiting: Option<&str>) -> Result<(), StoreError> {
    tx.execute("UPDATE environment SET waiting = ?2 WHERE id = ?1", params![id, waiting])?;
    Ok(())
}

/// Takes an environment out of use; its history stays.
pub fn environment_remove(tx: &mut Tx<'_>, id: EnvironmentId) -> Result<(), StoreError> {
    tx.execute("UPDATE environment SET active = 0, waiting = NULL WHERE id = ?1", params![id])?;
    tx.signal(Signal::Board);
    Ok(())
}

/// Holds an environment until a person lets it go, or lets it go.
pub fn environment_hold(tx: &mut Tx<'_>, id: EnvironmentId, held: Option<&Held>) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE environment SET held_code = ?2, held_at = ?3, held_by = ?4, held_reason = ?5 WHERE id = ?1",
        params![
            id,
            held.map(|held| held.code.as_str()),
            held.map(|held| held.at),
            held.map(|held| held.by.as_str()),
            held.and_then(|held| held.reason.as_deref())
        ],
    )?;
    tx.signal(Signal::Board);
    Ok(())
}

/// A deployment.
#[derive(Debug, Clone)]
pub struct DeploymentRow {
    /// Its id.
    pub id: DeploymentId,
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its number in the environment.
    pub number: i64,
    /// The bag's number.
    pub bag: i64,
    /// The build of `start-deploy` that made it.
    pub build: BuildId,
    /// `forward`, `rollback` or `same`.
    pub direction: String,
    /// The bag that was current when it began.
    pub previous_bag: Option<i64>,
    /// When it began.
    pub started_at: Timestamp,
    /// Who let it begin.
    pub started_by: String,
    /// Why.
    pub reason: Option<String>,
    /// When the first step of its deploy plan started.
    pub deploy_began_at: Option<Timestamp>,
    /// When its deploy plan had succeeded: its bag is current since.
    pub deployed_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// `passed`, `unlocked`, `handed-over`.
    pub ended_how: Option<String>,
    /// Who ended it.
    pub ended_by: Option<String>,
    /// Whether nobody knows how a step of its deploy plan ended.
    pub in_doubt: bool,
}

const DEPLOYMENT: &str = "SELECT d.id, d.environment_id, d.number, b.number, d.build_id, d.direction, \
     d.previous_bag, d.started_at, d.started_by, d.reason, d.deploy_began_at, d.deployed_at, d.ended_at, \
     d.ended_how, d.ended_by, d.in_doubt FROM deployment d JOIN bag b ON b.id = d.bag_id";

fn deployment_from(row: &Row) -> Result<DeploymentRow, StoreError> {
    Ok(DeploymentRow {
        id: row.get(0)?,
        environment: row.get(1)?,
        number: row.get(2)?,
        bag: row.get(3)?,
        build: row.get(4)?,
        direction: row.get(5)?,
        previous_bag: row.get(6)?,
        started_at: row.get(7)?,
        started_by: row.get(8)?,
        reason: row.get(9)?,
        deploy_began_at: row.get(10)?,
        deployed_at: row.get(11)?,
        ended_at: row.get(12)?,
        ended_how: row.get(13)?,
        ended_by: row.get(14)?,
        in_doubt: row.get(15)?,
    })
}

/// What a new deployment is.
#[derive(Debug, Clone)]
pub struct NewDeployment {
    /// Its environment.
    pub environment: EnvironmentId,
    /// The bag's row.
    pub bag_id: i64,
    /// The build of `start-deploy`.
    pub build: BuildId,
    /// `forward`, `rollback` or `same`.
    pub direction: &'static str,
    /// The bag that is current.
    pub previous_bag: Option<i64>,
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
}

/// Makes a deployment; gives its id and its number.
pub fn deployment_create(
    tx: &mut Tx<'_>,
    new: &NewDeployment,
    now: Timestamp,
) -> Result<(DeploymentId, i64), StoreError> {
    let number: i64 = tx
        .query_one(
            "UPDATE environment SET next_deployment = next_deployment + 1 WHERE id = ?1 RETURNING next_deployment - 1",
            params![new.environment],
        )?
        .ok_or_else(|| StoreError::Inconsistent("the environment is gone".to_owned()))?
        .get(0)?;
    let id = tx.insert(
        "INSERT INTO deployment (environment_id, number, bag_id, build_id, direction, previous_bag, started_at, \
         started_by, reason) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) RETURNING id",
        params![
            new.environment,
            number,
            new.bag_id,
            new.build,
            new.direction,
            new.previous_bag,
            now,
            &new.by,
            new.reason.as_deref()
        ],
    )?;
    tx.signal(Signal::Board);
    Ok((DeploymentId(id), number))
}

/// A deployment by its id.
pub fn deployment_get(tx: &mut Tx<'_>, id: DeploymentId) -> Result<DeploymentRow, StoreError> {
    let row = tx
        .query_one(&format!("{DEPLOYMENT} WHERE d.id = ?1"), params![id])?
        .ok_or_else(|| StoreError::Inconsistent(format!("deployment {id} is gone")))?;
    deployment_from(&row)
}

/// A deployment by its number.
pub fn deployment_find(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    number: i64,
) -> Result<Option<DeploymentRow>, StoreError> {
    tx.query_one(&format!("{DEPLOYMENT} WHERE d.environment_id = ?1 AND d.number = ?2"), params![environment, number])?
        .map(|row| deployment_from(&row))
        .transpose()
}

/// The deployments of an environment, newest first.
pub fn deployment_list(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    limit: i64,
) -> Result<Vec<DeploymentRow>, StoreError> {
    tx.query(
        &format!("{DEPLOYMENT} WHERE d.environment_id = ?1 ORDER BY d.number DESC LIMIT ?2"),
        params![environment, limit],
    )?
    .iter()
    .map(deployment_from)
    .collect()
}

/// The deployments of a bag in an environment, newest first. The `+` keeps the databases from walking all deployments.
pub fn deployment_list_of_bag(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    bag: i64,
) -> Result<Vec<DeploymentRow>, StoreError> {
    tx.query(
        &format!(
            "{DEPLOYMENT} WHERE d.environment_id = ?1 AND d.bag_id = (SELECT x.id FROM bag x WHERE x.number = ?2 \
             AND x.system_id = (SELECT e.system_id FROM environment e WHERE e.id = ?1)) ORDER BY +d.number DESC"
        ),
        params![environment, bag],
    )?
    .iter()
    .map(deployment_from)
    .collect()
}

/// The deployment whose bag is current: the last whose deploy succeeded.
pub fn deployment_current(tx: &mut Tx<'_>, environment: EnvironmentId) -> Result<Option<DeploymentRow>, StoreError> {
    tx.query_one(
        &format!(
            "{DEPLOYMENT} WHERE d.environment_id = ?1 AND d.deployed_at IS NOT NULL \
             ORDER BY d.deployed_at DESC, d.number DESC LIMIT 1"
        ),
        params![environment],
    )?
    .map(|row| deployment_from(&row))
    .transpose()
}

/// The last deployment of another bag than `bag` whose deploy succeeded.
pub fn deployment_live_beside(
    tx: &mut Tx<'_>,
    environment: EnvironmentId,
    bag: i64,
) -> Result<Option<DeploymentRow>, StoreError> {
    tx.query_one(
        &format!(
            "{DEPLOYMENT} WHERE d.environment_id = ?1 AND d.deployed_at IS NOT NULL AND b.number <> ?2 \
             ORDER BY d.deployed_at DESC, d.number DESC LIMIT 1"
        ),
        params![environment, bag],
    )?
    .map(|row| deployment_from(&row))
    .transpose()
}

/// Writes down something that happened to a deployment, once. Gives `false` where it had happened.
pub fn deployment_mark(
    tx: &mut Tx<'_>,
    id: DeploymentId,
    what: DeploymentMark<'_>,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let changed = match what {
        DeploymentMark::DeployBegan => tx.execute(
            "UPDATE deployment SET deploy_began_at = ?2 WHERE id = ?1 AND deploy_began_at IS NULL",
            params![id, now],
        )?,
        // What is deployed later is live, whatever the clock says.
        DeploymentMark::Deployed => tx.execute(
            "UPDATE deployment SET in_doubt = 0, deployed_at = (SELECT CASE WHEN MAX(o.deployed_at) >= ?2 \
             THEN MAX(o.deployed_at) + 1 ELSE ?2 END FROM deployment o \
             WHERE o.environment_id = deployment.environment_id AND o.id <> ?1) WHERE id = ?1 AND ended_at IS NULL",
            params![id, now],
        )?,
        DeploymentMark::InDoubt(in_doubt) => {
            tx.execute("UPDATE deployment SET in_doubt = ?2 WHERE id = ?1 AND in_doubt <> ?2", params![id, in_doubt])?
        }
        DeploymentMark::Ended { how, by } => tx.execute(
            "UPDATE deployment SET ended_at = ?2, ended_how = ?3, ended_by = ?4 WHERE id = ?1 AND ended_at IS NULL",
            params![id, now, how, by],
        )?,
    };
    tx.signal(Signal::Board);
    Ok(changed > 0)
}

/// Something that happens to a deployment.
#[derive(Debug, Clone, Copy)]
pub enum DeploymentMark<'a> {
    /// The first step of its deploy plan started.
    DeployBegan,
    /// Its deploy plan has succeeded.
    Deployed,
    /// Nobody knows how a step of its deploy plan ended, or a person has said so now.
    InDoubt(bool),
    /// It gave up the lock.
    Ended {
        /// `passed`, `unlocked` or `handed-over`.
        how: &'a str,
        /// Who.
        by: &'a str,
    },
}

/// The highest number of a bag that has started in an environment; 0: none. `before`: in the deployments with lower numbers
/// than that. Bags with higher numbers have higher ids; the `+` keeps the databases from walking all deployments.
pub fn highest_started(tx: &mut Tx<'_>, environment: EnvironmentId, before: Option<i64>) -> Result<i64, StoreError> {
    tx.query_one(
        "SELECT b.number FROM deployment d JOIN bag b ON b.id = d.bag_id WHERE d.environment_id = ?1 AND +d.number < ?2 \
         ORDER BY d.bag_id DESC LIMIT 1",
        params![environment, before.unwrap_or(i64::MAX)],
    )?
    .map_or(Ok(0), |row| row.get(0))
}

/// A force-unlock that waits for the processes of a deployment to end.
#[derive(Debug, Clone)]
pub struct PendingUnlock {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: String,
    /// Whether the environment then waits for a person.
    pub hold: bool,
}

/// Lets the lock be taken from a deployment as soon as its last running build has ended.
pub fn unlock_when_ended(
    tx: &mut Tx<'_>,
    id: DeploymentId,
    by: &str,
    reason: &str,
    hold: bool,
) -> Result<(), StoreError> {
    tx.execute(
        "UPDATE deployment SET unlock_by = ?2, unlock_reason = ?3, unlock_hold = ?4 WHERE id = ?1",
        params![id, by, reason, hold],
    )?;
    Ok(())
}

/// The force-unlock that waits for a deployment, if one does.
pub fn pending_unlock(tx: &mut Tx<'_>, id: DeploymentId) -> Result<Option<PendingUnlock>, StoreError> {
    tx.query_one(
        "SELECT unlock_by, unlock_reason, unlock_hold FROM deployment WHERE id = ?1 AND unlock_by IS NOT NULL \
         AND ended_at IS NULL",
        params![id],
    )?
    .map(|row| Ok(PendingUnlock { by: row.get(0)?, reason: row.get(1)?, hold: row.get(2)? }))
    .transpose()
}
