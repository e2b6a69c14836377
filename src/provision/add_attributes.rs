//! The VolumeAttributesClass of a request: read once, before its record is opened.

use super::{attributes::mutable_parameters, plan::Plan, reconcile::Provision};
use crate::cluster::{objects::Claim, queue::Requeue};

impl Provision {
    /// Completes the request with what the claim's VolumeAttributesClass says now, if it names one; or what to do instead.
    pub(super) async fn add_attributes(&self, claim: &Claim, plan: &mut Plan) -> Result<(), Requeue> {
        let Some(name) = plan.attributes_class() else {
            return Ok(());
        };
        let parameters = match self.api.attributes_class(name).await {
            Ok(class) => mutable_parameters(name, class, &self.driver_info.name),
            Err(error) => return Err(self.fail(plan, Some(claim), &error.to_string())),
        };
        plan.request.mutable_parameters = parameters.map_err(|refusal| self.refuse(claim, &refusal))?;
        Ok(())
    }
}
