//! The pages of a sidecar that took any free port.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// The status and the content of a page.
pub(super) async fn get(pid: u32, path: &str) -> Result<(u16, String), String> {
    let port = port(pid).ok_or("the sidecar does not listen yet")?;
    let ask = async {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
        let request = format!("GET {path} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = ask.await.map_err(|error| error.to_string())?;
    let (head, page) = answer.split_once("\r\n\r\n").ok_or("an answer without a page")?;
    let status = head
        .split_whitespace()
        .nth(1)
        .and_then(|status| status.parse().ok());
    Ok((status.ok_or("an answer without a status")?, page.to_owned()))
}

/// Each series with its value, as the metrics page has them.
pub(super) async fn series(pid: u32) -> Result<Vec<(String, f64)>, String> {
    let (_, page) = get(pid, "/metrics").await?;
    let samples = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        Some((series.to_owned(), value.parse().ok()?))
    };
    Ok(samples.filter_map(sample).collect())
}

/// Where this process listens, as the kernel tells.
fn port(pid: u32) -> Option<u16> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let links = files.filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
    let sockets: Vec<_> = links
        .filter_map(|link| {
            Some(
                link.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    let table = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
    let tables = table("tcp") + &table("tcp6");
    tables.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        // 0A is LISTEN.
        let listens =
            fields.get(3) == Some(&"0A") && sockets.iter().any(|it| fields.get(9) == Some(&it.as_str()));
        let (_, port) = fields.get(1)?.rsplit_once(':')?;
        listens.then(|| u16::from_str_radix(port, 16).ok()).flatten()
    })
}
