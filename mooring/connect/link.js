"use strict";
// The plain page behind a connect link. It speaks the same JSON as the embeddable Hub and nothing else.
const root = document.querySelector("main");
const token = new URLSearchParams(location.search).get("token") || "";
history.replaceState(null, "", location.pathname); // the token must not stay in the address bar or its history
const returned = sessionStorage.getItem("mooring-attempt");

const el = (tag, props = {}, ...children) => {
  const node = Object.assign(document.createElement(tag), props);
  node.append(...children);
  return node;
};
const show = (...nodes) => root.replaceChildren(...nodes);
const note = (title, text) => show(el("h1", { textContent: title }), el("p", { textContent: text, role: "status" }));

async function call(path, method = "GET", body = undefined) {
  const response = await fetch("/hub" + path, {
    method,
    headers: { "content-type": "application/json", "x-hub-session-token": token || sessionStorage.getItem("mooring-token") },
    body: body && JSON.stringify(body),
  });
  const data = response.status === 204 ? null : await response.json();
  if (!response.ok) throw new Error([data.message, data.hint].filter(Boolean).join(" "));
  return data;
}

function pick(integrations) {
  if (!integrations.length) return note("Nothing to connect", "Ask whoever sent you this link to enable the connection.");
  if (integrations.length === 1) return open(integrations[0]);
  const list = el("ul", { className: "list" });
  for (const item of integrations) {
    const button = el("button", { type: "button", onclick: () => open(item) });
    button.append(el("img", { src: item.logo_url, alt: "", width: 28, height: 28 }), item.name);
    list.append(el("li", {}, button));
  }
  show(el("h1", { textContent: "What do you want to connect?" }), list);
}

async function open(item) {
  const { config } = await call("/connectors/" + item.integration_id);
  const oauth = config.type === "oauth2" && config.grantType !== "client_credentials";
  const form = el("form", { noValidate: false });
  for (const field of config.configFields) form.append(row(field));
  const error = el("p", { className: "error", role: "alert" });
  const submit = el("button", { className: "primary", textContent: oauth ? `Continue to ${config.name}` : "Connect" });
  form.append(error, submit);
  form.onsubmit = async (event) => {
    event.preventDefault();
    error.textContent = "";
    submit.disabled = true;
    submit.textContent = oauth ? "Opening …" : "Testing the connection …";
    const values = Object.fromEntries([...new FormData(form)].filter(([, value]) => value));
    try {
      if (oauth) await consent(item, values);
      else if (await save(item, values)) note("Connected", `${config.name} is linked. You can close this page.`);
    } catch (e) {
      error.textContent = e.message;
    }
    submit.disabled = false;
    submit.textContent = oauth ? `Continue to ${config.name}` : "Connect";
  };
  const notices = config.configNotices.map((n) => el("p", { textContent: n.description }));
  const help = config.support && config.support.description;
  show(el("h1", { textContent: `Connect ${config.name}` }), ...(help ? [el("p", { textContent: help })] : []), ...notices, form);
  const first = form.querySelector("input:not([readonly]),select,textarea");
  if (first) first.focus();
}

const save = (item, credentials) => call("/accounts", "POST", { integration_id: item.integration_id, credentials });

async function consent(item, values) {
  const { id } = await call("/connection_attempts", "POST", { token });
  sessionStorage.setItem("mooring-attempt", id);
  sessionStorage.setItem("mooring-token", token);
  const query = new URLSearchParams({ ...values, token, connection_attempt_id: id, redirect_uri: location.origin + "/embedded/accounts/callback" });
  location.assign(`/connect/oauth2/${item.integration_id}?${query}`);
}

function row(field) {
  const id = "f-" + field.key;
  const common = { id, name: field.key, required: field.required, readOnly: field.readOnly, placeholder: field.placeholder || "" };
  let input;
  if (field.type === "select") {
    input = el("select", { id, name: field.key, required: field.required });
    for (const option of field.options || []) input.append(el("option", { value: option.value, textContent: option.label }));
  } else if (field.type === "text_area") input = el("textarea", { ...common, rows: 5 });
  else input = el("input", { ...common, type: field.type === "password" ? "password" : "text", autocomplete: "off", spellcheck: false });
  if (field.value) input.value = field.value;
  if (field.readOnly) input.removeAttribute("name");
  const nodes = [el("label", { htmlFor: id, textContent: field.label + (field.required ? "" : " (optional)") }), input];
  if (field.description) {
    input.setAttribute("aria-describedby", id + "-help");
    nodes.push(el("small", { id: id + "-help", textContent: field.description }));
  }
  return el("div", { className: "row" }, ...nodes);
}

if (token) {
  call("/connectors")
    .then(({ integrations }) => pick(integrations))
    .catch((e) => note("This link does not work", e.message));
} else if (returned) {
  note("Almost done", "You can close this page.");
} else {
  note("This link does not work", "It lacks its token. Open the link again from the message that you received.");
}
