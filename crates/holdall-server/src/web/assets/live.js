// Keeps pages live. Without it they are whole, and as old as when they were fetched.
"use strict";

function age(seconds) {
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return s + " s ago";
  if (s < 3600) return Math.floor(s / 60) + " min ago";
  if (s < 172800) return Math.floor(s / 3600) + " h ago";
  return Math.floor(s / 86400) + " days ago";
}

function showAges() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    const at = Date.parse(time.dateTime);
    const ahead = (at - Date.now()) / 1000;
    time.title = time.dateTime;
    time.textContent = ahead > 1 ? "in " + age(ahead).replace(" ago", "") : age(-ahead);
  }
}

const live = document.getElementById("live");
const log = document.getElementById("log");
let fetching = false;
let again = false;

// Takes over what changed of this page, and leaves alone where the reader is: open details, focus, scrolling.
async function refresh() {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok) throw new Error(answer.status);
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const next = page.getElementById("main");
    const main = document.getElementById("main");
    if (next && main && next.innerHTML !== main.dataset.was) {
      const open = [...main.querySelectorAll("details")].map((details) => details.open);
      const active = document.activeElement;
      const links = [...main.querySelectorAll("a, summary")];
      const at = links.indexOf(active);
      const was = next.innerHTML;
      main.innerHTML = was;
      main.dataset.was = was;
      [...main.querySelectorAll("details")].forEach((details, i) => { details.open = open[i] || false; });
      if (at >= 0) main.querySelectorAll("a, summary")[at]?.focus({ preventScroll: true });
      showAges();
    }
    live.textContent = "live";
  } catch (error) {
    live.textContent = "not live: the server does not answer";
  } finally {
    fetching = false;
    if (again) { again = false; refresh(); }
  }
}

function followChanges() {
  const changes = new EventSource("/api/holdall/v1/events");
  changes.onopen = refresh;
  changes.onmessage = refresh;
  changes.onerror = () => { live.textContent = "not live: the server does not answer"; };
}

function stateOf(section, word) {
  const state = section.querySelector("h3 .state");
  if (state) { state.textContent = word; state.className = "state " + word; }
}

// Appends what the build's stream brings to its steps.
function followBuild(id, seen) {
  const decoder = (event) => JSON.parse(event.data);
  const stream = new EventSource("/api/holdall/v1/builds/" + id + "/events");
  stream.onopen = () => { live.textContent = "live"; };
  stream.onerror = () => { live.textContent = "not live: the server does not answer"; };
  stream.onmessage = (message) => {
    const event = decoder(message);
    if (event.kind === "end") { stream.close(); live.textContent = "ended"; location.reload(); return; }
    if (event.seq <= seen) return;
    const section = log.querySelector('section[data-step="' + CSS.escape(event.step || "") + '"]');
    if (!section) { stream.close(); location.reload(); return; }
    const atEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 40;
    const out = section.querySelector("pre");
    if (event.kind === "output") out.append(event.text);
    if (event.kind === "message") out.append(event.message + "\n");
    if (event.kind === "started") stateOf(section, "running");
    if (event.kind === "finished") stateOf(section, event.outcome);
    if (atEnd) window.scrollTo(0, document.body.scrollHeight);
  };
}

showAges();
setInterval(showAges, 5000);
if (log && log.dataset.build && log.querySelectorAll("section").length > 1) {
  followBuild(log.dataset.build, Number(log.dataset.seen));
} else if (!log || log.dataset.build) {
  followChanges();
}
