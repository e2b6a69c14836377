//! Whether some volume is there, by what the API server has at this moment: one paged list answers all who wait.

use std::sync::Arc;

use kube::{Api, api::ListParams};
use parking_lot::Mutex;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::{ApiClient, volumes::VOLUMES};
use crate::{
    base::api_error::ApiError,
    cluster::{decode::Decoded, objects::Volume},
};

/// As kubectl asks for it.
const PAGE: u32 = 500;

/// Finds volumes by a list that begins after it was asked. Nothing that it reads is kept.
pub struct LiveVolumes {
    api: ApiClient,
    driver: String,
    /// Those that the next list will answer.
    waiting: Mutex<Vec<Question>>,
    /// Who has it lists for all.
    turn: tokio::sync::Mutex<()>,
}

type Predicate = Arc<dyn Fn(&Volume) -> bool + Send + Sync>;
type Answer = Result<Vec<Volume>, ApiError>;

struct Question {
    is_meant: Predicate,
    found: Vec<Volume>,
    answer: oneshot::Sender<Answer>,
}

impl LiveVolumes {
    /// Of the volumes whose CSI driver is this one.
    pub fn new(api: ApiClient, driver: &str) -> Self {
        Self {
            api,
            driver: driver.to_owned(),
            waiting: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// A volume of the driver that has this handle, and for which this is true, if there is one.
    ///
    /// # Errors
    /// As for [`LiveVolumes::find_all`].
    pub async fn find_with_handle(
        &self,
        handle: &str,
        is_meant: impl Fn(&Volume) -> bool + Send + Sync + 'static,
    ) -> Result<Option<Volume>, ApiError> {
        let handle = handle.to_owned();
        let has_handle = move |volume: &Volume| volume.csi.as_ref().is_some_and(|csi| csi.handle == handle);
        let found = self.find_all(move |volume| has_handle(volume) && is_meant(volume));
        Ok(found.await?.pop())
    }

    /// The volumes of the driver for which this is true.
    ///
    /// # Errors
    /// [`ApiError`]; also if there is a volume that cannot be read: it may be the one.
    pub async fn find_all(&self, is_meant: impl Fn(&Volume) -> bool + Send + Sync + 'static) -> Answer {
        let is_meant: Predicate = Arc::new(is_meant);
        let mut answered = self.ask(&is_meant);
        // The turns are taken in the order of the questions, so that all questions of a list pass before the next one.
        let _turn = self.turn.lock().await;
        loop {
            match answered.try_recv() {
                Ok(answer) => return answer,
                Err(TryRecvError::Empty) => {}
                // Whoever listed for us went away in the middle of it, and took the question along.
                Err(TryRecvError::Closed) => answered = self.ask(&is_meant),
            }
            let mut questions = std::mem::take(&mut *self.waiting.lock());
            let listed = self.list(&mut questions).await;
            for Question { found, answer, .. } in questions {
                // Who does not wait any more needs no answer.
                let _ = answer.send(listed.clone().map(|()| found));
            }
        }
    }

    fn ask(&self, is_meant: &Predicate) -> oneshot::Receiver<Answer> {
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().push(Question {
            is_meant: is_meant.clone(),
            found: Vec::new(),
            answer,
        });
        answered
    }

    async fn list(&self, questions: &mut [Question]) -> Result<(), ApiError> {
        let api = Api::<Decoded<Volume>>::all(self.api.client.clone());
        let mut params = ListParams::default().limit(PAGE);
        loop {
            let page = self.api.ask("list", "", VOLUMES, "", api.list(&params)).await?;
            for decoded in page.items {
                let volume = decoded.object.map_err(|name| {
                    ApiError::odd("list", VOLUMES, &name, "it is not what the API promises")
                })?;
                if volume.csi.as_ref().is_none_or(|csi| csi.driver != self.driver) {
                    continue;
                }
                for question in questions.iter_mut() {
                    if (question.is_meant)(&volume) {
                        question.found.push(volume.clone());
                    }
                }
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(()),
            }
        }
    }
}
