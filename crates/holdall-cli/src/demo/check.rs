//! `holdall demo-check`: one request to a service of an environment, and what is expected of the answer. The suites of
//! the demo are made of it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::folder::Folder;
use super::supervisor::EnvironmentView;
use super::world::{agent, request};

/// Arguments of `demo-check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// The demo's folder; wanted when TARGET is a service.
    #[arg(long, env = "DEMO")]
    dir: Option<PathBuf>,
    /// Where the service runs; wanted when TARGET is a service.
    #[arg(long, env = "HOLDALL_ENVIRONMENT")]
    environment: Option<String>,
    /// A service, or an address: `http://127.0.0.1:4000`.
    target: String,
    /// `GET`, `POST`, ...
    method: String,
    /// From `/` on.
    path: String,
    /// The body to send.
    #[arg(long, default_value = "")]
    data: String,
    /// The status that is expected.
    #[arg(long, default_value_t = 200)]
    status: u16,
    /// A text that the answer has to contain; may be given several times.
    #[arg(long)]
    contains: Vec<String>,
    /// Prints what is at this place (a JSON pointer, `/id`) of the answer, which has to be JSON.
    #[arg(long, value_name = "POINTER")]
    print: Option<String>,
    /// How long the answer may take, in seconds.
    #[arg(long, default_value_t = 10)]
    limit: u64,
}

/// Makes the request; an error when the answer is not as expected.
pub fn run(args: &CheckArgs) -> anyhow::Result<()> {
    let what = format!("{} {} {}", args.target, args.method, args.path);
    anyhow::ensure!(args.path.starts_with('/'), "{what}: the path does not begin with /");
    let begun = Instant::now();
    let agent = agent(Duration::from_secs(args.limit.clamp(1, 3600)));
    let address = address(&agent, args).with_context(|| what.clone())?;
    let (status, body) = request(&agent, &args.method, &format!("{address}{}", args.path), &args.data)
        .with_context(|| format!("{what}: no answer from {address}"))?;
    let wrong = problems(args, status, &body);
    anyhow::ensure!(wrong.is_empty(), "{what}: {}; the answer is {:.500}", wrong.join("; "), body.trim());
    eprintln!("ok   {what}  {status}  {} ms", begun.elapsed().as_millis());
    if let Some(pointer) = &args.print {
        println!("{}", value_at(&body, pointer).with_context(|| what.clone())?);
    }
    Ok(())
}

fn problems(args: &CheckArgs, status: u16, body: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if status != args.status {
        wrong.push(format!("status {status} instead of {}", args.status));
    }
    wrong.extend(args.contains.iter().filter(|text| !body.contains(*text)).map(|text| format!("there is no {text:?}")));
    wrong
}

/// A value of a JSON document as text; texts without their quotes.
fn value_at(body: &str, pointer: &str) -> anyhow::Result<String> {
    let json: serde_json::Value = serde_json::from_str(body).context("the answer is not JSON")?;
    let value = json.pointer(pointer).with_context(|| format!("the answer has nothing at {pointer}"))?;
    Ok(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

fn address(agent: &ureq::Agent, args: &CheckArgs) -> anyhow::Result<String> {
    if args.target.starts_with("http://") {
        return Ok(args.target.trim_end_matches('/').to_owned());
    }
    let dir = args.dir.as_ref().context("DEMO or --dir has to say where the demo is")?;
    let environment = args.environment.as_ref().context("HOLDALL_ENVIRONMENT or --environment has to be set")?;
    let environments = environments(agent, &Folder::at(dir))?;
    let view = environments.get(environment).with_context(|| format!("nothing is deployed to {environment} yet"))?;
    let service = view.services.get(&args.target).with_context(|| format!("it does not run in {environment}"))?;
    match (&service.address, &service.problem) {
        (Some(address), _) => Ok(address.clone()),
        (None, problem) => {
            anyhow::bail!("it is down in {environment}: {}", problem.as_deref().unwrap_or("unknown why"))
        }
    }
}

/// What the supervisor of a running demo says that runs.
pub fn environments(agent: &ureq::Agent, folder: &Folder) -> anyhow::Result<BTreeMap<String, EnvironmentView>> {
    let world = world_address(folder)?;
    let (status, body) =
        request(agent, "GET", &format!("{world}/environments"), "").context("the demo does not answer")?;
    anyhow::ensure!(status == 200, "the demo's supervisor answers {status}: {}", body.trim());
    Ok(serde_json::from_str(&body)?)
}

/// Where the state server and the supervisor of a demo are.
pub fn world_address(folder: &Folder) -> anyhow::Result<String> {
    let path = folder.world_address();
    let address = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}: no demo has run there", path.display()))?;
    Ok(address.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: CheckArgs,
    }

    fn args(words: &[&str]) -> CheckArgs {
        Line::try_parse_from([&["demo-check"], words].concat()).unwrap().args
    }

    #[test]
    fn judges_answers() {
        let args = args(&["api", "GET", "/", "--status", "201", "--contains", "a", "--contains", "b"]);
        assert_eq!(problems(&args, 201, "a b"), Vec::<String>::new());
        assert_eq!(problems(&args, 500, "a"), ["status 500 instead of 201", "there is no \"b\""]);
    }

    #[test]
    fn takes_values_out_of_answers() {
        assert_eq!(value_at(r#"{"id": 7, "to": ["ada"]}"#, "/id").unwrap(), "7");
        assert_eq!(value_at(r#"{"id": 7, "to": ["ada"]}"#, "/to/0").unwrap(), "ada");
        assert!(value_at("{}", "/id").unwrap_err().to_string().contains("nothing at /id"));
        assert!(value_at("<html>", "/id").is_err());
    }
}
