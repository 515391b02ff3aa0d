//! Small images as files, made by hand, and a real registry to push them to.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::resource_world::World;

/// What is known as user `me` with password `hunter2` (bcrypt).
const HTPASSWD: &str = "me:$2b$04$9Dm1bvSRD0K7MniRbj8/OunTUYXq3JH1wUwGGhdrHd6b6frYA1uEC\n";

pub fn digest(bytes: &[u8]) -> String {
    let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Writes a tar archive.
pub fn tar_of(path: &Path, files: &[(String, Vec<u8>)]) {
    let mut builder = tar::Builder::new(fs::File::create(path).expect("made"));
    for (name, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, &content[..]).expect("written");
    }
    builder.finish().expect("written");
}

fn blob(files: &mut Vec<(String, Vec<u8>)>, bytes: Vec<u8>) -> (String, usize) {
    let (digest, size) = (digest(&bytes), bytes.len());
    files.push((format!("blobs/{}", digest.replace(':', "/")), bytes));
    (digest, size)
}

/// The files of one image of an OCI layout, and the descriptor of its manifest.
fn image(content: &str, labels: &Value, architecture: &str) -> (Vec<(String, Vec<u8>)>, Value) {
    let mut files = Vec::new();
    let mut layer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    layer.write_all(content.as_bytes()).expect("written");
    let (layer, layer_size) = blob(&mut files, layer.finish().expect("written"));
    let config = json!({
        "created": "2026-11-24T10:00:00Z", "architecture": architecture, "os": "linux",
        "config": {"Env": ["A=b"], "User": "app", "Cmd": ["serve"], "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": [digest(content.as_bytes())]},
    });
    let (config, config_size) = blob(&mut files, config.to_string().into_bytes());
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": config, "size": config_size},
        "layers": [{"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": layer, "size": layer_size}],
    });
    let (manifest, size) = blob(&mut files, manifest.to_string().into_bytes());
    let descriptor = json!({
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": manifest, "size": size,
        "platform": {"os": "linux", "architecture": architecture},
    });
    (files, descriptor)
}

fn layout(path: &Path, mut files: Vec<(String, Vec<u8>)>, top: &Value) -> String {
    files.push(("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()));
    files.push(("index.json".to_owned(), json!({"schemaVersion": 2, "manifests": [top]}).to_string().into_bytes()));
    tar_of(path, &files);
    top["digest"].as_str().expect("a digest").to_owned()
}

/// Writes an image as an OCI layout and gives its digest.
pub fn oci_image(path: &Path, content: &str, labels: Value) -> String {
    let (files, descriptor) = image(content, &labels, "amd64");
    layout(path, files, &descriptor)
}

/// Writes an index of an image for amd64 and one for arm64, and gives its digest.
pub fn oci_index(path: &Path) -> String {
    let (mut files, amd64) = image("amd64", &json!({"for": "amd64"}), "amd64");
    let (more, arm64) = image("arm64", &json!({"for": "arm64"}), "arm64");
    files.extend(more);
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": [amd64, arm64]});
    let (digest, size) = blob(&mut files, index.to_string().into_bytes());
    layout(path, files, &json!({"mediaType": media_type, "digest": digest, "size": size}))
}

/// Writes what `docker save` writes.
pub fn saved_image(path: &Path, content: &str) {
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": {"Labels": {"saved": "yes"}},
        "rootfs": {"type": "layers", "diff_ids": [digest(content.as_bytes())]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": ["a:b"], "Layers": ["x/layer.tar"]}]);
    let files = [
        ("config.json", config.to_string()),
        ("x/layer.tar", content.to_owned()),
        ("manifest.json", manifest.to_string()),
    ];
    tar_of(path, &files.map(|(name, content)| (name.to_owned(), content.into_bytes())));
}

/// A running `docker-registry` of Debian.
pub struct RealRegistry {
    process: Child,
    pub port: u16,
}

impl RealRegistry {
    /// Starts one; `None`, and a loud message, where there is none. With `HOLDALL_REQUIRE_TOOLS`, that is a failure.
    pub fn start(world: &World, with_login: bool) -> Option<RealRegistry> {
        let path = std::env::var_os("PATH").expect("a PATH");
        let Some(program) =
            std::env::split_paths(&path).map(|dir| dir.join("docker-registry")).find(|file| file.is_file())
        else {
            assert!(std::env::var_os("HOLDALL_REQUIRE_TOOLS").is_none(), "docker-registry is not installed");
            eprintln!("NOT RUN: docker-registry is not installed; cargo xtask test installs it, or says how to");
            return None;
        };
        let dir = world.path("registry");
        fs::create_dir(&dir).expect("made");
        let port = TcpListener::bind(("127.0.0.1", 0)).and_then(|l| l.local_addr()).expect("a free port").port();
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            dir.join("data").display()
        );
        if with_login {
            fs::write(dir.join("htpasswd"), HTPASSWD).expect("written");
            config
                .push_str(&format!("auth: {{htpasswd: {{realm: test, path: {}}}}}\n", dir.join("htpasswd").display()));
        }
        let config_path: PathBuf = dir.join("config.yml");
        fs::write(&config_path, config).expect("written");
        let log = fs::File::create(dir.join("log")).expect("made");
        // It goes when this test does, however that ends.
        let mut process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .arg("serve")
            .arg(&config_path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("docker-registry runs");
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = process.try_wait().expect("a child").is_some();
            assert!(!ended && Instant::now() < deadline, "docker-registry: {}", world.read("registry/log"));
            std::thread::sleep(Duration::from_millis(10));
        }
        Some(RealRegistry { process, port })
    }

    /// A source for a repository there.
    pub fn source(&self, path: &str, more: Value) -> Value {
        let mut source = json!({"repository": format!("127.0.0.1:{}/{path}", self.port)});
        for (key, value) in more.as_object().expect("an object") {
            source[key] = value.clone();
        }
        source
    }

    /// Removes a manifest.
    pub fn delete(&self, path: &str, digest: &str) {
        let url = format!("http://127.0.0.1:{}/v2/{path}/manifests/{digest}", self.port);
        let response = ureq::delete(&url).call().expect("removed");
        assert_eq!(response.status(), 202);
    }
}

impl Drop for RealRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
