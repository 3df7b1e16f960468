//! Questions, answers and comments of the demo: a bookshop.

/// A question, its answer, and a wrong answer.
#[derive(Debug)]
pub(super) struct Topic {
    pub(super) question: &'static str,
    pub(super) right: &'static str,
    pub(super) wrong: &'static str,
    /// The tool that the answer needs.
    pub(super) tool: Option<&'static str>,
}

const fn topic(question: &'static str, right: &'static str, wrong: &'static str) -> Topic {
    Topic { question, right, wrong, tool: None }
}

const fn by_tool(mut topic: Topic, tool: &'static str) -> Topic {
    topic.tool = Some(tool);
    topic
}

pub(super) const TOPICS: &[Topic] = &[
    topic(
        "How long may I return a book?",
        "You may return a book within 30 days if it is unread. Postage is on us.",
        "You may return a book within 14 days if it is unread. Postage is on you.",
    ),
    by_tool(
        topic(
            "Where is my order 4711?",
            "Order 4711 left our house yesterday and arrives on Thursday.",
            "Order 4711 arrived on Monday and was taken by a neighbour.",
        ),
        "order_status",
    ),
    topic(
        "What is the capital of New York?",
        "The capital of New York is Albany.",
        "The capital of New York is New York City.",
    ),
    by_tool(
        topic(
            "Is \"The Left Hand of Darkness\" in stock?",
            "Yes: three copies in paperback, one in hardcover.",
            "We know of no book of that name.",
        ),
        "stock",
    ),
    topic(
        "Do you send to Norway, and what does it cost?",
        "Yes. It costs 9 euros and takes four to six days; above 60 euros it is free.",
        "We send to the whole European Union. It is free.",
    ),
    by_tool(
        topic(
            "Can you change the address of order 815?",
            "Done: order 815 now goes to your work address.",
            "An order can't be changed once it is paid.",
        ),
        "change_address",
    ),
    topic(
        "Which book of hers should I read first?",
        "Begin with A Wizard of Earthsea: it is short, and the others build on it.",
        "Begin with The Other Wind, the sixth book of the series.",
    ),
    topic(
        "Kann ich mit Rechnung zahlen?",
        "Ja, ab der zweiten Bestellung und bis 200 Euro.",
        "Nein, nur mit Kreditkarte.",
    ),
    topic(
        "¿Tenéis libros en catalán?",
        "Sí, unos cuatrocientos; los encuentras en «Idiomas».",
        "No, solo en español.",
    ),
    topic(
        "ギフト包装はできますか？",
        "はい、無料です。注文の最後に選んでください。",
        "申し訳ありませんが、できません。",
    ),
    topic(
        "Summarise the terms of the loyalty card.",
        "A point for each euro. 100 points are worth 5 euros. Points expire after two years without an \
         order. Gift cards earn none.",
        "A point for each euro. Points never expire.",
    ),
    topic(
        "How do I delete my account?",
        "Under Settings, Privacy, Delete account. It is gone after seven days; until then you can undo it.",
        "Please write a letter to our office.",
    ),
];

/// What a second or third question adds.
pub(super) const FOLLOW_UPS: &[&str] = &[
    "Are you sure? ",
    "And now in one sentence: ",
    "Once more, please: ",
    "Thanks. Another one: ",
];

/// Short and long, in several languages, one from right to left.
pub(super) const PRAISE: &[&str] = &[
    "Great, thanks!",
    "👍",
    "Exactly what I needed.",
    "Genau das habe ich gesucht, danke!",
    "Parfait, merci beaucoup.",
    "とても助かりました。ありがとう！",
    "شكرا، إجابة ممتازة",
    "Faster than the last time, and the address was right at once. I had expected to wait for somebody on \
     the phone, as usual, and was done before the coffee was.",
    "Correct, though I would have liked a link.",
];

/// The one with markup has to stay text wherever it is shown.
pub(super) const COMPLAINTS: &[&str] = &[
    "Wrong.",
    "no",
    "That is not what I asked.",
    "Das stimmt nicht, die Frist ist 30 Tage.",
    "Réponse fausse, et beaucoup trop lente.",
    "No es verdad, lo miré en vuestra página.",
    "答えが古いです。",
    MARKUP,
    "It made up an order that I never placed. I asked three times, each time I got another date, and at the \
     end it told me to ask a neighbour whom I don't have.\n\nIf it does not know, it should say so. I would \
     rather wait a minute for the right answer than get three wrong ones at once, and I have now written \
     to a human being.",
    "Much too slow, \"=1+1\" and all; see 50 % of my other comments, please",
];

pub(super) const MARKUP: &str = "<b>Wrong</b> <img src=x onerror=\"alert('demo')\">\
                                 <script>alert(\"demo\")</script> & still &lt;wrong&gt;";

pub(super) const OF_SESSIONS: &[&str] = &[
    "Solved in the end.",
    "I gave up.",
    "Insgesamt hilfreich, nur etwas langsam.",
    "Two good answers, one bad.",
];

pub(super) const PLANS: &[&str] = &["free", "plus", "business"];
