// Copies commands, filters lists while the user types, and selects choices. Everything else works without this script.
"use strict";

for (const button of document.querySelectorAll("[data-copy]")) {
  const text = button.parentElement.querySelector("code").textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(text);
    button.textContent = copied ? "Copied" : "Select the text";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

// Without TLS browsers offer no clipboard, but still copy a selected text.
async function copy(text) {
  if (navigator.clipboard) {
    try { await navigator.clipboard.writeText(text); return true; } catch { return false; }
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "away";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  return copied;
}

// <input data-filter="id"> hides the elements with data-name under #id that do not contain its text.
for (const input of document.querySelectorAll("[data-filter]")) {
  const list = document.getElementById(input.dataset.filter);
  if (!list) continue;
  input.closest("[hidden]")?.removeAttribute("hidden");
  const empty = document.getElementById(input.dataset.filter + "-empty");
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    let shown = 0;
    for (const row of list.querySelectorAll("[data-name]")) {
      row.hidden = !row.dataset.name.toLowerCase().includes(wanted);
      if (!row.hidden) shown += 1;
    }
    if (empty) empty.hidden = shown > 0;
  });
}

// <input data-select="name"> selects or clears every box of that name in its form.
for (const all of document.querySelectorAll("[data-select]")) {
  all.closest("[hidden]")?.removeAttribute("hidden");
  all.addEventListener("change", () => {
    for (const box of all.form.querySelectorAll(`input[name="${all.dataset.select}"]`)) {
      if (!box.closest("[hidden]")) box.checked = all.checked;
    }
  });
}

// <div data-chooses="id"> selects the radio button with that id when one of its fields changes.
for (const part of document.querySelectorAll("[data-chooses]")) {
  const choice = document.getElementById(part.dataset.chooses);
  part.addEventListener("input", () => { choice.checked = true; });
}
