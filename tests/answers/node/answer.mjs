// The AI SDK: `generateText` with a tool, then `streamText` with what the tool returned. Spans by `experimental_telemetry`.
import { createOpenAI } from "@ai-sdk/openai";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { resourceFromAttributes } from "@opentelemetry/resources";
import { NodeTracerProvider, SimpleSpanProcessor } from "@opentelemetry/sdk-trace-node";
import { generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

const exporter = new OTLPTraceExporter({ url: `${process.env.OTLP_ENDPOINT}/v1/traces` });
const provider = new NodeTracerProvider({
    resource: resourceFromAttributes({ "service.name": "weather" }),
    spanProcessors: [new SimpleSpanProcessor(exporter)],
});
provider.register();

const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: "none" });
const common = {
    model: openai.chat("gpt-4o"),
    system: "Be brief.",
    tools: {
        get_weather: tool({
            description: "The weather of a place",
            inputSchema: z.object({ location: z.string() }),
            execute: async () => "rainy, 14 °C",
        }),
    },
    stopWhen: stepCountIs(3),
    maxRetries: 0,
    experimental_telemetry: { isEnabled: true, functionId: "weather" },
};

await provider.getTracer("weather").startActiveSpan("POST /ask", async (span) => {
    const { text } = await generateText({ ...common, prompt: "Weather in Paris?" });
    console.log(text);
    span.end();
});
await provider.getTracer("weather").startActiveSpan("POST /stream", async (span) => {
    const { textStream } = streamText({ ...common, messages: [{ role: "user", content: "Weather in Paris?" }] });
    for await (const piece of textStream) {
        process.stdout.write(piece);
    }
    span.end();
});
await provider.shutdown();
