// Canvases as the server sends them. A refusal is an Error whose message can be shown.
async function* denoise(ask, key, signal) {
  const headers = { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  let response;
  try {
    response = await fetch("v1/denoise", { method: "POST", headers, body: JSON.stringify(ask), signal });
  } catch (error) {
    if (signal.aborted) return;
    throw new Error(words.gone);
  }
  if (!response.ok) throw new Error(await refusal(response));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  while (true) {
    let read;
    try {
      read = await reader.read();
    } catch (error) {
      if (signal.aborted) return;
      throw new Error(words.gone);
    }
    if (read.done) throw new Error(words.gone); // the end is told
    const events = (text + read.value).split("\n\n");
    text = events.pop();
    for (const event of events) {
      const data = event.slice("data: ".length);
      if (data === "[DONE]") return;
      const value = JSON.parse(data);
      if (value.error) throw new Error(fill(words.wrong, value.error));
      yield value;
    }
  }
}

async function refusal(response) {
  if (response.status === 401) return words.no_key;
  if (response.status === 429) return fill(words.full, { seconds: response.headers.get("Retry-After") });
  const body = await response.json().catch(() => ({}));
  return fill(words.wrong, { message: body.error?.message ?? response.status });
}
