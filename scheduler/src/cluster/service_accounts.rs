//! Joining by the token of a Kubernetes service account, about which the API server is asked.

use super::Cluster;
use crate::kubernetes::Identity;
use membership::{PeerKey, ServiceAccountToken};
use proto::{Credentials, ServiceAccountJoinRequest};
use std::net::IpAddr;
use std::time::SystemTime;
use tonic::Status;

impl Cluster {
    /// Makes a host at `from` a member that has a service account's token and proves its key. What can be refused
    /// without the API server is.
    pub(crate) async fn join_by_service_account(
        &self,
        request: &ServiceAccountJoinRequest,
        from: IpAddr,
    ) -> Result<(PeerKey, Identity, Credentials), Status> {
        let why = "no service account joins this cluster ([kubernetes] of the scheduler's configuration names none)";
        let reviews = self.reviews.as_ref().ok_or_else(|| Status::failed_precondition(why))?;
        let token = ServiceAccountToken::from_bytes(&request.token)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let key = self.proven_key(&request.peer_id, &token.hash(), &request.proof)?;
        self.admits(key.host())?;
        let identity = reviews.review(&token, from).await?;
        Ok((key, identity, self.certify(&key, SystemTime::now())?))
    }
}
