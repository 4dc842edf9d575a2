// The job: what the fields say, as the YAML that `ferry-runtime train` reads.

export const METHODS = ["lora", "qlora", "freeze", "full"];

const RATES = { lora: "1.0e-4", qlora: "1.0e-4", freeze: "1.0e-5", full: "1.0e-5" };

// Fields with a number or a word, in the order in which they are shown.
export const FIELDS = [
  { key: "num_train_epochs", kind: "number", min: 0.01, step: "any" },
  { key: "learning_rate", kind: "text" },
  { key: "cutoff_len", kind: "number", min: 16, step: 1 },
  { key: "per_device_train_batch_size", kind: "number", min: 1, step: 1 },
  { key: "gradient_accumulation_steps", kind: "number", min: 1, step: 1 },
  { key: "lora_rank", kind: "number", min: 1, step: 1, only: ["lora", "qlora"] },
  { key: "freeze_trainable_layers", kind: "number", min: 1, step: 1, only: ["freeze"] },
  { key: "val_size", kind: "number", min: 0, max: 0.9, step: 0.01 },
];

export function fresh() {
  return {
    model: "", folder: "", datasets: [], stage: "sft", template: "", method: "lora", name: "",
    num_train_epochs: "3", learning_rate: RATES.lora, cutoff_len: "1024", per_device_train_batch_size: "1",
    gradient_accumulation_steps: "8", lora_rank: "8", freeze_trainable_layers: "2", val_size: "0.1", more: "",
  };
}

// A rate that nobody has changed follows the method.
export function chooseMethod(job, method) {
  if (Object.values(RATES).includes(job.learning_rate)) job.learning_rate = RATES[method];
  job.method = method;
}

export function shown(job) {
  return FIELDS.filter((field) => !field.only || field.only.includes(job.method));
}

// The keys that stand in the editor for all other keys; these win over the fields.
export function moreKeys(job) {
  return job.more.split("\n").map((line) => line.match(/^([A-Za-z_]\w*)\s*:/)?.[1]).filter(Boolean);
}

function word(value) {
  return /^[A-Za-z][\w-]*$/.test(value) && !/^(true|false|null|yes|no|on|off|y|n)$/i.test(value) ? value : JSON.stringify(value);
}

export function yaml(job, runs) {
  const lines = [
    ["model_name_or_path", word(job.model)],
    ["stage", job.stage],
    ["do_train", "true"],
    ["finetuning_type", job.method === "qlora" ? "lora" : job.method],
  ];
  if (job.method === "qlora") lines.push(["quantization_bit", "4"]);
  for (const field of shown(job).filter((field) => field.only)) lines.push([field.key, plain(job[field.key])]);
  lines.push(["dataset", word(job.datasets.join(","))], ["dataset_dir", word(job.folder)]);
  if (job.template) lines.push(["template", word(job.template)]);
  lines.push(["output_dir", word(`${runs}/${job.name}`)]);
  for (const key of ["cutoff_len", "per_device_train_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs"]) {
    lines.push([key, plain(job[key])]);
  }
  lines.push(["lr_scheduler_type", "cosine"], ["warmup_ratio", "0.1"], ["logging_steps", "1"], ["save_steps", "100"],
    ["save_total_limit", "3"], ["plot_loss", "true"], ["report_to", "none"]);
  if (Number(job.val_size) > 0) lines.push(["val_size", plain(job.val_size)], ["eval_strategy", "epoch"]);
  const named = new Set(moreKeys(job));
  const own = lines.filter(([key]) => !named.has(key)).map(([key, value]) => `${key}: ${value}`);
  const more = job.more.trim();
  return `${own.join("\n")}\n${more ? `${more}\n` : ""}`;
}

// What a person typed is kept as it is where it is a number, so that `check` can say what is wrong with it.
function plain(value) {
  const text = String(value).trim();
  return /^-?[\d.]+(e[+-]?\d+)?$/i.test(text) ? text : JSON.stringify(text);
}

// A name for a run that no run has yet.
export function freeName(model, taken) {
  const last = model.split("/").filter(Boolean).pop() ?? "run";
  const base = last.replace(/\.gguf$/i, "").replace(/[^\p{L}\p{N}._-]+/gu, "-").replace(/^[.-]+/, "").slice(0, 40) || "run";
  for (let number = 1; ; number += 1) {
    const name = `${base}-${number}`;
    if (!taken.includes(name)) return name;
  }
}
