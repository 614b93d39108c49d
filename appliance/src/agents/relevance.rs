//! Which tools a task is likely to need: a small model that is shown twenty calls none of them rightly.

/// Tools that are shown at a time. Small models choose well among a handful.
pub const SHOWN_MAX: usize = 5;

/// A tool that has nothing to do with the task points no nearer to it than this, by MiniLM's vectors. Below it a
/// greeting is just answered, with the whole context free for it.
pub const NEAR: f32 = 0.25;

/// A task that points this near to a tool clearly needs one.
pub const SURE: f32 = 0.45;

/// How near each of the tools is to the task, by its vectors: the nearest of its texts counts.
pub fn nearness(task: &[f32], tool: &[Vec<f32>]) -> f32 {
    let dot = |text: &Vec<f32>| task.iter().zip(text).map(|(a, b)| a * b).sum::<f32>();
    tool.iter().map(dot).fold(0.0, f32::max)
}

/// The same without an embedder: the share of a text's telling words that the task has too, by their beginnings.
pub fn likeness(task: &str, texts: &[&str]) -> f32 {
    let asked = words(task);
    let share = |text: &&str| {
        let words = words(text);
        if words.is_empty() {
            return 0.0;
        }
        let shared = words.iter().filter(|word| asked.contains(word)).count();
        shared as f32 / (words.len().min(asked.len()).max(3)) as f32
    };
    texts.iter().map(share).fold(0.0, f32::max)
}

/// Telling words, cut to their stems' length: `files` and `file` are one.
fn words(text: &str) -> Vec<String> {
    const IDLE: &[&str] = &[
        "the", "and", "for", "that", "this", "with", "from", "what", "are", "you", "how", "can",
        "please", "tell",
    ];
    let mut all: Vec<String> = text
        .to_lowercase()
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.len() > 2 && !IDLE.contains(word))
        .map(|word| word.trim_end_matches('s').chars().take(6).collect())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// The tools to show, by their scores: those that are near enough, best first.
pub fn choose(scores: &[f32], near: f32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).filter(|&at| scores[at] >= near).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]));
    order.truncate(SHOWN_MAX);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_tools_are_shown_and_a_greeting_needs_none() {
        assert_eq!(choose(&[0.1, 0.6, 0.3, 0.24], NEAR), [1, 2]);
        assert!(choose(&[0.0, 0.1], NEAR).is_empty());
        assert_eq!(choose(&[0.5; 9], NEAR).len(), SHOWN_MAX);
    }

    #[test]
    fn words_tell_where_no_vector_does() {
        let files = ["List the files of a folder"];
        assert!(likeness("which files are in the folder notes?", &files) > NEAR);
        assert!(likeness("hello there", &files) < NEAR);
        assert_eq!(likeness("", &files), 0.0);
    }

    #[test]
    fn the_nearest_text_of_a_tool_counts() {
        let tool = [vec![1.0, 0.0], vec![0.0, 1.0]];
        assert_eq!(nearness(&[0.0, 0.9], &tool), 0.9);
        assert_eq!(nearness(&[1.0, 0.0], &[]), 0.0);
    }
}
