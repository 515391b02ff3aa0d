//! The server's API as the cases use it.

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::command;

/// How long anything may take before a case gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// How often something is looked at that has no event. What is measured has times of its own: this only costs.
const LOOK: Duration = Duration::from_millis(20);

/// A client with an administrator's token.
#[derive(Debug, Clone)]
pub struct Api {
    agent: ureq::Agent,
    /// `http://127.0.0.1:PORT`.
    pub base: String,
    /// The token.
    pub token: String,
}

impl Api {
    /// A client of a server.
    pub fn new(base: String, token: String) -> Api {
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(2)))
            .build()
            .new_agent();
        Api { agent, base, token }
    }

    /// `GET api/holdall/v1/PATH`.
    pub fn get(&self, path: &str) -> Result<Value> {
        let request = self.agent.get(format!("{}/api/holdall/v1/{path}", self.base));
        let answer = request.header("authorization", format!("Bearer {}", self.token)).call();
        read(&format!("GET {path}"), answer)
    }

    /// `POST api/holdall/v1/PATH`.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        let request = self.agent.post(format!("{}/api/holdall/v1/{path}", self.base));
        let answer = request.header("authorization", format!("Bearer {}", self.token)).send_json(body);
        read(&format!("POST {path}"), answer)
    }

    /// Sends a webhook: `POST api/v1/PATH`, without a body.
    pub fn webhook(&self, path: &str) -> Result<()> {
        read(&format!("POST {path}"), self.agent.post(format!("{}/api/v1/{path}", self.base)).send_empty()).map(drop)
    }

    /// Does something as a person does.
    pub fn act(&self, act: Value) -> Result<Value> {
        self.post("acts", &json!({"act": act, "reason": "benchmark"}))
    }

    /// Makes or changes the pipeline `main/NAME`.
    pub fn set_pipeline(&self, name: &str, text: &str) -> Result<()> {
        self.act(json!({"act": "pipeline_set", "team": "main", "pipeline": name, "text": text}))?;
        self.unpause(name)
    }

    /// Lets a pipeline of `main` run, if it does not.
    fn unpause(&self, name: &str) -> Result<()> {
        if self.get(&format!("pipelines/main/{name}"))?["paused"] == json!(true) {
            self.act(json!({"act": "pipeline_unpause", "team": "main", "pipeline": name}))?;
        }
        Ok(())
    }

    /// Triggers a job of `main` by hand; gives the build's id.
    pub fn trigger(&self, pipeline: &str, job: &str) -> Result<i64> {
        let done = self.act(json!({"act": "job_trigger", "team": "main", "pipeline": pipeline, "job": job}))?;
        done["made"]["build"]["id"].as_i64().with_context(|| format!("triggering made no build: {done}"))
    }

    /// Follows a build to its end; gives its events.
    pub fn follow(&self, build: i64) -> Result<Vec<Value>> {
        let mut events = Vec::new();
        self.stream(build, |event| {
            events.push(event);
            true
        })?;
        Ok(events)
    }

    /// Follows a build for as long as `wants` says so, at most to its end.
    pub fn stream(&self, build: i64, wants: impl FnMut(Value) -> bool) -> Result<()> {
        self.stream_after(build, None, wants)
    }

    /// [`Api::stream`] from the event after `last`.
    pub fn stream_after(&self, build: i64, last: Option<i64>, mut wants: impl FnMut(Value) -> bool) -> Result<()> {
        let mut request = self.agent.get(format!("{}/api/holdall/v1/builds/{build}/events", self.base));
        if let Some(last) = last {
            request = request.header("last-event-id", last.to_string());
        }
        let answer = request.header("authorization", format!("Bearer {}", self.token)).call()?;
        if answer.status() != 200 {
            bail!("the events of build {build}: status {}", answer.status());
        }
        for line in BufReader::with_capacity(1 << 20, answer.into_body().into_reader()).lines() {
            let line = line.context("the events end")?;
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(data)?;
            let is_end = event["kind"] == "end";
            if !wants(event) || is_end {
                return Ok(());
            }
        }
        bail!("the events of build {build} ended before the build did");
    }

    /// The newest build of a job, whole, once it is newer than `after` and has ended.
    pub fn ended_after(&self, team: &str, pipeline: &str, job: &str, after: i64) -> Result<Value> {
        self.wait(&format!("a build of {team}/{pipeline}/{job} after {after} has ended"), || {
            let found = self.newest(team, pipeline, job)?;
            Ok(found.filter(|build| build["id"].as_i64() > Some(after) && !build["ended_at"].is_null()))
        })
    }

    /// The newest build of a job.
    pub fn newest(&self, team: &str, pipeline: &str, job: &str) -> Result<Option<Value>> {
        let detail = self.get(&format!("jobs/{team}/{pipeline}/{job}"))?;
        Ok(detail["builds"].as_array().and_then(|builds| builds.first()).cloned())
    }

    /// Looks until something is so.
    pub fn wait<T>(&self, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            command::check_stopped()?;
            if let Some(found) = look()? {
                return Ok(found);
            }
            if Instant::now() > deadline {
                bail!("it did not happen within {} s: {what}", PATIENCE.as_secs());
            }
            std::thread::sleep(LOOK);
        }
    }
}

fn read(what: &str, answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Result<Value> {
    let mut answer = answer.with_context(|| what.to_owned())?;
    let status = answer.status();
    let text = answer.body_mut().with_config().limit(256 << 20).read_to_string().with_context(|| what.to_owned())?;
    if !status.is_success() {
        bail!("{what}: status {status}: {text}");
    }
    serde_json::from_str(&text).with_context(|| format!("{what}: {text}"))
}

/// The first moment, in microseconds, at which a process of a build ran.
pub fn first_process(events: &[Value]) -> Result<i64> {
    let started = events.iter().filter(|event| event["kind"] == "started" && event["step"].is_string());
    let first = started.map(|event| micros(&event["at"])).collect::<Result<Vec<_>>>()?.into_iter().min();
    first.with_context(|| format!("no process started: {}", json!(events)))
}

/// A time of the API in microseconds since 1970.
pub fn micros(time: &Value) -> Result<i64> {
    time.as_str().and_then(parse_time).with_context(|| format!("{time} is not a time"))
}

/// `2026-11-24T10:15:02.123456Z`, with any number of digits in its fraction.
fn parse_time(text: &str) -> Option<i64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (time, fraction) = time.split_once('.').unwrap_or((time, ""));
    let mut time = time.split(':').map(|part| part.parse::<i64>().ok());
    let seconds = time.next()?? * 3600 + time.next()?? * 60 + time.next()??;
    let fraction: i64 = format!("{fraction:0<6}").get(..6)?.parse().ok()?;
    // Days from civil (Howard Hinnant), with years that begin in March.
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some((days * 86_400 + seconds) * 1_000_000 + fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, micros) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T00:00:01.5Z", Some(951_782_401_500_000)),
            ("2026-11-24T10:15:02.123456Z", Some(1_795_515_302_123_456)),
            ("yesterday", None),
        ] {
            assert_eq!(parse_time(text), micros, "{text}");
        }
    }
}
