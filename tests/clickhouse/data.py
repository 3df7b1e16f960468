"""Random answers of several services and what was said of them, as OTLP JSON lines.

`make(seed, traces)` gives two lists of lines: what there is at first, and what comes later and changes it.
What is made on purpose: trees of spans, sessions, several services and versions; carriers that come late,
in a trace of their own or as children of their target, and some before it; carriers with a forged, a second
or no link; changes of mind, retractions of a
leaf, of a branch and of all; arrays that get shorter; a scalar where there was a branch and the other way
(`feedback.step`, `feedback.step.retry`); feedback about a trace and about a session; feedback whose target
never comes, and such that does not say what it is about; keys with HoneyHive's prefix; traces whose root
never came; spans that were sent twice. All of it is shuffled.

No two spans begin at the same time and no two documents were given at the same time, so that the order of
every list is certain. Every field has values of one type, since the type has to come back from text
where attributes are a map of texts; but for `feedback.mixed`, of which a few in a thousand are words.

Numbers have few digits, because a double that comes as OTLP JSON may lose its last bit in the desk. Arrays
of a resource have nothing that Go escapes, for their text is what one groups by.

A trace as a whole speaks of fields of its own. If it had a value of the same field as its root span, whose time
is the same, nothing would say which of them is the group of the other spans in a chart by that field.
"""

import json
import random

BEGIN = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
SECOND = 1_000_000_000
DAY = 86_400 * SECOND
DAYS = 12

SERVICES = [("chat", "1.0.0"), ("chat", "1.1.0"), ("search", "2.3.0"), ("évaluation", "0.9")]
ROUTES = ["/ask", "/ask/again", "/search", "/admin"]
NAMES = ["answer", "Answer again", "search", "embed"]
COMMENTS = [
    "Slow, but right",
    "The model hallucinated the capital of New York",
    "very SLOW",
    "ungenau, aber schön: ÄÖÜ ß",
    "<script>alert('x')</script> & \"quotes\"",
    "two\nlines\tand a tab, a \\ backslash",
    "=SUM(A1:A9)",
    "日本語のコメント",
]
TRUTHS = ["Albany", "42", "The capital of New York is Albany", "true", "007", "3.5"]


class Data:
    def __init__(self, seed):
        self.chance = random.Random(seed)
        # Attributes of answers have a source of their own, and change nothing else.
        self.answers = random.Random(seed)
        self.used = set()
        self.moments = set()
        self.mixed = 0

    def id(self, digits):
        while (made := self.chance.getrandbits(4 * digits)) in self.used or not made:
            pass
        self.used.add(made)
        return f"{made:0{digits}x}"

    def moment(self, first, last):
        """A time that nothing else has, microseconds apart, for that is what the API shows."""
        while (made := self.chance.randrange(first, last) // 1000 * 1000) in self.moments:
            pass
        self.moments.add(made)
        return made

    def some(self, share):
        return self.chance.random() < share

    def said(self):
        """What may be said in one go."""
        chance, said = self.chance, {}
        prefix = "honeyhive_feedback." if self.some(0.03) else "feedback."
        if self.some(0.8):
            said[prefix + "rating"] = self.some(0.6)
        if self.some(0.6):
            said[prefix + "stars"] = chance.randrange(1, 6)
        if self.some(0.4):
            said[prefix + "seconds"] = round(chance.uniform(-3, 900), 3)
        if self.some(0.4):
            said[prefix + "comment"] = chance.choice(COMMENTS) + f" ({chance.randrange(40)})"
        if self.some(0.2):
            said[prefix + "ground_truth"] = chance.choice(TRUTHS)
        if self.some(0.3):
            if self.some(0.5):
                said[prefix + "step"] = chance.choice(["first", "second"])
            else:
                said |= {prefix + "step.retry": self.some(0.5), prefix + "step.number": chance.randrange(9)}
        if self.some(0.3):
            for at in range(chance.randrange(1, 4)):
                said[f"{prefix}edits.{at}.value"] = chance.choice(["New York", "Albany", "Boston"])
                said[f"{prefix}edits.{at}.length"] = chance.randrange(100)
        if self.some(0.1):
            said[prefix + "big"] = str(10**19 + chance.randrange(5))
        if self.some(0.7):
            self.mixed += 1
            said[prefix + "mixed"] = "n/a" if self.mixed % 250 == 60 else chance.randrange(20)
        if self.some(0.3):
            said["metrics.score"] = chance.choice([0.0, 0.25, 0.5, 1.0])
        if self.some(0.2):
            said["metadata.plan"] = chance.choice(["free", "pro", "team"])
        if self.some(0.15):
            said["user_properties.user_id"] = f"user-{chance.randrange(12)}"
        return said

    def of_trace(self):
        """The same about a trace as a whole."""
        said = {"feedback.overall": self.chance.randrange(1, 11)}
        if self.some(0.5):
            said["feedback.summary"] = self.chance.choice(COMMENTS)
        return said

    def changed(self):
        """A later word on the same: what it removes, and what it sets."""
        fate, said = self.chance.random(), self.said()
        if fate < 0.15:
            return ["feedback", "metrics"], {}
        if fate < 0.25:
            return ["feedback.rating"], {}
        if fate < 0.35:
            return ["feedback.edits"], {"feedback.edits.0.value": "Albany"}
        if fate < 0.4:
            return "feedback.step", {}
        if fate < 0.45:
            return ["feedback.step"], {"feedback.step.retry": True}
        return [], said

    def feedback(self, target, begin, end, session=None, scope=None):
        """A carrier: a span that only brings feedback about another."""
        given = self.moment(begin, end)
        cleared, said = self.changed()
        if scope == "trace":
            cleared, said = self.chance.choice([["feedback.summary"], []]), self.of_trace()
        attributes = {"tracing_feedback.late": True} | said
        if self.some(0.9):
            attributes["tracing_feedback.time_unix_nano"] = given
        if cleared:
            attributes["tracing_feedback.cleared"] = cleared
        if session:
            attributes["session.id"] = session
        if scope:
            attributes["tracing_feedback.scope"] = scope
        # What has a time of its own may have left later.
        start = given if self.some(0.7) else self.moment(given + 1, given + DAY)
        if "tracing_feedback.time_unix_nano" not in attributes:
            start = given
        is_apart = target is None or self.some(0.7)
        trace = self.id(32) if is_apart else target[0]
        span = self.span("feedback", trace, None if is_apart else target[1], start, int(is_apart), attributes)
        if target:
            span["links"] = [{"traceId": target[0], "spanId": target[1]}]
        return self.line(("web", "5.0"), [span])

    def forged(self, target, other, begin, end):
        """Carriers with links that no layer makes."""
        link = {"traceId": target[0], "spanId": target[1]}
        second = {"traceId": other[0], "spanId": other[1]}
        empty = {"attributes": [pair("why", "none")]}
        for scope in [None, "trace"]:
            for links in [[link, second], [link, link], [], [empty], [{**link, "spanId": ""}]]:
                for parent in [None, target[1]]:
                    given = self.moment(begin, end)
                    attributes = {
                        "tracing_feedback.late": True,
                        "tracing_feedback.time_unix_nano": given,
                        "feedback.forged": True,
                    }
                    if scope:
                        attributes["tracing_feedback.scope"] = scope
                    trace = target[0] if parent else self.id(32)
                    span = self.span("feedback", trace, parent, given, 1, attributes, links=links)
                    yield self.line(("web", "5.0"), [span])
        # About another trace than the one it is in, and about itself.
        for of, to in [(target, other), (other, None)]:
            given = self.moment(begin, end)
            attributes = {
                "tracing_feedback.late": True,
                "tracing_feedback.time_unix_nano": given,
                "feedback.astray": True,
            }
            span = self.span("feedback", *of, given, 1, attributes)
            to = to or (span["traceId"], span["spanId"])
            span["links"] = [{"traceId": to[0], "spanId": to[1]}]
            yield self.line(("web", "5.0"), [span])

    def span(self, name, trace, parent, start, duration, attributes, **more):
        made = {
            "traceId": trace,
            "spanId": self.id(16),
            "name": name,
            "kind": self.chance.randrange(1, 6),
            "startTimeUnixNano": str(start),
            "endTimeUnixNano": str(start + duration),
            "attributes": [pair(key, value) for key, value in attributes.items()],
        }
        if parent:
            made["parentSpanId"] = parent
        return made | more

    def line(self, service, spans):
        resource = {
            "service.name": service[0],
            "service.version": service[1],
            "deployment.environment.name": "prod" if service[0] == "chat" else "staging",
        }
        if service[0] == "chat":
            resource |= {"process.pid": 4711, "host.tags": ["a", "b"]}
        scope = {"name": "random", "version": "1"}
        group = {
            "resource": {"attributes": [pair(key, value) for key, value in resource.items()]},
            "scopeSpans": [{"scope": scope, "spans": spans}],
        }
        return json.dumps({"resourceSpans": [group]}, ensure_ascii=False)

    def answer(self):
        """What a model was asked and answered, by one of the conventions."""
        chance = self.answers
        question, text = chance.choice(["Why?", "42", '{"a": 1}', "[no JSON", "ü"]), chance.choice(["Because.", "true", "7.50"])
        messages = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": question},
            {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "look", "arguments": '{"at":[1,2]}'}}]},
            {"role": "tool", "tool_call_id": "c", "content": "seen"},
        ]
        parts = [{"role": "user", "parts": [{"type": "text", "content": question}]}]
        tokens = chance.randrange(500)
        return chance.choice([
            {
                "gen_ai.input.messages": json.dumps(parts), "gen_ai.output.messages": json.dumps(messages[2:3]),
                "gen_ai.request.model": "small", "gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": 3,
                "gen_ai.system_instructions": json.dumps([{"type": "text", "content": "Be brief."}]),
            },
            {
                "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": question, "gen_ai.completion.0.content": text,
                "gen_ai.prompt.10.content": "ten", "gen_ai.prompt.9.content": "nine", "gen_ai.response.model": "large",
                "gen_ai.usage.prompt_tokens": tokens, "llm.usage.total_tokens": tokens + 9,
            },
            {
                "llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": question,
                "llm.output_messages.0.message.contents.0.message_content.type": "text",
                "llm.output_messages.0.message.contents.0.message_content.text": text, "llm.model_name": "large",
                "llm.token_count.prompt": tokens, "llm.token_count.completion": 1, "input.value": "not this",
            },
            {"ai.prompt.messages": json.dumps(messages), "ai.response.text": text, "ai.usage.inputTokens": tokens},
            {
                "langfuse.observation.input": json.dumps(messages), "langfuse.observation.output": text,
                "langfuse.observation.usage_details": json.dumps({"prompt_tokens": tokens, "output": 2, "total": -1}),
            },
            {"gen_ai.request.model": "", "ai.model.id": "small", "gen_ai.usage.input_tokens": "12x", "ai.usage.inputTokens": tokens},
            {"input.value": question, "output.value": text},
            {"gen_ai.tool.name": "look", "gen_ai.tool.call.arguments": '{"at": 1}', "gen_ai.tool.call.result": text},
            {"gen_ai.agent.name": "guide", "gen_ai.request.model": "small"},
        ])  # fmt: skip

    def trace(self, session):
        """A tree of spans, and a line for each service in it; gives the lines and the targets."""
        chance = self.chance
        trace, service = self.id(32), chance.choice(SERVICES)
        begin = self.moment(BEGIN, BEGIN + DAYS * DAY)
        spans, others, open_spans = [], [], []
        for number in range(chance.randrange(1, 7)):
            start = begin if number == 0 else self.moment(begin + 1000, begin + SECOND)
            parent = chance.choice(open_spans) if open_spans else None
            attributes = {}
            if session:
                attributes["session.id"] = session
            if self.answers.random() < 0.1:
                attributes |= self.answers.choice([
                    {"gen_ai.conversation.id": "s-1", "langfuse.session.id": "s-2"}, {"langfuse.session.id": "7"},
                    {"session.id": "", "gen_ai.conversation.id": "c-1"}, {"gen_ai.conversation.id": 12},
                ])  # fmt: skip
            if self.some(0.7):
                attributes |= {
                    "http.route": chance.choice(ROUTES),
                    "http.status_code": chance.choice([200, 404, 500]),
                    "llm.temperature": chance.choice([0.0, 0.7]),
                    "llm.stop": ["\n", "<end>"],
                    "is_cached": self.some(0.5),
                }
            if self.some(0.5):
                attributes |= {
                    "inputs.question": f"What is the capital of {chance.choice(['New York', 'Texas'])}?",
                    "outputs.answer": chance.choice(["Albany", "Austin", "Houston"]),
                }
            if self.some(0.4):
                attributes |= self.said()
            if self.answers.random() < 0.4:
                attributes |= self.answer()
            more = {}
            if self.some(0.2):
                more["status"] = {"code": 2, "message": "it failed"}
            elif self.some(0.2):
                more["status"] = {"code": 1}
            if self.some(0.3):
                event = {"name": "token", "timeUnixNano": str(start + 500)}
                event["attributes"] = [pair("number", chance.randrange(9)), pair("text", "x\ny")]
                more["events"] = [event] * chance.randrange(1, 3)
            if self.some(0.1):
                more["links"] = [{"traceId": self.id(32), "spanId": self.id(16)}]
            duration = chance.randrange(1, 4_000_000) * 1000
            name = chance.choice(NAMES[:2] if number == 0 else NAMES)
            made = self.span(name, trace, parent, start, duration, attributes, **more)
            open_spans.append(made["spanId"])
            (others if number and self.some(0.2) else spans).append(made)
        if len(spans) > 1 and self.some(0.05):
            lost = spans.pop(0)  # the root never came
            open_spans.remove(lost["spanId"])
        lines = [self.line(service, spans)]
        if others:
            lines.append(self.line(SERVICES[2], others))
        return lines, [(trace, span) for span in open_spans], begin

    def scoped(self, target, begin, end, scope, session=None):
        """Feedback about a trace or session as a whole that a span of it brought."""
        given = self.moment(begin, end)
        attributes = (self.of_trace() if scope == "trace" else self.said()) | {
            "tracing_feedback.scope": scope,
            "tracing_feedback.time_unix_nano": given,
        }
        if session:
            attributes["session.id"] = session
        return self.line(("chat", "1.1.0"), [self.span("say", *target, given, 1000, attributes)])


def pair(key, value):
    return {"key": key, "value": otlp(value)}


def otlp(value):
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [otlp(item) for item in value]}}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [pair(key, item) for key, item in value.items()]}}
    return {"stringValue": value}


def make(seed=7, traces=400):
    data = Data(seed)
    chance = data.chance
    lines, later = [], []
    sessions = [f"s-{number}" for number in range(traces // 8)]
    ends = BEGIN + (DAYS + 2) * DAY
    for _ in range(traces):
        session = chance.choice(sessions) if data.some(0.6) else None
        made, targets, begin = data.trace(session)
        lines += made
        for target in targets:
            for _ in range(chance.choice([0, 0, 0, 1, 1, 2, 4]) if data.some(0.5) else 0):
                lines.append(data.feedback(target, begin, ends, session))
            if data.some(0.1):
                later.append(data.feedback(target, begin, ends, session))
        if data.some(0.1):
            lines.append(data.scoped(targets[0], begin, begin + SECOND, "trace"))
            if data.some(0.5):
                lines.append(data.feedback(targets[0], begin, ends, scope="trace"))
        if session and data.some(0.15):
            lines.append(data.scoped(targets[0], begin, begin + SECOND, "session", session))
    for session in chance.sample(sessions, len(sessions) // 2):
        (lines if data.some(0.7) else later).append(data.feedback(None, BEGIN, ends, session, "session"))
    for _ in range(9):
        never = (data.id(32), data.id(16))
        lines.append(data.feedback(never, BEGIN, ends))  # its target never comes
        lines.append(data.feedback(None, BEGIN, ends))  # it doesn't say what it is about
        lines.append(data.feedback(None, BEGIN, ends, scope="session"))  # nor of which session
    # Targets that come after what was said about them.
    last = None
    for _ in range(5):
        made, targets, begin = data.trace(None)
        later += made
        lines.append(data.feedback(targets[0], begin, ends))
        if last:
            lines += data.forged(targets[0], last, begin, ends)
        last = targets[0]
    lines += chance.sample(lines, len(lines) // 10)  # sent twice
    later += chance.sample(lines, len(lines) // 20)
    chance.shuffle(lines)
    chance.shuffle(later)
    return lines, later


def one_vote_more(lines):
    """A line with a vote that is not among them."""
    data = Data(len(lines))
    for line in lines:
        for group in json.loads(line)["resourceSpans"]:
            for span in group["scopeSpans"][0]["spans"]:
                if span["name"] != "feedback":
                    given = int(span["endTimeUnixNano"]) + DAY
                    attributes = {
                        "tracing_feedback.late": True,
                        "tracing_feedback.time_unix_nano": given,
                        "feedback.vote": True,
                    }
                    target = (span["traceId"], span["spanId"])
                    made = data.span("feedback", data.id(32), None, given, 1, attributes)
                    made["links"] = [{"traceId": target[0], "spanId": target[1]}]
                    return data.line(("web", "5.0"), [made])
    raise ValueError("there is no span to vote on")
