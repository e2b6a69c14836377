//! Secrets, read without kube's decoder: that one logs a body that it cannot decode, and quotes it in its errors.

use http::StatusCode;
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Client,
    api::GetParams,
    core::{Request, Status},
};

/// One Secret. No error quotes the body, whatever it is.
pub(super) async fn get(client: &Client, namespace: &str, name: &str) -> kube::Result<Secret> {
    let request = Request::new(format!("/api/v1/namespaces/{namespace}/secrets"))
        .get(name, &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    let answer = client.send(request.map(Into::into)).await?;
    let code = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    if code == StatusCode::OK {
        return serde_json::from_slice(&body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            kube::Error::Service(format!("the answer is no Secret: line {line}, column {column}").into())
        });
    }
    // Only the API server's own refusal is believed: a proxy's 404 does not mean that there is no Secret, and its text
    // may quote what it did not deliver.
    let status = serde_json::from_slice::<Status>(&body).ok();
    Err(match status.filter(|status| status.code == code.as_u16()) {
        Some(status) => kube::Error::Api(Box::new(status)),
        None => kube::Error::Service(format!("HTTP {} without a Status", code.as_u16()).into()),
    })
}
