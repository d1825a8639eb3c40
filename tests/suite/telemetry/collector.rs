//! A collector that receives spans by OTLP over HTTP and keeps their bytes.

use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;

/// The requests that were received: the request line and the body of each.
type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

pub struct Collector {
    pub url: String,
    requests: Requests,
    _server: AbortOnDropHandle<()>,
}

impl Collector {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Requests::default();
        let received = Arc::clone(&requests);
        let server = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                receive(stream, &received).await;
            }
        });
        Self { url, requests, _server: AbortOnDropHandle::new(server) }
    }

    /// Returns the bodies of all requests.
    pub fn bytes(&self) -> Vec<u8> {
        self.requests.lock().unwrap().iter().flat_map(|(_, body)| body.clone()).collect()
    }

    /// Returns all spans, each with the name of its service.
    pub fn spans(&self) -> Vec<(String, Span)> {
        let mut spans = Vec::new();
        for (line, body) in self.requests.lock().unwrap().iter() {
            assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
            let batch = ExportTraceServiceRequest::decode(body.as_slice()).unwrap();
            for resource_spans in batch.resource_spans {
                let resource = resource_spans.resource.unwrap();
                let name = resource.attributes.iter().find(|at| at.key == "service.name").unwrap();
                let Some(Value::StringValue(service)) = name.value.clone().unwrap().value else {
                    panic!("a name is text: {name:?}");
                };
                let all = resource_spans.scope_spans.into_iter().flat_map(|scope_spans| scope_spans.spans);
                spans.extend(all.map(|span| (service.clone(), span)));
            }
        }
        spans
    }
}

async fn receive(stream: TcpStream, requests: &Requests) {
    let mut stream = BufReader::new(stream);
    let (mut first, mut line, mut length) = (String::new(), String::new(), 0);
    stream.read_line(&mut first).await.unwrap();
    while stream.read_line(&mut line).await.unwrap() > "\r\n".len() {
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        line.clear();
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.unwrap();
    requests.lock().unwrap().push((first, body));
    // The exporter may close the connection before it has read the response.
    let _written =
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
}
