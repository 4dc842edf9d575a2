// Requests to the server that this page comes from. There is no other.

import { language } from "/words.js";

export class Refused extends Error {
  constructor(status, error) {
    super(error.text || error.message || String(status));
    Object.assign(this, error, { status });
  }
}

function address(path, more = "") {
  return `/api/${path}?lang=${language()}${more}`;
}

export function part(name) { return encodeURIComponent(name); }

async function answered(answer) {
  let value = {};
  try { value = await answer.json(); } catch { /* a proxy's own error page */ }
  if (answer.ok) return value;
  if (answer.status === 401) window.dispatchEvent(new Event("locked"));
  throw new Refused(answer.status, value.error || { text: `${answer.status} ${answer.statusText}` });
}

export async function get(path) {
  return answered(await fetch(address(path)));
}

export async function post(path, body = {}) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const kind = typeof body === "string" ? "application/yaml" : "application/json";
  const headers = { "X-Ferry": "1", "Content-Type": kind };
  return answered(await fetch(address(path), { method: "POST", headers, body: text }));
}

// Uploads a file; tells how far it is.
export function upload(path, file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", address(path));
    request.setRequestHeader("X-Ferry", "1");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => progress(event.loaded / Math.max(1, event.total));
    request.onload = () => {
      let value = {};
      try { value = JSON.parse(request.responseText); } catch { /* cut off */ }
      if (request.status === 200) resolve(value);
      else reject(new Refused(request.status, value.error || { text: request.statusText }));
    };
    request.onerror = () => reject(new Refused(0, { text: "×" }));
    request.send(file);
  });
}

// Follows a run. A page in the background lets go of its connection, of which a browser has few, and comes back later.
export function follow(name, takes) {
  let source = null;
  let since = "";
  let ended = false;
  function open() {
    if (ended || source || document.hidden) return;
    source = new EventSource(address(`runs/${part(name)}/events`, since ? `&since=${since}` : ""));
    for (const kind of ["log", "said", "state", "again"]) {
      source.addEventListener(kind, (event) => {
        if (event.lastEventId) since = event.lastEventId;
        takes[kind]?.(JSON.parse(event.data));
      });
    }
    source.onopen = () => takes.online?.(true);
    source.onerror = () => {
      takes.online?.(false);
      // A browser gives up where the server answered with an error; it may only have been started anew.
      if (source && source.readyState === EventSource.CLOSED) { shut(); setTimeout(open, 3000); }
    };
  }
  function shut() { source?.close(); source = null; }
  function seen() { if (document.hidden) shut(); else open(); }
  document.addEventListener("visibilitychange", seen);
  open();
  return () => {
    ended = true;
    document.removeEventListener("visibilitychange", seen);
    shut();
  };
}

// Asks the loaded model; `take` gets each piece of the answer.
export async function say(question, take, signal) {
  const headers = { "X-Ferry": "1", "Content-Type": "application/json" };
  const body = JSON.stringify(question);
  const answer = await fetch(address("chat/say"), { method: "POST", headers, body, signal });
  if (!answer.ok) await answered(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let usage = null;
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return usage;
    rest += value;
    let end;
    while ((end = rest.indexOf("\n\n")) >= 0) {
      const line = rest.slice(0, end);
      rest = rest.slice(end + 2);
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      const event = JSON.parse(line.slice(6));
      if (event.error) throw new Refused(500, { text: event.error.message });
      usage = event.usage ?? usage;
      take(event.choices?.[0]?.delta?.content ?? "");
    }
  }
}
