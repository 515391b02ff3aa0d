//! A server for tests that answers as it is told, also what no honest server would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection};

/// A request, as far as answers depend on it.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    /// With the query.
    pub path: String,
    pub authorization: Option<String>,
}

/// A running server; it ends when this is dropped.
pub struct FakeServer {
    pub port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FakeServer {
    /// Answers every request with the bytes that `answer` makes of it, and closes the connection.
    pub fn start(answer: impl Fn(&Asked) -> Vec<u8> + Send + 'static) -> FakeServer {
        FakeServer::start_with(None, answer)
    }

    /// As [`FakeServer::start`], with the certificate in `tls/`, which the authority there vouches for.
    pub fn start_tls(answer: impl Fn(&Asked) -> Vec<u8> + Send + 'static) -> FakeServer {
        let chain = CertificateDer::pem_slice_iter(include_bytes!("tls/server.pem"));
        let chain = chain.collect::<Result<_, _>>().expect("a certificate");
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("tls/server.key")).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.expect("versions").with_no_client_auth().with_single_cert(chain, key);
        FakeServer::start_with(Some(Arc::new(config.expect("they fit"))), answer)
    }

    fn start_with(tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Asked) -> Vec<u8> + Send + 'static) -> FakeServer {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let (log, stop) = (asked.clone(), stopping.clone());
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let serve = |stream: &mut dyn ReadWrite| {
                    let Some(request) = read_request(&mut *stream) else { return };
                    log.lock().expect("no panic elsewhere").push(request.clone());
                    // A client that has read enough hangs up.
                    let _ = stream.write_all(&answer(&request)).and_then(|()| stream.flush());
                };
                match &tls {
                    None => serve(&mut &stream),
                    Some(config) => {
                        let connection = ServerConnection::new(config.clone()).expect("a connection");
                        serve(&mut rustls::StreamOwned::new(connection, &stream));
                    }
                }
            }
        });
        FakeServer { port, asked, stopping, thread: Some(thread) }
    }

    /// What was asked since the last call.
    pub fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().expect("no panic elsewhere"))
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

trait ReadWrite: Read + Write {}
impl<T: Read + Write> ReadWrite for T {}

fn read_request(stream: impl Read) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut first = String::new();
    reader.read_line(&mut first).ok()?;
    let mut words = first.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut request = Asked { method, path, authorization: None };
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => request.authorization = Some(value.to_owned()),
            "content-length" => length = value.parse().ok()?,
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(request)
}

/// An answer of these headers and this body.
pub fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    for (name, value) in headers {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    bytes.push_str("\r\n");
    [bytes.as_bytes(), body].concat()
}
