// <mooring-hub token="…">: state, views, focus, announcements and events.

const VIEWS = { picker: pickerView, form: formView, waiting: waitingView, failed: failedView, done: doneView, account: accountView, remove: removeView, welcome: welcomeView, fatal: fatalView };
const SCRIPT = document.currentScript && document.currentScript.src ? new URL(".", document.currentScript.src).href : "";
const sheet = new CSSStyleSheet();
sheet.replaceSync(CSS);

function welcomeView(app) {
  const only = app.data.connectors.length === 1 ? app.data.connectors[0] : null;
  const names = { ...app.names, name: only?.name };
  const start = button(app.t("start"), go, "primary wide");
  const problems = h("div");
  async function go() {
    if (app.isBusy(start)) return;
    app.busy(start, true, app.t("loading"));
    try {
      if (app.browser) await call(app, "/browser", "POST");
      memory.set("started", app.token);
      app.home();
    } catch (refusal) {
      app.busy(start, false);
      app.refused(refusal, problems);
    }
  }
  return [
    h("div", { class: "lead center" }, h("div", { class: "pair" }, appMark(app), only && h("span", { class: "soft" }, icon("swap")), only && logo(only.logo_url, 56))),
    h("div", { class: "center" }, app.heading(app.t(only ? "welcomeOne" : "welcomeAny", names)), h("p", {}, app.t("welcomeText", names))),
    problems,
    start,
    h("p", { class: "soft small center" }, app.t("unexpected")),
  ];
}

function fatalView(app, { refusal }) {
  const code = refusal.body?.errorCode;
  const key = code === "LinkInUseError" ? "inUse" : refusal.status === 401 || refusal.status === 403 ? "expired" : code === "Offline" ? "offline" : "broken";
  const retry = key === "offline" || key === "broken";
  return [
    h("div", { class: "center" }, h("div", { class: "seal off" }, icon("warn", 30)), app.heading(app.t(key + "Title", app.names)), h("p", {}, app.t(key + "Text", app.names))),
    retry && h("div", { class: "actions center" }, button(app.t("tryAgain"), () => app.start(), "primary")),
    supportLine(app),
  ];
}

class MooringHub extends HTMLElement {
  static observedAttributes = ["token", "provider", "account-id", "theme", "lang", "base-url"];
  #app = null;
  #queued = false;
  #token = null;

  /** The session's token may be set as a property too: then it is in no markup. */
  get token() {
    return this.#token || this.getAttribute("token") || "";
  }
  set token(value) {
    this.#token = value;
    this.#restart();
  }
  connectedCallback() {
    // A page may have set the property before this script came: then it hides the accessor.
    if (Object.hasOwn(this, "token")) {
      const early = this.token;
      delete this.token;
      this.token = early;
    }
    this.#restart();
  }
  disconnectedCallback() {
    this.#app?.stop();
    this.#app = null;
  }
  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    if (name === "theme") this.#app?.paint();
    else this.#restart();
  }
  // Several attributes that change in one go start it once.
  #restart() {
    if (this.#queued || !this.isConnected) return;
    this.#queued = true;
    queueMicrotask(() => {
      this.#queued = false;
      if (!this.isConnected) return;
      this.#app?.stop();
      this.#app = new Hub(this);
      this.#app.start();
    });
  }
}

class Hub {
  constructor(element) {
    this.element = element;
    this.token = element.token;
    this.base = (element.getAttribute("base-url") || SCRIPT || location.origin).replace(/\/+$/, "");
    this.hosted = element.hasAttribute("hosted");
    this.base_level = this.hosted ? 1 : 2;
    this.browser = this.hosted ? browserKey() : null;
    this.stack = [];
    const root = element.shadowRoot || element.attachShadow({ mode: "open" });
    root.adoptedStyleSheets = [sheet];
    this.body = h("div", { class: "body", part: "body" });
    this.head = h("header", { part: "header" });
    this.live = h("div", { class: "hidden", role: "status", "aria-live": "polite" });
    this.frame = h("div", { class: "hub", part: "hub" }, this.head, this.body, this.live);
    root.replaceChildren(this.frame);
    this.dark = matchMedia("(prefers-color-scheme: dark)");
    this.paint = this.paint.bind(this);
    this.dark.addEventListener("change", this.paint);
  }
  stop() {
    this.watching = null;
    this.stopped = true;
    this.dark.removeEventListener("change", this.paint);
  }

  async start() {
    this.paint();
    this.body.replaceChildren(skeleton());
    this.body.setAttribute("aria-busy", "true");
    const guess = chooseLanguage(this.element);
    const [strings, data] = await Promise.all([loadLanguage(this.base, guess), call(this, "/overview").catch((refusal) => refusal)]);
    if (this.stopped) return;
    this.speak(guess, strings);
    if (data instanceof Refusal) return this.fatal(data);
    this.data = data;
    const own = chooseLanguage(this.element, data.app.language);
    if (own !== guess) this.speak(own, await loadLanguage(this.base, own));
    this.names = { app: data.app.name, owner: data.owner };
    this.narrow();
    this.paint();
    this.header();
    if (await this.resume()) return;
    if (this.hosted && memory.get("started") !== this.token) return this.show("welcome", {}, true);
    this.home(true);
  }
  speak(language, strings) {
    this.language = this.frame.lang = language;
    this.strings = strings;
    if (this.hosted) document.documentElement.lang = language;
  }
  // What the page asked for beside the session's own limits.
  narrow() {
    const provider = this.element.getAttribute("provider");
    if (!provider) return;
    this.data.connectors = this.data.connectors.filter((one) => one.key === provider);
    this.data.accounts = this.data.accounts.filter((one) => one.provider === provider);
  }
  async reload() {
    this.data = await call(this, "/overview");
    this.narrow();
    this.home();
  }
  home(first) {
    const { connectors, accounts, account_id } = this.data;
    this.stack = [];
    const wanted = account_id || this.element.getAttribute("account-id");
    const account = wanted && accounts.find((one) => one.id === wanted);
    if (account) return this.show(account.usable ? "form" : "account", { connector: this.connectorOf(account), account }, first);
    if (connectors.length === 1 && !accounts.length) return this.show("form", { connector: connectors[0] }, first);
    this.show("picker", {}, first);
  }
  connectorOf(account) {
    const known = this.data.connectors.find((one) => one.key === account.provider);
    return known || { key: account.provider, name: account.name, logo_url: account.logo_url, methods: [] };
  }
  // After a reload in the middle of a flow, or the way back from a provider's page in this tab.
  async resume() {
    const left = memory.get("attempt");
    if (!left || left.base !== this.base) return false;
    const state = await call(this, `/connection_attempts/${left.id}`).catch(() => null);
    const account = this.data.accounts.find((one) => one.id === left.account);
    const connector = this.data.connectors.find((one) => one.key === left.key) || (account && this.connectorOf(account));
    if (!state || !connector) {
      memory.set("attempt", null);
      return false;
    }
    const flow = { connector, account, integration: left.integration, attempt: left.id, values: {} };
    this.stack = [["picker", {}]];
    if (state.status === "pending") this.show("waiting", flow, true);
    else ended(this, flow, state);
    return true;
  }

  /** Draw a view over the one before it; `first` leaves the focus where the person has it. */
  async show(view, params = {}, first = false) {
    const from = this.body.querySelector("[data-key]:focus") || (this.body.getRootNode().activeElement?.closest?.("[data-key]"));
    if (this.stack.length) this.stack.at(-1)[2] = from?.dataset.key;
    this.stack.push([view, params]);
    await this.draw(first);
  }
  async replace(view, params) {
    this.stack.pop();
    this.stack.push([view, params]);
    await this.draw(false);
  }
  async back() {
    this.watching = null;
    this.stack.pop();
    if (!this.stack.length) return this.home();
    await this.draw(false, true);
  }
  async draw(first, returning) {
    this.watching = null;
    const mine = (this.drawing = {});
    const [view, params, returnTo] = this.stack.at(-1);
    const late = setTimeout(() => this.drawing === mine && this.body.replaceChildren(skeleton()), 200);
    let nodes;
    try {
      nodes = await VIEWS[view](this, params);
    } catch (refusal) {
      if (this.drawing === mine) this.fatal(refusal);
      return;
    } finally {
      clearTimeout(late);
    }
    if (this.drawing !== mine || this.stopped) return;
    this.body.removeAttribute("aria-busy");
    const content = h("div", { class: "view", "data-view": view }, ...nodes.flat(3).filter(Boolean));
    const root = this.stack.length > 1 && !["done"].includes(view);
    if (root) content.prepend(h("button", { type: "button", class: "link back", onclick: () => this.leave(view, params) }, icon("back", 18), this.t("back")));
    if (this.notice) content.prepend(h("p", { class: "note ok" }, icon("ok"), this.notice));
    this.notice = null;
    this.body.replaceChildren(content);
    if (this.hosted) document.title = content.querySelector(".title").textContent;
    if (params.keepFocus) content.querySelector("input[type=radio]:checked")?.focus();
    else if (!first) (returning && returnTo && content.querySelector(`[data-key="${CSS_escape(returnTo)}"]`) || content.querySelector(".title"))?.focus();
    if (!first) this.frame.scrollIntoView?.({ block: "nearest" });
  }
  leave(view, params) {
    if (view === "waiting") {
      call(this, `/connection_attempts/${params.attempt}`, "DELETE").catch(() => {});
      memory.set("attempt", null);
    }
    this.back();
  }
  header() {
    const { name, logo_url } = this.data.app;
    const mark = logo_url ? h("img", { src: logo_url, alt: "", class: "applogo", height: 28 }) : null;
    const shut = !this.hosted && h("button", { type: "button", class: "iconbutton", "aria-label": this.t("close"), onclick: () => this.close() }, icon("close"));
    this.head.replaceChildren(...[mark, h("span", { class: "appname" }, name), h("span", { class: "owner soft" }, this.data.owner), shut].filter(Boolean));
  }

  t(key, values) {
    return translate(this.strings || EN, key, values || this.names);
  }
  /** What a server says in English, in the person's language; undefined where that language lacks it. */
  known(text) {
    const said = this.strings?.said || {};
    const number = /\d+/.exec(text)?.[0];
    return said[text] || (number && said[text.replace(number, "{n}")]?.replace("{n}", number));
  }
  /** The same as an element, marked as English where it stays English. */
  said(tag, text, props = {}) {
    const known = this.known(text);
    return h(tag, { ...props, lang: known ? null : "en" }, known || text);
  }
  /** A cause of the connection doctor in the person's language: what happened, and what to do. Null in English. */
  cause({ cause, names, retry_after: wait }) {
    const told = this.strings?.causes?.[cause];
    if (!told) return null;
    const [what, todo] = told;
    const named = names?.length ? ` (${names.join(", ")})` : "";
    return [what, todo + named + (wait > 90 ? " " + this.t("retryIn", { n: Math.round(wait / 60) }) : "")];
  }
  /** The same in one text, or null. */
  causeText(code) {
    const told = this.cause({ cause: code });
    return told && told.join(told[0].endsWith("。") ? "" : " ");
  }
  category(key) {
    const text = this.t("cat_" + key);
    return text === "cat_" + key ? "" : text;
  }
  level(more = 0) {
    return "h" + (this.base_level + more);
  }
  heading(text) {
    return h(this.level(), { class: "title", tabindex: "-1" }, text);
  }
  say(text) {
    this.live.textContent = "";
    setTimeout(() => (this.live.textContent = text), 30);
  }
  isBusy(control) {
    return control.getAttribute("aria-disabled") === "true";
  }
  busy(control, on, text) {
    control.setAttribute("aria-disabled", String(on));
    control.classList.toggle("busy", on);
    if (on) {
      control.dataset.rest ||= control.textContent;
      control.replaceChildren(h("span", { class: "spin", "aria-hidden": "true" }), text);
      this.say(text);
    } else {
      control.replaceChildren(control.dataset.rest);
      delete control.dataset.rest;
    }
  }

  /** Show a refusal: what happened, what to do, and the rest for whoever helps. */
  refused(refusal, place, connector, quiet) {
    const { status, body } = refusal;
    if (status === 401) return this.fatal(refusal);
    const cause = body.cause;
    const own = this.cause({ ...body.diagnosis, cause });
    const [message, todo] = own || [body.errorCode === "Offline" ? this.t("offlineText") : this.known(body.message), this.known(body.hint)];
    const facts = [[this.t("cause"), cause || body.errorCode], message && [this.t("message"), body.message], body.hint && todo && ["", body.hint], [connector && this.t("connector"), connector?.key], [this.t("answer"), printable(body.provider_response).replace(`${body.hint}\n`, "")], [this.t("request"), body.requestId]].filter((f) => f && f[1] && f[0] !== undefined);
    const report = facts.map(([name, value]) => `${name}: ${value}`).join("\n");
    const copy = button(this.t("copy"), async () => {
      try {
        await navigator.clipboard.writeText(report);
        copy.textContent = this.t("copied");
        this.say(this.t("copied"));
      } catch {
        getSelection().selectAllChildren(list);
      }
    }, "small");
    const list = h("dl", {}, ...facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));
    const title = message || body.message || this.t("failedTitle");
    const box = h(
      "div",
      { class: "note bad", role: "alert", tabindex: "-1" },
      icon("warn"),
      h(
        "div",
        { class: "grow" },
        h("p", { class: "strong", lang: title === body.message ? "en" : null }, title),
        (todo || body.hint) && h("p", { lang: todo ? null : "en" }, todo || body.hint),
        facts.length > 0 && h("details", {}, h("summary", {}, this.t("details")), list, copy),
      ),
    );
    place.replaceChildren(box, supportLine(this) || "");
    if (!quiet) {
      box.focus();
      this.emit("error", { code: String(cause || body.errorCode || status), message: body.message || "" });
    }
  }
  fatal(refusal) {
    if (!(refusal instanceof Refusal)) throw refusal;
    memory.set("attempt", null);
    this.strings ||= EN;
    this.names ||= { app: this.t("theApp", {}), owner: "" };
    this.watching = null;
    this.stack = [];
    this.emit("error", { code: refusal.body?.errorCode || String(refusal.status), message: refusal.body?.message || "" });
    this.show("fatal", { refusal });
  }
  async finish(account, connector, more = {}) {
    memory.set("attempt", null);
    this.watching = null;
    this.emit("success", account);
    if (more.flow) more.flow.linked = account.id;
    const fresh = await call(this, "/overview").catch(() => null);
    if (fresh) {
      this.data = fresh;
      this.narrow();
    }
    const now = this.data.accounts.find((one) => one.id === account.id);
    this.stack = [];
    await this.show("done", { connector, missing: more.missing || now?.missing_scopes, ...more });
    this.say(this.t("doneTitle", { ...this.names, name: connector.name }));
  }
  close() {
    this.watching = null;
    this.emit("close");
  }
  emit(name, detail) {
    const handler = this.element[{ success: "onSuccess", close: "onClose", error: "onError" }[name]];
    if (typeof handler === "function") handler(detail);
    this.element.dispatchEvent(new CustomEvent(name, { detail, bubbles: name !== "error" }));
  }

  paint() {
    const theme = this.element.getAttribute("theme");
    const dark = theme === "dark" || (theme !== "light" && this.dark.matches);
    this.frame.classList.toggle("dark", dark);
    const accent = this.data?.app[dark ? "accent_dark" : "accent_light"];
    if (accent) this.frame.style.setProperty("--brand", accent);
    else this.frame.style.removeProperty("--brand");
  }
}

const CSS_escape = (text) => (window.CSS?.escape ? window.CSS.escape(text) : text.replace(/["\\]/g, "\\$&"));

function printable(value) {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  return value.message ? `${value.status || ""} ${value.message}`.trim() : JSON.stringify(value, null, 1);
}

function skeleton() {
  return h("div", { class: "skeleton", "aria-hidden": "true" }, h("i"), h("i"), h("i"), h("i"));
}

// The key by which a mailed link knows its browser again. Where nothing may be stored, it lives as long as the page; in a frame
// there is none then, for a reload would lock the person out. The page around a frame is of the project, which sent them here.
function browserKey() {
  const fresh = () => [...crypto.getRandomValues(new Uint8Array(32))].map((b) => b.toString(16).padStart(2, "0")).join("");
  try {
    let key = localStorage.getItem("mooring:browser");
    if (!key) localStorage.setItem("mooring:browser", (key = fresh()));
    return key;
  } catch {
    return framed ? null : (browserKey.kept ||= fresh());
  }
}

if (!customElements.get("mooring-hub")) customElements.define("mooring-hub", MooringHub);
