//! The shim between a real HTTP/2 client and a real server, and at a connection's ends.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, request};
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

use super::LocalAuthority;

/// Makes these requests, each with the same fields as headers and as trailers; what the server got.
async fn exchange(requests: &[HeaderMap]) -> Vec<(request::Parts, Option<HeaderMap>)> {
    // Narrow, so that frames come in pieces and writers wait.
    let (client, server) = duplex(100);
    let served = async {
        let mut connection = h2::server::handshake(LocalAuthority::new(server)).await.unwrap();
        let mut got = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let (parts, mut body) = request.into_parts();
            let trailers = tokio::spawn(async move { body.trailers().await.unwrap() });
            respond.send_response(Response::new(()), true).unwrap();
            got.push((parts, trailers));
        }
        got
    };
    let called = async {
        let (mut calls, connection) = h2::client::handshake(client).await.unwrap();
        let connection = tokio::spawn(connection);
        for headers in requests {
            let mut request = Request::post("http://10.0.0.1:80/a.B/C").body(()).unwrap();
            *request.headers_mut() = headers.clone();
            calls = calls.ready().await.unwrap();
            let (response, mut body) = calls.send_request(request, false).unwrap();
            body.send_trailers(headers.clone()).unwrap();
            response.await.unwrap();
        }
        drop(calls);
        let _ = connection.await;
    };
    let (got, ()) = tokio::join!(served, called);
    let mut whole = Vec::new();
    for (parts, trailers) in got {
        whole.push((parts, trailers.await.unwrap()));
    }
    whole
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let names = [
        "accept",
        "user-agent",
        "grpc-timeout",
        "x-1",
        "x-a-rather-long-name-that-nobody-has-in-a-table",
        "cookie",
    ];
    // All that a value may have: each of these has a Huffman code of its own.
    let value = vec(prop_oneof![b' '..=b'~', 0x80u8..=0xff, Just(b'\t')], 0..120);
    let field = (proptest::sample::select(names.to_vec()), value);
    vec(field, 0..12).prop_map(|fields| {
        let field = |(name, value): (&'static str, Vec<u8>)| {
            let value = HeaderValue::from_bytes(value.trim_ascii()).ok()?;
            Some((HeaderName::from_static(name), value))
        };
        fields.into_iter().filter_map(field).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(48) })]

    #[test]
    fn what_a_real_client_sends_arrives_field_by_field(requests in vec(headers(), 1..6)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let got = runtime.block_on(exchange(&requests));
        prop_assert_eq!(got.len(), requests.len());
        for ((parts, trailers), sent) in got.iter().zip(&requests) {
            prop_assert_eq!(parts.uri.to_string(), "http://localhost/a.B/C");
            prop_assert_eq!(&parts.headers, sent);
            prop_assert_eq!(trailers.as_ref(), Some(sent));
        }
    }
}

#[tokio::test]
async fn each_side_sees_that_the_other_one_has_ended() {
    let (mut client, server) = duplex(100);
    let mut server = LocalAuthority::new(server);
    client.shutdown().await.unwrap();
    assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0);
    server.write_all(b"still").await.unwrap();
    server.shutdown().await.unwrap();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"still");
}

#[tokio::test]
async fn a_client_waits_while_the_server_reads_nothing() {
    let (mut client, server) = duplex(100);
    let mut server = LocalAuthority::new(server);
    let flood = async move {
        let frames = crate::kubelet::raw::frame(0, 0, 1, &[7; 16 * 1024]);
        client.write_all(crate::kubelet::raw::PREFACE).await.unwrap();
        loop {
            client.write_all(&frames).await.unwrap();
        }
    };
    let mut flood = tokio::spawn(flood);
    for _ in 0..1000 {
        let mut some = [0; 24];
        server.read_exact(&mut some).await.unwrap();
        assert!(server.input.len() <= super::READ && server.output.len() <= super::READ);
    }
    let more = tokio::time::timeout(std::time::Duration::from_millis(20), &mut flood).await;
    assert!(more.is_err(), "it waits");
    flood.abort();
}
