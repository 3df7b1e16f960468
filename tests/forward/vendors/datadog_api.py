"""Datadog: `POST /api/intake/llm-obs/v2/eval-metric`.

Neither the API client nor the test agent has a model of this request, so the checks are written from the
documentation: "End-User Feedback", "External Evaluations" (labels) and the reference of the Evaluations API. Events are
appended. Of several about one target with one label the one with the latest time is shown, or of one time the last one
that came; nothing can be deleted.
"""

import re

from strict import Refusal, Vendor, members, serve

#: "must start with a letter", "only ASCII alphanumerics or underscores", "must not exceed 200 characters"
LABEL = re.compile("[A-Za-z][A-Za-z0-9_]{0,199}")
TARGETS = {"span_id": "span", "trace_id": "trace", "session_id": "session", "feedback_join_key": "key"}
VALUES = {"score": (int, float), "categorical": str, "boolean": bool, "text": str, "json": (dict, list)}
MOST_METRICS = 1_000


class Datadog(Vendor):
    def __init__(self, options):
        super().__init__(options)
        self.events = []

    def is_authorized(self, headers):
        return headers.get("DD-API-KEY") == self.options.key

    def error(self, status, message):
        return {"errors": [message]}

    def handle(self, method, path, query, body):
        if (method, path) == ("GET", "/api/v1/validate"):
            return 200, {"valid": True}
        if (method, path) != ("POST", "/api/intake/llm-obs/v2/eval-metric") or query:
            raise Refusal(404, "Not found")
        members(body, {"data": dict}, {})
        members(body["data"], {"type": str, "attributes": dict}, {}, "data")
        if body["data"]["type"] != "evaluation_metric":
            raise Refusal(400, "data.type is not evaluation_metric")
        attributes = members(body["data"]["attributes"], {"metrics": list}, {"tags": list}, "attributes")
        if not 1 <= len(attributes["metrics"]) <= MOST_METRICS:
            raise Refusal(400, "metrics has no fit length")
        self.events.extend([self.checked(metric) for metric in attributes["metrics"]])
        return 202, {}

    def checked(self, metric):
        values = {f"{kind}_value": shape for kind, shape in VALUES.items()}
        required = {"event_kind": str, "ml_app": str, "timestamp_ms": int, "metric_type": str, "label": str}
        required |= {"submitter": dict}
        optional = dict.fromkeys(TARGETS, str) | values
        optional |= {"eval_scope": str, "assessment": str, "reasoning": str, "tags": list, "metadata": dict}
        members(metric, required, optional, "metric")
        submitter = members(metric["submitter"], {"id": str}, {"type": str, "name": str}, "submitter")
        if not submitter["id"] or submitter.get("type", "user") not in ("user", "agent"):
            raise Refusal(400, "submitter is not fit")
        if metric["event_kind"] != "feedback" or not metric["ml_app"]:
            raise Refusal(400, "event_kind or ml_app is not fit")
        targets = [name for name in TARGETS if name in metric]
        if len(targets) != 1:
            raise Refusal(400, f"exactly one target is needed, not {targets}")
        if metric["metric_type"] not in VALUES:
            raise Refusal(400, "there is no such metric_type")
        if [name for name in values if name in metric] != [f"{metric['metric_type']}_value"]:
            raise Refusal(400, "the value is not of the metric_type")
        if not LABEL.fullmatch(metric["label"]):
            raise Refusal(400, "label is not fit")
        if metric.get("assessment", "pass") not in ("pass", "fail"):
            raise Refusal(400, "assessment is neither pass nor fail")
        if not all(isinstance(tag, str) and re.fullmatch("[^:]+:.+", tag) for tag in metric.get("tags", [])):
            raise Refusal(400, "a tag is no `key:value`")
        name, id_ = targets[0], metric[targets[0]]
        if name == "span_id" and not (re.fullmatch("[1-9][0-9]*", id_) and int(id_) < 1 << 64):
            raise Refusal(400, "span_id is not decimal")
        if name == "trace_id" and not re.fullmatch("[0-9a-f]{32}", id_):
            raise Refusal(400, "trace_id is not hexadecimal")
        return metric | {"target": [TARGETS[name], f"{int(id_):016x}" if name == "span_id" else id_]}

    def records(self):
        shown = {}
        for event in sorted(self.events, key=lambda event: event["timestamp_ms"]):
            shown[*event["target"], event["label"]] = event
        return list(shown.values())

    def repeats(self):
        return [event for at, event in enumerate(self.events) if event in self.events[:at]]


if __name__ == "__main__":
    serve(Datadog)
