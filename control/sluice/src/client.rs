//! HTTP/1.1 to the daemon, over its unix socket or over mutual TLS: a connection a request, answers whole or line by line.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sluice_api::ApiError;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

use crate::Failure;
use crate::server::{Place, Server};

/// Asks one daemon.
pub(crate) struct Client {
    place: Place,
}

impl Client {
    /// A client of the daemon there; connects with each request.
    pub(crate) fn new(place: Place) -> Client {
        Client { place }
    }

    /// `GET path`.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let response = self.send(Method::GET, path, Bytes::new()).await?;
        decode(&whole(response).await?)
    }

    /// `POST path` with a JSON body. What the daemon refuses is an [`ApiError`] in the inner result.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<Result<T, ApiError>, Failure> {
        let response = self.send(Method::POST, path, encode(body)?).await?;
        let status = response.status();
        let bytes = whole(response).await?;
        if status.is_success() { decode(&bytes).map(Ok) } else { Ok(Err(refusal(status, &bytes))) }
    }

    /// `POST path`, the answer line by line as it comes; `each` is given every line that is not empty, and nothing where
    /// the next one is not there yet.
    pub(crate) async fn lines(
        &self,
        path: &str,
        body: &impl Serialize,
        mut each: impl FnMut(Option<&[u8]>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut response = self.send(Method::POST, path, encode(body)?).await?;
        let status = response.status();
        if !status.is_success() {
            let bytes = whole(response).await?;
            return Err(Failure::No(Some(refusal(status, &bytes).error)));
        }
        let mut rest: Vec<u8> = Vec::new();
        while let Some(frame) = response.frame().await {
            let frame = frame.map_err(|e| self.broken(&e))?;
            let Some(data) = frame.data_ref() else { continue };
            for piece in data.split_inclusive(|b| *b == b'\n') {
                rest.extend_from_slice(piece);
                if rest.ends_with(b"\n") {
                    rest.pop();
                    if !rest.is_empty() {
                        each(Some(&rest))?;
                    }
                    rest.clear();
                }
            }
            each(None)?;
        }
        if !rest.is_empty() {
            each(Some(&rest))?;
        }
        each(None)
    }

    /// `POST path`, the answer as it comes.
    pub(crate) async fn stream(&self, path: &str, body: &impl Serialize) -> Result<Stream<'_>, Failure> {
        let response = self.send(Method::POST, path, encode(body)?).await?;
        let status = response.status();
        if status.is_success() {
            return Ok(Stream { response, place: &self.place, last: 0 });
        }
        let bytes = whole(response).await?;
        Err(Failure::No(Some(refusal(status, &bytes).error)))
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>, Failure> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.place.host())
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|e| Failure::CouldNotAsk(e.to_string()))?;
        match &self.place {
            Place::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|e| {
                    let hint = match e.kind() {
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused => {
                            ": is sluiced running?"
                        }
                        std::io::ErrorKind::PermissionDenied => ": only root and the socket's group may ask",
                        _ => "",
                    };
                    Failure::CouldNotAsk(format!("cannot reach {}: {e}{hint}", path.display()))
                })?;
                self.exchange(stream, request).await
            }
            Place::Server(server) => {
                let stream = server.connect().await?;
                Server::stamp(request.headers_mut())?;
                self.exchange(stream, request).await
            }
        }
    }

    async fn exchange<S>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Failure>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|e| self.broken(&e))?;
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|e| self.broken(&e))
    }

    fn broken(&self, e: &hyper::Error) -> Failure {
        self.place.broken(e)
    }
}

/// An answer that comes bit by bit.
pub(crate) struct Stream<'c> {
    response: Response<Incoming>,
    place: &'c Place,
    /// Bytes of the last bit.
    last: usize,
}

impl Stream<'_> {
    /// The next bytes; None at the end. Nothing is lost if it is not waited for to the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        while let Some(frame) = self.response.frame().await {
            let frame = frame.map_err(|e| self.place.broken(&e))?;
            if let Ok(data) = frame.into_data() {
                self.last = data.len();
                return Ok(Some(data));
            }
        }
        Ok(None)
    }

    /// Whether there is most likely nothing more to be had at once.
    pub(crate) fn is_idle(&self) -> bool {
        self.last < 4096
    }
}

/// Turns what the daemon refused into what is printed: its diagnostics if there are any, else its one line.
pub(crate) fn refused(e: &ApiError) -> Failure {
    if e.diagnostics.is_empty() {
        return Failure::No(Some(e.error.clone()));
    }
    for d in &e.diagnostics {
        eprintln!("{}", d.rendered.trim_end());
    }
    Failure::No(Some(e.error.clone()))
}

fn encode(body: &impl Serialize) -> Result<Bytes, Failure> {
    serde_json::to_vec(body).map(Bytes::from).map_err(|e| Failure::CouldNotAsk(e.to_string()))
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    if let Ok(e) = serde_json::from_slice::<ApiError>(bytes) {
        return Err(refused(&e));
    }
    serde_json::from_slice(bytes)
        .map_err(|e| Failure::CouldNotAsk(format!("the daemon's answer is not understood: {e}")))
}

async fn whole(response: Response<Incoming>) -> Result<Bytes, Failure> {
    let body = response.into_body().collect().await;
    body.map(http_body_util::Collected::to_bytes)
        .map_err(|e| Failure::CouldNotAsk(format!("the daemon's answer was cut short: {e}")))
}

fn refusal(status: hyper::StatusCode, bytes: &[u8]) -> ApiError {
    serde_json::from_slice(bytes).unwrap_or_else(|_| ApiError {
        error: format!("the daemon answered {status}"),
        diagnostics: Vec::new(),
    })
}
