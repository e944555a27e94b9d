// Corrections are kept here, path → [label, reason], and in the browser's own store until they are saved.
"use strict";
const state = JSON.parse(document.getElementById("state").textContent);
const cards = [...document.querySelectorAll(".card")];
const decided = new Map();
const done = []; // [path, what was decided before], the last at the end: for undo
const store = "audit:" + state.key;
let at = -1;

function decide(path, label, reason) {
  done.push([path, decided.get(path)]);
  decided.set(path, [label, reason]);
  changed();
}

function undo() {
  if (!done.length) return;
  const [path, before] = done.pop();
  if (before) decided.set(path, before);
  else decided.delete(path);
  changed();
  const card = cards.findIndex((each) => each.dataset.path === path);
  if (card >= 0) go(card);
}

function changed() {
  for (const card of cards) {
    const [label, reason] = decided.get(card.dataset.path) || [];
    card.classList.toggle("done", label !== undefined);
    card.classList.toggle("out", label === state.out);
    const text =
      label === undefined ? "" :
      label === state.out ? "left out" :
      reason === state.checked ? "label is right" : "→ " + label.replaceAll("_", " ");
    card.querySelector(".verdict").textContent = text;
    for (const button of card.querySelectorAll("button[data-label]"))
      button.setAttribute("aria-pressed", String(button.dataset.label === label));
  }
  const all = [...decided.values()];
  const out = all.filter(([label]) => label === state.out).length;
  const checked = all.filter(([, reason]) => reason === state.checked).length;
  const told = [[all.length - out - checked, "corrected"], [out, "left out"], [checked, "right"]];
  document.getElementById("count").textContent = told.map(([n, what]) => n + " " + what).join(", ");
  const fresh = [...new Set(all.map(([label]) => label))].filter((l) => l !== state.out && !state.names.includes(l));
  document.getElementById("new").textContent = fresh.length ? "New classes: " + fresh.join(", ") + ". Add --new-classes." : "";
  try {
    localStorage.setItem(store, JSON.stringify([...decided]));
  } catch {} // a browser that keeps nothing for files: the page works all the same
}

function choose(to) {
  if (at >= 0) cards[at].classList.remove("here");
  at = to;
  cards[at].classList.add("here");
}

function go(to) {
  if (to < 0 || to >= cards.length) return;
  choose(to);
  cards[at].scrollIntoView({ block: "center" });
}

function act(card, what) {
  const { path, label } = card.dataset;
  if (what === "out") decide(path, state.out, card.dataset.why);
  else if (what === "right") decide(path, label, state.checked);
  else decide(path, what, "was " + label);
}

// A decision by key goes on to the next card.
document.addEventListener("keydown", (event) => {
  if (event.target.matches("input, textarea, select") || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "j") go(at + 1);
  else if (event.key === "k") go(at - 1);
  else if (event.key === "u") undo();
  else if (at >= 0) {
    const card = cards[at];
    if (event.key === "x") act(card, "out");
    else if (event.key === "0") act(card, "right");
    else {
      const button = card.querySelector('button[data-key="' + CSS.escape(event.key) + '"]');
      if (!button) return;
      act(card, button.dataset.label);
    }
    go(at + 1);
  } else return;
  event.preventDefault();
});

cards.forEach((card, i) => {
  card.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    choose(i);
    if (button) act(card, button.dataset.act || button.dataset.label);
  });
  const other = card.querySelector("input");
  other.addEventListener("change", () => {
    if (other.value.trim()) act(card, other.value.trim());
    other.value = "";
  });
});

function field(text) {
  return /[",;\n\r\t]|^\s|\s$/.test(text) ? '"' + text.replaceAll('"', '""') + '"' : text;
}

function table() {
  const lines = new Map(state.earlier.map(([path, label, reason]) => [path, [label, reason]]));
  for (const [path, line] of decided) lines.set(path, line);
  const rows = [["path", "label", "reason"], ...[...lines].map(([path, [label, reason]]) => [path, label, reason])];
  return rows.map((row) => row.map(field).join(",")).join("\n") + "\n";
}

document.getElementById("undo").addEventListener("click", undo);
document.getElementById("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([table()], { type: "text/csv" }));
  link.download = "corrections.csv";
  link.click();
  URL.revokeObjectURL(link.href);
  const next = document.getElementById("next");
  next.hidden = false;
  next.scrollIntoView({ block: "center" });
});

try {
  for (const [path, line] of JSON.parse(localStorage.getItem(store) || "[]")) {
    done.push([path, undefined]); // can be undone here too
    decided.set(path, line);
  }
} catch {}
changed();
