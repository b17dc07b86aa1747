//! Ages and sizes as kubectl prints them.
//!
//! In come numbers, out go short texts for tables. Ages follow `k8s.io/apimachinery/pkg/util/duration.HumanDuration` to the
//! letter, so that a column reads the same as in `kubectl get`.

/// An age such as `3d4h`, from milliseconds. More than two seconds in the future is `<invalid>`, as in kubectl.
pub fn age(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    let days = hours / 24;
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, "m", seconds % 60, "s"),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => pair(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if days < 8 * 365 => pair(days / 365, "y", days % 365, "d"),
        () => format!("{}y", days / 365),
    }
}

fn pair(large: i64, large_unit: &str, small: i64, small_unit: &str) -> String {
    if small == 0 {
        format!("{large}{large_unit}")
    } else {
        format!("{large}{large_unit}{small}{small_unit}")
    }
}

/// A size such as `1.5MiB`: binary units as in resource quantities, one decimal below ten.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count}B");
    }
    // In tenths of a unit, rounded; integer arithmetic keeps every size exact.
    let mut shift = 10;
    for (position, unit) in UNITS.iter().enumerate() {
        let tenths = ((u128::from(count) * 10) + (1 << (shift - 1))) >> shift;
        if tenths < 10_240 || position == UNITS.len() - 1 {
            return match (tenths / 10, tenths % 10) {
                (whole @ 0..10, tenth) if tenth > 0 => format!("{whole}.{tenth}{unit}"),
                (whole @ 0..10, _) => format!("{whole}{unit}"),
                _ => format!("{}{unit}", (tenths + 5) / 10),
            };
        }
        shift += 10;
    }
    format!("{count}B")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1000;
    const MINUTE: i64 = 60 * SECOND;
    const HOUR: i64 = 60 * MINUTE;
    const DAY: i64 = 24 * HOUR;
    const YEAR: i64 = 365 * DAY;

    #[test]
    fn ages_are_kubectl_s() {
        for (milliseconds, expected) in [
            (-2 * SECOND, "<invalid>"),
            (-2 * SECOND + 1, "0s"),
            (0, "0s"),
            (SECOND - 1, "0s"),
            (70 * SECOND, "70s"),
            (2 * MINUTE - 1, "119s"),
            (2 * MINUTE, "2m"),
            (2 * MINUTE + SECOND, "2m1s"),
            (190 * SECOND, "3m10s"),
            (10 * MINUTE - 1, "9m59s"),
            (10 * MINUTE + SECOND, "10m"),
            (70 * MINUTE, "70m"),
            (3 * HOUR - 1, "179m"),
            (3 * HOUR, "3h"),
            (3 * HOUR + MINUTE, "3h1m"),
            (8 * HOUR - 1, "7h59m"),
            (8 * HOUR + 59 * MINUTE, "8h"),
            (2 * DAY - 1, "47h"),
            (49 * HOUR, "2d1h"),
            (8 * DAY - 1, "7d23h"),
            (8 * DAY + 23 * HOUR, "8d"),
            (367 * DAY, "367d"),
            (2 * YEAR - 1, "729d"),
            (2 * YEAR + 23 * HOUR, "2y"),
            (2 * YEAR + DAY, "2y1d"),
            (8 * YEAR - 1, "7y364d"),
            (8 * YEAR + 364 * DAY, "8y"),
            (9 * YEAR, "9y"),
        ] {
            assert_eq!(age(milliseconds), expected, "{milliseconds}");
        }
    }

    #[test]
    fn sizes_are_binary_and_short() {
        for (count, expected) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (1536, "1.5KiB"),
            (10 * 1024, "10KiB"),
            (1023 * 1024, "1023KiB"),
            (1024 * 1024 - 1, "1MiB"),
            (1024 * 1024, "1MiB"),
            (5_400_000, "5.1MiB"),
            (1 << 40, "1TiB"),
            (u64::MAX, "16EiB"),
        ] {
            assert_eq!(bytes(count), expected, "{count}");
        }
    }
}
