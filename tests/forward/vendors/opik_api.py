"""Opik: `PUT /v1/private/{spans,traces,traces/threads}/feedback-scores`, the deletions, and the searches by id.

Scores are validated by `FeedbackScoreBatchItem` and its sibling of threads; the bodies of searches and deletions have no
model: their members are the parameters of `SpansClient.search_spans`, `TracesClient.delete_thread_feedback_scores` and
their like, and a filter is a `SpanFilterPublic`.

The id of a span is no OpenTelemetry id. Opik makes a UUID of version 7 of it: 48 bits of the start of the trace in
milliseconds, as Opik came to know it, then the first 80 bits of the SHA-256 of the id, less version and variant
(`OpenTelemetryMapper.convertOtelIdToUUIDv7` of the backend).
"""

import hashlib
import json
import re
import typing
import uuid

from opik.rest_api.types.delete_feedback_score import DeleteFeedbackScore
from opik.rest_api.types.feedback_score_batch_item import FeedbackScoreBatchItem
from opik.rest_api.types.feedback_score_batch_item_source import FeedbackScoreBatchItemSource
from opik.rest_api.types.feedback_score_batch_item_thread import FeedbackScoreBatchItemThread
from opik.rest_api.types.span_filter_public import SpanFilterPublic
from strict import Refusal, Vendor, members, serve, validate

SOURCES = typing.get_args(typing.get_args(FeedbackScoreBatchItemSource)[0])
#: `FeedbackScoreBatch` of the backend.
MOST_SCORES = 1_000
#: `ValidationUtils.MIN_FEEDBACK_SCORE_VALUE` and its like of the backend: 9 digits and 9 decimals.
TOO_LARGE = 1e9


def opik_id(otel_id, milliseconds):
    bytes_ = bytearray(milliseconds.to_bytes(6, "big") + hashlib.sha256(bytes.fromhex(otel_id)).digest()[:10])
    bytes_[6] = bytes_[6] & 0x0F | 0x70
    bytes_[8] = bytes_[8] & 0x3F | 0x80
    return str(uuid.UUID(bytes=bytes(bytes_)))


class Opik(Vendor):
    arguments = {"project": "Default Project", "workspace": "default"}

    def __init__(self, options):
        super().__init__(options)
        #: The time of a trace, as the first span of it tells.
        self.starts, self.scores = {}, {"spans": {}, "traces": {}, "threads": {}}

    def is_authorized(self, headers):
        # Not `Bearer`: `opik.httpx_client` sends the bare key.
        return headers.get("Authorization") == self.options.key and (
            headers.get("Comet-Workspace") == self.options.workspace
        )

    def error(self, status, message):
        return {"code": status, "message": message}

    def add(self, span):
        super().add(span)
        self.starts.setdefault(span["trace_id"], span["start_ms"])

    def ids(self, kind):
        """The ids of Opik: what they are of."""
        if kind == "threads":
            return {session: ["session", session] for session in self.sessions()}
        if kind == "traces":
            return {opik_id(trace, start): ["trace", trace] for trace, start in self.starts.items()}
        return {
            opik_id(span["span_id"], self.starts[span["trace_id"]]): ["span", span["trace_id"], span["span_id"]]
            for span in self.spans.values()
        }

    def handle(self, method, path, query, body):
        if query:
            raise Refusal(400, "no parameters are taken")
        path = path.removeprefix("/v1/private/")
        if (method, path) == ("GET", "projects"):
            return 200, {"page": 1, "size": 0, "total": 0, "content": []}
        found = re.fullmatch("(spans|traces)/search", path)
        if method == "POST" and found:
            return 200, self.search(found[1], body)
        found = re.fullmatch("(spans|traces|traces/threads)/feedback-scores", path)
        if method == "PUT" and found:
            return self.put(found[1].removeprefix("traces/"), body)
        found = re.fullmatch("(spans|traces)/([^/]+)/feedback-scores/delete", path)
        if method == "POST" and found and found[2] != "threads":
            return self.delete(found[1], self.checked_id(found[2]), [validate(DeleteFeedbackScore, body).name])
        if (method, path) == ("POST", "traces/threads/feedback-scores/delete"):
            required = {"project_name": str, "thread_id": str, "names": list}
            members(body, required, {"author": str, "source_queue_id": str})
            self.check_project(body["project_name"])
            return self.delete("threads", body["thread_id"], body["names"])
        raise Refusal(404, "HTTP 404 Not Found")

    def search(self, kind, body):
        shape = {"project_name": str}
        optional = {"project_id": str, "filters": list, "limit": int, "last_retrieved_id": str, "truncate": bool}
        optional |= {"exclude": list, "from_time": str, "to_time": str}
        if kind == "spans":
            optional |= {"trace_id": str, "type": str}
        members(body, shape, optional)
        self.check_project(body["project_name"])
        found = list(self.ids(kind))
        for one in body.get("filters", []):
            filter_ = validate(SpanFilterPublic, one, "filter")
            if (filter_.field, filter_.operator, filter_.key) != ("id", "ends_with", None) or not filter_.value:
                raise Refusal(400, "Invalid filters query parameter")
            found = [id_ for id_ in found if id_.endswith(filter_.value)]
        lines = [{"id": id_, "project_id": str(uuid.UUID(int=1)), "name": "answer"} for id_ in found]
        return "".join(json.dumps(line) + "\n" for line in lines[: body.get("limit", 500)])

    def put(self, kind, body):
        members(body, {"scores": list}, {})
        if not 1 <= len(body["scores"]) <= MOST_SCORES:
            raise Refusal(422, "scores size must be between 1 and 1000")
        model = FeedbackScoreBatchItemThread if kind == "threads" else FeedbackScoreBatchItem
        scores, ids = [], self.ids(kind)
        for one in body["scores"]:
            score = validate(model, one, "score")
            if score.source not in SOURCES or not score.name.strip() or score.project_id:
                raise Refusal(422, "source, name or project is not fit")
            if abs(score.value) >= TOO_LARGE:
                raise Refusal(422, "value must be less than or equal to 999999999.999999999")
            self.check_project(score.project_name)
            id_ = score.thread_id if kind == "threads" else self.checked_id(score.id)
            if id_ not in ids:
                # Opik stores it, for a span that may come; an id that is looked up is never of another one.
                raise Refusal(409, f"nothing has the id {id_}")
            scores.append(((id_, score.name, score.author), one | {"target": ids[id_]}))
        self.scores[kind].update(scores)
        return 204, None

    def delete(self, kind, id_, names):
        for key in [key for key in self.scores[kind] if key[0] == id_ and key[1] in names]:
            del self.scores[kind][key]
        return 204, None

    def checked_id(self, text):
        try:
            id_ = uuid.UUID(text)
        except ValueError as error:
            raise Refusal(400, "the id is no UUID") from error
        if id_.version != 7:
            raise Refusal(400, "id must be a version 7 UUID")
        return str(id_)

    def check_project(self, name):
        if name != self.options.project:
            raise Refusal(409, "project name and workspace name do not match the existing one")

    def records(self):
        return [score for scores in self.scores.values() for score in scores.values()]


if __name__ == "__main__":
    serve(Opik)
