"""HoneyHive: `PUT /v1/events/{event_id}` and `POST /v1/events/search`.

Requests are validated by `UpdateEventRequest` and `SearchEventsRequest` of the SDK, operators by the list of the
TypeScript SDK's documentation. An update merges: members that it lacks stay, and there is none that deletes; null
is kept as null. Events of OTLP spans have ids of HoneyHive's own, with the OpenTelemetry ids in the metadata. A
session is an event whose id is the session's, always a UUID: another id is replaced when the span comes.
"""

import re
import uuid

from honeyhive._generated.models.SearchEventsRequest import SearchEventsRequest
from honeyhive._generated.models.UpdateEventRequest import UpdateEventRequest
from strict import Refusal, Vendor, serve, validate

OPERATORS = "exists,not exists,is,is not,contains,not contains,greater than,less than,after,before".split(",")
BUCKETS = ("feedback", "metrics", "metadata", "user_properties")


class HoneyHive(Vendor):
    def __init__(self, options):
        super().__init__(options)
        self.events = {}

    def is_authorized(self, headers):
        return headers.get("Authorization") == f"Bearer {self.options.key}"

    def add(self, span):
        super().add(span)
        try:
            session = str(uuid.UUID(span.get("session_id") or ""))
        except ValueError:
            session = str(uuid.uuid4())
        of_session = {"event_type": "session", "target": ["session", span.get("session_id")]}
        self.events.setdefault(session, {"event_id": session, "session_id": session, "metadata": {}} | of_session)
        of_trace = [event for event in self.events.values() if event["metadata"].get("trace_id") == span["trace_id"]]
        known = next((event for event in of_trace if event["metadata"]["span_id"] == span["span_id"]), None)
        if known:
            return
        parent = next((e["event_id"] for e in of_trace if e["metadata"]["span_id"] == span.get("parent_id")), session)
        event = {"event_id": str(uuid.uuid4()), "session_id": session, "parent_id": parent, "event_type": "chain"}
        event |= {"start_time": span["start_ms"], "metadata": {name: span[name] for name in ("trace_id", "span_id")}}
        event |= {"target": ["span", span["trace_id"], span["span_id"]]}
        self.events[event["event_id"]] = event

    def handle(self, method, path, query, body):
        if query:
            raise Refusal(400, "no parameters are taken")
        if (method, path) == ("POST", "/v1/events/search"):
            return 200, self.search(validate(SearchEventsRequest, body))
        found = re.fullmatch("/v1/events/([^/]+)", path)
        if method == "PUT" and found:
            validate(UpdateEventRequest, body)
            event = self.events.get(found[1])
            if not event:
                raise Refusal(404, "Event not found")
            if not body or not set(body) <= set(BUCKETS):
                raise Refusal(400, "only feedback and its like is tried")
            for bucket, values in body.items():
                event[bucket] = event.get(bucket, {}) | values
            return 200, {}
        raise Refusal(404, "Not found")

    def search(self, request):
        found = list(self.events.values())
        for filter_ in request.filters or []:
            if filter_.operator not in OPERATORS or filter_.type not in ("string", "number", "boolean", "datetime"):
                raise Refusal(400, "operator or type of a filter is not fit")
            if filter_.operator != "is" or filter_.type != "string":
                raise Refusal(400, "only `is` of strings is tried")
            found = [event for event in found if self.value(event, filter_.field) == filter_.value]
        found.sort(key=lambda event: -event.get("start_time", 0))
        limit = request.limit or 1_000
        if not 1 <= limit <= 7_500:
            raise Refusal(400, "limit is not fit")
        events = [{name: value for name, value in event.items() if name != "target"} for event in found]
        return {"events": events[:limit], "count": len(found)}

    def value(self, event, field):
        for part in field.split("."):
            event = event.get(part) if isinstance(event, dict) else None
        return event

    def records(self):
        shown = []
        for event in self.events.values():
            buckets = {bucket: event.get(bucket, {}) for bucket in ("feedback", "metrics")}
            set_ = {b: {n: v for n, v in values.items() if v is not None} for b, values in buckets.items()}
            if any(set_.values()):
                shown.append({"target": event["target"]} | set_)
        return shown


if __name__ == "__main__":
    serve(HoneyHive)
