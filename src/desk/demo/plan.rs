//! The plan of a day: its conversations, their outcomes, and the feedback with its times.
//!
//! A function of seed and day alone. Everything of a day ends before midnight, so a day can be generated
//! without the others and is always the same.

use opentelemetry::KeyValue;

use super::random::Random;
use super::texts::{COMPLAINTS, FOLLOW_UPS, MARKUP, OF_SESSIONS, PLANS, PRAISE, TOPICS, Topic};

pub(in crate::desk) const DAYS: u64 = 30;
pub(super) const ASSISTANT: &str = "demo-assistant";
pub(super) const EVALUATOR: &str = "demo-evaluator";
pub(super) const OLD: &str = "1.3.2";
/// Beside the old one for a third of the users, and better in everything.
pub(super) const NEW: &str = "1.4.0";

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000 * MILLI;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
pub(in crate::desk) const DAY: u64 = 24 * HOUR;

/// Weights of the hours (UTC) in which conversations start, so that all feedback is given before midnight.
const HOURS: [u64; 22] = [1, 1, 0, 0, 0, 1, 3, 6, 9, 11, 12, 9, 8, 9, 10, 9, 8, 7, 7, 6, 4, 2];

#[derive(Debug)]
pub(super) struct Day {
    pub(super) key: [u64; 2],
    pub(super) conversations: Vec<Conversation>,
    /// Feedback about a request that was not received.
    pub(super) lost: Option<Remark>,
    /// Feedback without a target.
    pub(super) adrift: Option<Remark>,
}

impl Day {
    pub(super) fn requests(&self) -> usize {
        self.conversations.iter().map(|conversation| conversation.turns.len()).sum()
    }
}

#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) session: String,
    pub(super) user: String,
    pub(super) plan: &'static str,
    pub(super) is_new: bool,
    pub(super) turns: Vec<Turn>,
    /// About the session as a whole.
    pub(super) remarks: Vec<Remark>,
}

/// A request.
#[derive(Debug)]
pub(super) struct Turn {
    pub(super) start: u64,
    pub(super) question: String,
    pub(super) topic: &'static Topic,
    pub(super) outcome: AnswerOutcome,
    /// How long each step takes; the tool's counts only where there is one.
    pub(super) retrieve: u64,
    pub(super) rerank: u64,
    pub(super) model: u64,
    pub(super) tool: u64,
    /// How many passages were found, and tokens written.
    pub(super) passages: u64,
    pub(super) tokens: u64,
    /// Feedback given before the answer is sent, as attributes of its span.
    pub(super) own: Vec<KeyValue>,
    /// Late feedback, by time.
    pub(super) remarks: Vec<Remark>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerOutcome {
    Right,
    Wrong,
    /// Nothing was found in time.
    NoPassages,
    /// The model refused.
    NoModel,
}

impl Turn {
    pub(super) fn answer(&self) -> Option<&'static str> {
        match self.outcome {
            AnswerOutcome::Right => Some(self.topic.right),
            AnswerOutcome::Wrong => Some(self.topic.wrong),
            AnswerOutcome::NoPassages | AnswerOutcome::NoModel => None,
        }
    }

    /// The duration of all steps.
    pub(super) fn length(&self) -> u64 {
        let tool = if self.topic.tool.is_some() { self.tool } else { 0 };
        match self.outcome {
            AnswerOutcome::NoPassages => self.retrieve + 2 * MILLI,
            _ => self.retrieve + self.rerank + tool + self.model + 6 * MILLI,
        }
    }
}

/// Feedback with a time of its own.
#[derive(Clone, Debug)]
pub(super) struct Remark {
    pub(super) time: u64,
    pub(super) is_by_evaluator: bool,
    pub(super) set: Vec<KeyValue>,
    pub(super) cleared: Vec<&'static str>,
}

impl Remark {
    fn new(time: u64, set: Vec<KeyValue>) -> Self {
        Self { time, is_by_evaluator: false, set, cleared: Vec::new() }
    }
}

pub(super) fn of_day(seed: u64, day: u64) -> Day {
    let mut random = Random::of(&[seed, day]);
    let is_bad = day % DAYS == Random::of(&[seed]).between(0, DAYS);
    // 1970 began on a Thursday.
    let is_weekend = matches!((day + 4) % 7, 0 | 6);
    let count = if is_weekend { random.between(12, 20) } else { random.between(44, 56) };
    let conversations =
        (0..count).map(|number| conversation(&mut random, (day, number), is_bad)).collect();
    let noon = day * DAY + 12 * HOUR + random.between(0, HOUR);
    let remark = |text: &'static str, is_so: bool| {
        let set =
            vec![KeyValue::new("feedback.rating", false), KeyValue::new("feedback.comment", text)];
        is_so.then(|| Remark::new(noon, set))
    };
    Day {
        key: [seed, day],
        conversations,
        lost: remark("About an answer that your collector never saw.", day.is_multiple_of(5)),
        adrift: remark("About nothing in particular.", day.is_multiple_of(15)),
    }
}

fn conversation(random: &mut Random, (day, number): (u64, u64), is_bad: bool) -> Conversation {
    let is_new = random.percent(34);
    let hour = random.weighted(&HOURS) as u64;
    let mut time = day * DAY + hour * HOUR + random.between(0, 55 * MINUTE);
    let count = 1 + random.weighted(&[30, 34, 22, 10, 4]);
    let mut turns = Vec::with_capacity(count);
    for place in 0..count {
        let turn = turn(random, (time, place), (is_new, is_bad), number == 0 && place == 0);
        time += turn.length() + random.between(8 * SECOND, 100 * SECOND);
        turns.push(turn);
    }
    let user = format!("u-{}", random.between(1, 240));
    let plan = PLANS[random.weighted(&[60, 30, 10])];
    let remarks = of_session(random, time, is_new, is_bad);
    Conversation { session: format!("demo-{day}-{number:02}"), user, plan, is_new, turns, remarks }
}

fn turn(
    random: &mut Random,
    (start, place): (u64, usize),
    (is_new, is_bad): (bool, bool),
    has_markup: bool,
) -> Turn {
    let topic = random.pick(TOPICS);
    let right = match (is_new, is_bad) {
        (true, false) => 93,
        (false, false) => 68,
        (true, true) => 50,
        (false, true) => 30,
    };
    let [no_passages, no_model] = if is_bad { [22, 6] } else { [1, if is_new { 1 } else { 2 }] };
    let outcome = match random.between(0, 100) {
        roll if roll < no_passages => AnswerOutcome::NoPassages,
        roll if roll < no_passages + no_model => AnswerOutcome::NoModel,
        _ if random.percent(right) => AnswerOutcome::Right,
        _ => AnswerOutcome::Wrong,
    };
    let slow = if is_bad { 3 } else { 1 };
    let retrieve = match outcome {
        AnswerOutcome::NoPassages => 5 * SECOND,
        _ => slow * random.between(40 * MILLI, 220 * MILLI),
    };
    let most = if is_new { 1_600 } else { 2_700 };
    // Now and then one takes much longer: percentiles show it, averages hide it.
    let tail = if random.percent(4) { random.between(3, 6) } else { 1 };
    let question = match place {
        0 => topic.question.to_owned(),
        _ => format!("{}{}", random.pick(FOLLOW_UPS), topic.question),
    };
    let mut turn = Turn {
        start,
        question,
        topic,
        outcome,
        retrieve,
        rerank: random.between(8 * MILLI, 60 * MILLI),
        model: tail * random.between(450, most) * MILLI,
        tool: random.between(60, 400) * MILLI,
        passages: random.between(3, 13),
        tokens: random.between(20, 340),
        own: Vec::new(),
        remarks: Vec::new(),
    };
    if random.percent(7) {
        // Some questions come from a test set, whose answers are known.
        turn.own.push(KeyValue::new("feedback.ground_truth", topic.right));
    }
    turn.remarks = of_user(random, &turn, has_markup);
    turn.remarks.extend(of_evaluator(random, &turn));
    turn.remarks.sort_by_key(|remark| remark.time);
    turn
}

/// The feedback of the user, including retractions.
fn of_user(random: &mut Random, turn: &Turn, has_markup: bool) -> Vec<Remark> {
    let is_right = turn.outcome == AnswerOutcome::Right;
    let mut time = turn.start + turn.length() + random.between(3 * SECOND, 4 * MINUTE);
    let mut remarks = Vec::new();
    let mut set = Vec::new();
    if has_markup {
        set.push(KeyValue::new("feedback.rating", false));
        set.push(KeyValue::new("feedback.comment", MARKUP));
        return vec![Remark::new(time, set)];
    }
    // Unhappy users give feedback more often.
    if !random.percent(if is_right { 38 } else { 44 }) {
        if turn.answer().is_some() && random.percent(9) {
            set.push(KeyValue::new("feedback.copied", true));
            remarks.push(Remark::new(time, set));
        }
        return remarks;
    }
    let likes = random.percent(if is_right { 93 } else { 12 });
    set.push(KeyValue::new("feedback.rating", likes));
    if random.percent(45) {
        let weights = if likes { [0, 1, 4, 15, 20] } else { [14, 10, 5, 1, 0] };
        let stars = 1 + random.weighted(&weights) as i64;
        set.push(KeyValue::new("feedback.stars", stars));
    }
    if random.percent(38) {
        let texts = if likes { PRAISE } else { COMPLAINTS };
        set.push(KeyValue::new("feedback.comment", *random.pick(texts)));
    }
    if likes && random.percent(30) {
        set.push(KeyValue::new("feedback.copied", true));
    }
    if turn.outcome == AnswerOutcome::Wrong && !likes {
        match random.between(0, 10) {
            0..=2 => set.push(KeyValue::new("feedback.correction", turn.topic.right)),
            3..=4 => {
                set.push(KeyValue::new("feedback.edits.0.value", turn.topic.right));
                set.push(KeyValue::new("feedback.edits.0.seconds", random.between(4, 90) as i64));
                if random.percent(50) {
                    set.push(KeyValue::new("feedback.edits.1.value", "— a friendly customer"));
                    set.push(KeyValue::new("feedback.edits.1.seconds", 3_i64));
                }
            }
            5 => set.push(KeyValue::new("feedback.ground_truth", turn.topic.right)),
            _ => {}
        }
    }
    remarks.push(Remark::new(time, set));
    time += random.between(20 * SECOND, 50 * MINUTE);
    match random.between(0, 100) {
        // A change of mind.
        0..=6 => {
            let set = vec![
                KeyValue::new("feedback.rating", !likes),
                KeyValue::new("feedback.comment", "I have looked again, and changed my mind."),
            ];
            remarks.push(Remark::new(time, set));
        }
        // Taken back.
        7..=9 => {
            let cleared = vec!["feedback.rating"];
            remarks.push(Remark { cleared, ..Remark::new(time, Vec::new()) });
        }
        _ => {}
    }
    remarks
}

/// What a machine thinks of it, some minutes later.
fn of_evaluator(random: &mut Random, turn: &Turn) -> Option<Remark> {
    let answer = turn.answer()?;
    if !random.percent(40) {
        return None;
    }
    let score = match turn.outcome {
        AnswerOutcome::Right => random.between(70, 101),
        _ => random.between(10, 75),
    };
    let bucket = match turn.length() / (SECOND / 2) {
        0..=1 => "under 1 s",
        2..=3 => "1 to 2 s",
        4..=7 => "2 to 4 s",
        _ => "over 4 s",
    };
    let set = vec![
        KeyValue::new("metrics.score", score as f64 / 100.0),
        KeyValue::new("metrics.grounded", score >= 60),
        KeyValue::new("metrics.latency_bucket", bucket),
        KeyValue::new("metrics.words", answer.split_whitespace().count() as i64),
    ];
    let time = turn.start + turn.length() + random.between(MINUTE, 20 * MINUTE);
    Some(Remark { is_by_evaluator: true, ..Remark::new(time, set) })
}

fn of_session(random: &mut Random, end: u64, is_new: bool, is_bad: bool) -> Vec<Remark> {
    if !random.percent(28) {
        return Vec::new();
    }
    let is_solved = random.percent(if is_bad {
        25
    } else if is_new {
        85
    } else {
        65
    });
    let weights = if is_solved { [0, 1, 3, 8, 10] } else { [8, 6, 3, 1, 0] };
    let mut set = vec![
        KeyValue::new("feedback.solved", is_solved),
        KeyValue::new("feedback.stars", 1 + random.weighted(&weights) as i64),
    ];
    if random.percent(40) {
        set.push(KeyValue::new("feedback.comment", *random.pick(OF_SESSIONS)));
    }
    vec![Remark::new(end + random.between(5 * SECOND, 5 * MINUTE), set)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_the_same_whenever_it_is_told_and_ends_at_midnight() {
        for day in 20_000..20_060 {
            let told = of_day(1, day);
            assert_eq!(format!("{told:?}"), format!("{:?}", of_day(1, day)));
            let end = (day + 1) * DAY;
            for conversation in &told.conversations {
                let of_turns = conversation.turns.iter().flat_map(|turn| &turn.remarks);
                assert!(of_turns.chain(&conversation.remarks).all(|remark| remark.time < end));
            }
        }
        assert_ne!(format!("{:?}", of_day(1, 20_000)), format!("{:?}", of_day(2, 20_000)));
    }

    #[test]
    fn any_thirty_days_have_weekends_and_one_bad_day() {
        for first in [20_000, 20_011] {
            let days: Vec<_> = (first..first + DAYS).map(|day| of_day(7, day)).collect();
            let requests: usize = days.iter().map(Day::requests).sum();
            assert!((2_000..5_000).contains(&requests), "{requests}");
            let share = |day: &Day| {
                let turns = day.conversations.iter().flat_map(|conversation| &conversation.turns);
                let failed = turns.filter(|turn| turn.answer().is_none()).count();
                failed as f64 / day.requests() as f64
            };
            let bad = days.iter().filter(|day| share(day) > 0.15).count();
            assert_eq!(bad, 1);
            let calm = days.iter().filter(|day| day.conversations.len() < 30).count();
            assert!((8..=10).contains(&calm), "{calm}");
        }
    }
}
