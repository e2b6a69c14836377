//! VolumeAttributesClasses: few claims name one, so they are read when they are needed, and not watched.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ApiClient;
use crate::{base::api_error::ApiError, cluster::objects::AttributesClass};

/// A class as it comes over the wire.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawAttributesClass {
    driver_name: String,
    parameters: Option<BTreeMap<String, String>>,
}

impl ApiClient {
    /// The VolumeAttributesClass of this name, `None` if there is none.
    ///
    /// # Errors
    /// [`ApiError`]
    pub async fn attributes_class(&self, name: &str) -> Result<Option<AttributesClass>, ApiError> {
        let path = "/apis/storage.k8s.io/v1/volumeattributesclasses".to_owned();
        let read = self.read("storage.k8s.io", "volumeattributesclasses", path, name, name);
        let class = ApiError::found(read.await)?;
        Ok(class.map(
            |RawAttributesClass {
                 driver_name,
                 parameters,
             }| AttributesClass {
                driver_name,
                parameters: parameters.unwrap_or_default(),
            },
        ))
    }
}
