// SPDX-License-Identifier: MIT
//! Sentences of NMEA 0183 as JSON.  Pure; no input makes it panic.
use std::fmt::Write;

/// Why a sentence is refused.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    Malformed = 0,
    BadChecksum = 1,
}

impl Fault {
    pub fn name(self) -> &'static str {
        match self {
            Fault::Malformed => "malformed",
            Fault::BadChecksum => "bad_checksum",
        }
    }
}

use Fault::{BadChecksum, Malformed};

/// Bytes; the standard has 82, some receivers send longer ones.
const LENGTH_MAX: usize = 255;

/// JSON; None: a sentence of another type.  strict: one without a checksum is refused.
pub fn decode(payload: &[u8], strict: bool) -> Result<Option<String>, Fault> {
    let text = std::str::from_utf8(payload).map_err(|_| Malformed)?.trim_end_matches(['\r', '\n']);
    if text.len() > LENGTH_MAX || !text.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err(Malformed);
    }
    let body = text.strip_prefix(['$', '!']).ok_or(Malformed)?;
    let body = match body.split_once('*') {
        Some((body, sum)) => checked(body, sum)?,
        None if strict => return Err(BadChecksum),
        None => body,
    };
    let fields: Vec<&str> = body.split(',').collect();
    let address = fields[0];
    if address.is_empty() || !address.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit()) {
        return Err(Malformed);
    }
    if address.starts_with('P') || address.len() != 5 || !text.starts_with('$') {
        return Ok(None); // a maker's own, a query, an encapsulated one
    }
    let (talker, kind) = address.split_at(2);
    let mut json = Object(format!("{{\"type\":\"{}\",\"talker\":\"{}\"", kind, talker));
    match kind {
        "GGA" => gga(&fields, &mut json)?,
        "RMC" => rmc(&fields, &mut json)?,
        "VTG" => vtg(&fields, &mut json)?,
        _ => return Ok(None),
    }
    Ok(Some(json.0 + "}"))
}

fn checked<'a>(body: &'a str, sum: &str) -> Result<&'a str, Fault> {
    if sum.len() != 2 || !sum.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(Malformed);
    }
    let stated = u8::from_str_radix(sum, 16).map_err(|_| Malformed)?;
    let real = body.bytes().fold(0, |sum, b| sum ^ b);
    if stated == real { Ok(body) } else { Err(BadChecksum) }
}

// ---- types ------------------------------------------------------------------------------------------------------------

fn gga(f: &[&str], json: &mut Object) -> Result<(), Fault> {
    if f.len() < 13 {
        return Err(Malformed);
    }
    json.text("time", time(f[1])?);
    json.place(f[2], f[3], f[4], f[5])?;
    json.number("quality", number(f[6])?);
    json.number("satellites", number(f[7])?);
    json.number("hdop", number(f[8])?);
    json.number("altitude_m", number(f[9])?);
    json.number("geoid_m", number(f[11])?);
    Ok(())
}

fn rmc(f: &[&str], json: &mut Object) -> Result<(), Fault> {
    if f.len() < 12 {
        return Err(Malformed);
    }
    match (date(f[9])?, time(f[1])?) {
        (Some(date), Some(time)) => json.text("time", Some(format!("{}T{}Z", date, time))),
        (_, time) => json.text("time", time),
    }
    match f[2] {
        "A" => json.0.push_str(",\"valid\":true"),
        "V" => json.0.push_str(",\"valid\":false"),
        _ => return Err(Malformed),
    }
    json.place(f[3], f[4], f[5], f[6])?;
    json.number("speed_kn", number(f[7])?);
    json.number("course", number(f[8])?);
    let variation = match (number(f[10])?, f[11]) {
        (None, _) => None,
        (Some(v), "E") => Some(v),
        (Some(v), "W") => Some(-v),
        _ => return Err(Malformed),
    };
    json.number("magnetic_variation", variation);
    Ok(())
}

fn vtg(f: &[&str], json: &mut Object) -> Result<(), Fault> {
    let units = ["T", "M", "N", "K"];
    if f.len() < 9 || (0..4).any(|i| !f[2 * i + 1].is_empty() && f[2 * i + 2] != units[i]) {
        return Err(Malformed);
    }
    json.number("course", number(f[1])?);
    json.number("course_magnetic", number(f[3])?);
    json.number("speed_kn", number(f[5])?);
    json.number("speed_kmh", number(f[7])?);
    Ok(())
}

// ---- fields; an empty one is None, and is left out --------------------------------------------------------------------

/// Without an exponent, infinity and the like, which Rust reads, too.
fn number(text: &str) -> Result<Option<f64>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let digits = text.strip_prefix('-').unwrap_or(text);
    if digits.len() > 15 || !digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(Malformed);
    }
    text.parse().map(Some).map_err(|_| Malformed)
}

fn two_digits(text: &str, at: usize) -> Result<u32, Fault> {
    match text.as_bytes().get(at..at + 2) {
        Some(&[a, b]) if a.is_ascii_digit() && b.is_ascii_digit() => Ok(u32::from(a - b'0') * 10 + u32::from(b - b'0')),
        _ => Err(Malformed),
    }
}

/// "123519.50" is 12:35:19.5.
fn time(text: &str) -> Result<Option<String>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let (h, m, s) = (two_digits(whole, 0)?, two_digits(whole, 2)?, two_digits(whole, 4)?);
    let decimals = fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 6 || h > 23 || m > 59 || s > 60 || !decimals {
        return Err(Malformed);
    }
    let fraction = fraction.trim_end_matches('0');
    Ok(Some(format!("{:02}:{:02}:{:02}{}{}", h, m, s, if fraction.is_empty() { "" } else { "." }, fraction)))
}

/// "230394" is 1994-03-23: years of two digits are from 1980 on, where GPS begins.
fn date(text: &str) -> Result<Option<String>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let (d, m, y) = (two_digits(text, 0)?, two_digits(text, 2)?, two_digits(text, 4)?);
    let year = if y < 80 { 2000 + y } else { 1900 + y };
    let days = match m {
        2 if year % 4 == 0 => 29, // from 1980 to 2079
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    if text.len() != 6 || d == 0 || d > days {
        return Err(Malformed);
    }
    Ok(Some(format!("{}-{:02}-{:02}", year, m, d)))
}

/// "4807.038" and "N" are 48 degrees and 7.038 minutes.
fn angle(text: &str, side: &str, sides: [&str; 2], limit: f64) -> Result<Option<f64>, Fault> {
    if text.is_empty() {
        return Ok(None);
    }
    let whole = text.split('.').next().unwrap_or("").len();
    if whole < 3 || !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(Malformed);
    }
    let (degrees, minutes) = text.split_at(whole - 2);
    let (degrees, minutes) = (number(degrees)?.ok_or(Malformed)?, number(minutes)?.ok_or(Malformed)?);
    let angle = degrees + minutes / 60.0;
    if minutes >= 60.0 || angle > limit {
        return Err(Malformed);
    }
    let angle = (angle * 1e7).round() / 1e7; // a centimetre
    match sides.iter().position(|&s| s == side) {
        Some(0) => Ok(Some(angle)),
        Some(_) => Ok(Some(-angle)),
        None => Err(Malformed),
    }
}

/// What is written has nothing to escape: names of ours, digits and letters.
struct Object(String);

impl Object {
    fn text(&mut self, name: &str, value: Option<String>) {
        if let Some(value) = value {
            let _ = write!(self.0, ",\"{}\":\"{}\"", name, value);
        }
    }

    fn number(&mut self, name: &str, value: Option<f64>) {
        if let Some(value) = value {
            let _ = write!(self.0, ",\"{}\":{}", name, value + 0.0); // no -0
        }
    }

    fn place(&mut self, lat: &str, ns: &str, lon: &str, ew: &str) -> Result<(), Fault> {
        self.number("latitude", angle(lat, ns, ["N", "S"], 90.0)?);
        self.number("longitude", angle(lon, ew, ["E", "W"], 180.0)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_sum(body: &str) -> String {
        format!("${}*{:02X}", body, body.bytes().fold(0, |sum, b| sum ^ b))
    }

    fn of(body: &str) -> Result<Option<String>, Fault> {
        decode(with_sum(body).as_bytes(), true)
    }

    fn json(sentence: &str) -> String {
        decode(sentence.as_bytes(), true).unwrap().unwrap()
    }

    /// As they stand in every manual, with the sums that stand there.
    #[test]
    fn known_sentences() {
        assert_eq!(
            json("$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n"),
            concat!(r#"{"type":"GGA","talker":"GP","time":"12:35:19","latitude":48.1173,"longitude":11.5166667,"#,
                    r#""quality":1,"satellites":8,"hdop":0.9,"altitude_m":545.4,"geoid_m":46.9}"#)
        );
        assert_eq!(
            json("$GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W*6A"),
            concat!(r#"{"type":"RMC","talker":"GP","time":"1994-03-23T12:35:19Z","valid":true,"latitude":48.1173,"#,
                    r#""longitude":11.5166667,"speed_kn":22.4,"course":84.4,"magnetic_variation":-3.1}"#)
        );
        assert_eq!(
            json("$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*48"),
            r#"{"type":"VTG","talker":"GP","course":54.7,"course_magnetic":34.4,"speed_kn":5.5,"speed_kmh":10.2}"#
        );
    }

    #[test]
    fn what_a_receiver_does_not_know_is_left_out() {
        assert_eq!(of("GNRMC,,V,,,,,,,,,,N").unwrap().unwrap(), r#"{"type":"RMC","talker":"GN","valid":false}"#);
        assert_eq!(of("GPGGA,,,,,,0,,,,,,,,").unwrap().unwrap(), r#"{"type":"GGA","talker":"GP","quality":0}"#);
        assert_eq!(of("GPVTG,,,,,,,,,N").unwrap().unwrap(), r#"{"type":"VTG","talker":"GP"}"#);
    }

    #[test]
    fn south_and_west_and_the_edge() {
        let text = of("GPGGA,000000.250,3351.5,S,18000,W,1,4,1,-3,M,,M,,").unwrap().unwrap();
        assert!(text.contains(r#""time":"00:00:00.25","latitude":-33.8583333,"longitude":-180,"#), "{}", text);
        assert!(text.contains(r#""altitude_m":-3"#), "{}", text);
        assert!(of("GPGGA,000000,9000,N,0000,W,1,4,1,0,M,,M,,").unwrap().unwrap().contains(r#""longitude":0,"#));
    }

    #[test]
    fn others_are_no_fault() {
        assert_eq!(of("GPGSV,1,1,00"), Ok(None));
        assert_eq!(of("PMTK001,1,2"), Ok(None));
        let ais = "AIVDM,1,1,,A,13u?etPv2;0n:dDPwUM1U1Cb069D,0";
        let sum = ais.bytes().fold(0, |sum, b| sum ^ b);
        assert_eq!(decode(format!("!{}*{:02X}", ais, sum).as_bytes(), true), Ok(None));
    }

    #[test]
    fn checksums() {
        assert_eq!(decode(b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*49", true), Err(BadChecksum));
        assert_eq!(decode(b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K", true), Err(BadChecksum));
        assert!(decode(b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K", false).unwrap().is_some());
        assert!(decode(b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*4", false).is_err());
        assert_eq!(decode(b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*+8", false), Err(Malformed));
        assert_eq!(decode(b"$GPVTG,054.7,T,034.4,M,005.5,N,010.2,K*488", false), Err(Malformed));
    }

    #[test]
    fn malformed() {
        for body in [
            "", "GPGGA", "gpgga,1", "GP\"GA,1", "GPGGA,123519,4807.038,N,01131.000,E,1",
            "GPGGA,243519,,,,,0,,,,,,,,", "GPGGA,12351,,,,,0,,,,,,,,", "GPGGA,12:519,,,,,0,,,,,,,,",
            "GPGGA,,9000.1,N,01131,E,0,,,,,,,,", "GPGGA,,4860.0,N,01131,E,0,,,,,,,,", "GPGGA,,48,N,01131,E,0,,,,,,,,",
            "GPGGA,,4807.038,X,01131,E,0,,,,,,,,", "GPGGA,,4807.038,,01131,E,0,,,,,,,,", "GPGGA,,,,,,inf,,,,,,,,",
            "GPGGA,,,,,,1e5,,,,,,,,", "GPGGA,,,,,,1.2.3,,,,,,,,", "GPGGA,,,,,,.,,,,,,,,", "GPGGA,,,,,,-,,,,,,,,",
            "GPRMC,,X,,,,,,,,,", "GPRMC,,A,,,,,,,310294,,", "GPRMC,,A,,,,,,,000094,,", "GPRMC,,A,,,,,,,011394,,",
            "GPRMC,,A,,,,,,,2303945,,", "GPRMC,,A,,,,,,,,3.1,X", "GPVTG,1,X,,,,,,", "GPVTG,1,T",
        ] {
            assert_eq!(of(body), Err(Malformed), "{:?}", body);
        }
        for bytes in [&b"\xff$GPGGA"[..], b"", b"$", b"*", b"$*00", b"GPGGA", b"$GPGGA,\n,*00", "$GPGG\u{c4},*00".as_bytes()] {
            assert_eq!(decode(bytes, false), Err(Malformed), "{:?}", bytes);
        }
        assert_eq!(decode(&[b'$'; 300], false), Err(Malformed));
    }

    /// Bytes changed, cut and put in at random, with sums that hold.
    #[test]
    fn nothing_panics() {
        let seeds = ["GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,",
                     "GPRMC,123519,A,4807.038,N,01131.000,E,022.4,084.4,230394,003.1,W", "GPVTG,054.7,T,034.4,M,005.5,N,010.2,K"];
        let mut state = 1u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize % n
        };
        let mut good = 0;
        for _ in 0..20000 {
            let mut body = seeds[next(seeds.len())].as_bytes().to_vec();
            for _ in 0..next(4) {
                let at = next(body.len());
                match next(3) {
                    0 => body[at] = (0x20 + next(0x5f)) as u8,
                    1 => {
                        body.remove(at);
                    }
                    _ => body.insert(at, b",.-0N*"[next(6)]),
                }
            }
            let body = String::from_utf8(body).unwrap();
            if let Ok(Some(json)) = of(&body) {
                good += 1;
                assert!(json.starts_with("{\"type\":\"") && json.ends_with('}') && !json.contains("inf"), "{}", json);
            }
        }
        assert!(good > 5000, "{}", good);
    }
}
