// Automatic behaviour of pages if scripts run: copy buttons, a key for the search, and no reload while the user is
// busy on the page.
"use strict";

document.documentElement.classList.add("js");

function isBusy(live) {
  const focused = document.activeElement;
  const isFilling = focused && live.contains(focused) && /^(INPUT|SELECT|TEXTAREA)$/.test(focused.tagName);
  return document.hidden || isFilling || live.querySelector("details[open], input:checked") !== null;
}

for (const moment of ["htmx:beforeRequest", "htmx:beforeSwap"]) {
  document.addEventListener(moment, (event) => {
    const live = document.getElementById("live");
    if (live && event.detail.target && event.detail.target.id === "live" && isBusy(live)) {
      event.preventDefault();
    }
  });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  try {
    await navigator.clipboard.writeText("value" in field ? field.value : field.textContent);
  } catch {
    if ("select" in field) field.select();
    else getSelection().selectAllChildren(field);
    document.execCommand("copy");
  }
  const told = document.getElementById("told");
  told.textContent = "";
  told.textContent = button.dataset.copied;
  button.textContent = button.dataset.copied;
});

// "/" goes to the search of the page, as on many sites.
document.addEventListener("keydown", (event) => {
  const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName);
  const search = document.querySelector("main input[type=search], main #text");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey || !search) return;
  event.preventDefault();
  search.closest("details")?.setAttribute("open", "");
  search.focus();
});
