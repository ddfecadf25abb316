//! How kind a tweet is, by a lexicon of words, against what people said of it.

mod plot;

use std::collections::BTreeMap;

use lockstep::prelude::*;

pub use plot::plot;

/// A word before another that takes its meaning away.
const NEGATIONS: [&str; 8] = ["not", "no", "never", "don't", "isn't", "wasn't", "can't", "won't"];
/// What a negation leaves of a word's valence, with the other sign.
const NEGATED: f64 = -0.74;

/// Tweets as they come: a line each, with a number, the mean of twenty people's ratings from -4 to 4, and the text, tabs between them.
#[step(output = "rows")]
pub fn read(
    /// the lines
    raw: Bytes,
) -> Result<Table> {
    let (mut ratings, mut texts) = (Vec::new(), Vec::new());
    for (number, line) in String::from_utf8_lossy(&raw).lines().enumerate() {
        let mut parts = line.splitn(3, '\t').skip(1);
        let (Some(rating), Some(text)) = (parts.next(), parts.next()) else {
            bail!("line {} has not three parts", number + 1);
        };
        ratings.push(
            rating
                .parse::<f64>()
                .with_context(|| format!("the rating in line {}", number + 1))?,
        );
        texts.push(text.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">"));
    }
    Table::new([("text", Column::from(texts)), ("rating", Column::from(ratings))])
}

/// All texts, one below the other.
#[step(output = "text")]
pub fn texts(
    /// the tweets
    rows: Table,
) -> Result<Text> {
    let lines: Vec<String> = rows.str("text")?.iter().flatten().map(|text| format!("{text}\n")).collect();
    Ok(Text(lines.concat()))
}

/// Rate each tweet by the words in it.
#[step(output = "rated")]
pub fn rate(
    /// the tweets
    rows: Table,
    /// a word and its valence in each line, tabs between them
    lexicon: Bytes,
) -> Result<Table> {
    let valences = valences(&lexicon);
    let scores: Vec<f64> = rows
        .str("text")?
        .iter()
        .map(|text| score(text.unwrap_or_default(), &valences))
        .collect();
    rows.with("score", scores)
}

/// Judge the ratings: `correlation` with people's (Pearson's r), and the share of tweets with the right `sign`.
#[step(output = "metrics")]
pub fn judge(
    /// tweets with rating and score
    rated: Table,
) -> Result<Metrics> {
    let (rating, score) = (rated.f64("rating")?, rated.f64("score")?);
    ensure!(!rating.is_empty(), "there are no tweets");
    let pairs: Vec<(f64, f64)> = rating.iter().flatten().zip(score.iter().flatten()).collect();
    let right = pairs.iter().filter(|(rating, score)| rating * score > 0.0).count();
    let mut metrics = Metrics::new();
    metrics.set("correlation", correlation(&pairs));
    metrics.set("sign", right as f64 / pairs.len() as f64);
    Ok(metrics)
}

/// The words that are used most among those that the lexicon knows.
#[step(output = "top")]
pub fn top(
    /// words and how often they occur
    words: Table,
    /// a word and its valence in each line, tabs between them
    lexicon: Bytes,
    /// how many
    #[default = 20]
    count: Param<usize>,
) -> Result<Table> {
    let valences = valences(&lexicon);
    let (word, times) = (words.str("word")?, words.f64("count")?);
    let known = word.iter().flatten().zip(times.iter().flatten());
    let mut known: Vec<(&str, f64, f64)> = known
        .filter_map(|(word, times)| Some((word, times, *valences.get(word)?)))
        .collect();
    known.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    known.truncate(*count);
    Table::new([("word", known.iter().map(|(word, ..)| (*word).to_owned()).collect::<Vec<_>>())])?
        .with("times", known.iter().map(|(_, times, _)| *times as i64).collect::<Vec<_>>())?
        .with("valence", known.iter().map(|(.., valence)| *valence).collect::<Vec<_>>())
}

fn valences(lexicon: &Bytes) -> BTreeMap<String, f64> {
    let text = String::from_utf8_lossy(lexicon);
    let words = text.lines().filter_map(|line| {
        let mut parts = line.split('\t');
        Some((parts.next()?.to_owned(), parts.next()?.parse().ok()?))
    });
    words.collect()
}

/// The sum of the words' valences, drawn in to between -4 and 4.
fn score(text: &str, valences: &BTreeMap<String, f64>) -> f64 {
    let words: Vec<String> = text.split_whitespace().map(plain).collect();
    let mut sum = 0.0;
    for (at, word) in words.iter().enumerate() {
        let Some(valence) = valences.get(word) else { continue };
        let negated = words[at.saturating_sub(3)..at]
            .iter()
            .any(|before| NEGATIONS.contains(&before.as_str()));
        sum += if negated { valence * NEGATED } else { *valence };
    }
    4.0 * sum / (sum * sum + 15.0).sqrt()
}

/// A word without what stands around it; an emoticon stays as it is.
fn plain(word: &str) -> String {
    let inner = word.trim_matches(|c: char| c.is_ascii_punctuation());
    match inner.is_empty() {
        true => word.to_owned(),
        false => inner.to_lowercase(),
    }
}

fn correlation(pairs: &[(f64, f64)]) -> f64 {
    let count = pairs.len() as f64;
    let mean = |pick: &dyn Fn(&(f64, f64)) -> f64| pairs.iter().map(pick).sum::<f64>() / count;
    let (x, y) = (mean(&|pair| pair.0), mean(&|pair| pair.1));
    let (xy, xx, yy) = (
        mean(&|pair| (pair.0 - x) * (pair.1 - y)),
        mean(&|pair| (pair.0 - x).powi(2)),
        mean(&|pair| (pair.1 - y).powi(2)),
    );
    xy / (xx * yy).sqrt().max(f64::MIN_POSITIVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_negation_turns_the_words_behind_it() {
        let lexicon = Bytes(b"good\t2.0\t0.5\nbad\t-2.0\t0.5\n:)\t2.0\t1\n".to_vec());
        let valences = valences(&lexicon);
        assert!(score("Good!", &valences) > 1.0);
        assert!(score("not at all good", &valences) < 0.0);
        assert!(score("bad day :)", &valences).abs() < 1e-9);
        assert_eq!(score("nothing", &valences), 0.0);
    }
}
