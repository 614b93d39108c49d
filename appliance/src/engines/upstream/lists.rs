//! Vectors and ranks out of an engine's answers, in the order of the texts that were sent.

use serde_json::Value;

/// Scores in the order of the texts, as Jina's and llama.cpp's servers answer.
pub fn scores(value: &Value, count: usize) -> Option<Vec<f32>> {
    let mut scores = vec![None; count];
    for row in value["results"].as_array()? {
        let at = usize::try_from(row["index"].as_u64()?).ok()?;
        *scores.get_mut(at)? = Some(row["relevance_score"].as_f64()? as f32);
    }
    scores.into_iter().collect()
}

/// Vectors in the order of the texts.
pub fn vectors(value: &Value) -> Option<Vec<Vec<f32>>> {
    let mut rows: Vec<(u64, Vec<f32>)> = Vec::new();
    for row in value["data"].as_array()? {
        let numbers = row["embedding"]
            .as_array()?
            .iter()
            .map(|n| n.as_f64().map(|n| n as f32));
        rows.push((row["index"].as_u64()?, numbers.collect::<Option<_>>()?));
    }
    rows.sort_by_key(|(index, _)| *index);
    Some(rows.into_iter().map(|(_, row)| row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_in_any_order_come_back_in_that_of_the_texts() {
        let ranked = json!({"results": [
            {"index": 1, "relevance_score": 0.5}, {"index": 0, "relevance_score": -2},
        ]});
        assert_eq!(scores(&ranked, 2), Some(vec![-2.0, 0.5]));
        assert_eq!(scores(&ranked, 3), None, "one is missing");
        assert_eq!(scores(&ranked, 1), None, "one is too many");
        let made =
            json!({"data": [{"index": 1, "embedding": [2]}, {"index": 0, "embedding": [1]}]});
        assert_eq!(vectors(&made), Some(vec![vec![1.0], vec![2.0]]));
    }
}
