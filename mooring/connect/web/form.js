// The form of one connector: its methods, its fields, what it needs, and the test before anything is saved.

const EDGES = /^[\s\u00a0\u200b-\u200f\u2028-\u202f\u2060\ufeff]+|[\s\u00a0\u200b-\u200f\u2028-\u202f\u2060\ufeff]+$/g;

async function formView(app, { connector, account, integration, values, refusal }) {
  const methods = [...connector.methods];
  if (account && !methods.some((m) => m.integration_id === account.integration_id))
    methods.unshift({ integration_id: account.integration_id, label: app.t("current"), consent: account.consent });
  const chosen = methods.find((m) => m.integration_id === (integration || account?.integration_id)) || methods[0];
  const same = account && account.integration_id === chosen.integration_id;
  const query = account ? `?account_id=${encodeURIComponent(account.id)}` : "";
  const [form, stored, guide] = await Promise.all([
    call(app, `/connectors/${chosen.integration_id}${query}`),
    same && call(app, `/accounts/${account.id}`),
    connector.guide && call(app, `/guides/${encodeURIComponent(connector.key)}${chosen.key ? `?method=${encodeURIComponent(chosen.key)}` : ""}`).catch(() => null),
  ]);
  const names = { ...app.names, name: connector.name };
  const fields = form.config.configFields.map((field) => fieldRow(app, field, stored, values?.[field.key]));
  const problems = h("div");
  const submit = h("button", { type: "submit", class: "button primary wide" });
  const rest = () => submit.replaceChildren(...(chosen.consent ? [app.t("continueTo", names), icon("out", 18)] : [app.t(account ? "save" : "connect", names)]));
  rest();

  const read = () => Object.fromEntries(fields.filter((f) => f.input.name).map((f) => [f.field.key, f.take()]).filter(([, value]) => value !== ""));
  const check = () => {
    const wrong = fields.filter((f) => !f.check());
    if (wrong.length) showSummary(app, problems, wrong);
    return !wrong.length;
  };
  const refuse = (fault) => {
    const marked = fields.filter((f) => fault.body?.fields?.[f.field.key]);
    for (const f of marked) f.mark(app.known(fault.body.fields[f.field.key]) || fault.body.fields[f.field.key]);
    if (marked.length) showSummary(app, problems, marked);
    else app.refused(fault, problems, connector);
  };

  async function send(event) {
    event.preventDefault();
    if (app.isBusy(submit)) return;
    problems.replaceChildren();
    for (const f of fields) f.trim();
    if (!check()) return;
    const typed = read();
    if (chosen.consent) return startConsent(app, { connector, account, integration: chosen.integration_id, values: typed, submit, rest, refuse });
    const testing = app.t("testing", names);
    app.busy(submit, true, testing);
    const slow = setTimeout(() => app.busy(submit, true, app.t("slow", names)), 7000);
    try {
      const body = { integration_id: chosen.integration_id, credentials: typed };
      const saved = await (account ? call(app, `/accounts/${account.id}`, "PATCH", body) : call(app, "/accounts", "POST", body));
      for (const f of fields) f.clear();
      app.finish({ id: saved.id, provider: saved.provider }, connector, { updated: Boolean(account), warning: saved.warning });
    } catch (fault) {
      app.busy(submit, false);
      rest();
      refuse(fault);
    } finally {
      clearTimeout(slow);
    }
  }

  if (refusal) queueMicrotask(() => refuse(refusal));
  const switcher = methods.length > 1 && methodSwitch(app, methods, chosen, (integration) => app.replace("form", { connector, account, integration, keepFocus: true }));
  const title = account ? (chosen.consent ? "reconnectTitle" : "updateTitle") : "connectTitle";
  return [
    h("div", { class: "lead" }, logo(connector.logo_url, 48), h("div", { class: "grow" }, app.heading(app.t(title, names)), h("p", { class: "soft" }, app.t("forOwner", names)))),
    account && BAD.includes(account.status) && reasonNote(app, account),
    switcher,
    h(
      "form",
      { novalidate: true, onsubmit: send },
      problems,
      ...(form.config.configNotices || []).map((n) => h("p", { class: `note ${n.type === "warning" ? "bad" : ""}` }, icon("warn"), app.said("span", n.description))),
      needs(app, form, names, chosen),
      ...fields.map((f) => f.row),
      chosen.consent && consentText(app, form, names),
      submit,
      h("p", { class: "soft small" }, icon("lock", 16), app.t(chosen.consent ? "sealedConsent" : "sealed", names)),
    ),
    guide && h("details", { class: "guide" }, h("summary", {}, (app.language === "en" && guide.title) || app.t("guide", names)), h("div", { lang: "en" }, safeMarkup(guide.html))),
    !guide && form.config.support?.link && h("p", { class: "small" }, h("a", { href: form.config.support.link, target: "_blank", rel: "noopener noreferrer" }, app.t("docs", names))),
  ];
}

function methodSwitch(app, methods, chosen, pick) {
  return h(
    "fieldset",
    { class: "methods" },
    h("legend", {}, app.t("method")),
    ...methods.map((one) =>
      h(
        "label",
        { class: "method" },
        h("input", { type: "radio", name: "mooring-method", value: one.integration_id, checked: one === chosen, onchange: () => pick(one.integration_id) }),
        one.key ? app.said("span", one.label) : h("span", {}, one.label),
      ),
    ),
  );
}

function needs(app, form, names, chosen) {
  if (!form.permissions?.length) return null;
  return h("div", { class: "needs" }, h("h" + (app.base_level + 1), {}, app.t("needs")), h("ul", {}, ...form.permissions.map((p) => app.said("li", p))));
}

function consentText(app, form, names) {
  return [
    h("p", {}, app.t("consentText", names)),
    form.scopes?.length ? [h("p", { class: "strong", id: "mooring-scopes" }, app.t("scopes", names)), scopeList(app, form.scopes)] : null,
  ];
}

function showSummary(app, place, wrong) {
  const box = h(
    "div",
    { class: "note bad", role: "alert", tabindex: "-1" },
    icon("warn"),
    h("div", {}, h("p", { class: "strong" }, app.t("errSummary")), h("ul", {}, ...wrong.map((f) => h("li", {}, h("a", { href: "#", onclick: (e) => (e.preventDefault(), f.input.focus()) }, f.fault()))))),
  );
  place.replaceChildren(box);
  if (wrong.length === 1) wrong[0].input.focus();
  else box.focus();
}

// One field: label, input, help, note and fault, tied together by ids.
function fieldRow(app, field, stored, typed) {
  const id = `mooring-${field.key}`;
  const secret = field.secret || field.type === "password";
  const kept = stored?.secrets?.[field.key];
  const name = app.known(field.label) || field.label;
  const required = field.required && !kept;
  const described = [`${id}-note`, `${id}-fault`, field.description && `${id}-help`].filter(Boolean).join(" ");
  const shared = {
    id,
    name: field.readOnly ? null : field.key,
    "aria-required": String(Boolean(required)),
    "aria-describedby": described,
    readonly: field.readOnly,
    placeholder: kept ? app.t("kept", { tail: kept.replace(/^.*\*\*/, "") }) : field.placeholder || null,
  };
  let input;
  if (field.type === "select") {
    input = h("select", { ...shared, placeholder: null }, h("option", { value: "" }, app.t("choose")), ...(field.options || []).map((o) => app.said("option", o.label, { value: o.value })));
  } else if (field.type === "text_area") input = h("textarea", { ...shared, rows: 5, spellcheck: "false", autocomplete: "off" });
  else {
    const numeric = field.type === "number" && { inputmode: "decimal" };
    // `new-password` keeps password managers from filling in the person's own login.
    input = h("input", { ...shared, ...numeric, type: secret ? "password" : "text", autocomplete: secret ? "new-password" : "off", spellcheck: "false", autocapitalize: "none" });
  }
  input.value = typed ?? stored?.setupInformation?.[field.key] ?? field.value ?? "";
  const note = h("p", { class: "hint", id: `${id}-note` });
  const fault = h("p", { class: "fault", id: `${id}-fault` });
  const toggle =
    secret &&
    input.tagName === "INPUT" &&
    h("button", { type: "button", class: "reveal", "aria-pressed": "false", "aria-label": app.t("showField", { label: name }), onclick: () => reveal(input.type === "password") }, app.t("show"));
  function reveal(on) {
    input.type = on ? "text" : "password";
    toggle.textContent = app.t(on ? "hide" : "show");
    toggle.setAttribute("aria-pressed", String(on));
  }
  const mark = (text) => {
    fault.replaceChildren(...(text ? [icon("warn", 16), text] : []));
    input.toggleAttribute("aria-invalid", false);
    if (text) input.setAttribute("aria-invalid", "true");
  };
  const trim = () => {
    if (input.tagName === "SELECT" || input.value.includes("-----BEGIN")) return;
    const clean = input.value.replace(EDGES, "");
    if (clean === input.value) return;
    input.value = clean;
    note.textContent = app.t("trimmed");
  };
  const check = () => {
    const value = input.value;
    let text = "";
    if (!value) text = required ? app.t(field.type === "select" ? "errSelect" : "errRequired", { label: name }) : "";
    else if (field.type === "number" && Number.isNaN(Number(value))) text = app.t("errNumber", { label: name });
    else if (field.validation?.pattern && !matches(field.validation.pattern, value)) text = app.known(field.validation.error) || (app.language === "en" ? field.validation.error : app.t("errPattern", { label: name }));
    mark(text);
    return !text;
  };
  input.addEventListener("input", () => {
    note.textContent = "";
    if (input.hasAttribute("aria-invalid")) check();
  });
  input.addEventListener("change", trim);
  const label = h("label", { for: id }, app.said("span", field.label), required ? h("span", { class: "mark", "aria-hidden": "true" }, " *") : h("span", { class: "soft" }, ` (${app.t(kept ? "unchanged" : "optional")})`));
  return {
    field,
    input,
    mark,
    trim,
    check,
    fault: () => fault.textContent || name,
    take: () => input.value,
    clear: () => (secret ? (input.value = "") : null),
    row: h(
      "div",
      { class: "field" },
      label,
      h("div", { class: "control" }, input, toggle),
      note,
      fault,
      field.description && app.said("p", field.description, { class: "hint", id: `${id}-help` }),
    ),
  };
}

// The server checks again; an expression that this browser cannot read is left to it.
function matches(pattern, value) {
  try {
    return new RegExp(`^(?:${pattern})$`, "u").test(value);
  } catch {
    return true;
  }
}
