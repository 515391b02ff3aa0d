//! A registry on loopback: Debian's `docker-registry`.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::{command, tools};

/// The digest of `{}`, which is the configuration and the only layer of every image here.
const EMPTY: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";
/// The type of a manifest.
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A running registry. Dropping it stops it and removes what it had.
pub struct Registry {
    process: Child,
    port: u16,
    dir: PathBuf,
}

impl Registry {
    /// Starts one in a new folder; `None` where it is not installed.
    pub fn start(dir: &Path) -> Result<Option<Registry>> {
        let Some(program) = tools::on_path("docker-registry") else { return Ok(None) };
        fs::create_dir_all(dir)?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = format!(
            "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\n\
             storage: {{filesystem: {{rootdirectory: {}}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n",
            dir.join("data").display()
        );
        fs::write(dir.join("config.yml"), config)?;
        let log = fs::File::create(dir.join("log"))?;
        let mut serve = Command::new("setpriv");
        serve.args(["--pdeathsig", "KILL", "--"]).arg(program).arg("serve").arg(dir.join("config.yml"));
        let serve = serve.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let process = serve.spawn().context("cannot run docker-registry")?;
        let mut registry = Registry { process, port, dir: dir.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            command::check_stopped()?;
            if registry.process.try_wait()?.is_some() || Instant::now() > deadline {
                bail!("docker-registry: {}", fs::read_to_string(dir.join("log")).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(Some(registry))
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Moves the tag `latest` of a repository to an image that has this note and no other image has.
    pub fn push(&self, repository: &str, note: &str) -> Result<()> {
        let base = format!("http://{}/v2/{repository}", self.address());
        let known = ureq::head(format!("{base}/blobs/{EMPTY}")).config().http_status_as_error(false).build().call()?;
        if known.status() != 200 {
            let begun = ureq::post(format!("{base}/blobs/uploads/")).send_empty()?;
            let to =
                begun.headers().get("location").and_then(|to| to.to_str().ok()).context("no place to upload to")?;
            let joint = if to.contains('?') { '&' } else { '?' };
            ureq::put(format!("{to}{joint}digest={EMPTY}")).send("{}")?;
        }
        let layer = json!({"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": EMPTY, "size": 2});
        let config = json!({"mediaType": "application/vnd.oci.image.config.v1+json", "digest": EMPTY, "size": 2});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config,
            "layers": [layer],
            "annotations": {"note": note},
        });
        let put = ureq::put(format!("{base}/manifests/latest")).header("content-type", MANIFEST);
        put.send(manifest.to_string()).context("the manifest is not taken")?;
        Ok(())
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if let Err(error) = fs::remove_dir_all(&self.dir) {
            eprintln!("xtask: cannot remove {}: {error}", self.dir.display());
        }
    }
}
