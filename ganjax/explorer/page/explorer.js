// The page's script: what is set, becomes a query; the picture for it is fetched and shown.

const DEBOUNCE = 30; // milliseconds that a control must rest
const RANGE = 5; // standard deviations, either way

const $ = (id) => document.getElementById(id);
const client = Math.random().toString(36).slice(2);
const stage = document.querySelector(".stage");
const picture = $("picture");

/** Removes a part of the page that this model has no use for. */
function drop(id) {
  $(id).remove();
}

function option(value, text = value) {
  return Object.assign(document.createElement("option"), { value, textContent: text });
}

/** Builds the controls that the model has, and drops the others. */
function build(controls) {
  document.title = `${controls.title} – ganjax explorer`;
  $("title").textContent = controls.title;
  $("about").textContent = controls.about;
  $("seed").max = controls.max_seed;
  if (controls.classes) {
    $("label").append(...Array.from({ length: controls.classes }, (_, i) => option(i)));
  } else drop("of-label");
  if (controls.truncation) {
    const styles = controls.truncation === "psi";
    $("truncation-is").textContent = styles ? "ψ, of styles" : "of latents";
    const range = styles ? { min: -1, max: 1.5, value: 0.7 } : { min: 0.05, max: 2, value: 0.5 };
    Object.assign($("truncation"), { step: 0.05, ...range });
    if (controls.truncation_modes.length) {
      $("truncation_mode").append(...controls.truncation_modes.map((mode) => option(mode)));
    } else drop("of-truncation-mode");
  } else drop("of-truncation");
  if (controls.noise.length) {
    $("noise").append(
      ...controls.noise.map((mode, i) => {
        const label = document.createElement("label");
        const radio = Object.assign(document.createElement("input"), { type: "radio", name: "noise", value: mode });
        radio.defaultChecked = radio.checked = i === 0;
        label.append(radio, mode);
        return label;
      }),
    );
  } else drop("of-noise");
  if (controls.layers > 1) {
    $("mix_seed").max = controls.max_seed;
    for (const id of ["mix_first", "mix_last"]) $(id).max = controls.layers - 1;
    $("mix_first").value = Math.floor(controls.layers / 2);
    $("mix_last").value = controls.layers - 1;
  } else drop("of-mix");
  if (controls.directions.length) {
    $("directions").append(
      ...controls.directions.map((share, i) => {
        const row = Object.assign(document.createElement("div"), { className: "slider" });
        const id = `direction_${i}`;
        const label = Object.assign(document.createElement("label"), {
          htmlFor: id,
          textContent: `${i} · ${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`,
        });
        const range = Object.assign(document.createElement("input"), { type: "range", id });
        Object.assign(range, { min: -RANGE, max: RANGE, step: 0.1, value: 0 });
        const output = document.createElement("output");
        output.htmlFor.add(id);
        row.append(label, range, output);
        return row;
      }),
    );
  } else drop("of-directions");
}

/** What is set, as the query of a picture; null where a number is none. */
function query() {
  const values = new URLSearchParams();
  if (!$("seed").checkValidity()) return null;
  values.set("seed", $("seed").value);
  if ($("label")) values.set("label", $("label").value);
  if ($("truncates")?.checked) {
    values.set("truncation", $("truncation").value);
    const mode = $("truncation_mode");
    if (mode?.selectedIndex > 0) values.set("truncation_mode", mode.value);
  }
  const noise = document.querySelector("#noise input:checked");
  if (noise && !noise.defaultChecked) values.set("noise", noise.value);
  if ($("mixes")?.checked) {
    if (!$("mix_seed").checkValidity() || $("mix_seed").value === "") return null;
    values.set("mix_seed", $("mix_seed").value);
    values.set("mix_layers", `${$("mix_first").value}-${$("mix_last").value}`);
  }
  for (const range of document.querySelectorAll("#directions input")) {
    if (Number(range.value)) values.set(range.id, range.value);
  }
  return values.toString();
}

/** Sets the controls to a query, as in the page's address. */
function set(text) {
  const values = new URLSearchParams(text);
  const put = (id, name = id) => {
    if (values.has(name) && $(id)) $(id).value = values.get(name);
  };
  for (const id of ["seed", "label", "truncation", "truncation_mode", "mix_seed"]) put(id);
  if ($("truncates")) $("truncates").checked = values.has("truncation");
  if ($("mixes")) $("mixes").checked = values.has("mix_seed");
  const layers = /^(\d+)-(\d+)$/.exec(values.get("mix_layers") ?? "");
  if (layers && $("mix_first")) [$("mix_first").value, $("mix_last").value] = layers.slice(1);
  for (const radio of document.querySelectorAll("#noise input")) {
    if (values.get("noise") === radio.value) radio.checked = true;
  }
  for (const range of document.querySelectorAll("#directions input")) put(range.id);
}

/** Brings what depends on a control up to date. */
function tidy(changed) {
  const first = $("mix_first");
  const last = $("mix_last");
  if (first && Number(first.value) > Number(last.value)) {
    if (changed === last) first.value = last.value;
    else last.value = first.value;
  }
  for (const output of document.querySelectorAll("output")) {
    const input = $(output.htmlFor.value);
    const digits = input.step === "1" ? 0 : input.step === "0.05" ? 2 : 1;
    output.textContent = Number(input.value).toFixed(digits).replace("-", "−");
  }
  for (const [box, part] of [["truncates", "of-truncation"], ["mixes", "of-mix"]]) {
    for (const input of document.querySelectorAll(`#${part} :is(input, select, button):not(#${box})`)) {
      input.disabled = !$(box).checked;
    }
  }
}

let shown = ""; // the query of the picture that is seen
let wanted = null; // that of the one to come
let since = 0; // when the wish came up
let busy = false;
let timer = 0;

function change(event) {
  tidy(event?.target);
  clearTimeout(timer);
  const text = query();
  if (text === null) {
    say("A seed is a whole number from 0 to " + $("seed").max, "wrong");
    return;
  }
  if (!wanted) since = performance.now();
  wanted = text;
  timer = setTimeout(draw, DEBOUNCE);
}

function say(text, state = "") {
  stage.classList.remove("wrong", "waiting");
  if (state) stage.classList.add(state);
  $("status").textContent = text;
}

/** Fetches what is wanted; one request at a time, and of what came up meanwhile the latest. */
async function draw() {
  if (busy || wanted === null) return;
  busy = true;
  const [text, start] = [wanted, since];
  wanted = null;
  const slow = setTimeout(() => say("Drawing …", "waiting"), 400);
  try {
    const response = await fetch(`picture?${text}&client=${client}`);
    if (!response.ok) throw new Error((await response.json()).error);
    const address = URL.createObjectURL(await response.blob());
    const before = picture.src;
    picture.src = address;
    await picture.decode();
    if (before.startsWith("blob:")) URL.revokeObjectURL(before);
    shown = text;
    picture.alt = describe(text);
    picture.dataset.query = text;
    history.replaceState(null, "", `?${text}`);
    clearTimeout(slow);
    say(`Shown after ${Math.round(performance.now() - start)} ms, ${spent(response)} of them drawing`);
    $("copied").textContent = "";
    if (!$("command").hidden) await command();
  } catch (error) {
    clearTimeout(slow);
    say(error instanceof TypeError ? "The server does not answer: is it still running?" : error.message, "wrong");
  } finally {
    busy = false;
    if (wanted !== null) draw();
  }
}

function spent(response) {
  return Math.round(/dur=([\d.]+)/.exec(response.headers.get("Server-Timing") ?? "")?.[1] ?? 0);
}

function describe(text) {
  const values = new URLSearchParams(text);
  const label = values.has("label") ? `, class ${values.get("label")}` : "";
  return `What the generator makes of seed ${values.get("seed")}${label}`;
}

/** Shows the command for the picture that is seen. */
async function command() {
  const answer = await (await fetch(`command?${shown}`)).json();
  const words = (answer.command ?? answer.error).split(/ (?=--)/); // lines break between flags, not in them
  const spans = words.map((word) => Object.assign(document.createElement("span"), { textContent: word }));
  $("command").replaceChildren(...spans.flatMap((span, i) => (i ? [" ", span] : [span])));
  $("command").hidden = false;
  return answer.command;
}

async function copy() {
  const text = await command();
  try {
    await navigator.clipboard.writeText(text); // where the page is not from localhost there is none
    $("copied").textContent = "Copied";
  } catch {
    getSelection().selectAllChildren($("command"));
    $("copied").textContent = "Selected: copy it with Ctrl+C";
  }
}

function step(id, difference) {
  const input = $(id);
  input.value = Math.min(Math.max(Number(input.value) + difference, 0), Number(input.max));
  change({ target: input });
}

function randomise(id) {
  $(id).value = Math.floor(Math.random() * Math.min(Number($(id).max) + 1, 100_000));
  change({ target: $(id) });
}

const controls = await (await fetch("controls")).json();
build(controls);
set(location.search);
picture.classList.toggle("transparent", controls.transparent);
$("settings").addEventListener("input", change);
$("settings").addEventListener("submit", (event) => event.preventDefault());
$("previous").addEventListener("click", () => step("seed", -1));
$("next").addEventListener("click", () => step("seed", 1));
$("random").addEventListener("click", () => randomise("seed"));
$("mix_random")?.addEventListener("click", () => randomise("mix_seed"));
$("centre")?.addEventListener("click", () => {
  for (const range of document.querySelectorAll("#directions input")) range.value = 0;
  change();
});
$("show").addEventListener("click", copy);
change();
