// What the pages need beyond htmx: menus, dialogs, copying, theme, keys. No page depends on it to be read.
"use strict";
(() => {
  const root = document.documentElement;
  const find = (selector, from = document) => from.querySelector(selector);
  const dialog = () => find("#dialog");

  const say = (text) => { const live = find("#said"); if (live) { live.textContent = ""; live.textContent = text; } };

  const copy = async (button) => {
    const target = button.dataset.copyFrom ? find(button.dataset.copyFrom) : null;
    const text = target ? target.textContent : button.dataset.copy;
    try { await navigator.clipboard.writeText(text); } catch {
      const area = document.createElement("textarea");
      area.value = text; (button.closest("dialog") || document.body).append(area); area.select(); document.execCommand("copy"); area.remove();
    }
    say(document.body.dataset.copied);
    button.dataset.done = "1";
    const label = find(".text", button);
    if (label) { const before = label.textContent; label.textContent = document.body.dataset.copied; setTimeout(() => { label.textContent = before; }, 1500); }
    else { const corner = find("#corner"); if (corner) { const p = document.createElement("p"); p.className = "alert ok"; p.textContent = document.body.dataset.copied; corner.replaceChildren(p); setTimeout(() => p.remove(), 1500); } }
  };

  // A menu opens beside its button, inside the window.
  document.addEventListener("toggle", (event) => {
    const menu = event.target;
    if (!(menu instanceof HTMLElement) || !menu.hasAttribute("popover") || event.newState !== "open") return;
    const button = find(`[popovertarget="${CSS.escape(menu.id)}"]`);
    if (!button) return;
    const at = button.getBoundingClientRect(), size = menu.getBoundingClientRect();
    const left = menu.dataset.side === "start" ? at.left : at.right - size.width;
    const below = at.bottom + 4 + size.height <= innerHeight || at.top < size.height;
    menu.style.left = `${Math.max(8, Math.min(left, innerWidth - size.width - 8))}px`;
    menu.style.top = `${Math.max(8, below ? at.bottom + 4 : at.top - size.height - 4)}px`;
    const first = find(".item, input, a, button", menu);
    if (first) first.focus();
  }, true);

  document.addEventListener("keydown", (event) => {
    const menu = event.target.closest ? event.target.closest("[popover]") : null;
    if (menu && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const items = [...menu.querySelectorAll(".item")], step = event.key === "ArrowDown" ? 1 : -1;
      const next = items[(items.indexOf(document.activeElement) + step + items.length) % items.length];
      if (next) { next.focus(); event.preventDefault(); }
      return;
    }
    const typing = event.target.closest && event.target.closest("input, textarea, select, [contenteditable]");
    if (event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const opener = find("#open-search");
      if (opener) { opener.click(); event.preventDefault(); }
    }
    if (event.key === "Escape") find(".side")?.classList.remove("open");
    const results = event.target.closest ? event.target.closest("#search") : null;
    if (results && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const stops = [find("input", results), ...results.querySelectorAll("a.item")], step = event.key === "ArrowDown" ? 1 : -1;
      const next = stops[(stops.indexOf(document.activeElement) + step + stops.length) % stops.length];
      if (next) { next.focus(); event.preventDefault(); }
    }
  });

  document.addEventListener("click", (event) => {
    const on = (selector) => event.target.closest(selector);
    const copier = on("[data-copy], [data-copy-from]");
    if (copier) { copy(copier); if (copier.closest("[popover]")) copier.closest("[popover]").hidePopover(); return; }
    const item = on("[popover] .item");
    if (item) item.closest("[popover]").hidePopover();
    if (on("[data-close]")) { dialog().close(); return; }
    if (on("[data-open-side]")) { const side = find(".side"); side.classList.add("open"); find("a, button", side).focus(); return; }
    if (find(".side.open") && !on(".side")) find(".side").classList.remove("open");
    const theme = on("[data-theme-switch]");
    if (theme) {
      const dark = root.dataset.theme === "dark" || (root.dataset.theme === "auto" && matchMedia("(prefers-color-scheme: dark)").matches);
      root.dataset.theme = dark ? "light" : "dark";
      document.cookie = `mooring-theme=${root.dataset.theme}; path=/; max-age=31536000; samesite=lax${location.protocol === "https:" ? "; secure" : ""}`;
    }
  });

  // A dialog is filled by htmx and then shown; what it held is taken out when it closes: it may have been a secret.
  document.addEventListener("htmx:afterSwap", (event) => {
    const box = dialog();
    if (event.detail.target !== box) return;
    box.classList.toggle("wide", !!find("[data-wide]", box));
    if (!box.open) box.showModal();
    const first = find("[autofocus], input:not([type=hidden]), select, textarea, button:not([data-close])", box);
    if (first) first.focus();
  });
  document.addEventListener("close", (event) => {
    if (event.target !== dialog()) return;
    const after = find("[data-reload-after]", event.target);
    event.target.replaceChildren();
    if (after) location.assign(after.dataset.reloadAfter || location.href);
  }, true);

  document.addEventListener("htmx:afterRequest", (event) => {
    const form = event.detail.elt;
    if (!(form instanceof HTMLFormElement) || !event.detail.failed) return;
    for (const field of form.querySelectorAll("input[type=password]")) field.value = "";
    const error = find(".form-error", form);
    if (error) error.scrollIntoView({ block: "nearest" });
  });
  for (const name of ["htmx:sendError", "htmx:timeout"]) document.addEventListener(name, () => {
    const p = document.createElement("p");
    p.className = "alert bad"; p.textContent = document.body.dataset.offline;
    find("#corner")?.replaceChildren(p);
  });

  // A picture travels inside the form, as text.
  document.addEventListener("change", (event) => {
    if (!event.target.matches("input[type=file][data-into]")) return;
    const reader = new FileReader(), field = find(event.target.dataset.into);
    reader.onload = () => { field.value = String(reader.result).split(",")[1] || ""; };
    if (event.target.files[0]) reader.readAsDataURL(event.target.files[0]); else field.value = "";
  });

  // Fields that belong to a choice.
  const choose = (select) => {
    for (const part of document.querySelectorAll(`[data-when="${CSS.escape(select.name)}"]`)) {
      const shown = part.dataset.is.split(" ").includes(select.value);
      part.hidden = !shown;
      for (const field of part.querySelectorAll("input, select, textarea")) field.disabled = !shown;
    }
  };
  document.addEventListener("change", (event) => { if (event.target.matches("select, input[type=radio]") && event.target.name) choose(event.target); });
  document.addEventListener("htmx:afterSettle", () => { for (const s of document.querySelectorAll("select[data-choose]")) choose(s); });
  for (const s of document.querySelectorAll("select[data-choose]")) choose(s);
})();
