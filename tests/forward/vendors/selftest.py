"""The strict servers take what the vendors' own SDKs send, and refuse what they should.

    python selftest.py
"""

import contextlib
import json
import os
import subprocess
import sys
import unittest
import urllib.error
import urllib.request
import uuid

HERE = os.path.dirname(os.path.abspath(__file__))
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "00f067aa0ba902b7"
COME = {"trace_id": TRACE, "span_id": SPAN, "parent_id": None, "session_id": "s-1", "start_ms": 1_700_000_000_123}
ADDRESS = "http://127.0.0.1:{}"


@contextlib.contextmanager
def running(name, *arguments):
    """The address of a server, which ends with the block."""
    command = [sys.executable, os.path.join(HERE, f"{name}_api.py"), *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield ADDRESS.format(process.stdout.readline().strip())
        finally:
            process.terminate()


def call(address, method, path, body=None, headers=None):
    """(status, JSON or text) of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | (headers or {})
    request = urllib.request.Request(address + path, data, headers, method=method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=10) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text


def state(address):
    return call(address, "GET", "/_control/state")[1]


class Vendors(unittest.TestCase):
    maxDiff = None

    def refused(self, address, bodies, send):
        """Each of these bodies is refused, and changes nothing."""
        before = state(address)["records"]
        for body in bodies:
            with self.subTest(body=body):
                status, answer = send(body)
                self.assertTrue(400 <= status < 500 or status == 207, (status, answer))
        self.assertEqual(state(address)["records"], before)

    def test_failures_come_on_demand(self):
        with running("datadog") as address:
            key = {"DD-API-KEY": "the-key"}
            for mode, expected in [("500", 500), ("429", 429), ("404", 404), ("html", 200)]:
                call(address, "POST", "/_control/fail", {"mode": mode, "count": 1, "retry_after": 1})
                self.assertEqual(call(address, "GET", "/api/v1/validate", headers=key)[0], expected)
                self.assertEqual(call(address, "GET", "/api/v1/validate", headers=key), (200, {"valid": True}))
            call(address, "POST", "/_control/fail", {"mode": "close", "count": 1})
            with self.assertRaises(OSError):
                call(address, "GET", "/api/v1/validate", headers=key)
            self.assertEqual(call(address, "GET", "/api/v1/validate")[0], 401)

    def test_langfuse(self):
        from langfuse.api import LangfuseAPI

        with running("langfuse", "--key", "pk:sk") as address:
            sdk = LangfuseAPI(base_url=address, username="pk", password="sk")
            from datetime import datetime, timezone

            from langfuse.api.scores.types.create_score_request import CreateScoreRequest

            time = datetime(2026, 11, 29, tzinfo=timezone.utc)
            score = {"id": "a", "trace_id": TRACE, "observation_id": SPAN, "name": "rating", "timestamp": time}
            send = lambda **more: sdk.scores.create(request=[CreateScoreRequest(**(score | more))])  # noqa: E731
            self.assertEqual(send(value=0, data_type="BOOLEAN").message, "Accepted")
            send(value=1, data_type="BOOLEAN", comment="slow")
            [record] = state(address)["records"]
            self.assertEqual((record["value"], record["comment"], record["target"]), (1, "slow", ["span", TRACE, SPAN]))
            send(value=1, data_type="BOOLEAN", timestamp=datetime(2026, 11, 30, tzinfo=timezone.utc))
            self.assertEqual(len(state(address)["records"]), 2, "another timestamp is another score")
            sdk.scores.delete("a")
            self.assertEqual(state(address)["records"], [])
            good = {"id": "a", "traceId": TRACE, "name": "n", "value": 1, "dataType": "NUMERIC"}
            good |= {"timestamp": "2026-11-29T10:00:00Z"}
            basic = {"Authorization": "Basic cGs6c2s="}
            post = lambda body: call(address, "POST", "/api/public/scores", body, basic)  # noqa: E731
            self.assertEqual(post([good])[0], 202)
            self.refused(address, [
                good, [], [good | {"score": 1}], [good | {"value": True}], [good | {"value": "1"}],
                [good | {"sessionId": "s"}], [good | {"timestamp": "2026-11-29T10:00:00"}], [good | {"timestamp": 5}],
                [good | {"dataType": "TEXT", "value": ""}], [good | {"dataType": "TEXT", "value": "x" * 501}],
                [good | {"dataType": "BOOLEAN", "value": 2}], [good | {"environment": "langfuse-x"}],
            ], post)  # fmt: skip
            self.assertEqual(call(address, "POST", "/api/public/scores", [good])[0], 401)

    def test_langsmith(self):
        from langsmith import Client

        run = str(uuid.UUID(bytes=bytes(8) + bytes.fromhex(SPAN)))
        with running("langsmith") as address:
            call(address, "POST", "/_control/spans", [COME])
            sdk = Client(api_url=address, api_key="the-key", auto_batch_tracing=False, info={"version": "0.1"})
            made = sdk.create_feedback(run, "rating", score=0, comment="slow", stop_after_attempt=1)
            sdk.update_feedback(made.id, score=1, comment=None)
            [record] = state(address)["records"]
            self.assertEqual((record["key"], record["score"], record.get("comment")), ("rating", 1, None))
            self.assertEqual(record["target"], ["span", TRACE, SPAN])
            key = {"x-api-key": "the-key"}
            good = {"id": str(uuid.uuid4()), "run_id": run, "trace_id": None, "key": "k"}
            good |= {"score": 1, "feedback_source": {"type": "api"}}
            post = lambda body: call(address, "POST", "/feedback", body, key)  # noqa: E731
            self.assertEqual(post(good)[0], 200)
            self.assertEqual(post(good)[0], 409)
            new = good | {"id": str(uuid.uuid4())}
            self.assertEqual(post(new | {"run_id": str(uuid.uuid4())})[0], 404)
            self.refused(address, [
                new | {"label": "x"}, new | {"score": "1"}, new | {"score": 0.12345}, new | {"feedback_source": {}},
                new | {"feedback_source": {"type": "api", "x": 1}}, new | {"comment": 5}, new | {"run_id": "x"},
                new | {"trace_id": str(uuid.uuid4())},
            ], post)  # fmt: skip
            patch = lambda body: call(address, "PATCH", f"/feedback/{good['id']}", body, key)  # noqa: E731
            self.refused(address, [{}, {"key": "x"}, {"score": "1"}, {"comment": 1}, {"score": 0.00001}], patch)
            sdk.delete_feedback(made.id)
            self.assertEqual(len(state(address)["records"]), 1)

    def test_datadog(self):
        # The example of "End-User Feedback".
        metric = {"event_kind": "feedback", "span_id": "20245611112024561111"[:19], "ml_app": "weather-bot"}
        metric |= {"timestamp_ms": 1_765_990_800_016, "metric_type": "categorical", "label": "thumbs"}
        metric |= {"categorical_value": "down", "assessment": "fail", "submitter": {"id": "u-17", "type": "user"}}
        body = lambda *metrics: {"data": {"type": "evaluation_metric", "attributes": {"metrics": metrics}}}  # noqa: E731
        with running("datadog") as address:
            key, path = {"DD-API-KEY": "the-key"}, "/api/intake/llm-obs/v2/eval-metric"
            post = lambda body: call(address, "POST", path, body, key)  # noqa: E731
            self.assertEqual(post(body(metric)), (202, {}))
            later = metric | {"categorical_value": "up", "timestamp_ms": metric["timestamp_ms"] + 1}
            post(body(later))
            shown = state(address)
            self.assertEqual([one["categorical_value"] for one in shown["records"]], ["up"])
            self.assertEqual(shown["repeats"], [])
            post(body(later))
            self.assertEqual(len(state(address)["repeats"]), 1)
            without = lambda name: {key: value for key, value in metric.items() if key != name}  # noqa: E731
            self.refused(address, [
                metric, body(), body(metric | {"x": 1}), body(metric | {"trace_id": TRACE}), body(without("span_id")),
                body(metric | {"span_id": SPAN}), body(metric | {"label": "a.b"}), body(metric | {"label": "1st"}),
                body(without("submitter")), body(metric | {"submitter": {"type": "user"}}),
                body(metric | {"metric_type": "score"}), body(metric | {"score_value": 1}),
                body(metric | {"timestamp_ms": "5"}), body(metric | {"assessment": "good"}),
                body(metric | {"metric_type": "boolean"}), body(metric | {"tags": ["x"]}),
            ], post)  # fmt: skip

    def test_opik(self):
        from opik.rest_api.client import OpikApi
        from opik.rest_api.types.feedback_score_batch_item import FeedbackScoreBatchItem
        from opik.rest_api.types.feedback_score_batch_item_thread import FeedbackScoreBatchItemThread
        from opik.rest_api.types.span_filter_public import SpanFilterPublic

        with running("opik", "--project", "chat") as address:
            call(address, "POST", "/_control/spans", [COME])
            sdk = OpikApi(base_url=address, api_key="the-key", workspace_name="default")
            found = b"".join(sdk.spans.search_spans(
                project_name="chat", limit=1, filters=[SpanFilterPublic(field="id", operator="ends_with", value="-")],
            ))  # fmt: skip
            self.assertEqual(found, b"")
            id_ = json.loads(b"".join(sdk.spans.search_spans(project_name="chat")))["id"]
            self.assertEqual(int(id_.replace("-", "")[:12], 16), COME["start_ms"])
            score = {"project_name": "chat", "name": "rating", "value": 0.0, "source": "sdk"}
            sdk.spans.score_batch_of_spans(scores=[FeedbackScoreBatchItem(id=id_, **score)])
            sdk.spans.score_batch_of_spans(scores=[FeedbackScoreBatchItem(id=id_, **(score | {"value": 1.0}))])
            sdk.traces.score_batch_of_threads(scores=[FeedbackScoreBatchItemThread(thread_id="s-1", **score)])
            shown = [(one["target"], one["value"]) for one in state(address)["records"]]
            self.assertEqual(shown, [(["span", TRACE, SPAN], 1), (["session", "s-1"], 0)])
            headers = {"Authorization": "the-key", "Comet-Workspace": "default"}
            put = lambda body: call(address, "PUT", "/v1/private/spans/feedback-scores", body, headers)  # noqa: E731
            good = score | {"id": id_}
            self.refused(address, [
                {}, {"scores": []}, {"scores": [good | {"x": 1}]}, {"scores": [good | {"value": "1"}]},
                {"scores": [good | {"source": "api"}]}, {"scores": [good | {"id": str(uuid.uuid4())}]},
                {"scores": [good | {"value": 1e9}]}, {"scores": [good | {"name": " "}]},
                {"scores": [good | {"project_name": "other"}]}, {"scores": [score]},
            ], put)  # fmt: skip
            sdk.spans.delete_span_feedback_score(id_, name="rating")
            sdk.traces.delete_thread_feedback_scores(project_name="chat", thread_id="s-1", names=["rating"])
            self.assertEqual(state(address)["records"], [])

    def test_honeyhive(self):
        from honeyhive._generated.api_config import APIConfig
        from honeyhive._generated.models import SearchEventsRequest, UpdateEventRequest
        from honeyhive._generated.services import Events_service

        session = str(uuid.uuid4())
        with running("honeyhive") as address:
            call(address, "POST", "/_control/spans", [COME | {"session_id": session}])
            sdk = APIConfig(base_path=address, access_token="the-key")
            filter_ = {"field": "metadata.span_id", "operator": "is", "value": SPAN, "type": "string"}
            request = SearchEventsRequest(filters=[filter_], limit=1)
            [event] = Events_service.searchEvents(sdk, data=request).events
            for feedback in [{"rating": True, "comment": "slow"}, {"rating": False}]:
                Events_service.updateEvent(sdk, event_id=event.event_id, data=UpdateEventRequest(feedback=feedback))
            Events_service.updateEvent(sdk, event_id=session, data=UpdateEventRequest(metrics={"relevance": 0.5}))
            shown = {one["target"][0]: one for one in state(address)["records"]}
            self.assertEqual(shown["span"]["feedback"], {"rating": False, "comment": "slow"}, "an update merges")
            self.assertEqual(shown["session"]["metrics"], {"relevance": 0.5})
            headers = {"Authorization": "Bearer the-key"}
            put = lambda body: call(address, "PUT", f"/v1/events/{event.event_id}", body, headers)  # noqa: E731
            self.refused(address, [{}, {"feedback": 1}, {"rating": 1}, {"feedback": {"a": 1}, "event_id": "x"}], put)
            path = f"/v1/events/{uuid.uuid4()}"
            self.assertEqual(call(address, "PUT", path, {"feedback": {"a": 1}}, headers)[0], 404)
            put({"feedback": {"rating": None, "comment": None}})
            self.assertEqual(len(state(address)["records"]), 1)


if __name__ == "__main__":
    os.environ |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    unittest.main()
