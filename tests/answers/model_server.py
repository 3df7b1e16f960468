"""An OpenAI server on loopback, of which every answer is known: chat completions and responses, whole and as streams.

The conversation is that of `tests/it/desk/answers`. If the request has tools and no result of one, the model calls
`get_weather`; otherwise it says what the weather is.
"""

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

MODEL = "gpt-4o-2024-08-06"
CREATED = 1_767_225_600
CALL = {"name": "get_weather", "arguments": '{"location":"Paris"}'}
TEXT = "It rains in Paris, at 14 °C."


def start():
    """Serves in threads of its own. Returns the base URL for clients."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    import threading

    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        path = self.path.partition("?")[0]
        is_chat = path.endswith("/chat/completions")
        if not is_chat and not path.endswith("/responses"):
            return self.answer(404, {"error": {"message": f"no {self.path}"}})
        messages = request["messages"] if is_chat else request["input"]
        messages = messages if isinstance(messages, list) else []
        has_result = any(
            message.get("role") == "tool" or message.get("type") == "function_call_output" for message in messages
        )
        calls_tool = bool(request.get("tools")) and not has_result
        if not is_chat:
            answer = response(request, calls_tool)
            return self.stream(response_events(answer), False) if request.get("stream") else self.answer(200, answer)
        if request.get("stream"):
            wants_usage = (request.get("stream_options") or {}).get("include_usage")
            return self.stream(chunks(calls_tool, wants_usage), True)
        self.answer(200, completion(calls_tool))

    def answer(self, status, body):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def stream(self, events, is_chat):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        for event in events:
            name = "" if is_chat else f"event: {event['type']}\n"
            self.wfile.write(f"{name}data: {json.dumps(event)}\n\n".encode())
        if is_chat:
            self.wfile.write(b"data: [DONE]\n\n")
        self.close_connection = True

    def log_message(self, *_):
        pass


def usage(calls_tool):
    prompt, completion = (82, 17) if calls_tool else (97, 12)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def completion(calls_tool):
    message = {"role": "assistant", "content": None if calls_tool else TEXT, "refusal": None}
    if calls_tool:
        message["tool_calls"] = [{"id": "call_1", "type": "function", "function": CALL}]
    reason = "tool_calls" if calls_tool else "stop"
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    return {
        "id": "chatcmpl-1" if calls_tool else "chatcmpl-2",
        "object": "chat.completion",
        "created": CREATED,
        "model": MODEL,
        "choices": [choice],
        "usage": usage(calls_tool),
        "system_fingerprint": "fp_1",
        "service_tier": "default",
    }


def chunks(calls_tool, wants_usage):
    """The same in pieces, as the server of OpenAI cuts them."""

    def chunk(delta, reason=None):
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**head, "choices": [choice], **({"usage": None} if wants_usage else {})}

    head = {
        "id": "chatcmpl-1" if calls_tool else "chatcmpl-2",
        "object": "chat.completion.chunk",
        "created": CREATED,
        "model": MODEL,
        "system_fingerprint": "fp_1",
    }
    if calls_tool:
        call = {"index": 0, "id": "call_1", "type": "function", "function": {**CALL, "arguments": ""}}
        yield chunk({"role": "assistant", "content": None, "tool_calls": [call]})
        for piece in (CALL["arguments"][:8], CALL["arguments"][8:]):
            yield chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
    else:
        yield chunk({"role": "assistant", "content": "", "refusal": None})
        for piece in (TEXT[:9], TEXT[9:]):
            yield chunk({"content": piece})
    yield chunk({}, "tool_calls" if calls_tool else "stop")
    if wants_usage:
        yield {**head, "choices": [], "usage": usage(calls_tool)}


def response(request, calls_tool):
    """An answer of the Responses API."""
    item = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant"}
    item["content"] = [{"type": "output_text", "text": TEXT, "annotations": [], "logprobs": []}]
    if calls_tool:
        item = {"id": "fc_1", "type": "function_call", "status": "completed", "call_id": "call_1", **CALL}
    count = usage(calls_tool)
    return {
        "id": "resp_1" if calls_tool else "resp_2",
        "object": "response",
        "created_at": CREATED,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": request.get("instructions"),
        "metadata": {},
        "model": MODEL,
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": request.get("tools") or [],
        "top_p": 1.0,
        "usage": {
            "input_tokens": count["prompt_tokens"],
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens": count["completion_tokens"],
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": count["total_tokens"],
        },
    }


def response_events(answer):
    created = {**answer, "status": "in_progress", "output": [], "usage": None}
    yield {"type": "response.created", "sequence_number": 0, "response": created}
    yield {"type": "response.completed", "sequence_number": 1, "response": answer}
