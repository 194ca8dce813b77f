// The first screen: what is connected already, and what can be connected.

function pickerView(app) {
  const { connectors, accounts } = app.data;
  const parts = [app.heading(app.t(connectors.length || accounts.length ? "pick" : "emptyTitle"))];
  if (accounts.length) parts.push(accountList(app, accounts));
  if (!connectors.length) parts.push(accounts.length ? null : emptyState(app));
  else {
    if (accounts.length) parts.push(h(app.level(1), { class: "section" }, app.t("addMore")));
    parts.push(...connectorList(app, connectors));
  }
  return parts;
}

function emptyState(app) {
  return h("div", { class: "empty" }, h("p", {}, app.t("emptyText", app.names)), supportLine(app));
}

// "Contact help@example.com": every dead end names whom to ask.
function supportLine(app) {
  const contact = app.data?.app.support_contact;
  if (!contact) return null;
  const href = contact.includes("://") ? contact : `mailto:${contact}`;
  const [before, after] = app.t("support").split("{contact}");
  const link = h("a", { href, target: "_blank", rel: "noopener noreferrer" }, contact.replace(/^https:\/\//, ""));
  return h("p", { class: "support" }, before, link, after);
}

function connectorList(app, connectors) {
  const many = connectors.length > 6;
  const categories = [...new Set(connectors.flatMap((one) => one.categories))].filter((key) => EN["cat_" + key]);
  const rows = connectors.map((one) => {
    const shown = one.categories.map((key) => app.category(key)).filter(Boolean);
    const row = h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "row", "data-key": one.key },
        logo(one.logo_url),
        h("span", { class: "grow" }, h("span", { class: "name" }, one.name), h("span", { class: "soft" }, [...new Set(shown)].join(" · "))),
      ),
    );
    return { row, one, words: `${one.name} ${one.key} ${shown.join(" ")}`.toLowerCase() };
  });
  // One listener for all: hundreds of rows are drawn within a blink.
  const open = (event) => {
    const key = event.target.closest("button")?.dataset.key;
    if (key) app.show("form", { connector: connectors.find((one) => one.key === key) });
  };
  const list = h("ul", { class: connectors.length > 60 ? "grid crowd" : "grid", role: "list", onkeydown: moveByArrows, onclick: open }, ...rows.map((r) => r.row));
  if (!many) return [list];

  const nothing = h("div", { class: "empty", hidden: true });
  const query = h("input", { type: "search", class: "search", placeholder: app.t("searchHint"), "aria-label": app.t("searchHint"), autocomplete: "off", spellcheck: "false", enterkeyhint: "search" });
  const filter = () => {
    const text = query.value.trim().toLowerCase();
    let found = 0;
    for (const { row, one, words } of rows) {
      const hit = words.includes(text) && (!app.chosen || one.categories.includes(app.chosen));
      row.hidden = !hit;
      found += hit;
    }
    nothing.hidden = found > 0;
    if (!found) nothing.replaceChildren(h("p", {}, app.t("none", { query: query.value.trim() })), button(app.t("clear"), () => clear()), supportLine(app) || "");
    app.query = query.value;
    return found;
  };
  const clear = () => {
    query.value = "";
    choose(null);
    query.focus();
  };
  const choose = (key) => {
    app.chosen = key;
    for (const chip of chips.children) chip.setAttribute("aria-pressed", String((chip.dataset.key || null) === key));
    app.say(app.t("found", { n: filter() }));
  };
  const chip = (key, label) => h("button", { type: "button", class: "chip", "data-key": key, "aria-pressed": "false", onclick: () => choose(key || null) }, label);
  const chips = h("div", { class: "chips", role: "group", "aria-label": app.t("category") }, chip("", app.t("all")), ...categories.map((key) => chip(key, app.category(key))));
  query.value = app.query || "";
  let spoken;
  query.addEventListener("input", () => {
    const found = filter();
    clearTimeout(spoken);
    spoken = setTimeout(() => app.say(app.t("found", { n: found })), 500);
  });
  query.addEventListener("keydown", (event) => {
    const first = list.querySelector("li:not([hidden]) button");
    if (event.key === "ArrowDown" && first) {
      event.preventDefault();
      first.focus();
    } else if (event.key === "Enter" && first && list.querySelectorAll("li:not([hidden])").length === 1) first.click();
  });
  for (const one of chips.children) one.setAttribute("aria-pressed", String((one.dataset.key || null) === (app.chosen || null)));
  filter();
  return [h("div", { class: "searchbox" }, icon("search", 18), query), categories.length > 1 && chips, list, nothing];
}

function moveByArrows(event) {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  const shown = [...event.currentTarget.querySelectorAll("li:not([hidden]) button")];
  shown[shown.indexOf(event.target.closest("button")) + step]?.focus();
}
