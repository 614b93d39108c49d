//! A policy: rules that choose a model by what a request says, as its author wrote them.

/// Which models there are to choose from, and when which.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Policy {
    /// The models that may be chosen.
    pub candidates: Vec<String>,
    /// The one that answers where no rule matches.
    pub default_model: String,
    /// What judges a request by a model.
    pub classifiers: Vec<Classifier>,
    /// In order; the first that matches decides.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Its name, for whoever wants to know why.
    pub id: String,
    /// When it matches.
    pub when: Condition,
    /// The candidate that then answers.
    pub route_to: String,
    /// JSON text of its author's own, handed on as it is.
    pub outputs: String,
}

/// What a request may be tested for.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    /// Each of them.
    All(Vec<Condition>),
    /// At least one of them.
    Any(Vec<Condition>),
    /// The opposite.
    Not(Box<Condition>),
    /// At least one of these texts is in the request, in whatever case.
    KeywordsAny(Vec<String>),
    /// All of them are.
    KeywordsAll(Vec<String>),
    /// The expression matches somewhere.
    Regex(String),
    /// At least so many bytes.
    MinChars(usize),
    /// At most so many bytes.
    MaxChars(usize),
    /// Whether it brings tools.
    HasTools(bool),
    /// Whether it brings pictures.
    HasImages(bool),
    /// What its metadata say.
    Metadata {
        /// The entry.
        key: String,
        /// What it must be.
        test: MetadataTest,
    },
    /// A classifier's score for a label lies between.
    Classifier {
        /// The classifier.
        id: String,
        /// The label; the classifier's default one where it names none.
        label: Option<String>,
        /// At least.
        min_score: f64,
        /// At most.
        max_score: f64,
    },
}

/// What an entry of the metadata must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataTest {
    /// Exactly this.
    Equals(String),
    /// One of these.
    Any(Vec<String>),
    /// There at all, or not.
    Exists(bool),
}

/// What judges a request by a model.
#[derive(Debug, Clone, PartialEq)]
pub struct Classifier {
    /// Its name in conditions.
    pub id: String,
    /// The model.
    pub model: String,
    /// How it judges.
    pub by: Judgement,
    /// What it may say.
    pub labels: Vec<String>,
    /// What a condition without a label means.
    pub default_label: Option<String>,
    /// Whether a condition counts as matched when the model fails.
    pub match_on_error: bool,
}

/// How a model judges.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// By the likeness of vectors: each label with phrases that stand for it.
    Likeness(Vec<(String, Vec<String>)>),
    /// By naming one label, told what each means.
    Words(String),
}

/// What a policy looks at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asking {
    /// The request's text.
    pub text: String,
    /// Whether it brings tools.
    pub has_tools: bool,
    /// Whether it brings pictures.
    pub has_images: bool,
    /// Its metadata.
    pub metadata: Vec<(String, String)>,
}

/// What a policy decided.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyDecision {
    /// The model.
    pub route_to: String,
    /// The rule that matched; `None` where the default answers.
    pub matched_rule: Option<String>,
    /// The rule's outputs, JSON text.
    pub outputs: String,
    /// Every test made, in order.
    pub trace: Vec<Tested>,
}

/// One test.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    /// What was tested, such as `keywords_any` or `classifier:topic`.
    pub condition: String,
    /// Whether it matched.
    pub result: bool,
    /// The score, for classifiers.
    pub score: Option<f64>,
    /// The label whose score it is.
    pub label: Option<String>,
}
