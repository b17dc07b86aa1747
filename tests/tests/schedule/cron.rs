//! Expressions mean what the libraries of CronJobs and Velero make of them.
//!
//! Ten thousand expressions, half of them broken, in zones that change their clocks, go through our parser and through the
//! real ones (`tests/servers/cron`). The seed is fixed, so that a failure can be repeated.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use anyhow::{Context, Result};
use backup_plan::cron::Cron;
use backup_tests::process;
use backup_tests::servers::{self, Program};
use jiff::Timestamp;
use serde_json::{Value, json};

const NUMBER: usize = 10_000;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit as u64)).unwrap_or_default()
    }

    fn of<'t>(&mut self, texts: &[&'t str]) -> &'t str {
        texts[self.below(texts.len())]
    }

    fn number(&mut self, most: usize) -> String {
        self.below(most + 1).to_string()
    }

    fn part(&mut self, most: usize, names: &[&str]) -> String {
        let number = |numbers: &mut Self| {
            if !names.is_empty() && numbers.below(4) == 0 {
                numbers.of(names).to_owned()
            } else {
                numbers.number(most)
            }
        };
        match self.below(24) {
            0..=8 => "*".to_owned(),
            9 => "?".to_owned(),
            10..=15 => number(self),
            16 | 17 => format!("{}-{}", number(self), number(self)),
            18 => format!("*/{}", self.number(most)),
            19 => format!("{}/{}", number(self), self.number(7)),
            20 => format!("{}-{}/{}", number(self), number(self), self.number(5)),
            21 => format!("+{}", number(self)),
            22 => self
                .of(&[
                    "*/", "L", "-1", "1-2-3", "1/2/3", "*-5", "*-x", "x", "1#2", "W", "**", "0x1", "*/1",
                    "?/3", ",", "1,,2",
                ])
                .to_owned(),
            _ => (most + 1).to_string(),
        }
    }

    fn field(&mut self, most: usize, names: &[&str]) -> String {
        let parts = [1, 1, 1, 1, 2, 3][self.below(6)];
        (0..parts)
            .map(|_| self.part(most, names))
            .collect::<Vec<_>>()
            .join(",")
    }

    fn expression(&mut self) -> String {
        let zone = match self.below(6) {
            0..=2 => String::new(),
            3 | 4 => {
                let zone = self.of(&[
                    "Europe/Berlin",
                    "America/New_York",
                    "America/Sao_Paulo",
                    "Australia/Lord_Howe",
                    "Asia/Kathmandu",
                    "America/Santiago",
                    "Asia/Beirut",
                    "Africa/Cairo",
                    "UTC",
                    "Etc/GMT+12",
                    "Pacific/Apia",
                    "Asia/Gaza",
                ]);
                format!("{}={zone} ", self.of(&["CRON_TZ", "TZ"]))
            }
            _ => self
                .of(&[
                    "CRON_TZ=Mars/Olympus ",
                    "CRON_TZ=UTC",
                    "TZ= ",
                    " ",
                    "CRON_TZ=europe/berlin ",
                    "cron_tz=UTC ",
                ])
                .to_owned(),
        };
        let body = match self.below(12) {
            0 => self
                .of(&[
                    "@daily",
                    "@hourly",
                    "@weekly",
                    "@monthly",
                    "@yearly",
                    "@annually",
                    "@midnight",
                    "@Daily",
                    "@reboot",
                    "@every 6h",
                    "@every 90m",
                    "@every 1s",
                    "@every 0",
                    "@every -5m",
                    "@every 1d",
                    "@every",
                    "@every  1h",
                    "",
                    "@every 1.5s",
                    "@every 10ms",
                ])
                .to_owned(),
            1 => (0..self.below(8))
                .map(|_| self.field(23, &[]))
                .collect::<Vec<_>>()
                .join(" "),
            _ => {
                let months = ["jan", "FEB", "Mar", "apr", "dec", "may"];
                let days = ["sun", "MON", "Fri", "sat"];
                [
                    self.field(59, &[]),
                    self.field(23, &[]),
                    self.field(31, &[]),
                    self.field(12, &months),
                    self.field(6, &days),
                ]
                .join([" ", " ", " ", "  ", "\t"][self.below(5)])
            }
        };
        format!("{zone}{body}")
    }
}

/// What the real parsers say to each question.
fn ask(questions: &[(String, i64)]) -> Result<Vec<Value>> {
    let mut command = servers::command(Program::Cron)?;
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child = process::spawn(command)?;
    let mut input = child.stdin.take().context("stdin")?;
    let mut lines = String::new();
    for (expression, after) in questions {
        lines.push_str(&json!({ "expression": expression, "after": after }).to_string());
        lines.push('\n');
    }
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = BufReader::new(child.stdout.take().context("stdout")?);
    let answers = output
        .lines()
        .map(|line| Ok(serde_json::from_str(&line?)?))
        .collect::<Result<Vec<Value>>>()?;
    writer.join().ok().context("the writer")??;
    child.wait()?;
    assert_eq!(answers.len(), questions.len());
    Ok(answers)
}

fn ours(expression: &str, after: i64) -> Result<Vec<i64>, String> {
    let cron = Cron::parse(expression).map_err(|error| error.to_string())?;
    let after = Timestamp::from_second(after).map_err(|error| error.to_string())?;
    Ok(cron
        .upcoming(after, 3)
        .iter()
        .map(|time| time.as_second())
        .collect())
}

fn theirs(answer: &Value) -> Result<Vec<i64>, String> {
    match answer["invalid"].as_str() {
        Some(problem) => Err(problem.to_owned()),
        None => Ok(answer["next"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_i64)
            .collect()),
    }
}

#[test]
fn ten_thousand_expressions_mean_what_the_real_parser_makes_of_them() -> Result<()> {
    let mut numbers = Numbers(0x5eed_cafe_f00d);
    let questions: Vec<(String, i64)> = (0..NUMBER)
        .map(|_| {
            let expression = numbers.expression();
            // 2015 to 2036, with many clock changes in between.
            (
                expression,
                1_420_070_400 + i64::try_from(numbers.below(660_000_000)).unwrap_or_default(),
            )
        })
        .collect();
    let (mut taken, mut never, mut differ) = (0, 0, Vec::new());
    for ((expression, after), answer) in questions.iter().zip(ask(&questions)?) {
        let (ours, theirs) = (ours(expression, *after), theirs(&answer["classic"]));
        match (&ours, &theirs) {
            (Ok(ours), Ok(theirs)) if ours == theirs => {
                taken += 1;
                never += usize::from(ours.is_empty());
            }
            (Err(_), Err(_)) => {}
            _ => differ.push(format!(
                "{expression:?} after {after}: {ours:?}, really {theirs:?}"
            )),
        }
    }
    assert!(
        differ.is_empty(),
        "{} differ, such as\n{}",
        differ.len(),
        differ[..differ.len().min(20)].join("\n")
    );
    // A generator that only makes one kind would prove nothing.
    assert!((2_500..7_500).contains(&taken), "{taken} of {NUMBER} were taken");
    assert!(never > 10, "{never} never fire");
    Ok(())
}

#[test]
fn newer_veleros_differ_where_we_say_so() -> Result<()> {
    let after = 1_790_000_000;
    let expressions = [
        "0 1 * * *",
        "*/15 8-18 * * mon-fri",
        "0 0 1 * *",
        "0 0 * * sun",
        "@weekly",
        "@every 6h",
        "0 0 13 * 5",
        "0 0 */2 * 1",
        "CRON_TZ=Europe/Berlin 0 1 * * *",
    ];
    let questions: Vec<(String, i64)> = expressions.map(|text| (text.to_owned(), after)).into();
    for (expression, answer) in expressions.iter().zip(ask(&questions)?) {
        let (classic, newer) = (theirs(&answer["classic"]), theirs(&answer["newer"]));
        let differs = Cron::parse(expression)?.is_read_differently().is_some();
        assert_eq!(
            classic != newer,
            differs,
            "{expression}: {classic:?} and {newer:?}"
        );
    }
    Ok(())
}
