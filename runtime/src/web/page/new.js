// A new run: model, data, options, check, start.

import { get, part, post, upload } from "/api.js";
import { button, el, failed, fill, notice, rich } from "/dom.js";
import { FIELDS, METHODS, chooseMethod, freeName, fresh, moreKeys, shown, yaml } from "/job.js";
import { plan } from "/plan.js";
import { bytes, hint, large, t, why } from "/words.js";

const KEPT = "ferry.job";

// Where an error belongs that names no key.
const FIELD_OF = {
  "data.no-template": "template", "data.unknown-template": "template", "train.output-taken": "output_dir", "train.in-use": "output_dir",
  "runtime.no-such-model": "model_name_or_path", "data.unknown-dataset": "dataset", "data.wrong-stage": "dataset", "data.shape": "dataset",
  "data.json": "dataset",
};

function remembered() {
  try { return { ...fresh(), ...JSON.parse(localStorage.getItem(KEPT) ?? "{}") }; } catch { return fresh(); }
}

export async function show(root) {
  const [home, models, sets, runs] = await Promise.all([get("home"), get("models"), get("datasets"), get("runs")]);
  const taken = runs.map((run) => run.name);
  const job = remembered();
  let datasets = sets;
  if (!models.some((model) => model.path === job.model)) job.model = "";
  job.datasets = job.datasets.filter((name) => datasets.some((set) => set.name === name && set.folder === job.folder));
  if (!job.name || taken.includes(job.name)) job.name = freeName(job.model || "run", taken);
  let checked = null;
  let checking = false;

  const text = el("code", { id: "yaml" });
  const result = el("div", { id: "result", "aria-live": "polite" });
  const begin = button(t("new.start"), start, "main");
  const check = button(t("new.check"), look, "main");
  const places = new Map();

  function changed() {
    try { localStorage.setItem(KEPT, JSON.stringify(job)); } catch { /* private window */ }
    text.textContent = yaml(job, home.runs);
    if (checked !== null) {
      checked = null;
      fill(result, el("p", { class: "note" }, t("new.check-again")));
      for (const place of places.values()) fill(place);
    }
    begin.disabled = checked === null || checked.errors.length > 0;
    check.disabled = checking || !job.model || job.datasets.length === 0;
  }

  // 1: the model
  function modelList() {
    if (models.length === 0) {
      return el("p", { class: "note" }, home.models ? t("model.none", { folder: home.models }) : t("model.no-folder"));
    }
    return el("div", { class: "choices", role: "radiogroup", "aria-label": t("new.model") }, models.map((model, at) => {
      const id = `model-${at}`;
      const facts = [model.kind === "gguf" ? "GGUF" : model.family || "?", model.parameters ? t("model.parameters", { count: large(model.parameters) }) : null,
        bytes(model.bytes), model.license ?? t("model.no-licence")].filter(Boolean);
      const input = el("input", { type: "radio", name: "model", id, checked: model.path === job.model, onchange: () => {
        if (job.name === freeName(job.model || "run", taken)) job.name = freeName(model.path, taken);
        job.model = model.path;
        nameInput.value = job.name;
        changed();
      } });
      return el("label", { class: "choice", for: id }, input, el("span", { class: "choice-text" }, el("strong", {}, model.name),
        el("span", { class: "facts" }, facts.join(" · ")),
        model.native ? null : el("span", { class: "warn-text" }, model.why?.text ?? t("model.not-native", { family: model.family || "?" }))));
    }));
  }

  // 2: the data
  const dataPlace = el("div", {});
  function dataList() {
    if (datasets.length === 0) {
      fill(dataPlace, el("p", { class: "note" }, t("data.none")));
      return;
    }
    fill(dataPlace, el("div", { class: "choices" }, datasets.map((set, at) => {
      const id = `data-${at}`;
      const input = el("input", { type: "checkbox", id, checked: set.folder === job.folder && job.datasets.includes(set.name), onchange: () => {
        if (set.folder !== job.folder || set.stage !== job.stage) {
          if (job.datasets.length > 0) notice(t("data.together"));
          job.datasets = [];
        }
        job.folder = set.folder;
        job.stage = set.stage;
        job.datasets = input.checked ? [...job.datasets, set.name] : job.datasets.filter((name) => name !== set.name);
        dataList();
        changed();
        document.getElementById(id).focus();
      } });
      const facts = [t(`data.stage-${set.stage}`), set.file, bytes(set.bytes), set.own ? null : t("data.installed")].filter(Boolean);
      return el("label", { class: "choice", for: id }, input, el("span", { class: "choice-text" }, el("strong", {}, set.name),
        el("span", { class: "facts" }, facts.join(" · "))));
    })));
  }
  dataList();

  function uploader() {
    const bar = el("progress", { max: 1, value: 0, hidden: true, "aria-label": t("data.upload") });
    const input = el("input", { type: "file", id: "upload", accept: ".json,.jsonl,.csv", onchange: async () => {
      const file = input.files[0];
      if (!file) return;
      const clean = file.name.replace(/[^\p{L}\p{N}._-]+/gu, "_").replace(/^[.-]+/, "");
      const name = clean.replace(/\.\w+$/, "");
      bar.hidden = false;
      try {
        const added = await upload(`datasets/${part(name)}/${part(clean)}`, file, (done) => { bar.value = done; });
        datasets = await get("datasets");
        const set = datasets.find((one) => one.name === added.name && one.own);
        if (set) Object.assign(job, { folder: set.folder, stage: set.stage, datasets: [set.name] });
        dataList();
        changed();
        notice(t("data.added", { name: added.name }));
      } catch (error) { failed(error); }
      bar.hidden = true;
      input.value = "";
    } });
    return el("div", { class: "upload" }, el("label", { class: "button", for: "upload" }, t("data.upload")), input, bar,
      el("p", { class: "note" }, t("data.upload-why", { limit: bytes(home.largest_upload) })),
      el("details", {}, el("summary", {}, t("data.form")), el("p", {}, rich(t("data.form-why"))),
        el("pre", {}, "[\n  {\"instruction\": \"…\", \"output\": \"…\"},\n  {\"instruction\": \"…\", \"input\": \"…\", \"output\": \"…\"}\n]")));
  }

  // 3: the options
  const fields = el("div", { class: "fields" });
  function fieldList() {
    fill(fields, shown(job).map((field) => {
      const id = `field-${field.key}`;
      const input = el("input", { type: field.kind, id, value: job[field.key], min: field.min, max: field.max, step: field.step,
        inputMode: field.kind === "text" ? "decimal" : null, "aria-describedby": `${id}-why`, oninput: () => { job[field.key] = input.value; changed(); } });
      const place = el("div", { class: "field-problem" });
      places.set(field.key, place);
      return el("div", { class: "field" }, el("label", { for: id }, t(`field.${field.key}`), el("code", {}, field.key)), input,
        el("p", { class: "why", id: `${id}-why` }, why(`field.${field.key}`)),
        el("details", {}, el("summary", {}, t("field.when")), el("p", {}, hint(`field.${field.key}`)),
          el("p", { class: "note" }, t("field.default", { value: fresh()[field.key] }))), place);
    }));
  }
  fieldList();
  const methods = el("div", { class: "choices tight", role: "radiogroup", "aria-label": t("field.method") }, METHODS.map((method) => {
    const id = `method-${method}`;
    const input = el("input", { type: "radio", name: "method", id, checked: method === job.method, onchange: () => {
      chooseMethod(job, method);
      fieldList();
      changed();
    } });
    return el("label", { class: "choice", for: id }, input, el("span", { class: "choice-text" }, el("strong", {}, t(`method.${method}`)),
      el("span", { class: "facts" }, why(`method.${method}`))));
  }));
  const templates = el("select", { id: "template", onchange: () => { job.template = templates.value; changed(); } },
    el("option", { value: "" }, t("template.own")), home.templates.map((name) => el("option", { value: name }, name)));
  templates.value = job.template;
  const nameInput = el("input", { type: "text", id: "name", value: job.name, maxLength: 90, autocomplete: "off", oninput: () => { job.name = nameInput.value; changed(); } });
  const moreInput = el("textarea", { id: "more", rows: 5, placeholder: "save_steps: 50\nseed: 7", oninput: () => { job.more = moreInput.value; told(); changed(); } });
  moreInput.value = job.more;
  const moreNote = el("p", { class: "note" });
  function told() {
    const both = moreKeys(job).filter((key) => FIELDS.some((field) => field.key === key));
    moreNote.textContent = both.length ? t("more.wins", { keys: both.join(", ") }) : "";
  }
  told();
  for (const key of ["model_name_or_path", "dataset", "output_dir", "template", "finetuning_type", "more"]) places.set(key, el("div", { class: "field-problem" }));
  places.set("quantization_bit", places.get("finetuning_type"));

  // 4: check and start
  async function look() {
    checking = true;
    changed();
    const before = text.textContent;
    fill(result, el("p", { class: "loading" }, t("new.checking")));
    try {
      const found = await post("check", before);
      if (text.textContent === before) {
        checked = found;
        fill(result, plan(found));
        let first = null;
        for (const error of found.errors) {
          const key = error.args?.key ?? FIELD_OF[error.code];
          const place = places.get(key) ?? (key && job.more.includes(key) ? places.get("more") : null);
          if (place) { place.append(el("p", { class: "bad-text" }, rich(error.text)), el("p", { class: "why" }, rich(error.hint ?? ""))); first ??= place; }
        }
        first?.scrollIntoView({ block: "center", behavior: "smooth" });
      }
    } catch (error) {
      fill(result, plan({ errors: [error], warnings: [], result: null }));
    }
    checking = false;
    begin.disabled = checked === null || checked.errors.length > 0;
    check.disabled = !job.model || job.datasets.length === 0;
  }

  async function start() {
    begin.disabled = true;
    try {
      await post(`runs/${part(job.name)}`, text.textContent);
      const name = job.name;
      job.name = "";
      localStorage.setItem(KEPT, JSON.stringify(job));
      location.hash = `#/run/${part(name)}`;
    } catch (error) { failed(error); begin.disabled = false; }
  }

  async function copy() {
    try {
      await navigator.clipboard.writeText(text.textContent);
      notice(t("yaml.copied"));
    } catch {
      const range = document.createRange();
      range.selectNodeContents(text);
      getSelection().removeAllRanges();
      getSelection().addRange(range);
      notice(t("yaml.marked"));
    }
  }

  const card = (number, title, lead, ...inside) => el("section", { class: "card" },
    el("h2", {}, el("span", { class: "number", "aria-hidden": "true" }, number), title), el("p", { class: "lead" }, lead), ...inside);
  root.append(el("h1", {}, t("new.title")), el("div", { class: "columns" },
    el("div", { class: "column" },
      card("1", t("new.model"), t("new.model-why"), modelList(), places.get("model_name_or_path"),
        el("div", { class: "field" }, el("label", { for: "template" }, t("template.label"), el("code", {}, "template")), templates, el("p", { class: "why" }, t("template.why")), places.get("template"))),
      card("2", t("new.data"), t("new.data-why"), dataPlace, places.get("dataset"), uploader()),
      card("3", t("new.options"), t("new.options-why"), methods, places.get("finetuning_type"), fields,
        el("details", { class: "more", open: job.more !== "" }, el("summary", {}, t("more.title")), el("p", { class: "why" }, rich(why("more.title"))),
          el("label", { for: "more", class: "hidden" }, t("more.title")), moreInput, moreNote, places.get("more"))),
      card("4", t("new.go"), t("new.go-why"),
        el("div", { class: "field" }, el("label", { for: "name" }, t("new.name"), el("code", {}, "output_dir")), nameInput, el("p", { class: "why" }, t("new.name-why", { folder: home.runs })), places.get("output_dir")),
        el("div", { class: "row" }, check, begin), result)),
    el("aside", { class: "card yaml" }, el("h2", {}, t("yaml.title")), el("p", { class: "lead" }, t("yaml.why")), el("pre", { tabIndex: 0 }, text),
      el("div", { class: "row" }, button(t("yaml.copy"), copy)))));
  changed();
}
