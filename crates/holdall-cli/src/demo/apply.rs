//! `holdall demo-apply`: does what `terraform apply` does with `infrastructure/terraform` of the demo, where there is
//! no Terraform: the same lock, the same state in Terraform's own format, and the same manners when it is interrupted:
//! the first signal makes it stop in order and give the lock back, a second one ends it at once and leaves the lock.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::interrupt::Interrupt;
use super::world::{agent, request};

/// Arguments of `demo-apply`, from the variables that Terraform reads.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Where state and lock are.
    #[arg(long, env = "TF_HTTP_ADDRESS")]
    address: String,
    /// What is brought up to date.
    #[arg(long, env = "TF_VAR_environment")]
    environment: String,
    /// The deployment that does it.
    #[arg(long, env = "TF_VAR_deployment")]
    deployment: String,
    /// The folder with the files `*.auto.tfvars.json`.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// What is read of `bag.auto.tfvars.json`.
#[derive(Debug, Deserialize)]
struct BagVariables {
    commits: BTreeMap<String, String>,
}

/// `settings.auto.tfvars.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[serde(default)]
    settle_seconds: u32,
    #[serde(default)]
    refuse_in: String,
}

/// Runs `demo-apply`.
pub fn run(args: &ApplyArgs) -> anyhow::Result<()> {
    // In this order: the first signal finds the flag down and raises it, the second finds it up and ends the process.
    let is_second = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, Arc::clone(&is_second))?;
        signal_hook::flag::register(signal, Arc::clone(&is_second))?;
    }
    let interrupt = Interrupt::listen()?;
    let read = |name: &str| {
        let path = args.folder.join(name);
        fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    };
    let bag: BagVariables =
        serde_json::from_str(&read("bag.auto.tfvars.json")?).context("bag.auto.tfvars.json is not as it should be")?;
    let settings: Settings = serde_json::from_str(&read("settings.auto.tfvars.json")?)
        .context("settings.auto.tfvars.json is not as it should be")?;
    let server = StateServer { agent: agent(Duration::from_secs(30)), address: args.address.clone() };
    let lock = server.lock()?;
    // Given back whatever happens in between; only a second signal gets by.
    let applied = apply(args, &bag, &settings, &server, &lock, &interrupt);
    server.unlock(&lock)?;
    applied
}

fn apply(
    args: &ApplyArgs,
    bag: &BagVariables,
    settings: &Settings,
    server: &StateServer,
    lock: &Lock,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let mut state = server.read()?;
    if settings.refuse_in == args.environment {
        anyhow::bail!(
            "The network of {} refuses this change: refuse_in in settings.auto.tfvars.json says so.",
            args.environment
        );
    }
    let counts = state.change(&args.environment, &bag.commits)?;
    server.write(&state, lock)?;
    if settings.settle_seconds > 0 {
        println!("terraform_data.settled: settling for {} seconds", settings.settle_seconds);
        if interrupt.came_within(Duration::from_secs(settings.settle_seconds.into())) {
            anyhow::bail!("interrupted; the state is saved and the lock is given back");
        }
    }
    state.settle(&args.deployment)?;
    server.write(&state, lock)?;
    println!("Apply complete! Resources: {} added, {} changed, {} destroyed.", counts.0, counts.1, counts.2);
    Ok(())
}

/// A lock that is held, as Terraform's lock info.
struct Lock {
    id: String,
    info: String,
}

/// The server with the state of one environment.
struct StateServer {
    agent: ureq::Agent,
    address: String,
}

impl StateServer {
    fn call(&self, method: &str, url: &str, body: &str) -> anyhow::Result<(u16, String)> {
        request(&self.agent, method, url, body).with_context(|| format!("{method} {url}: no answer"))
    }

    fn lock(&self) -> anyhow::Result<Lock> {
        let id = random_uuid()?;
        let who = std::env::var("HOSTNAME").unwrap_or_else(|_unset| "demo".to_owned());
        let info = json!({
            "ID": id,
            "Operation": "OperationTypeApply",
            "Info": "",
            "Who": format!("holdall demo-apply ({}) on {who}", std::process::id()),
            "Version": env!("CARGO_PKG_VERSION"),
            "Created": jiff::Timestamp::now().to_string(),
            "Path": "",
        })
        .to_string();
        match self.call("LOCK", &self.address, &info)? {
            (200, _) => Ok(Lock { id, info }),
            (423, holder) => {
                let holder: Value = serde_json::from_str(&holder).unwrap_or_default();
                let text = |key: &str| holder[key].as_str().unwrap_or("unknown").to_owned();
                anyhow::bail!(
                    "the state is locked by {} since {} (lock {}); if that process is gone: curl -X UNLOCK {}",
                    text("Who"),
                    text("Created"),
                    text("ID"),
                    self.address
                )
            }
            (status, body) => anyhow::bail!("the state cannot be locked: {status} {}", body.trim()),
        }
    }

    fn unlock(&self, lock: &Lock) -> anyhow::Result<()> {
        let (status, body) = self.call("UNLOCK", &self.address, &lock.info)?;
        anyhow::ensure!(status == 200, "the lock cannot be given back: {status} {}", body.trim());
        Ok(())
    }

    fn read(&self) -> anyhow::Result<TerraformState> {
        match self.call("GET", &self.address, "")? {
            (200, body) => TerraformState::parse(&body),
            (204 | 404, _) => TerraformState::empty(),
            (status, body) => anyhow::bail!("the state cannot be read: {status} {}", body.trim()),
        }
    }

    fn write(&self, state: &TerraformState, lock: &Lock) -> anyhow::Result<()> {
        let url = format!("{}?ID={}", self.address, lock.id);
        let (status, body) = self.call("POST", &url, &state.document.to_string())?;
        anyhow::ensure!(status == 200, "the state cannot be written: {status} {}", body.trim());
        Ok(())
    }
}

/// A Terraform state, format version 4, as far as the demo's configuration goes.
#[derive(Debug, Clone, PartialEq)]
struct TerraformState {
    document: Value,
}

impl TerraformState {
    fn empty() -> anyhow::Result<TerraformState> {
        let document = json!({
            "version": 4,
            // The first version that has terraform_data; later ones, and OpenTofu, go on from it.
            "terraform_version": "1.4.0",
            "serial": 0,
            "lineage": random_uuid()?,
            "outputs": {},
            "resources": [],
            "check_results": null,
        });
        Ok(TerraformState { document })
    }

    fn parse(text: &str) -> anyhow::Result<TerraformState> {
        let document: Value = serde_json::from_str(text).context("the state is not JSON")?;
        anyhow::ensure!(document["version"] == 4, "the state is not of version 4");
        anyhow::ensure!(document["resources"].is_array(), "the state has no resources");
        Ok(TerraformState { document })
    }

    fn resources(&self) -> &[Value] {
        self.document["resources"].as_array().map_or(&[], Vec::as_slice)
    }

    /// The instances of `terraform_data.NAME` by key (empty where there is none): id and input.
    fn instances(&self, name: &str) -> BTreeMap<String, (String, Value)> {
        let resource = self.resources().iter().find(|resource| resource["name"] == name);
        let instances = resource.and_then(|resource| resource["instances"].as_array());
        let entry = |instance: &Value| {
            let key = instance["index_key"].as_str().unwrap_or_default().to_owned();
            let attributes = &instance["attributes"];
            (key, (attributes["id"].as_str().unwrap_or_default().to_owned(), attributes["input"]["value"].clone()))
        };
        instances.into_iter().flatten().map(entry).collect()
    }

    /// Replaces `terraform_data.NAME`; the resources stay in the order of their names.
    fn replace(&mut self, name: &str, instances: Vec<Value>) {
        let resource = json!({
            "mode": "managed",
            "type": "terraform_data",
            "name": name,
            "provider": "provider[\"terraform.io/builtin/terraform\"]",
            "instances": instances,
        });
        let others = self.resources().iter().filter(|resource| resource["name"] != name).cloned();
        let mut resources: Vec<Value> = others.chain([resource]).collect();
        resources.sort_by(|a, b| a["name"].as_str().cmp(&b["name"].as_str()));
        self.document["resources"] = resources.into();
        self.document["serial"] = (self.document["serial"].as_u64().unwrap_or(0) + 1).into();
    }

    /// Applies network and services, and says so: how many were added, changed and destroyed.
    fn change(
        &mut self,
        environment: &str,
        commits: &BTreeMap<String, String>,
    ) -> anyhow::Result<(usize, usize, usize)> {
        let id = match self.instances("network").remove("") {
            Some((id, _)) => id,
            None => random_uuid()?,
        };
        let input = json!({ "value": environment, "type": "string" });
        self.replace("network", vec![instance(None, &id, &input, &Value::Null, &[])]);
        let mut before = self.instances("service");
        let (mut instances, mut added, mut changed) = (Vec::new(), 0, 0);
        for (service, commit) in commits {
            let value = json!({ "service": service, "commit": commit });
            let id = match before.remove(service) {
                Some((id, was)) if was == value => id,
                Some((id, _)) => {
                    changed += 1;
                    println!("terraform_data.service[{service:?}]: changed to {commit:.7}");
                    id
                }
                None => {
                    added += 1;
                    println!("terraform_data.service[{service:?}]: added at {commit:.7}");
                    random_uuid()?
                }
            };
            let input = json!({ "value": value, "type": ["object", { "commit": "string", "service": "string" }] });
            instances.push(instance(Some(service), &id, &input, &Value::Null, &["terraform_data.network"]));
        }
        for service in before.keys() {
            println!("terraform_data.service[{service:?}]: destroyed");
        }
        self.replace("service", instances);
        Ok((added, changed, before.len()))
    }

    /// Marks the deployment as settled.
    fn settle(&mut self, deployment: &str) -> anyhow::Result<()> {
        let triggers = json!({ "value": [deployment], "type": ["tuple", ["string"]] });
        let after = ["terraform_data.network", "terraform_data.service"];
        let settled = instance(None, &random_uuid()?, &Value::Null, &triggers, &after);
        self.replace("settled", vec![settled]);
        Ok(())
    }
}

fn instance(key: Option<&str>, id: &str, input: &Value, triggers: &Value, dependencies: &[&str]) -> Value {
    let mut instance = json!({
        "schema_version": 0,
        "attributes": { "id": id, "input": input, "output": input, "triggers_replace": triggers },
        "sensitive_attributes": [],
    });
    if let Some(key) = key {
        instance["index_key"] = key.into();
    }
    if !dependencies.is_empty() {
        instance["dependencies"] = dependencies.into();
    }
    instance
}

/// A random UUID, as Terraform gives to locks, lineages and `terraform_data`.
fn random_uuid() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commits(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, commit)| ((*name).to_owned(), (*commit).to_owned())).collect()
    }

    #[test]
    fn counts_what_changes_and_keeps_what_does_not() {
        let mut state = TerraformState::empty().unwrap();
        assert_eq!(state.change("staging", &commits(&[("api", "1"), ("admin", "1")])).unwrap(), (2, 0, 0));
        state.settle("1").unwrap();
        let before = state.instances("service");
        assert_eq!(state.change("staging", &commits(&[("api", "2"), ("worker", "1")])).unwrap(), (1, 1, 1));
        let after = state.instances("service");
        assert_eq!(after["api"].0, before["api"].0);
        assert_eq!(after.keys().collect::<Vec<_>>(), ["api", "worker"]);
        assert_eq!(state.document["serial"], 5);
        let again = TerraformState::parse(&state.document.to_string()).unwrap();
        assert_eq!(again, state);
    }

    #[test]
    fn states_of_other_kinds_are_refused() {
        for text in ["", "[]", "{}", r#"{"version": 3, "resources": []}"#, r#"{"version": 4}"#] {
            assert!(TerraformState::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn uuids_are_uuids() {
        let uuid = random_uuid().unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert_ne!(uuid, random_uuid().unwrap());
    }
}
