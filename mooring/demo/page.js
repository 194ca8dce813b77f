// The page asks its own backend for a session, gives it to the Hub, and has the backend call through what was linked.
"use strict";
const hub = document.querySelector("mooring-hub");
const place = (id) => document.getElementById(id);

async function ask(path, body = {}) {
  const response = await fetch(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.message);
  return answer;
}

function say(text, kind = "") {
  place("state").textContent = text;
  place("state").className = kind;
}

async function begin() {
  try {
    hub.token = (await ask("/session")).token;
  } catch (error) {
    say(`No session could be made: ${error.message}`, "bad");
  }
}

function row(...values) {
  const made = document.createElement("tr");
  for (const value of values) made.insertCell().textContent = value ?? "";
  return made;
}

function showPeople(people) {
  place("people").hidden = !people.length;
  place("people").tBodies[0].replaceChildren(...people.map((one) => row(`${one.first_name} ${one.last_name}`, one.email)));
}

async function show(account) {
  place("account").textContent = account.id;
  say("Calling the provider …");
  try {
    const { status, body } = await ask("/call", { account: account.id });
    say(`The provider answered ${status}.`, status < 400 ? "ok" : "bad");
    showPeople(body?.employees || []);
    place("raw").hidden = false;
    place("raw").querySelector("pre").textContent = typeof body === "string" ? body : JSON.stringify(body, null, 2);
  } catch (error) {
    say(`The call did not succeed: ${error.message}`, "bad");
  }
  place("again").hidden = false;
}

hub.addEventListener("success", (event) => show(event.detail));
hub.addEventListener("close", begin);
place("again").addEventListener("click", begin);
begin();
