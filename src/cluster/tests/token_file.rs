//! A token in a file: trimmed, read again, kept while it cannot be read.

use std::{fs, path::Path, time::Duration};

use http::Request;
use tokio::time::sleep;

use crate::cluster::token_file::{TokenFile, read};

fn sent(file: &TokenFile) -> String {
    let request = file.authorize(Request::new(()));
    let value = &request.headers()["authorization"];
    assert!(value.is_sensitive());
    value.to_str().unwrap().to_owned()
}

#[tokio::test(start_paused = true)]
async fn c19_a_token_file_is_trimmed_and_read_again_every_minute() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, "first\n").unwrap();
    let file = TokenFile::open(path.clone()).ok().unwrap();
    assert_eq!(sent(&file), "Bearer first");
    fs::write(&path, " second\r\n").unwrap();
    assert_eq!(sent(&file), "Bearer first");
    sleep(Duration::from_secs(60)).await;
    assert_eq!(sent(&file), "Bearer second");
    for text in [Some(""), Some("\n"), Some("two\nlines"), None] {
        match text {
            Some(text) => fs::write(&path, text).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        sleep(Duration::from_secs(60)).await;
        assert_eq!(sent(&file), "Bearer second", "{text:?}");
        assert!(TokenFile::open(path.clone()).is_err(), "{text:?} at start");
    }
    fs::write(&path, "third").unwrap();
    sleep(Duration::from_secs(60)).await;
    assert_eq!(sent(&file), "Bearer third");
    assert!(read(Path::new("/nowhere")).unwrap_err().contains("/nowhere"));
}
