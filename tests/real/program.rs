//! A small Go program of tests/cluster: one question a line, one answer a line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::cluster;

/// One answer for each question.
pub(crate) fn answers<Q: Serialize + Sync, A: DeserializeOwned>(program: &str, questions: &[Q]) -> Vec<A> {
    let program = cluster::programs().unwrap().join(program);
    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let answers: Vec<A> = std::thread::scope(|scope| {
        // Beside the reading, since a pipe holds only so much.
        scope.spawn(move || {
            for question in questions {
                writeln!(stdin, "{}", serde_json::to_string(question).unwrap()).unwrap();
            }
        });
        lines
            .map(|line| serde_json::from_str(&line.unwrap()).unwrap())
            .collect()
    });
    assert!(child.wait().unwrap().success());
    assert_eq!(answers.len(), questions.len());
    answers
}
