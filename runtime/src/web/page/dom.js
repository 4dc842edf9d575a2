// Elements of the page. Whatever comes from data, logs or models becomes text, never markup.

export function el(tag, settings = {}, ...children) {
  const made = document.createElement(tag);
  apply(made, settings);
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

function apply(made, settings) {
  for (const [name, value] of Object.entries(settings)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && name !== "list" && name !== "form") made[name] = value;
    else made.setAttribute(name === "class" ? "class" : name, value === true ? "" : value);
  }
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export function fill(place, ...children) {
  place.replaceChildren(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
}

export function button(text, onclick, kind = "") {
  return el("button", { type: "button", class: kind, onclick }, text);
}

// Text in which `words` stand as code.
export function rich(text) {
  return String(text ?? "").split("`").map((part, at) => (at % 2 === 1 ? el("code", {}, part) : part));
}

// A notice that goes by itself; errors stay until they are closed.
export function notice(text, hint = "", isError = false) {
  const place = document.getElementById("notices");
  const box = el("div", { class: isError ? "notice bad" : "notice" },
    el("div", {}, el("strong", {}, rich(text)), hint ? el("p", {}, rich(hint)) : null));
  const close = button("×", () => box.remove(), "quiet");
  close.setAttribute("aria-label", "×");
  box.append(close);
  place.append(box);
  if (!isError) setTimeout(() => box.remove(), 6000);
}

export function failed(error) {
  notice(error.text || error.message || String(error), error.hint || "", true);
}

// An error as a block: what happened, why, what to do.
export function problem(error, kind = "bad") {
  const causes = (error.causes || []).map((cause) => el("p", { class: "cause" }, rich(cause)));
  return el("div", { class: `problem ${kind}`, role: kind === "bad" ? "alert" : null },
    el("p", {}, rich(error.text)), causes, error.hint ? el("p", { class: "hint" }, rich(error.hint)) : null);
}

export async function ask(text, detail, action, cancel, expected = null) {
  return new Promise((resolve) => {
    const go = button(action, () => end(true), "danger");
    const dialog = el("dialog", { class: "ask" }, el("h2", {}, text), el("p", {}, detail));
    if (expected !== null) {
      go.disabled = true;
      const input = el("input", {
        type: "text", autocomplete: "off", oninput: () => { go.disabled = input.value !== expected; },
      });
      input.setAttribute("aria-label", detail);
      dialog.append(input);
    }
    dialog.append(el("div", { class: "row end" }, button(cancel, () => end(false)), go));
    dialog.addEventListener("cancel", () => resolve(false));
    document.body.append(dialog);
    dialog.showModal();
    function end(answer) {
      dialog.close();
      dialog.remove();
      resolve(answer);
    }
  });
}
