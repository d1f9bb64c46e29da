// OpenAI's Node client against a server: prints what a test compares. Arguments: the folder of node_modules, the URL.
import { createRequire } from "node:module";
const [modules, baseURL] = process.argv.slice(2);
const { default: OpenAI } = await import(createRequire(`${modules}/`).resolve("openai"));
const client = new OpenAI({ baseURL, apiKey: "none", maxRetries: 0 });
const ask = { model: "one", messages: [{ role: "user", content: "Apa?" }], max_tokens: 16, seed: 1 };
const whole = await client.chat.completions.create(ask);
let text = "", usage = null, reason = null;
const stream = await client.chat.completions.create({ ...ask, stream: true, stream_options: { include_usage: true } });
for await (const piece of stream) {
  text += piece.choices[0]?.delta?.content ?? "";
  reason = piece.choices[0]?.finish_reason ?? reason;
  usage = piece.usage ?? usage;
}
let refused = null;
try {
  await client.chat.completions.create({ ...ask, temperature: 9 });
} catch (error) {
  refused = [error.status, error.param];
}
const stop = whole.choices[0].message.content.slice(3, 6);
const cut = (await client.chat.completions.create({ ...ask, stop })).choices[0];
const choice = whole.choices[0];
console.log(JSON.stringify({
  same: choice.message.content === text && choice.finish_reason === reason,
  usage: [whole.usage.completion_tokens, usage.completion_tokens],
  refused,
  cut: [cut.message.content + stop === choice.message.content.slice(0, cut.message.content.length + stop.length), cut.finish_reason],
}));
