//! Expressions, refusals and next times in tables, zones and random text.

use proptest::prelude::*;

use super::*;

fn times(expression: &str, after: &str, number: usize) -> Vec<String> {
    let cron = Cron::parse(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    cron.upcoming(after.parse().unwrap(), number)
        .iter()
        .map(|time| {
            time.to_zoned(cron.zone().clone())
                .strftime("%Y-%m-%d %a %H:%M %z")
                .to_string()
        })
        .collect()
}

#[test]
fn fields_descriptors_and_zones() {
    let after = "2026-11-25T12:34:56Z";
    let table: [(&str, &[&str]); 9] = [
        (
            "0 1 * * *",
            &["2026-11-26 Thu 01:00 +0000", "2026-11-27 Fri 01:00 +0000"],
        ),
        (
            "*/20 13 * * ?",
            &["2026-11-25 Wed 13:00 +0000", "2026-11-25 Wed 13:20 +0000"],
        ),
        (
            "5/25 0 1 JAN-feb *",
            &["2027-01-01 Fri 00:05 +0000", "2027-01-01 Fri 00:30 +0000"],
        ),
        (
            "0 0 13 * fri",
            &["2026-11-27 Fri 00:00 +0000", "2026-12-04 Fri 00:00 +0000"],
        ),
        (
            "0 0 */2 * 0",
            &["2026-11-27 Fri 00:00 +0000", "2026-11-29 Sun 00:00 +0000"],
        ),
        (
            "@monthly",
            &["2026-12-01 Tue 00:00 +0000", "2027-01-01 Fri 00:00 +0000"],
        ),
        (
            "@every 1h30m",
            &["2026-11-25 Wed 14:04 +0000", "2026-11-25 Wed 15:34 +0000"],
        ),
        ("CRON_TZ=Europe/Berlin 0 1 * * *", &["2026-11-26 Thu 01:00 +0100"]),
        ("TZ=Asia/Kathmandu @daily", &["2026-11-26 Thu 00:00 +0545"]),
    ];
    for (expression, expected) in table {
        assert_eq!(times(expression, after, expected.len()), expected, "{expression}");
    }
}

#[test]
fn a_clock_that_jumps() {
    let berlin = |fields: &str| format!("CRON_TZ=Europe/Berlin {fields}");
    // 02:00 to 03:00 does not exist on 2027-03-28.
    assert_eq!(
        times(&berlin("30 2 * * *"), "2027-03-27T00:00:00Z", 2),
        ["2027-03-27 Sat 02:30 +0100", "2027-03-29 Mon 02:30 +0200"]
    );
    // 02:00 to 03:00 comes twice on 2026-10-25.
    assert_eq!(
        times(&berlin("30 * * * *"), "2026-10-24T23:45:00Z", 3),
        [
            "2026-10-25 Sun 02:30 +0200",
            "2026-10-25 Sun 02:30 +0100",
            "2026-10-25 Sun 03:30 +0100"
        ]
    );
}

#[test]
fn what_never_fires_is_found() {
    for expression in [
        "0 0 31 2 *",
        "0 0 30 2 ?",
        "0 0 31 4,6,9,11 *",
        ", 0 * * *",
        "0 , * * *",
    ] {
        assert_eq!(
            times(expression, "2026-11-25T00:00:00Z", 5),
            Vec::<String>::new(),
            "{expression}"
        );
    }
    assert_eq!(
        times("0 0 29 2 *", "2026-11-25T00:00:00Z", 1),
        ["2028-02-29 Tue 00:00 +0000"]
    );
    // The next leap day lies eight years away here.
    assert!(times("0 0 29 2 *", "2096-03-01T00:00:00Z", 1).is_empty());
}

#[test]
fn what_robfig_refuses_is_refused_with_the_field() {
    for (expression, expected) in [
        ("", "empty"),
        ("   ", "0 fields"),
        ("0 1 * *", "4 fields"),
        ("0 0 1 * * *", "6 fields"),
        ("60 1 * * *", "minute `60`: 60 is above 59"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day of month `0`: 0 is below 1"),
        ("0 0 * 13 *", "month"),
        ("0 0 * * 7", "day of week `7`: 7 is above 6"),
        ("0 0 * * MON-SUN", "begins with 1 after its end 0"),
        ("*/0 * * * *", "step is 0"),
        ("1-2-3 * * * *", "one hyphen"),
        ("1/2/3 * * * *", "one slash"),
        ("-1 * * * *", "is no number"),
        ("0 0 L * *", "\"L\" is no number"),
        ("0 0 * * 5#2", "\"5#2\" is no number"),
        (" @daily", "1 fields"),
        ("@Daily", "@Daily"),
        ("@reboot", "@every 6h"),
        ("@every", "@every"),
        ("@every 1d", "1h30m"),
        ("CRON_TZ=UTC", "blank"),
        ("CRON_TZ=Mars/Olympus 0 1 * * *", "Mars/Olympus"),
        ("CRON_TZ=europe/berlin 0 1 * * *", "very case"),
    ] {
        let error = Cron::parse(expression).expect_err(expression).to_string();
        assert!(error.contains(expected), "{expression}: {error}");
    }
}

#[test]
fn what_a_cron_job_runs() {
    let table = [
        ("CRON_TZ=Europe/Berlin 0  1 * * *", Ok("0 1 * * *")),
        ("@daily", Ok("@daily")),
        ("@every 15m", Ok("*/15 * * * *")),
        ("@every 6h", Ok("0 */6 * * *")),
        ("@every 24h", Ok("0 0 * * *")),
        (
            "@every 7h",
            Err(
                "a CronJob cannot run @every 7h0m0s; the nearest that it can is `0 */6 * * *` (every 6h0m0s)",
            ),
        ),
        (
            "@every 90m",
            Err(
                "a CronJob cannot run @every 1h30m0s; the nearest that it can is `0 */1 * * *` (every 1h0m0s)",
            ),
        ),
        (
            "@every 10s",
            Err("a CronJob cannot run @every 10s; the nearest that it can is `*/1 * * * *` (every 1m0s)"),
        ),
    ];
    for (expression, expected) in table {
        let fields = Cron::parse(expression).unwrap().for_cron_job();
        let fields = fields.as_deref().map_err(ToString::to_string);
        assert_eq!(fields, expected.map_err(str::to_owned), "{expression}");
    }
    for (expression, zone) in [
        ("@daily", "Etc/UTC"),
        ("CRON_TZ=Local @daily", "Etc/UTC"),
        ("TZ=Europe/Berlin @daily", "Europe/Berlin"),
    ] {
        assert_eq!(Cron::parse(expression).unwrap().zone_name(), zone);
    }
}

#[test]
fn days_that_veleros_read_differently_are_named() {
    for (expression, differs) in [
        ("0 0 1 * *", false),
        ("0 0 * * 1", false),
        ("0 0 1 * 1", true),
        ("0 0 */2 * 1", true),
        ("0 0 */1 * 1", false),
        ("@every 1h", false),
    ] {
        let cron = Cron::parse(expression).unwrap();
        assert_eq!(cron.is_read_differently().is_some(), differs, "{expression}");
    }
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,30}") {
        let _ = Cron::parse(&text);
    }

    #[test]
    fn times_go_up(minute in 0u8..60, hour in 0u8..24, second in 0i64..200_000_000) {
        let cron = Cron::parse(&format!("CRON_TZ=America/Sao_Paulo {minute} {hour} * * *")).unwrap();
        let after = Timestamp::from_second(1_500_000_000 + second).unwrap();
        let times = cron.upcoming(after, 4);
        prop_assert_eq!(times.len(), 4);
        prop_assert!(times.iter().zip(times.iter().skip(1)).all(|(one, next)| one < next));
        prop_assert!(times.first().is_some_and(|first| *first > after));
    }
}
