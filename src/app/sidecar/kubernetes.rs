//! The way to the API server: its flags and settings.

use crate::{
    app::sidecar::flags::{
        Exit, Flag, Group,
        Kind::{Float, Int, Text},
        ParsedFlags,
    },
    cluster::{client::Access, proxy::ProxyEnvironment, rate_limiter::RateLimit},
};

/// The flags of [`KubeSettings`].
#[rustfmt::skip] // One line per flag.
pub const FLAGS: Group = Group {
    heading: "Kubernetes",
    flags: &[
        Flag::new("kube-api-burst", Int, "10", "Requests at once; adapts to the server unless given"),
        Flag::new("kube-api-qps", Float, "5", "Requests per second; adapts to the server unless given"),
        Flag::new("kubeconfig", Text, "", "Kubeconfig file; the variable KUBECONFIG wins over it"),
        Flag::new("master", Text, "", "URL of the API server"),
    ],
};

/// The way to the API server. With neither file nor URL: in cluster, or the default kubeconfig.
#[derive(Debug, Clone, PartialEq)]
pub struct KubeSettings {
    /// A kubeconfig file.
    pub kubeconfig: Option<String>,
    /// URL of the API server; wins over the one in the file.
    pub master: Option<String>,
    /// The proxy, unless the file names one.
    pub proxy: ProxyEnvironment,
    /// None: adapt to the server's answers.
    pub rate_limit: Option<RateLimit>,
}

impl KubeSettings {
    /// Takes the settings from the command line and `env`, the environment without its empty variables.
    ///
    /// # Errors
    /// The process ends here.
    pub(crate) fn read(flags: &ParsedFlags, env: impl Fn(&str) -> Option<String>) -> Result<Self, Exit> {
        Ok(Self {
            // Upstream lets the environment win, and so do we, since Deployments may rely on it.
            kubeconfig: env("KUBECONFIG").or_else(|| flags.text("kubeconfig")),
            master: flags.text("master"),
            proxy: ProxyEnvironment::read(env),
            rate_limit: rate_limit(flags, "kube-api")?,
        })
    }

    /// What a client needs to find the API server.
    pub(crate) fn access(&self, user_agent: &str) -> Access {
        Access {
            kubeconfig: self.kubeconfig.as_ref().map(Into::into),
            master: self.master.clone(),
            proxy: self.proxy.clone(),
            user_agent: user_agent.to_owned(),
        }
    }
}

/// Reads the flags `--<prefix>-qps` and `--<prefix>-burst` as client-go does: a rate of zero means its default, a
/// negative one no limit. `None` unless either flag is given, and when there is no limit.
///
/// # Errors
/// The process ends here.
pub(crate) fn rate_limit(flags: &ParsedFlags, prefix: &str) -> Result<Option<RateLimit>, Exit> {
    let [qps, burst] = ["qps", "burst"].map(|end| format!("{prefix}-{end}"));
    if !flags.explicit(&qps) && !flags.explicit(&burst) {
        return Ok(None);
    }
    let qps: f64 = match flags.get(&qps) {
        0.0 => 5.0,
        qps => qps,
    };
    if !(qps > 0.0 && qps.is_finite()) {
        return Ok(None);
    }
    match u32::try_from(flags.get::<i64>(&burst).min(u32::MAX.into())) {
        Ok(burst) if burst > 0 => Ok(Some(RateLimit { qps, burst })),
        _ => Err(Exit::error(
            255,
            format!("--{burst} must be above zero when there is a --{prefix}-qps"),
        )),
    }
}
