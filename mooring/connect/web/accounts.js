// Accounts that this owner has linked already: status with its reason, reconnect, update, remove.

const BAD = ["error", "expired"];

function statusBadge(app, account) {
  const kind = account.status === "active" ? (account.missing_scopes.length ? "warn" : "ok") : BAD.includes(account.status) ? "bad" : "off";
  const key = account.status === "active" && account.missing_scopes.length ? "partial" : account.status;
  return h("span", { class: `badge ${kind}` }, app.t("status_" + key, app.names));
}

function accountList(app, accounts) {
  const rows = accounts.map((account) =>
    h(
      "li",
      {},
      h(
        "button",
        { type: "button", class: "row tagged", "data-key": account.id, onclick: () => app.show("account", { account }) },
        logo(account.logo_url),
        h("span", { class: "grow" }, h("span", { class: "name" }, account.name), account.label && h("span", { class: "soft" }, account.label)),
        statusBadge(app, account),
      ),
    ),
  );
  return [h(app.level(1), { class: "section" }, app.t("accounts")), h("ul", { class: "stack", role: "list", onkeydown: moveByArrows }, ...rows)];
}

function accountView(app, { account }) {
  const reconnect = () => app.show("form", { connector: app.connectorOf(account), account });
  const actions = [];
  if (account.usable) actions.push(button(app.t(account.consent ? "reconnect" : "update"), reconnect, "primary"));
  if (app.data.can_remove) actions.push(button(app.t("remove"), () => app.show("remove", { account }), "danger"));
  const date = new Date(account.created_at).toLocaleDateString(app.language, { dateStyle: "long" });
  return [
    h("div", { class: "lead" }, logo(account.logo_url, 48), h("div", { class: "grow" }, app.heading(account.name), account.label && h("p", { class: "soft" }, account.label))),
    h("p", { class: "statusline" }, statusBadge(app, account), h("span", { class: "soft" }, app.t("since", { date }))),
    reasonNote(app, account),
    !account.usable && h("p", { class: "note" }, icon("warn"), h("span", {}, app.t("off", app.names))),
    account.missing_scopes.length > 0 && [h("p", {}, app.t("partialText", app.names)), scopeList(app, account.missing_scopes, "close")],
    h("div", { class: "actions" }, ...actions),
    !account.usable && supportLine(app),
  ];
}

// Why an account does not work, in the person's language where the cause is known.
function reasonNote(app, account) {
  if (!account.reason) return null;
  const known = app.causeText(account.reason_code);
  return h("p", { class: "note bad" }, icon("warn"), known ? h("span", {}, known) : app.said("span", account.reason));
}

function removeView(app, { account }) {
  const failed = h("div");
  const yes = button(app.t("remove"), remove, "danger primary");
  async function remove() {
    if (app.isBusy(yes)) return;
    app.busy(yes, true, app.t("removing", { name: account.name }));
    try {
      await call(app, `/accounts/${account.id}`, "DELETE");
      const text = app.t("removed", { name: account.name });
      app.notice = text;
      await app.reload();
      app.say(text);
    } catch (refusal) {
      app.busy(yes, false);
      app.refused(refusal, failed);
    }
  }
  return [
    app.heading(app.t("removeTitle", { name: account.name })),
    h("p", {}, app.t("removeText", app.names)),
    failed,
    h("div", { class: "actions" }, yes, button(app.t("cancel"), () => app.back())),
  ];
}

function scopeList(app, scopes, sign = "ok") {
  return h(
    "ul",
    { class: "scopes", role: "list" },
    ...scopes.map((scope) => h("li", {}, h("span", { class: sign === "ok" ? "tick" : "tick miss" }, icon(sign, 14)), h("span", {}, app.said("span", scope.reason || scope.name), scope.reason && h("code", {}, scope.name)))),
  );
}
